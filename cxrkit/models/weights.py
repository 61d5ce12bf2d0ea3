"""ImageNet weights for the -ots and -ft networks: from torchvision, or from a file."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from cxrkit.models.resnet import ResNet

WHAT = "torchvision's resnet50 (IMAGENET1K_V1)"
USE_A_FILE = (
    "name a file with --weights FILE (.pth or .safetensors): resnet50-0676ba61.pth, downloaded with a browser "
    "or copied from another machine's torch cache"
)


def load(net: ResNet, file: Path | None = None, fetch: Callable[[], Mapping[str, Any]] | None = None) -> None:
    """Fill the backbone of `net` from `file`, or from `fetch()` (default: `download`) when there is no file.

    The 1000-class dense layer is left out. Raises UserError for a file that cannot be read or does not fit.
    """
    if file is not None:
        state, origin = read(file), str(file)
    else:
        state, origin = (fetch or download)(), WHAT
    backbone = {name: value for name, value in state.items() if not name.startswith("fc.")}
    _check_fit(net, backbone, origin)
    # strict=False for `fc`, and for batch counters, which old files lack and nothing here uses.
    net.load_state_dict(backbone, strict=False)


def download() -> Mapping[str, Any]:
    """Return torchvision's IMAGENET1K_V1 state dict, from its cache or the network, its checksum verified.

    Raises UserError, with another way to get the weights, when that fails.
    """
    from torchvision.models import ResNet50_Weights

    weights = ResNet50_Weights.IMAGENET1K_V1
    try:
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")  # type: ignore[no-any-return]
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        # OSError: no network, no such host, an unwritable cache. RuntimeError: a checksum that differs. The cache
        # may also hold half a file of an older torch.
        raise UserError(f"{WHAT}: {weights.url} could not be downloaded ({error})", remedy=USE_A_FILE) from error


def read(file: Path) -> Mapping[str, Tensor]:
    """Return the state dict in a .safetensors or a .pth file, without running any code that the latter may hold.

    A dict under "state_dict", and names that start with "module." (as DataParallel writes them), are unwrapped.
    Raises UserError when the file is missing, damaged, holds code, or holds something else.
    """
    if not file.is_file():
        raise UserError(f"{file}: there is no such weights file", remedy="check the path given to --weights")
    content = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
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
