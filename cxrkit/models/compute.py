"""Which device and precision a computation uses, and the one forward pass that training and prediction share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit.base.compiling import compiled
from cxrkit.base.contracts import Outputs
from cxrkit.base.errors import UserError
from cxrkit.models import ModelSpec, prepare_input
from cxrkit.runs.sections import PRECISIONS

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cxrkit.base.contracts import Batch, Loader, Loss

__all__ = [
    "Scored",
    "autocast",
    "choose_device",
    "choose_precision",
    "compiled",
    "cpu_has_bf16",
    "forward",
    "score",
]

# Without gradients an image needs a fraction of the memory, so evaluation takes more of them at once than training.
BATCH_SIZE = 32


def choose_device(name: str) -> str:
    """Return a usable torch device name for `name` (auto, cpu, cuda, cuda:N). Raises UserError where there is none."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise UserError(f"--device {name}: unknown", remedy="choose auto, cpu, cuda or cuda:N") from None
    if kind not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: not supported", remedy="choose auto, cpu, cuda or cuda:N")
    if kind == "cuda" and (torch.device(name).index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices",
            remedy="choose --device cpu, or run `cxrkit doctor` to see why the GPU is not found",
        )
    return name


def choose_precision(name: str, device: str) -> str:
    """Return fp32, bf16 or fp16 for `name`; auto is bf16 on GPUs and processors that compute in it, else fp32.

    Raises UserError for an unknown name, and for fp16 on a CPU, where it is slower than fp32 and overflows.
    """
    if name not in PRECISIONS:
        raise UserError(f"--precision {name}: unknown", remedy=f"choose one of {', '.join(PRECISIONS)}")
    on_cpu = device.partition(":")[0] == "cpu"
    if name == "fp16" and on_cpu:
        raise UserError("--precision fp16: not on a CPU", remedy="choose bf16 or fp32")
    if name != "auto":
        return name
    if not on_cpu:
        import torch

        with torch.cuda.device(device):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if cpu_has_bf16() else "fp32"


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor multiplies bfloat16 matrices in hardware (AMX or AVX-512-BF16)."""
    try:
        flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    except OSError:
        return False
    return bool({"amx_bf16", "avx512_bf16"} & set(flags.split()))


def autocast(device: str, precision: str) -> torch.autocast:
    """Return the autocast context of fp32 (off), bf16 or fp16. Raises UserError for any other precision."""
    import torch

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in dtypes:
        raise UserError(f"precision {precision!r}: unknown", remedy=f"choose one of {', '.join(dtypes)}")
    kind = torch.device(device).type
    # Switched off, it wants a type that it could use all the same.
    dtype = torch.bfloat16 if precision == "fp32" else dtypes[precision]
    return torch.autocast(kind, dtype=dtype, enabled=precision != "fp32")


def forward(model: Any, batch: Batch, spec: ModelSpec, device: str, precision: str) -> Outputs:
    """Return the model's outputs, logits (B, L) in float32, for a batch that lies on `device`.

    Raises UserError when a model of one's own returns something else than Outputs with one logit for each label.
    """
    with autocast(device, precision):
        outputs: Outputs = model(prepare_input(batch.image, spec), batch.meta)
    _check_outputs(outputs, batch, spec)
    return replace(outputs, logits=outputs.logits.float())


def _check_outputs(outputs: Any, batch: Batch, spec: ModelSpec) -> None:
    """Raise a UserError for anything but Outputs that fit the batch's labels; looks at shapes only."""
    remedy = "return cxrkit.base.contracts.Outputs(logits) from the model's forward, with one column for each label"
    if not isinstance(outputs, Outputs):
        raise UserError(
            f"model {spec.name!r}: expected Outputs(logits, maps=None, extra={{}}), found a {type(outputs).__name__}",
            remedy=remedy,
        )
    shape, expected = tuple(getattr(outputs.logits, "shape", ())), tuple(batch.target.shape)
    if shape != expected:
        raise UserError(
            f"model {spec.name!r}: expected logits {expected} for {expected[0]} images and {expected[1]} labels, "
            f"found {shape or type(outputs.logits).__name__}",
            remedy=remedy,
        )


@dataclass(frozen=True)
class Scored:
    """What a model says of the images of one loader."""

    index: np.ndarray
    """(N,) int64, rows of the store's index."""

    score: np.ndarray
    """(N, L) float32, probabilities."""

    target: np.ndarray
    """(N, L) float32: 1, 0, or NaN where a label is not known."""

    loss: float
    """The mean over images of the training's own loss, each batch weighted by its images."""


def score(
    model: torch.nn.Module,
    loader: Loader,
    spec: ModelSpec,
    device: str,
    precision: str,
    loss: Loss | None = None,
    progress: Any = None,
) -> Scored:
    """Run `model` in evaluation mode over all of `loader`; its training mode is restored afterwards.

    loss: computed batch by batch; without one, `Scored.loss` is NaN. progress: called with the number of images after
    each batch. Only what is kept of a batch is copied.
    """
    import numpy as np
    import torch

    was_training = model.training
    model.eval()
    index, scores, targets = [], [], []
    total = torch.full((), 0.0 if loss else float("nan"), dtype=torch.float64, device=device)
    try:
        with torch.inference_mode():
            for batch in loader.epoch(0):
                outputs = forward(model, batch, spec, device, precision)
                if loss is not None:
                    total += loss(outputs, batch).double() * len(batch.index)
                index.append(batch.index.cpu().numpy().copy())
                scores.append(outputs.logits.sigmoid().cpu().numpy())
                targets.append(batch.target.cpu().numpy().copy())
                if progress is not None:
                    progress(len(batch.index))
    finally:
        model.train(was_training)
    rows = np.concatenate(index)
    return Scored(rows, np.concatenate(scores), np.concatenate(targets), total.item() / len(rows))
