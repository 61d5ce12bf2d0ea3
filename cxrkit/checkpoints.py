"""Checkpoint files: safetensors, never pickle. One file holds everything, so no kill can leave two that disagree.

Tensors are called `model/<name>` and `optimizer/<parameter number>/<name>`; the file's metadata key "cxrkit" holds a
JSON object: what the tensors belong to (CheckpointInfo) and, in last.safetensors, where the training stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit.errors import UserError
from cxrkit.files import replacing

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = 1
METADATA_KEY = "cxrkit"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint was trained as; all that prediction needs beside the tensors.

    settings_digest: of the prepared folder (shards.ShardSettings): other levels or another quality are other pixels.
    age_range: youngest and oldest training age in years, which the metadata input is scaled by.
    epoch: epochs finished when the tensors were taken. train_images, train_subset_images: how many images were trained
    on, of how many in the whole data set. progress: the trainer's own state (empty in best.safetensors).
    """

    model: str
    input_size: int
    split: str
    split_digest: str
    dataset: str
    label_release: str
    settings_digest: str
    age_range: tuple[float, float]
    epoch: int
    train_images: int
    train_subset_images: int
    progress: dict[str, Any]
    format_version: int = FORMAT_VERSION


def save(
    path: Path, model: torch.nn.Module, info: CheckpointInfo, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Write the model's (and the optimizer's) tensors and `info` atomically."""
    from safetensors.torch import save_file

    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    if optimizer is not None:
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": value for name, value in state.items()}
    tensors = {name: value.detach().contiguous() for name, value in tensors.items()}
    with replacing(path) as part:
        save_file(tensors, part, metadata={METADATA_KEY: json.dumps(asdict(info))})


def read(path: Path) -> tuple[dict[str, torch.Tensor], CheckpointInfo]:
    """Return a checkpoint's tensors (on the CPU) and its info. Raises UserError when it is not a whole checkpoint."""
    from safetensors import SafetensorError, safe_open

    remedy = "name a checkpoint of cxrkit (RUN/checkpoints/best.safetensors), or train again"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if metadata["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"{path}: checkpoint format {metadata['format_version']}, this cxrkit reads {FORMAT_VERSION}",
                remedy="use the version of cxrkit that wrote it, or train again",
            )
        metadata["age_range"] = tuple(metadata["age_range"])
        return tensors, CheckpointInfo(**metadata)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such checkpoint", remedy=remedy) from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})", remedy=remedy) from None
    except (KeyError, TypeError, json.JSONDecodeError):
        raise UserError(f"{path}: a safetensors file, but not a checkpoint of cxrkit", remedy=remedy) from None


def load_model(path: Path, tensors: Mapping[str, torch.Tensor], model: torch.nn.Module, name: str) -> None:
    """Copy the model's tensors into `model`, called `name`. Raises UserError when they belong to another network."""
    state = {key.removeprefix("model/"): value for key, value in tensors.items() if key.startswith("model/")}
    wanted = model.state_dict()
    differing = sorted(state.keys() ^ wanted.keys())
    differing += [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if differing:
        raise UserError(
            f"{path}: not a checkpoint of {name}: {len(differing)} of its tensors differ, the first {differing[0]}",
            remedy="name the model that the checkpoint was trained as, or a checkpoint of this model",
        )
    model.load_state_dict(state)


def load_optimizer(tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Copy the moments in `tensors` into `optimizer`, which was built for the same parameters."""
    import torch

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, number, name = key.split("/", 2)
            parameter = parameters[int(number)]
            if value.shape == parameter.shape:
                # The file is contiguous, parameters may be channels_last; fused Adam walks both in memory order.
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
