"""Checkpoint files: safetensors, never pickle. One file holds everything, so no kill can leave two that disagree.

Tensors are called `model/<name>` and `optimizer/<parameter number>/<name>`; the file's metadata key "cxrkit" holds a
JSON object: what the tensors belong to (CheckpointInfo) and, in last.safetensors, where the training stands. There,
`generator/<name>` are the states of torch's random generators, and `average/<name>` the averaged weights of a training
that has them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit.base import typed
from cxrkit.base.errors import UserError
from cxrkit.base.files import is_text, replacing
from cxrkit.base.origin import Origin

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = 2
METADATA_KEY = "cxrkit"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint was trained as; all that prediction needs beside the tensors."""

    name: str
    """The run's name."""

    model: str
    """The network's name, which `models.build` takes."""

    options: dict[str, Any]
    """The network's options, which `models.build` takes."""

    recipe: str
    """Name of the recipe that the run started from."""

    recipe_digest: str
    """SHA-256 over every setting that decides a network's numbers, apart from fold and seed (config.recipe_digest)."""

    changes: tuple[str, ...]
    """What decides numbers and is not as in the recipe, as "section.key=value"."""

    seed: int
    """Of initialisation, order and augmentation."""

    input_size: int
    """Side of the network's input in pixels."""

    age_range: tuple[float, float]
    """Youngest and oldest training age in years, which the metadata input is scaled by."""

    origin: Origin
    """Data, labels, pixels and split that it was trained on."""

    epoch: int
    """Epochs finished when the tensors were taken."""

    progress: dict[str, Any]
    """The trainer's own state; empty in best.safetensors."""

    format_version: int = FORMAT_VERSION
    """Of the file's metadata."""

    masked: tuple[str, ...] = ()
    """Labels that were not learned, and that get no scores (LossSettings.masked)."""


def save(
    path: Path,
    model: torch.nn.Module,
    info: CheckpointInfo,
    optimizer: torch.optim.Optimizer | None = None,
    generators: Mapping[str, torch.Tensor] | None = None,
    average: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write the model's (and the optimizer's) tensors and `info` atomically.

    generators: states of random generators, by name. average: averaged weights, by name. Tensors that share memory
    (tied weights) are written each by itself: a safetensors file knows no sharing.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    if optimizer is not None:
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": value for name, value in state.items()}
    tensors |= {f"generator/{name}": value for name, value in (generators or {}).items()}
    tensors |= {f"average/{name}": value for name, value in (average or {}).items()}
    save_tensors(path, _unshared(tensors), info)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], info: CheckpointInfo) -> None:
    """Write tensors, as `read` returns them, and `info` atomically."""
    from safetensors.torch import save_file

    with replacing(path) as part:
        save_file(dict(tensors), part, metadata={METADATA_KEY: json.dumps(asdict(info))})


def _unshared(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors, contiguous, with copies of those whose memory another one has too."""
    seen: set[int] = set()
    alone = {}
    for name, value in tensors.items():
        value = value.detach().contiguous()
        place = value.untyped_storage().data_ptr()
        alone[name] = value.clone() if place in seen else value
        seen.add(place)
    return alone


def read(path: Path) -> tuple[dict[str, torch.Tensor], CheckpointInfo]:
    """Return a checkpoint's tensors (on the CPU) and its info. Raises UserError when it is not a whole checkpoint."""
    from safetensors import SafetensorError, safe_open

    _refuse_no_text(path)
    remedy = "name a checkpoint of cxrkit (RUN/checkpoints/best.safetensors), or train again"
    try:
        with safe_open(path, framework="pt") as file:
            info = _read_info(path, (file.metadata() or {}).get(METADATA_KEY), remedy)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such checkpoint", remedy=remedy) from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})", remedy=remedy) from None
    return tensors, info


def part(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Return the tensors of one part of a checkpoint, "model" for instance, by their names in it."""
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def restate_best(path: Path, info: CheckpointInfo, trainer: str) -> None:
    """Make the best checkpoint of a training that has ended say on which terms: those of `info`, with its own epoch.

    A resumed training may have found no better network than it had; the old file then names the terms of before.
    Raises UserError where `trainer` has left no checkpoint.
    """
    if not path.exists():
        raise UserError(
            f"{path}: trainer {trainer!r} has left no checkpoint there",
            remedy="a trainer of your own must write it, with cxrkit.runs.checkpoints.save(task.run.best, task.model, "
            "task.info); then run the same command again, with --resume where the run has a checkpoint",
        )
    tensors, found = read(path)
    stated = replace(info, epoch=found.epoch, progress=found.progress)
    if stated != found:
        save_tensors(path, tensors, stated)


def read_info(path: Path) -> CheckpointInfo:
    """Return what a checkpoint says of itself, without its tensors. Raises UserError as `read` does."""
    from safetensors import SafetensorError, safe_open

    remedy = "train again under another --name or --runs folder, or put back a copy of this file"
    _refuse_no_text(path)
    try:
        with safe_open(path, framework="pt") as file:
            return _read_info(path, (file.metadata() or {}).get(METADATA_KEY), remedy)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})", remedy=remedy) from None


def _refuse_no_text(path: Path) -> None:
    if not is_text(path):
        raise UserError(
            f"{path}: this path is not valid UTF-8, and safetensors opens no such file",
            remedy="rename the folder, or go into it and name the run by a relative path",
        )


def _read_info(path: Path, text: str | None, remedy: str) -> CheckpointInfo:
    try:
        values = json.loads(text or "null")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{path}: a safetensors file, but not a checkpoint of cxrkit", remedy=remedy)
    if values.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path}: checkpoint format {values.get('format_version')}, this cxrkit reads {FORMAT_VERSION}",
            remedy="use the version of cxrkit that wrote it, or train again",
        )
    try:
        info: CheckpointInfo = typed.build(CheckpointInfo, values)
    except typed.FieldError as error:
        raise UserError(f"{path}: not a checkpoint of cxrkit: {error}", remedy=remedy) from None
    return info


def load_model(path: Path, tensors: Mapping[str, torch.Tensor], model: torch.nn.Module, name: str) -> None:
    """Copy the model's tensors into `model`, called `name`. Raises UserError when they belong to another network."""
    state = part(tensors, "model")
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
