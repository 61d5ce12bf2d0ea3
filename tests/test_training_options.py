"""What a recipe may ask for beyond the paper's protocol, in steps and in whole trainings, killed and resumed too."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from test_stepping import again, batch, make, same, state
from torch import Tensor, nn

from cxrkit import losses, models, pipeline
from cxrkit.base.contracts import LABELS, Batch, Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.models import ModelSpec, compute
from cxrkit.runs import checkpoints, predictions
from cxrkit.runs import epochs as kept_epochs
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import read_metrics
from cxrkit.runs.scores import read_scores
from cxrkit.runs.sections import OptimizerSettings
from cxrkit.trainers import masking, optimizers, parts, stepping, supervised
from cxrkit.trainers.stepping import Step

SMALL: dict[str, Any] = {
    "model": "resnet14-small-meta", "input_size": 32, "batch_size": 8, "precision": "fp32", "threads": 1, "limit": 24,
    "epochs": 2, "log_steps": 1,
}  # fmt: skip
# All at once, as a recipe of others may have it.
OTHERS = SMALL | {
    "optimizer": "sgd", "lr": 0.05, "schedule": "cosine", "warmup_epochs": 0.5, "ema": 0.9, "clip_norm": 1.0,
    "micro_batch": 4, "weight_decay": 1e-4,
}  # fmt: skip
SETS = ("optimizer.layer_decay=0.9", "optimizer.decay_norms=false", "schedule.min_lr=0.001")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(said: dict[str, Any], *, resume: bool = False, sets: tuple[str, ...] = ()) -> RunFolder:
    return pipeline.train(pipeline.resolve(said, sets=sets, resume=resume), resume, Console(quiet=True))


def lines(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run.metrics) if line["kind"] == kind]


# ------------------------------------------------------------------------------------------------------------ steps


class NormFree(nn.Module):
    """A convolution and a dense layer in float64: nothing in it knows the other images of a batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.spec = ModelSpec("norm-free", input_size=32, resize=32)
        self.convolution = nn.Conv2d(1, 4, 5, stride=4, dtype=torch.float64)
        self.dense = nn.Linear(4 + 3, len(LABELS), dtype=torch.float64)

    def forward(self, image: Tensor, meta: Tensor) -> Outputs:
        pooled = self.convolution(image.double()).relu().mean(dim=(2, 3))
        return Outputs(self.dense(torch.cat([pooled, meta.double()], dim=1)))


def loss_in_double(outputs: Outputs, batch: Batch) -> Tensor:
    wanted = replace(batch, target=batch.target.double())
    return losses.build("bce-mean")(replace(outputs, logits=outputs.logits.double()), wanted)


def norm_free(**changes: Any) -> Step:
    model = NormFree().train()
    optimizer = optimizers.build(OptimizerSettings(name="sgd", lr=0.5), model, "m", rate_on_device=False)
    forward = compute.Forward(model, model.spec, "cpu", "fp32")
    return Step(model, forward, loss_in_double, optimizer, stepping.make_scaler("cpu", enabled=False), **changes)


