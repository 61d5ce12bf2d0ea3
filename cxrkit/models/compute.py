"""Which device and precision a computation uses, and the one forward pass that training and prediction share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit.base.compiling import compiled
from cxrkit.base.contracts import Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.notes import Say, to_stderr
from cxrkit.base.ranks import ALONE, Ranks
from cxrkit.models import ModelSpec, prepare_input
from cxrkit.runs.sections import PRECISIONS

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cxrkit.base.contracts import Batch, Loader, Loss

__all__ = [
    "Forward",
    "Scored",
    "autocast",
    "batch_size",
    "choose_device",
    "choose_precision",
    "compiled",
    "cpu_has_bf16",
    "forward",
    "on_cpu",
    "score",
    "set_switches",
]

# Without gradients an image needs a fraction of the memory, so evaluation takes more of them at once than training.
BATCH_SIZE = 32


def batch_size(device: str, input_size: int) -> int:
    """Return how many images an evaluation takes at once on `device`.

    A forward pass takes the host some 5 ms of launching kernels however few images it is of, and a large GPU computes
    32 of 224 pixels in less than that: it is given eight times as many, and half of that for four times the pixels.
    """
    if on_cpu(device) or input_size > 512:
        return BATCH_SIZE
    return 256 if input_size <= 256 else 128


def on_cpu(device: str) -> bool:
    """Return whether a device's name, as torch takes it, is the CPU's."""
    return device.partition(":")[0] == "cpu"


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
    """Return fp32, bf16, fp16 or tf32 for `name`; auto is bf16 on GPUs and processors that compute in it, else fp32.

    Raises UserError for an unknown name; for fp16 on a CPU, where it is slower than fp32 and overflows; and for tf32 on
    a CPU, which has no such arithmetic.
    """
    if name not in PRECISIONS:
        raise UserError(f"--precision {name}: unknown", remedy=f"choose one of {', '.join(PRECISIONS)}")
    if name in ("fp16", "tf32") and on_cpu(device):
        raise UserError(f"--precision {name}: not on a CPU", remedy="choose bf16 or fp32")
    if name != "auto":
        return name
    if not on_cpu(device):
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


def set_switches(device: str, precision: str) -> None:
    """Set what torch keeps for the whole process before something is computed on `device`; nothing on a CPU.

    fp32 means IEEE float32, in convolutions too, whose factors torch rounds to 10 bits unless told otherwise; tf32 is
    that rounding, in convolutions and matrix products. cuDNN times its algorithms on the first batch of a shape and
    takes the fastest: shapes are the same all along here.
    """
    if on_cpu(device):
        return
    import torch

    torch.backends.cudnn.benchmark = True
    _allow_tf32(precision == "tf32")


def _allow_tf32(allow: bool) -> None:
    """Switch TF32 on or off in cuDNN and cuBLAS.

    By the names that all of PyTorch 2.6 to 2.14 has. The newer ones (`fp32_precision`) leave these in a state in which
    reading them raises, which torch.backends.cudnn.flags() does; these keep the newer ones right.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch 2.9 calls them old
        torch.backends.cudnn.allow_tf32 = allow
        torch.backends.cuda.matmul.allow_tf32 = allow


def autocast(device: str, precision: str) -> torch.autocast:
    """Return the autocast context of fp32 and tf32 (off), bf16 or fp16. Raises UserError for any other precision."""
    import torch

    halves = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in ("fp32", "tf32", *halves):
        raise UserError(f"precision {precision!r}: unknown", remedy="choose one of fp32, bf16, fp16, tf32")
    # Switched off, it wants a type that it could use all the same.
    dtype = halves.get(precision, torch.bfloat16)
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=precision in halves)


