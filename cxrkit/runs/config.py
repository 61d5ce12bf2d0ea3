"""The settings of a training, in sections: every default has its one home here, and every field is a flag.

A recipe (cxrkit/recipes) is a TOML file of these sections. A run's config.toml is its recipe, resolved and complete,
with the section `run` beside it: where, on what and with which seed. The fields that decide a network's numbers, apart
from fold and seed, make the recipe's digest: runs are pooled over folds only where it is equal.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from cxrkit.base import typed
from cxrkit.base.errors import UserError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
CACHES = ("none", "gpu")
METRICS = ("val_loss", "val_auc")


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    flag: str = "",
    decides: bool = True,
    resumable: bool = False,
) -> Any:
    """Return a dataclass field with what the command line and the checks must know of it.

    low, high: the allowed range, both ends included. choices: the allowed words. flag: the name on the command line,
    without the dashes, where it is not the field's own. decides: whether a network's numbers depend on it. resumable:
    whether a resumed training may change it.
    """
    about = {"help": help, "low": low, "high": high, "choices": choices, "flag": flag, "decides": decides}
    return field(default=default, metadata=about | {"resumable": resumable})


@dataclass(frozen=True)
class About:
    """What a recipe says of itself: printed, never computed with."""

    source: str = setting("", "where the system is described", decides=False, resumable=True)
    leaves_open: str = setting("", "what the source leaves open, and our choice", decides=False, resumable=True)
    expected: str = setting("", "the result to expect, and where it comes from", decides=False, resumable=True)
    cost: str = setting("", "time and hardware", decides=False, resumable=True)


@dataclass(frozen=True)
class ModelSettings:
    """The network."""

    name: str = setting("resnet50-large-meta", "name from `cxrkit models`, or package.module:function", flag="model")
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "options of the network, for instance --set model.options.width=32",
            "low": None, "high": None, "choices": (), "flag": "", "decides": True, "resumable": False,
        },
    )  # fmt: skip
    # The file's SHA-256 stands in the origin of all that comes of it; where it lies decides nothing.
    weights: Path | None = setting(
        None,
        "ImageNet weights of -ots and -ft: .pth or .safetensors instead of a download",
        decides=False,
        resumable=True,
    )


@dataclass(frozen=True)
class InputSettings:
    """What the network looks at. None: the model's own value."""

    size: int | None = setting(
        None, "side of the network's input in pixels; the paper: 224, or 448", low=16, flag="input-size"
    )


@dataclass(frozen=True)
class AugmentationSettings:
    """How a training image is varied; the defaults are the paper's (section 3)."""

    area_min: float = setting(0.08, "smallest crop, as a share of the image's area", low=0.01, high=1)
    aspect_max: float = setting(4 / 3, "largest aspect ratio of a crop; the smallest is its inverse", low=1, high=4)
    angle: float = setting(7.0, "largest rotation, degrees either way", low=0, high=180)
    flip: float = setting(0.5, "probability of a horizontal flip", low=0, high=1)


@dataclass(frozen=True)
class LossSettings:
    """What is minimised."""

    name: str = setting("bce-mean", "loss name, or package.module:function", flag="loss")
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "options of the loss",
            "low": None, "high": None, "choices": (), "flag": "", "decides": True, "resumable": False,
        },
    )  # fmt: skip


@dataclass(frozen=True)
class OptimizerSettings:
    """Adam (paper, section 3). None: the model's own value."""

    lr: float | None = setting(None, "learning rate; the paper: 0.001 transfer, 0.01 from scratch", low=1e-9, high=10)
    batch_size: int | None = setting(None, "images per step; the paper: 16, or 8 for -large from scratch", low=1)
    beta1: float = setting(0.9, "Adam's first decay rate", low=0, high=0.9999)
    beta2: float = setting(0.999, "Adam's second decay rate", low=0, high=0.999999)
    weight_decay: float = setting(0.0, "L2 penalty; the paper uses none", low=0, high=1)


@dataclass(frozen=True)
class ScheduleSettings:
    """How long, and how the learning rate falls: multiplied at plateaus of the validation loss (paper, section 3)."""

    # The paper says nothing of the number of epochs; with a halving at every plateau 30 leave the rate spent.
    epochs: int = setting(30, "passes over the training images", low=1, resumable=True)
    factor: float = setting(0.5, "factor on the learning rate at a plateau", low=0.01, high=1, flag="lr-factor")
    # "When the validation loss does not improve" (section 3), read literally: after one epoch without improvement.
    patience: int = setting(0, "epochs without improvement that are tolerated before the rate is halved", low=0)


@dataclass(frozen=True)
class SelectionSettings:
    """Which epoch's network is kept as the best."""

    metric: str = setting("val_loss", "lowest val_loss, or highest val_auc", choices=METRICS, flag="select")


@dataclass(frozen=True)
class EvaluationSettings:
    """How a trained network is tried."""

    evaluator: str = setting("auc", "evaluator name, or package.module:function", decides=False, resumable=True)


