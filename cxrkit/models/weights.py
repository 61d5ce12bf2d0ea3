"""ImageNet weights for the -ots and -ft networks: from torchvision, or from a file; and what a network started from."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.base.origin import Known
from cxrkit.base.pretraining import UNKNOWN, Declared, Pretraining, named, read_declared

if TYPE_CHECKING:
    from torch import Tensor

    from cxrkit.models.resnet import ResNet

WHAT = "torchvision's resnet50 (IMAGENET1K_V1)"
FILE_NAME = "resnet50-0676ba61.pth"  # torchvision names a file after the first 8 digits of its SHA-256
# The whole of it, and the size, as nine public projects that pin or have measured this file give them, all the same.
FILE_SHA256 = "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"
FILE_BYTES = 102_530_333
# What people save a state dict under; an average of the weights goes before the weights themselves.
CONTAINERS = ("state_dict", "model_ema", "model", "module", "model_state_dict", "teacher", "target_encoder", "net")
USE_A_FILE = (
    f"name a file with --weights FILE (.pth or .safetensors): {FILE_NAME} ({FILE_BYTES:,} bytes), from that address "
    "by a browser, or from another machine's torch cache (hub/checkpoints). Check it with `sha256sum`; its SHA-256 "
    f"is {FILE_SHA256}"
)


@dataclass(frozen=True)
class InitialWeights:
    """What a network started from."""

    sha256: str
    """Of the weights file, in hex; "" where there was none, or it is not known."""

    source: str
    """The path given with --weights, or which weights were downloaded; "scratch", or "not said". Of a probe, the run
    whose features it is given."""

    seen: str = ""
    """What a run's network was trained on, "nih-chestxray14 resample-1": its checkpoint says so. "" for weights files.
    """

    declared: str = ""
    """What somebody says that a weights file was trained on; "" where nobody does."""

    saw: Pretraining = UNKNOWN
    """How much of what `seen` or `declared` names was seen."""

    @property
    def pretraining(self) -> str:
        """What the network had seen before: "none", "ImageNet", a data set and split, what is declared; "unknown"."""
        if self.sha256:
            return self.seen or ("ImageNet" if self.sha256 == FILE_SHA256 else self.declared or "ImageNet")
        return "none" if self.source == "scratch" else "unknown"

    @property
    def pretrained(self) -> Pretraining:
        """How much the network had seen before."""
        by_name = named(self.pretraining)
        return by_name if by_name.known else self.saw

    @property
    def known(self) -> Known:
        """How that is known: only torchvision's own file is known by its digest, of another its owner says so."""
        if not self.sha256:
            return "checked" if self.source == "scratch" else "unknown"
        if self.seen:
            return "checked"
        return "checked" if self.sha256 == FILE_SHA256 else "declared"


SCRATCH = InitialWeights("", "scratch")
# An own model that has no `initial_weights`, or one of ours that awaits a checkpoint.
NOT_SAID = InitialWeights("", "not said")


def load(net: ResNet, file: Path | None = None) -> InitialWeights:
    """Fill the backbone of `net` from `file`, or from `download()` when there is none; return what it was.

    The 1000-class dense layer is left out. A file FILE.toml beside it may declare other pretraining than ImageNet's
    (pretraining.read_declared). Raises UserError for a file that cannot be read or does not fit.
    """
    source = WHAT if file is None else str(file)
    declared = read_declared(file) if file else None
    file = file or download()
    backbone = {name: value for name, value in read(file).items() if not name.startswith("fc.")}
    _check_fit(net, backbone, source)
    # strict=False for `fc`, and for batch counters, which old files lack and nothing here uses.
    net.load_state_dict(backbone, strict=False)
    return with_declared(InitialWeights(_sha256(file), source), declared)


def with_declared(found: InitialWeights, declared: Declared | None) -> InitialWeights:
    """Return what a network started from, with what its owner says of the weights file, where he says anything."""
    if declared is None:
        return found
    return replace(found, declared=declared.pretraining, saw=declared.pretrained)