class Forward:
    """The forward pass of a model: `prepare_input` and the network under autocast as one function, compiled if asked.

    One function, so that the compiler fuses the normalisation of the image with what follows. It is compiled for one
    shape, the first that comes or that of `images` images; every other batch, a short last one above all, is computed
    without the compiler, which would take a minute for each.
    """

    def __init__(
        self,
        model: Any,
        spec: ModelSpec,
        device: str,
        precision: str,
        *,
        compile: bool = False,
        images: int | None = None,
        note: Say = to_stderr,
    ) -> None:
        """images: of the batches to compile for; None: as many as the first batch has. note: hears what fails."""
        self.model, self.spec, self.device, self.precision = model, spec, device, precision

        def plain(image_B1HW: torch.Tensor, meta_B3: torch.Tensor) -> Any:
            with autocast(device, precision):
                return model(prepare_input(image_B1HW, spec), meta_B3)

        self._plain = plain
        self._fast: Callable[..., Any] | None = None
        self._images = images
        if compile:
            # torch.compile keeps what it made with the code object, which all functions made here would share: a
            # second network would be a recompilation of the first, and the ninth would not be compiled at all.
            plain.__code__ = plain.__code__.replace()
            self._fast = compiled(plain, device, note)

    def __call__(self, batch: Batch) -> Outputs:
        """Return the model's outputs, logits (B, L) in float32, for a batch that lies on the device.

        Raises UserError when a model of one's own returns something else than Outputs with one logit for each label.
        """
        if self._images is None:
            self._images = len(batch.image)
        fast = self._fast if len(batch.image) == self._images else None
        outputs: Outputs = (fast or self._plain)(batch.image, batch.meta)
        _check_outputs(outputs, batch, self.spec)
        return replace(outputs, logits=outputs.logits.float())


def forward(model: Any, batch: Batch, spec: ModelSpec, device: str, precision: str) -> Outputs:
    """Return the outputs of `model` for one batch; see Forward."""
    return Forward(model, spec, device, precision)(batch)


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
    """(N,) int64, rows of the store's index, each once."""

    score: np.ndarray
    """(N, L) float32, probabilities; amounts where the labels have a unit. Of several views the mean."""

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
    *,
    forward: Forward | None = None,
    ranks: Ranks = ALONE,
    views: int = 1,
) -> Scored:
    """Run `model` in evaluation mode over all of `loader`; its training mode is restored afterwards.

    loss: computed batch by batch; without one, `Scored.loss` is NaN. progress: called with the number of images after
    each batch. forward: of the same model, where it is to be compiled. views: how many images that follow each other
    are views of one (loaders/views.py), whose probabilities are averaged. ranks: each scores the batches that its
    loader delivers (Ranks.own_batches), and all get the scores of all. Only what is kept of a batch is copied, and the
    host waits for the device once, at the end.
    """
    import numpy as np
    import torch

    forward = forward or Forward(model, spec, device, precision)
    was_training = model.training
    model.eval()
    index, scores, targets, losses = [], [], [], []
    unknown = torch.full((), float("nan"), dtype=torch.float64, device=device)
    try:
        with torch.inference_mode():
            for batch in loader.epoch(0):
                outputs = forward(batch)
                losses.append(unknown if loss is None else loss(outputs, batch).double() * len(batch.index))
                index.append(batch.index[::views].clone())
                seen = outputs.logits if spec.unit else outputs.logits.sigmoid()
                scores.append(seen if views == 1 else seen.reshape(-1, views, seen.shape[1]).mean(dim=1))
                targets.append(batch.target[::views].clone())
                if progress is not None:
                    progress(len(index[-1]))
            found = [_by_batch(parts, [len(part) for part in index]) for parts in (index, scores, targets)]
            found.append(torch.stack(losses).tolist() if losses else [])
    finally:
        model.train(was_training)
    of_all = ranks.in_turn(list(zip(*found, strict=True)))
    rows, score, target = (np.concatenate([batch[part] for batch in of_all]) for part in range(3))
    return Scored(rows, score, target, sum(batch[3] for batch in of_all) / len(rows))


def _by_batch(parts: list[torch.Tensor], lengths: list[int]) -> list[np.ndarray]:
    """Return what lies on a device as arrays, one for each batch, by one copy."""
    import numpy as np
    import torch

    return np.split(torch.cat(parts).cpu().numpy(), np.cumsum(lengths[:-1])) if parts else []