@dataclass(frozen=True)
class RunSettings:
    """Where, on what and with which seed: no part of a recipe."""

    name: str = setting("", "name of the run; default: its recipe's", decides=False)
    # Resumable, since a table may have moved: the split's digest decides.
    fold: str = setting(
        "official",
        "official, 1 to 5 (the paper's resampling), or a .csv table of your own",
        decides=False,
        resumable=True,
    )
    seed: int = setting(0, "seed of initialisation, order and augmentation", low=0, high=2**31 - 1, decides=False)
    limit: int | None = setting(
        None, "use at most N images of each subset (results are marked partial)", low=1, decides=False
    )
    data: Path = setting(Path("data/shards"), "prepared folder", decides=False, resumable=True)
    runs: Path = setting(Path("runs"), "where run folders go: RUNS/NAME/SPLIT", decides=False, resumable=True)
    precision: str = setting(
        "auto", "fp32, bf16, fp16, or auto: bf16 where the machine computes in it", choices=PRECISIONS
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, ...", decides=False, resumable=True)
    compile: bool | None = setting(
        None, "torch.compile the network; default: on CUDA only", decides=False, resumable=True
    )
    loader: str = setting("auto", "opencv, dali, auto, or package.module:Class", decides=False, resumable=True)
    cache: str = setting(
        "none",
        "gpu: keep the training pixels in the device's memory; none: read them every epoch",
        choices=CACHES,
        decides=False,
        resumable=True,
    )
    threads: int | None = setting(
        None, "loader threads; default: one per core", low=1, high=1024, decides=False, resumable=True
    )
    trainer: str = setting("supervised", "trainer name, or package.module:function")
    checkpoint_minutes: float = setting(
        10.0, "time between checkpoints inside an epoch; 0: every step", low=0, decides=False, resumable=True
    )
    log_steps: int = setting(50, "steps between two lines of metrics.jsonl", low=1, decides=False)


@dataclass(frozen=True)
class TrainConfig:
    """One experiment: a recipe, and the run that it is tried in."""

    recipe: str = ""
    """Name of the recipe it started from."""

    about: About = field(default_factory=About)
    """What the recipe says of itself."""

    model: ModelSettings = field(default_factory=ModelSettings)
    """The network."""

    input: InputSettings = field(default_factory=InputSettings)
    """What it looks at."""

    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    """How training images are varied."""

    loss: LossSettings = field(default_factory=LossSettings)
    """What is minimised."""

    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """How."""

    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """For how long, and with which learning rates."""

    selection: SelectionSettings = field(default_factory=SelectionSettings)
    """Which epoch is kept."""

    test: EvaluationSettings = field(default_factory=EvaluationSettings)
    """How the result is tried."""

    run: RunSettings = field(default_factory=RunSettings)
    """Where, on what, with which seed."""

    def __post_init__(self) -> None:
        for item in settings():
            _check(item, item.of(self))

    @property
    def name(self) -> str:
        """Name of the run: its own, else its recipe's, else its model's."""
        return self.run.name or self.recipe or self.model.name

    def with_values(self, values: Mapping[str, Any]) -> TrainConfig:
        """Return the config with other values, by "section.key". Raises UserError for one that cannot be."""
        config = self
        for path, value in values.items():
            section, _, key = path.partition(".")
            config = replace(config, **{section: replace(getattr(config, section), **{key: value})})
        return config


@dataclass(frozen=True)
class Setting:
    """One field of one section."""

    section: str
    """Name of the section in a recipe."""

    key: str
    """Name of the field in its section."""

    kind: Any
    """Its plain type: int for `int | None`."""

    field: Field[Any]
    """The dataclass field, with `setting`'s metadata."""

    @property
    def path(self) -> str:
        """Return "section.key", as `--set` takes it."""
        return f"{self.section}.{self.key}"

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return "--" + (self.field.metadata["flag"] or self.key.replace("_", "-"))

    @property
    def argument(self) -> str:
        """The flag as a Python name."""
        return self.flag[2:].replace("-", "_")

    @property
    def is_flag(self) -> bool:
        """Whether it has a flag of its own: tables of options and remarks have none."""
        return self.kind is not dict and self.section != "about"

    def of(self, config: TrainConfig) -> Any:
        """Return its value in `config`."""
        return getattr(getattr(config, self.section), self.key)


def settings() -> Iterator[Setting]:
    """Yield every setting, section by section."""
    for section, kind in typing.get_type_hints(TrainConfig).items():
        if is_dataclass(kind):
            hints = typing.get_type_hints(kind)
            for item in fields(kind):
                yield Setting(section, item.name, _plain(hints[item.name]), item)


def _plain(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    return typing.get_origin(hint) or hint


def _check(item: Setting, value: Any) -> None:
    low, high, choices = (item.field.metadata[name] for name in ("low", "high", "choices"))
    if choices and value not in choices:
        raise UserError(f"{item.flag} {value}: unknown", remedy=f"choose one of {', '.join(choices)}")
    if value is None or (low is None and high is None):
        return
    # `not (low <= value)` rather than `value < low`: NaN must fail too.
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        limits = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
        raise UserError(f"{item.flag} {value}: out of range", remedy=f"give a value of {limits}")


def read_config(path: Path) -> TrainConfig:
    """Return the config in a TOML file: a recipe or a run's config.toml; what it leaves out has its default.

    Raises UserError for a missing or broken file, an unknown section or key (with the nearest one) and a value of
    another type or out of its range.
    """
    remedy = "compare it with `cxrkit recipes show NAME`, or with a run's config.toml"
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors put a mark before it
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file", remedy="name a recipe, or a TOML file like one") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid TOML ({error})", remedy=remedy) from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror})", remedy="name a TOML file that you may read"
        ) from None
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: not valid TOML ({error})", remedy=remedy) from None
    _refuse_unknown(path, values)
    try:
        config: TrainConfig = typed.build(TrainConfig, values, extra="refuse")
    except typed.FieldError as error:
        raise UserError(f"{path}: {error}", remedy=remedy) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return config


