"""Which device and precision a computation uses, and the one forward pass that training and prediction share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit.errors import UserError
from cxrkit.models import ModelSpec, prepare_input

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cxrkit.contracts import Batch, Loader


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

    Raises UserError for fp16 on a CPU, where it is slower than fp32 and overflows.
    """
    if name == "fp16" and device == "cpu":
        raise UserError("--precision fp16: not on a CPU", remedy="choose bf16 or fp32")
    if name != "auto":
        return name
    if device != "cpu":
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
    """Return the autocast context of a precision (off for fp32)."""
    import torch

    kind = torch.device(device).type
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(kind, dtype=dtype, enabled=precision != "fp32")


def logits(model: Any, batch: Batch, spec: ModelSpec, device: str, precision: str) -> torch.Tensor:
    """Return the model's logits (B, L) in float32 for a batch that lies on `device`."""
    with autocast(device, precision):
        logits_BL: torch.Tensor = model(prepare_input(batch.image, spec), batch.meta).float()
        return logits_BL


@dataclass(frozen=True)
class Scored:
    """What a model says of the images of one loader.

    index: (N,) rows of index.parquet; score: (N, L) float32 probabilities; target: (N, L) bool;
    loss: the mean over images of the class-averaged binary cross-entropy (paper, equation 1).
    """

    index: np.ndarray
    score: np.ndarray
    target: np.ndarray
    loss: float


def score(
    model: torch.nn.Module, loader: Loader, spec: ModelSpec, device: str, precision: str, progress: Any = None
) -> Scored:
    """Run `model` in evaluation mode over all of `loader`; its training mode is restored afterwards.

    progress: called with the number of images after each batch. Only what is kept of a batch is copied.
    """
    import numpy as np
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    was_training = model.training
    model.eval()
    index, scores, targets = [], [], []
    total = torch.zeros((), dtype=torch.float64, device=device)
    with torch.inference_mode():
        for batch in loader.epoch(0):
            logits_BL = logits(model, batch, spec, device, precision)
            total += binary_cross_entropy_with_logits(logits_BL, batch.target, reduction="sum").double()
            index.append(batch.index.cpu().numpy().copy())
            scores.append(logits_BL.sigmoid().cpu().numpy())
            targets.append(batch.target.cpu().numpy() > 0.5)
            if progress is not None:
                progress(len(batch.index))
    model.train(was_training)
    target = np.concatenate(targets)
    return Scored(np.concatenate(index), np.concatenate(scores), target, total.item() / target.size)