@pytest.mark.parametrize(("images", "in_parts"), [(8, 2), (8, 8), (7, 3), (2, 5)])
def test_a_batch_in_parts_is_the_same_step(images: int, in_parts: int) -> None:
    whole, split = norm_free(), norm_free(parts=in_parts)
    for number in range(3):
        one = batch(number, images=images)
        assert split(one).item() == pytest.approx(whole(one).item(), rel=1e-6)
    for (name, a), b in zip(whole.model.named_parameters(), split.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6, msg=name)
    assert any(
        (a - b).abs().max() > 1e-3 for a, b in zip(NormFree().parameters(), split.model.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("images", "at_once", "processes", "expected"),
    [(80, 8, 1, 10), (80, 0, 1, 1), (8, 80, 1, 1), (10, 4, 1, 3), (40, 8, 2, 10), (4, 1, 4, 4)],
)
def test_how_many_parts(images: int, at_once: int, processes: int, expected: int) -> None:
    found = parts.count(images, at_once, processes)
    assert found == expected
    sizes = [len(part.index) for part in parts.split(batch(0, images=images, size=8), found)]
    assert (sum(sizes), sizes[0]) == (images, parts.largest(images, found))
    assert max(sizes) - min(sizes) <= 1


def test_parts_keep_the_order_of_all_of_a_batch() -> None:
    one = batch(3, images=5)
    joined = [
        torch.cat(pieces) for pieces in zip(*(stepping.tensors(part) for part in parts.split(one, 2)), strict=True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(joined, stepping.tensors(one), strict=True))


@pytest.mark.parametrize("longest", [0.05, 1e6])
def test_gradients_are_shortened_as_torch_does(longest: float) -> None:
    step, reference = norm_free(clip_norm=longest), norm_free()
    one = batch(0, images=8)
    step(one)
    loss_in_double(reference.forward(one), one).backward()
    norm = torch.nn.utils.clip_grad_norm_(reference.model.parameters(), longest)
    reference.optimizer.step()
    assert (norm > longest) == (longest == 0.05)
    assert all(torch.equal(a, b) for a, b in zip(step.model.parameters(), reference.model.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_all_options_at_once_can_be_recorded(name: str, precision: str) -> None:
    """And the loss scaler of fp16, which skips its first steps, leaves the momentum at rest."""
    plain, recorded = (_with_options(name, precision) for _ in range(2))
    recorded.record(batch(9), again)
    assert recorded.graph is not None
    expected = [plain(batch(number)).item() for number in range(3)]
    assert [recorded(batch(number)).item() for number in range(3)] == expected
    assert same(state(recorded), state(plain))
    assert all(value.isfinite().all() for value in state(plain))


def _with_options(name: str, precision: str) -> Step:
    step = make(precision=precision)
    wanted = OptimizerSettings(name=name, lr=2.0**-9, layer_decay=0.5, weight_decay=0.1, decay_norms=False)
    step.optimizer = optimizers.build(wanted, step.model, "m", rate_on_device=True)
    step.parts, step.clip_norm = 2, 0.1
    return step


# -------------------------------------------------------------------------------------------------- whole trainings


@pytest.fixture(scope="module")
def whole(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a training of two epochs of three steps with all options in one go. Read-only."""
    return train(OTHERS | {"data": prepared, "runs": tmp_path_factory.mktemp("whole")}, sets=SETS)


def test_rates_are_those_of_the_schedule(whole: RunFolder) -> None:
    """Warm-up over one and a half of six steps, then half a cosine over the other four and a half."""
    found = [line["lr"] for line in lines(whole, "step")]
    expected = [0, 0.05 / 1.5]
    cosines = torch.cos(torch.pi * (torch.arange(2, 6, dtype=torch.float64) - 1.5) / 4.5)
    expected += (0.001 + (0.05 - 0.001) * (1 + cosines) / 2).tolist()
    assert found == pytest.approx(expected, rel=1e-9)
    assert [line["lr"] for line in lines(whole, "epoch")] == [found[2], found[5]]


def test_the_average_is_what_is_kept(whole: RunFolder) -> None:
    last, best = load_file(whole.last), load_file(whole.best)
    assert lines(whole, "epoch")[1]["val_loss"] < lines(whole, "epoch")[0]["val_loss"], "the last epoch is the best"
    assert last["average/.steps"] == 6
    assert not any(name.startswith(("average/", "optimizer/")) for name in best)
    for name in ("fc.weight", "layer4.0.conv1.weight"):
        assert torch.equal(best[f"model/{name}"], last[f"average/{name}"])
        assert not torch.equal(best[f"model/{name}"], last[f"model/{name}"])


@pytest.mark.parametrize("point", [1, 2, 4])
def test_a_killed_training_with_all_options_goes_on_to_the_same_bits(
    point: int, whole: RunFolder, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the warm-up, in mid-epoch, and in the second epoch."""
    real, saved = supervised.save_last, []

    def save(training: supervised.Training) -> None:
        real(training)
        saved.append(training.progress.step)
        if len(saved) == point:
            raise KeyboardInterrupt

    given = OTHERS | {"data": prepared, "runs": tmp_path, "checkpoint_minutes": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(supervised, "save_last", save)
        with pytest.raises(KeyboardInterrupt):
            train(given, sets=SETS)
    run = train({"model": SMALL["model"], "data": prepared, "runs": tmp_path}, resume=True)
    for kind, names in (("step", ("loss", "lr")), ("epoch", ("train_loss", "val_loss", "val_auc", "lr"))):
        found = [[line[name] for name in names] for line in lines(run, kind)]
        assert found == [[line[name] for name in names] for line in lines(whole, kind)]
    for name in ("last", "best"):
        ours, theirs = load_file(getattr(run, name)), load_file(getattr(whole, name))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_the_epochs_of_a_cosine_cannot_be_changed_by_resuming(whole: RunFolder, prepared: Path) -> None:
    given = {"model": SMALL["model"], "data": prepared, "runs": whole.path.parent.parent, "epochs": 3}
    with pytest.raises(UserError, match="was trained with --epochs 2; resuming cannot change that"):
        train(given, resume=True)


def test_a_training_ends_early(prepared: Path, tmp_path: Path) -> None:
    """By a rate that moves nothing, no epoch is better than the first; the run is as finished as any."""
    given = SMALL | {"model": "mlp-meta", "data": prepared, "runs": tmp_path, "lr": 1e-9, "optimizer": "sgd"}
    given |= {"epochs": 9, "stop_patience": 2, "schedule": "constant", "select": "val_auc"}
    out = io.StringIO()
    run = pipeline.train(pipeline.resolve(given), False, Console(file=out, width=200))
    assert len(lines(run, "epoch")) == 3
    assert "the training has ended after 3 epochs: none since 1 was better" in out.getvalue()
    assert run.state() == "scored"
    before = run.metrics.read_bytes()
    train(given, resume=True)
    assert run.metrics.read_bytes() == before


def test_a_label_that_is_not_learned_has_no_scores(prepared: Path, tmp_path: Path) -> None:
    """Systems of others have 14 outputs: what they never say is neither trained nor validated nor scored."""
    given = SMALL | {"model": "mlp-meta", "data": prepared, "runs": tmp_path, "keep_epochs": True, "epochs": 1}
    run = train(given, sets=('loss.masked=["No Finding"]',))
    everything = train(given | {"name": "all"})
    for one, without in ((run, True), (everything, False)):
        weight = load_file(one.best)["model/layers.4.weight"]
        start = models.build("mlp-meta").state_dict()["layers.4.weight"]
        assert torch.equal(weight[-1], start[-1]) == without
        assert not torch.equal(weight[:-1], start[:-1])
        found = predictions.read_predictions(one.predictions("test"))
        assert found.about.unscored == ("No Finding",) * without
        assert (found.frame["No Finding"].null_count() == len(found.frame)) == without
        scores = read_scores(one.scores)
        assert ("No Finding" not in {metric.label for metric in scores.subsets["test"].metrics}) == without
    assert lines(run, "epoch")[0]["val_loss"] != lines(everything, "epoch")[0]["val_loss"]
    kept = predictions.read_predictions(kept_epochs.predictions_of(run, 1, "test")).frame
    assert kept.equals(predictions.read_predictions(run.predictions("test")).frame)
    assert "loss.masked=No Finding" in checkpoints.read_info(run.best).changes


def test_a_masked_loss_is_that_of_the_other_labels() -> None:
    one, outputs = batch(0, size=8), Outputs(torch.randn(4, 15, generator=torch.Generator().manual_seed(1)))
    fewer = replace(CHESTXRAY14, labels=CHESTXRAY14.averaged)
    loss = masking.masked(losses.build("bce-mean"), CHESTXRAY14, ["No Finding"], "cpu")
    expected = losses.build("bce-mean", labels=fewer)(
        Outputs(outputs.logits[:, :14]), replace(one, target=one.target[:, :14])
    )
    assert loss(outputs, one).item() == pytest.approx(expected.item(), rel=1e-6)
    assert not one.target.isnan().any(), "the batch is left as it is"
    assert masking.masked(loss, CHESTXRAY14, [], "cpu") is loss


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Hernia", "'Hernia' is one of the labels that results are averaged over, and would be scored without"),
        ("Cold", "'Cold' is no label of these images\n  remedy: choose from No Finding"),
    ],
)
def test_labels_that_cannot_be_masked(name: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        masking.masked(losses.build(), CHESTXRAY14, [name], "cpu")
    assert f"--set loss.masked: {text}" in str(caught.value)


def test_what_cannot_be_is_refused_before_there_is_a_folder(prepared: Path, tmp_path: Path) -> None:
    given = SMALL | {"model": "mlp-meta", "data": prepared, "runs": tmp_path}
    with pytest.raises(UserError, match="the layers of model 'mlp-meta' are not known"):
        train(given, sets=("optimizer.layer_decay=0.5",))
    with pytest.raises(UserError, match="--warmup-epochs 2: the training has --epochs 2"):
        train(given | {"warmup_epochs": 2.0})
    assert not list(tmp_path.iterdir())
