"""The forward pass that training and prediction share, the loss of a validation, precisions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from cxrkit import losses, models
from cxrkit.base.contracts import Batch, Outputs
from cxrkit.base.errors import UserError
from cxrkit.models import ModelSpec, compute
from cxrkit.trainers.stepping import tensors

NAN = float("nan")
SPEC = ModelSpec("mine", input_size=32, resize=32)


class Fixed(nn.Module):
    """Returns what it was given, cut to the batch."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, image: torch.Tensor, meta: torch.Tensor) -> Any:
        return self.answer


class Images:
    """A loader of the given targets, in batches of the given sizes; meta holds the row."""

    def __init__(self, target_NL: torch.Tensor, sizes: list[int]) -> None:
        self.target, self.sizes, self.steps = target_NL, sizes, len(sizes)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        for index in torch.arange(len(self.target)).split(self.sizes):
            image = torch.zeros(len(index), 1, 32, 32, dtype=torch.uint8)
            yield Batch(image, self.target[index], index[:, None].float().expand(-1, 3), index)

    def close(self) -> None:
        pass


class ByRow(nn.Module):
    """Its logits are a function of the row that `Images` puts into meta."""

    def forward(self, image: torch.Tensor, meta: torch.Tensor) -> Outputs:
        return Outputs(torch.sin(meta[:, :1] * torch.arange(1, 5)))


def batch(images: int = 2, labels: int = 4) -> Batch:
    return next(Images(torch.zeros(images, labels), [images]).epoch(0))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (torch.zeros(2, 4), r"model 'mine': expected Outputs\(logits, maps=None, extra=\{\}\), found a Tensor"),
        ((torch.zeros(2, 4), None), "expected Outputs.*found a tuple"),
        (None, "found a NoneType"),
        (Outputs(torch.zeros(2, 5)), r"expected logits \(2, 4\) for 2 images and 4 labels, found \(2, 5\)"),
        (Outputs(torch.zeros(8)), r"expected logits \(2, 4\) for 2 images and 4 labels, found \(8,\)"),
        (Outputs("logits"), r"expected logits \(2, 4\) for 2 images and 4 labels, found str"),  # type: ignore[arg-type]
    ],
)
def test_a_model_that_returns_something_else(answer: Any, text: str) -> None:
    with pytest.raises(UserError, match=text) as caught:
        compute.forward(Fixed(answer), batch(), SPEC, "cpu", "fp32")
    assert "return cxrkit.base.contracts.Outputs(logits) from the model's forward" in caught.value.remedy


def test_logits_are_float32_and_the_rest_is_kept() -> None:
    maps, extra = torch.ones(2, 4, 3, 3), {"features": torch.ones(2, 7)}
    found = compute.forward(Fixed(Outputs(torch.ones(2, 4).half(), maps, extra)), batch(), SPEC, "cpu", "bf16")
    assert found.logits.dtype == torch.float32
    assert found.maps is maps
    assert found.extra is extra