def _refuse_unknown(path: Path, values: dict[str, Any]) -> None:
    """Name what is no section or setting, and where it belongs."""
    from cxrkit.base.registry import unknown

    known: dict[str, list[str]] = {}
    for item in settings():
        known.setdefault(item.section, []).append(item.key)
    for section, content in values.items():
        if section == "recipe":
            continue
        if section not in known:
            homes = [item for item in settings() if item.argument == section or item.key == section]
            if homes:
                raise UserError(
                    f"{path}: {section!r} stands outside of a section, as cxrkit 0.1's first format had it",
                    remedy=f"write it as {homes[0].key} = ... under [{homes[0].section}]",
                )
            raise UserError(f"{path}: {unknown('section', section, known, own='')}")
        if isinstance(content, dict):
            for key in content:
                if key not in known[section]:
                    raise UserError(f"{path}: {unknown(f'setting of [{section}]', key, known[section], own='')}")


def parse_set(text: str) -> tuple[str, Any]:
    """Return (path, value) of `--set section.key=value`; the value is read as TOML, or as text where it is none.

    Raises UserError for an unknown setting, with the nearest known one, and for a value of another type.
    """
    from cxrkit.base.registry import unknown

    path, equals, shown = text.partition("=")
    path = path.strip()
    if not equals:
        raise UserError(f"--set {text}: no value", remedy="write it as --set section.key=value")
    try:
        (value,) = tomllib.loads(f"value = {shown}").values()
    except (ValueError, RecursionError):  # no TOML, or more than a value
        value = shown
    known = {item.path: item for item in settings()}
    parent = path.rpartition(".")[0]
    if parent in known and known[parent].kind is dict:
        return path, value
    if path not in known:
        raise UserError(f"--set {text}: {unknown('setting', path, known, own='')}")
    item = known[path]
    if item.kind is str and not isinstance(value, str):
        value = shown
    try:
        return path, typed.build(dict[str, Any] if item.kind is dict else item.kind, value, path)
    except typed.FieldError as error:
        raise UserError(f"--set {text}: {error}", remedy="correct the value") from None


def with_set(config: TrainConfig, path: str, value: Any) -> TrainConfig:
    """Return the config with what `parse_set` returned."""
    parent, _, option = path.rpartition(".")
    if parent in {item.path for item in settings()}:  # a table of options
        section, key = parent.split(".")
        return config.with_values({parent: getattr(getattr(config, section), key) | {option: value}})
    return config.with_values({path: value})


def to_toml(config: TrainConfig) -> str:
    """Return the config as TOML that `read_config` reads back; what is None is left out (TOML has no null)."""
    import tomli_w

    return tomli_w.dumps(_without_none(asdict(config)))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _without_none(item) for name, item in value.items() if item is not None}
        return {name: item for name, item in kept.items() if item != {}}
    return str(value) if isinstance(value, Path) else value


def default_text(item: Setting) -> str:
    """Return a setting's default as the help shows it."""
    default = item.field.default
    if default is MISSING or default is None or default == "":
        return ""
    return f"{default:.4g}" if isinstance(default, float) else f"{default}"


def changed(old: TrainConfig, new: TrainConfig) -> list[Setting]:
    """Return the settings whose values differ."""
    return [item for item in settings() if item.of(old) != item.of(new)]


def recipe_digest(config: TrainConfig) -> str:
    """Return the SHA-256 over every setting that decides a network's numbers, apart from fold and seed."""
    values = {item.path: item.of(config) for item in settings() if item.field.metadata["decides"]}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def changes(recipe: TrainConfig, config: TrainConfig) -> tuple[str, ...]:
    """Return what decides numbers in `config` and is not as in `recipe`, as "section.key=value"."""
    return tuple(
        f"{item.path}={_shown(item.of(config))}"
        for item in changed(recipe, config)
        if item.field.metadata["decides"] and item.path != "run.precision"  # auto in recipes, another word in runs
    )


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
