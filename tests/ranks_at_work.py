"""What two processes do together, started by torchrun from test_ranks.py: `ranks_at_work.py DATA RUNS`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from cxrkit import pipeline
from cxrkit.base.contracts import Batch, Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.base.ranks import ALONE, Ranks, joined
from cxrkit.loaders.inputs import Inputs
from cxrkit.models import ModelSpec, compute
from cxrkit.trainers import sharing

# Beyond the paper's protocol: a batch of 8 in two parts, to which each of two processes gives two images.
OPTIONS = {
    "model": "mlp-meta", "optimizer": "sgd", "lr": 0.2, "micro_batch": 4, "clip_norm": 0.2, "ema": 0.9,
    "schedule": "cosine", "warmup_epochs": 0.5,
}  # fmt: skip


class NormFree(nn.Module):
    """Looks at the image, and normalises nothing."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.spec = ModelSpec("norm-free", input_size=32, resize=36, meta=True, learning_rate=0.003, batch_size=8)
        self.patches = nn.Conv2d(1, 6, 8, stride=8)
        self.fc = nn.Linear(6 * 16 + 3, labels)

    def forward(self, image_BCHW: torch.Tensor, meta_B3: torch.Tensor) -> Outputs:
        patches = self.patches(image_BCHW).relu().flatten(1)
        logits = self.fc(torch.cat([patches, meta_B3.to(patches.dtype)], dim=1)).float()
        return Outputs(logits, extra={"patches": patches, "penalty": self.fc.weight.square().mean()})


def norm_free(labels: LabelSet) -> nn.Module:
    return NormFree(len(labels))


def masked_and_compared(outputs: Outputs, batch: Batch) -> torch.Tensor:
    """A loss of the whole batch alone: a mean over known labels, pairs of images, one number, and the pixels."""
    known = ~batch.target.isnan()
    entropy = nn.functional.binary_cross_entropy_with_logits(
        outputs.logits, batch.target.nan_to_num(), weight=known.float(), reduction="sum"
    )
    pairs = (outputs.logits[:, None, 0] - outputs.logits[None, :, 0]).sigmoid().square().mean()
    brightness = batch.image.float().flatten(1).mean(1) / 255
    features = outputs.extra["patches"].mean(1)
    return entropy / known.sum() + pairs + outputs.extra["penalty"] + (features * brightness).mean()


def gradients(ranks: Ranks) -> None:
    """The loss and its gradients are those of a single process with the whole batch."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8, generator=generator)
    target = torch.randint(0, 2, (8, 3), generator=generator).float()
    target[:5:2, :2] = float("nan")  # more of them on one rank than on the other
    meta = torch.rand((8, 3), generator=generator)
    whole = Batch(image, target, meta, torch.arange(8))
    part = Batch(*(value[ranks.rank :: ranks.world_size] for value in (image, target, meta, whole.index)))
    torch.manual_seed(2)
    model = NormFree(3)
    forward = compute.Forward(model, model.spec, "cpu", "fp32")
    alone = masked_and_compared(forward(whole), whole)
    alone.backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad(set_to_none=True)
    shared, loss = sharing.shared(ranks, forward, masked_and_compared, images=True)
    together = loss(shared(part), part)
    together.backward()
    assert abs(together.item() - alone.item()) < 1e-6
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-5)


def a_parameter_without_gradient(ranks: Ranks) -> None:
    """It is named before a second step is taken: the processes would go apart."""
    model = NormFree(3)
    model.spare = nn.Linear(2, 2)
    batch = Batch(torch.zeros((2, 1, 32, 32)), torch.zeros((2, 3)), torch.zeros((2, 3)), torch.arange(2))
    shared, loss = sharing.shared(
        ranks, compute.Forward(model, model.spec, "cpu", "fp32"), lambda outputs, _: outputs.logits.mean(), images=False
    )
    loss(shared(batch), batch).backward()
    with pytest.raises(UserError, match=r"'norm-free': some of its parameters require a gradient and got none"):
        shared(batch)


def scores(ranks: Ranks, data: Path) -> None:
    """Each image is scored once, in order, to the same bits, also where a rank has no batch at all."""
    inputs = Inputs.of(data, "official", None)
    torch.manual_seed(3)
    model = NormFree(len(inputs.labels))
    for batch_size in (4, 3, 64):
        found = [
            compute.score(
                model,
                inputs.loader(inputs.eval_plan("test", model.spec, batch_size, who), "opencv", "cpu", 1),
                model.spec,
                "cpu",
                "fp32",
                lambda outputs, batch: outputs.logits.square().mean(),
                ranks=who,
            )
            for who in (ranks, ALONE)
        ]
        assert np.array_equal(found[0].index, inputs.rows["test"])
        for name in ("index", "score", "target"):
            assert np.array_equal(getattr(found[0], name), getattr(found[1], name), equal_nan=True)
        assert found[0].loss == found[1].loss
    inputs.close()


def generators(ranks: Ranks) -> None:
    """Every rank draws other numbers in every step, and the same in the same step."""
    drawn = []
    for epoch, step in ((0, 0), (0, 1), (1, 0), (0, 0)):
        sharing.sow(ranks, 5, epoch, step)
        drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[3]
    of_all = {tuple(numbers) for own in ranks.gather(drawn[:3]) for numbers in own}
    assert len(of_all) == 3 * ranks.world_size


def train(ranks: Ranks, runs: Path, said: dict, resume: bool) -> None:
    config = ranks.once(lambda: pipeline.resolve(said | {"runs": runs}, resume=resume))
    pipeline.train(config, resume, Console(quiet=True), ranks)


def main() -> None:
    data, runs = map(Path, sys.argv[1:])
    with joined() as ranks:
        assert ranks.gather(ranks.rank) == [0, 1]
        assert ranks.once(lambda: ranks.rank) == 0
        assert ranks.in_turn(["a", "c"] if ranks.first else ["b"]) == ["a", "b", "c"]
        gradients(ranks)
        a_parameter_without_gradient(ranks)
        scores(ranks, data)
        generators(ranks)
        train(ranks, runs / "resumed", {"model": "ranks_at_work:norm_free", "epochs": 3}, True)
        said = {"data": data, "batch_size": 8, "log_steps": 1, "epochs": 2, "device": "cpu", "precision": "fp32"}
        train(ranks, runs / "two", said | {"model": "mlp-meta"}, False)
        train(ranks, runs / "two-options", said | OPTIONS, False)
        train(
            ranks, runs / "norms", said | {"model": "resnet14-small", "input_size": 32, "epochs": 1, "limit": 16}, False
        )
        if not ranks.first:
            raise UserError("rank 1 fails", remedy="look at rank 1")
        ranks.wait()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
