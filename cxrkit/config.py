"""The settings of a training: every default has its one home here, and every field is a flag of `cxrkit train`."""

from __future__ import annotations

import tomllib
import types
import typing
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cxrkit.errors import UserError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
CACHES = ("none", "gpu")


def setting(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    """Return a dataclass field with its help text and its allowed range (both ends included)."""
    return field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass(frozen=True)
class TrainConfig:
    """One experiment. None means: the model's own value, from the paper (see `cxrkit models`)."""

    model: str = setting("resnet50-large-meta", "name from `cxrkit models`, or package.module:function")
    fold: str = setting("official", "official, 1 to 5 (the paper's resampling), or a .csv table of your own")
    data: Path = setting(Path("data/shards"), "prepared folder")
    runs: Path = setting(Path("runs"), "where run folders go: RUNS/MODEL/SPLIT")
    # The paper says nothing of the number of epochs; with a halving at every plateau 30 leave the rate spent.
    epochs: int = setting(30, "passes over the training images", low=1)
    batch_size: int | None = setting(None, "images per step; the paper: 16, or 8 for -large from scratch", low=1)
    lr: float | None = setting(None, "learning rate; the paper: 0.001 transfer, 0.01 from scratch", low=1e-9, high=10)
    lr_factor: float = setting(0.5, "factor on the learning rate at a plateau", low=0.01, high=1)
    # "When the validation loss does not improve" (section 3), read literally: after one epoch without improvement.
    patience: int = setting(0, "epochs without improvement that are tolerated before the rate is halved", low=0)
    beta1: float = setting(0.9, "Adam's first decay rate", low=0, high=0.9999)
    beta2: float = setting(0.999, "Adam's second decay rate", low=0, high=0.999999)
    weight_decay: float = setting(0.0, "L2 penalty; the paper uses none", low=0, high=1)
    area_min: float = setting(0.08, "smallest crop, as a share of the image's area", low=0.01, high=1)
    aspect_max: float = setting(4 / 3, "largest aspect ratio of a crop; the smallest is its inverse", low=1, high=4)
    angle: float = setting(7.0, "largest rotation, degrees either way", low=0, high=180)
    flip: float = setting(0.5, "probability of a horizontal flip", low=0, high=1)
    input_size: int | None = setting(None, "side of the network's input in pixels; the paper: 224, or 448", low=16)
    precision: str = setting("auto", "fp32, bf16, fp16, or auto: bf16 where the machine computes in it")
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, ...")
    compile: bool | None = setting(None, "torch.compile the network; default: on CUDA only")
    loader: str = setting("auto", "opencv, dali, auto, or package.module:Class")
    cache: str = setting("none", "gpu: keep the training pixels in the device's memory; none: read them every epoch")
    threads: int | None = setting(None, "loader threads; default: one per core", low=1, high=1024)
    trainer: str = setting("supervised", "trainer name, or package.module:function")
    evaluator: str = setting("auc", "evaluator name, or package.module:function")
    weights: Path | None = setting(None, "ImageNet weights of -ots and -ft: .pth or .safetensors instead of a download")
    limit: int | None = setting(None, "use at most N images of each subset (results are marked partial)", low=1)
    seed: int = setting(0, "seed of initialisation, order and augmentation", low=0, high=2**31 - 1)
    checkpoint_minutes: float = setting(10.0, "time between checkpoints inside an epoch; 0: every step", low=0)
    log_steps: int = setting(50, "steps between two lines of metrics.jsonl", low=1)

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)
        for name, choices in (("precision", PRECISIONS), ("cache", CACHES)):
            if (value := getattr(self, name)) not in choices:
                raise UserError(f"{flag(name)} {value}: unknown", remedy=f"choose one of {', '.join(choices)}")


# A resumed training may run elsewhere and longer; whatever decides its numbers must stay.
RESUME_MAY_CHANGE = frozenset(
    {"data", "runs", "epochs", "device", "loader", "threads", "cache", "weights", "compile", "evaluator"}
) | {"checkpoint_minutes"}


def _check(name: str, value: Any, bounds: Any) -> None:
    low, high = bounds["low"], bounds["high"]
    if value is None or (low is None and high is None):
        return
    # `not (low <= value)` rather than `value < low`: NaN must fail too.
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        limits = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
        raise UserError(f"{flag(name)} {value}: out of range", remedy=f"give a value of {limits}")


def flag(name: str) -> str:
    """Return the command-line flag of a field."""
    return "--" + name.replace("_", "-")


def field_types(config_class: type) -> dict[str, Any]:
    """Return the plain type of each field: `int | None` is int."""
    return {name: _without_none(hint) for name, hint in typing.get_type_hints(config_class).items()}


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def resolve(config_class: type, given: dict[str, Any], file: Path | None = None) -> Any:
    """Return a config from defaults, then `file` (TOML), then `given` (flags; None means not given)."""
    values = read_toml(file, config_class) if file else {}
    values |= {name: value for name, value in given.items() if value is not None}
    return config_class(**values)


def read_toml(path: Path, config_class: type) -> dict[str, Any]:
    """Return the fields of `config_class` that the TOML file sets.

    Raises UserError for a missing or broken file, an unknown key (with the nearest field) and a value of another type.
    """
    from cxrkit.registry import unknown

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: there is no such file", remedy="name a TOML file, such as a run's config.toml"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML ({error})", remedy="compare it with a run's config.toml") from None
    kinds = field_types(config_class)
    for name, value in values.items():
        if name not in kinds:
            raise UserError(f"{path}: {unknown('setting', name, kinds)}")
        if isinstance(value, bool) != (kinds[name] is bool) or (kinds[name] is int and isinstance(value, float)):
            raise UserError(f"{path}: {name} = {value!r} is not {kinds[name].__name__}", remedy="correct the value")
        try:
            values[name] = kinds[name](value)
        except (TypeError, ValueError):
            raise UserError(
                f"{path}: {name} = {value!r} is not {kinds[name].__name__}", remedy="correct the value"
            ) from None
    return values


def to_toml(config: Any) -> str:
    """Return the config as TOML that `--config` reads back; fields that are None are left out (TOML has no null)."""
    import tomli_w

    values = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(config).items()
        if value is not None
    }
    return tomli_w.dumps(values)


def default_text(item: Any) -> str:
    """Return a field's default as the help shows it."""
    if item.default is MISSING or item.default is None:
        return ""
    return f"{item.default:.4g}" if isinstance(item.default, float) else f"{item.default}"


def changed(old: Any, new: Any) -> list[str]:
    """Return the names of the fields whose values differ."""
    return [item.name for item in fields(old) if getattr(old, item.name) != getattr(new, item.name)]