@pytest.mark.parametrize("sizes", [[10], [4, 4, 2], [9, 1]])
def test_the_validation_loss_is_that_of_all_images_however_they_are_batched(sizes: list[int]) -> None:
    target = (torch.rand(10, 4, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    scored = compute.score(ByRow(), Images(target, sizes), SPEC, "cpu", "fp32", losses.build())
    logits = torch.sin(torch.arange(10.0)[:, None] * torch.arange(1, 5)).double()
    expected = nn.functional.binary_cross_entropy_with_logits(logits, target.double())
    assert scored.loss == pytest.approx(expected.item(), rel=1e-6)
    assert scored.score == pytest.approx(logits.sigmoid().numpy(), abs=1e-6)


def test_the_loss_is_the_one_that_was_passed_in() -> None:
    target = torch.ones(6, 4)
    mean, total = (
        compute.score(ByRow(), Images(target, [4, 2]), SPEC, "cpu", "fp32", losses.build(name)).loss
        for name in ("bce-mean", "bce-sum")
    )
    assert total == pytest.approx(4 * mean)
    assert math.isnan(compute.score(ByRow(), Images(target, [6]), SPEC, "cpu", "fp32").loss)


def test_unknown_labels_stay_unknown_and_cost_nothing() -> None:
    target = torch.tensor([[1, 0, NAN, NAN], [NAN] * 4, [NAN, 1, 1, 0]])
    scored = compute.score(ByRow(), Images(target, [3]), SPEC, "cpu", "fp32", losses.build())
    assert scored.target.dtype == "float32"
    torch.testing.assert_close(torch.from_numpy(scored.target), target, equal_nan=True)
    other = target.clone()
    other[target.isnan()] = 0
    assert 0 < scored.loss != compute.score(ByRow(), Images(other, [3]), SPEC, "cpu", "fp32", losses.build()).loss


def test_a_failed_validation_leaves_the_model_in_training_mode() -> None:
    model = Fixed(None).train()
    with pytest.raises(UserError):
        compute.score(model, Images(torch.zeros(2, 4), [2]), SPEC, "cpu", "fp32")
    assert model.training


@pytest.mark.parametrize("name", ["fp61", "", "float32", "FP32"])
def test_unknown_precisions_are_refused(name: str) -> None:
    with pytest.raises(
        UserError, match=f"--precision {name}: unknown\n  remedy: choose one of auto, fp32, bf16, fp16, tf32"
    ):
        compute.choose_precision(name, "cpu")
    with pytest.raises(UserError, match=f"precision {name!r}: unknown\n  remedy: choose one of fp32, bf16, fp16, tf32"):
        compute.autocast("cpu", name)


def test_precisions_of_a_cpu() -> None:
    assert [compute.choose_precision(name, "cpu:0") for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert compute.choose_precision("auto", "cpu:0") in ("fp32", "bf16")
    for name in ("fp16", "tf32"):
        with pytest.raises(UserError, match=f"--precision {name}: not on a CPU\n  remedy: choose bf16 or fp32"):
            compute.choose_precision(name, "cpu:0")


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_full_precision_is_asked_for_in_words(precision: str) -> None:
    """fp32 is IEEE's in convolutions too, where torch's own default is TF32; readable by its old and its new names."""
    backends = torch.backends
    before = backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, backends.cudnn.benchmark
    try:
        for name in ("tf32", "fp32", precision):
            compute.set_switches("cuda", name)
        on = precision == "tf32"
        assert (backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32) == (on, on)
        assert torch.get_float32_matmul_precision() == ("high" if on else "highest")
        assert backends.cudnn.benchmark
        if hasattr(backends.cudnn, "conv"):
            assert [backends.cudnn.conv.fp32_precision == "tf32", backends.cuda.matmul.fp32_precision == "tf32"] == [
                on
            ] * 2
    finally:
        compute._allow_tf32(before[0])
        backends.cuda.matmul.allow_tf32, backends.cudnn.benchmark = before[1:]


def test_a_cpu_has_no_switches() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    compute.set_switches("cpu", "fp32")
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == before


def test_an_evaluation_takes_more_at_once_on_a_gpu() -> None:
    assert [compute.batch_size("cuda:1", size) for size in (224, 256, 448, 1024)] == [256, 256, 128, 32]
    assert [compute.batch_size("cpu", size) for size in (32, 224, 448)] == [32, 32, 32]


class Reusing(Images):
    """A loader that writes every batch into the memory of the one before."""

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        place: Batch | None = None
        for made in super().epoch(epoch, start_step):
            if place is None:
                place = Batch(*(tensor.clone() for tensor in tensors(made)))
            cut = [tensor[: len(made.index)] for tensor in tensors(place)]
            for mine, theirs in zip(cut, tensors(made), strict=True):
                mine.copy_(theirs)
            yield Batch(*cut)


def test_scores_outlive_the_memory_of_their_batch() -> None:
    target = (torch.rand(10, 4, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    found, expected = (
        compute.score(ByRow(), loader(target, [4, 4, 2]), SPEC, "cpu", "fp32", losses.build())
        for loader in (Reusing, Images)
    )
    for ours, theirs in ((found.index, expected.index), (found.score, expected.score), (found.target, expected.target)):
        assert (ours == theirs).all()
    assert found.loss == expected.loss


def test_what_is_compiled_is_one_function_for_full_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image in bytes to logits in one graph; a short batch compiles nothing, nor does a second network's first."""
    torch._dynamo.reset()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(
        compute, "compiled", lambda f, *_: torch.compile(f, backend=backend, dynamic=False, fullgraph=True)
    )
    one = Batch(
        torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8), torch.zeros(4, 15), torch.rand(4, 3), torch.arange(4)
    )
    short = Batch(*(tensor[:3] for tensor in tensors(one)))
    with torch._dynamo.config.patch(error_on_recompile=True, recompile_limit=1):  # type: ignore[attr-defined]
        for count in range(1, 4):
            model: Any = models.build("resnet14-small-meta", seed=count).eval()
            forward = compute.Forward(model, model.spec, "cpu", "bf16", compile=True)
            with torch.inference_mode():
                found = [forward(batch).logits for batch in (one, short, one)]
                expected = [compute.forward(model, batch, model.spec, "cpu", "bf16").logits for batch in (one, short)]
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])
            assert len(graphs) == count
    taken = [node.meta["example_value"].dtype for node in graphs[0].graph.nodes if node.op == "placeholder"]
    assert torch.uint8 in taken
    torch._dynamo.reset()


def test_batches_of_another_size_than_the_plans_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "compiled", lambda f, *_: torch.compile(f, backend="eager", dynamic=False))
    model: Any = models.build("mlp-meta")
    counters = torch._dynamo.utils.counters["stats"]
    forward = compute.Forward(model, model.spec, "cpu", "fp32", compile=True, images=4)
    before = counters["unique_graphs"]
    forward(batch(2, labels=15))
    assert counters["unique_graphs"] == before
    forward(batch(4, labels=15))
    assert counters["unique_graphs"] == before + 1


@pytest.mark.parametrize("name", ["resnet14-small-meta", "mlp-meta"])
def test_outputs_pass_through_compile_autocast_and_inference_mode(name: str) -> None:
    model = models.build(name).eval()
    image, meta = torch.randn(2, 1, 32, 32), torch.rand(2, 3)
    # The compiler's front end, without its slow back end: a graph break would raise.
    traced = torch.compile(model, backend="eager", fullgraph=True, dynamic=False)
    with torch.inference_mode():
        expected = model(image, meta)
        found = traced(image, meta)
    assert isinstance(found, Outputs)
    assert torch.equal(found.logits, expected.logits)
    assert found.maps is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert traced(image, meta).logits.dtype == torch.float32
    traced(image, meta).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