def download() -> Path:
    """Return torchvision's IMAGENET1K_V1 file in torch's cache; downloaded where it is not there, and checked.

    Raises UserError, with another way to get the weights, when that fails or the file is not what its name says.
    """
    import torch
    from torchvision.models import ResNet50_Weights

    url = ResNet50_Weights.IMAGENET1K_V1.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / FILE_NAME
    if not file.exists():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), hash_prefix=FILE_SHA256, progress=False)
        except (OSError, RuntimeError) as error:
            # OSError: no network, no such host, an unwritable cache. RuntimeError: a checksum that differs.
            raise UserError(f"{WHAT}: {url} could not be downloaded ({error})", remedy=USE_A_FILE) from error
    # What lies in the cache was not checked by anybody: half a file of an older torch, or other weights of that name.
    if (found := _sha256(file)) != FILE_SHA256:
        raise UserError(
            f"{file}: the SHA-256 of {WHAT} is {FILE_SHA256}, that of this file {found}",
            remedy="delete it, so that it is downloaded again, or name another file with --weights FILE",
        )
    return file


def _sha256(file: Path) -> str:
    try:
        return file_digest(file)
    except OSError as error:
        raise _damaged(file, "a weights file that can be read", error) from error


def read(file: Path) -> Mapping[str, Tensor]:
    """Return the state dict in a .safetensors or a .pth file, without running any code that the latter may hold.

    A dict under "state_dict", "model" or another usual key, and names that start with "module." (as DataParallel
    writes them), are unwrapped.
    Raises UserError when the file is missing, damaged, holds code, or holds something else.
    """
    if not file.is_file():
        raise UserError(f"{file}: there is no such weights file", remedy="check the path given to --weights")
    content = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    for key in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not _is_state_dict(content):
        raise UserError(
            f"{file}: expected a state dict (parameter name -> tensor), found a {type(content).__name__} "
            "with other things in it",
            remedy="save it with torch.save(model.state_dict(), FILE)",
        )
    return {name.removeprefix("module."): value for name, value in content.items()}


def _read_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise _damaged(file, "a safetensors file", error) from error


def _read_pickle(file: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read is refused below
            # The command line of a training, which many files hold beside the tensors: a bag of values, no code.
            with torch.serialization.safe_globals([argparse.Namespace]):
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is None:
            raise _damaged(file, "a torch weights file", "it is no pickle that torch can read") from error
        raise UserError(
            f"{file}: holds more than tensors ({code[1]}), which is never run",
            remedy="where it was made, save only the tensors: torch.save(model.state_dict(), FILE)",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise _damaged(file, "a torch weights file", error) from error


def _damaged(file: Path, expected: str, reason: Exception | str) -> UserError:
    first_line = (str(reason).splitlines() or ["it ends too early"])[0]
    return UserError(
        f"{file}: is not {expected}, or is damaged ({first_line})",
        remedy="download or copy it again, and compare its size with the original's",
    )


def _is_state_dict(content: Any) -> bool:
    import torch

    return isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    )


def _check_fit(net: ResNet, backbone: Mapping[str, Any], origin: str) -> None:
    """Raise UserError, naming the first few differences, unless `backbone` is exactly the network without `fc`."""
    wanted = {name: value.shape for name, value in net.state_dict().items() if not name.startswith("fc.")}
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    differences = [f"no {name}" for name in wanted if name not in backbone and name not in counters]
    differences += [f"unexpected {name}" for name in backbone if name not in wanted]
    differences += [
        f"{name} is {tuple(value.shape)}, expected {tuple(wanted[name])}"
        for name, value in backbone.items()
        if name in wanted and value.shape != wanted[name]
    ]
    if differences:
        shown = "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")
        raise UserError(
            f"{origin}: the weights do not fit {net.spec.name}: {shown}",
            remedy=f"give the state dict of a network laid out and named as {WHAT}",
        )
