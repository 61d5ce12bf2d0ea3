"""The settings of a training, in sections (sections.py): every field is a flag, and can be set in a file.

A recipe (cxrkit/recipes) is a TOML file of these sections. A run's config.toml is its recipe, resolved and complete,
with the section `run` beside it: where, on what and with which seed. The fields that decide a network's numbers, apart
from fold and seed, make the recipe's digest: runs are pooled over folds only where it is equal.
"""

from __future__ import annotations

import hashlib
import json
import keyword
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from cxrkit.base import typed
from cxrkit.base.errors import UserError
from cxrkit.base.files import is_text
from cxrkit.runs.sections import (
    About,
    AugmentationSettings,
    EvaluationSettings,
    InputSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    RunSettings,
    ScheduleSettings,
    SelectionSettings,
)


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
        """The flag as a Python name: "from_" for --from, since `from` is Python's own."""
        name = self.flag[2:].replace("-", "_")
        return f"{name}_" if keyword.iskeyword(name) else name

    @property
    def is_flag(self) -> bool:
        """Whether it has a flag of its own: tables of options and remarks have none."""
        return self.kind is not dict and self.section != "about" and self.field.metadata["flag"] is not None

    def said(self, value: Any) -> str:
        """Return how a value of it is given on the command line: by its flag, or by --set where it has none."""
        return f"{self.flag} {value}" if self.is_flag else f"--set {self.path}={_shown(value)}"

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
    if isinstance(value, str | Path) and not is_text(value):
        # Said before the training: config.toml could not be written.
        raise UserError(
            f"{item.flag} {value}: not valid UTF-8, and the run's config.toml can hold nothing else",
            remedy="rename it, or go into the folder in question and name it by a relative path, as in --data .",
        )
    low, high, choices = (item.field.metadata[name] for name in ("low", "high", "choices"))
    if choices and value not in choices:
        raise UserError(f"{item.said(value)}: unknown", remedy=f"choose one of {', '.join(choices)}")
    if value is None or (low is None and high is None):
        return
    # `not (low <= value)` rather than `value < low`: NaN must fail too.
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        limits = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
        raise UserError(f"{item.said(value)}: out of range", remedy=f"give a value of {limits}")


_TABLES: dict[Any, Any] = {dict: dict[str, Any], tuple: tuple[str, ...]}  # what is in those that settings are


class FirstFormatError(UserError):
    """A config of the first format, which had no sections."""


def read_run_config(path: Path) -> TrainConfig:
    """Return what `read_config` does of a run's config.toml; one by an earlier cxrkit is a UserError, too."""
    try:
        return read_config(path)
    except FirstFormatError:
        raise UserError(
            f"{path.parent}: a run of an earlier version of cxrkit, which this one cannot go on with",
            remedy="train again with this version, into another --runs folder or under another --name",
        ) from None


def read_config(path: Path) -> TrainConfig:
    """Return the config in a TOML file: a recipe or a run's config.toml; what it leaves out has its default.

    Raises UserError for a missing or broken file, an unknown section or key (with the nearest one) and a value of
    another type or out of its range.
    """
    remedy = "compare it with `cxrkit recipes show NAME`, or with a run's config.toml"
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
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
                raise FirstFormatError(
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
        return path, typed.build(_TABLES.get(item.kind, item.kind), value, path)
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
    if default is MISSING or default is None or default == "" or default is False:
        return ""
    return f"{default:.4g}" if isinstance(default, float) else f"{default}"


def changed(old: TrainConfig, new: TrainConfig) -> list[Setting]:
    """Return the settings whose values differ."""
    return [item for item in settings() if item.of(old) != item.of(new)]


def recipe_digest(config: TrainConfig) -> str:
    """Return the SHA-256 over every setting that decides a network's numbers, apart from fold and seed.

    What goes beyond the paper's protocol counts only where it is used, so that the digests of older runs still hold.
    """
    values = {item.path: item.of(config) for item in settings() if item.field.metadata["decides"]}
    extra = {item.path: item.field.default for item in settings() if item.field.metadata["extra"]}
    values = {path: value for path, value in values.items() if path not in extra or value != extra[path]}
    values = {path: value for path, value in values.items() if value != ""}  # the extractor of what is no probe
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def changes(recipe: TrainConfig, config: TrainConfig) -> tuple[str, ...]:
    """Return what decides numbers in `config` and is not as in `recipe`, as "section.key=value"."""
    return tuple(
        text
        for item in changed(recipe, config)
        # In recipes the precision is auto, and the extractor, whose name stands beside its digest, not there yet.
        if item.field.metadata["decides"] and item.path not in ("run.precision", "model.extractor_digest")
        for text in _change(item.path, item.of(recipe), item.of(config))
    )


def _change(path: str, old: Any, new: Any) -> Iterator[str]:
    """Yield "path=value", for a table of options each option that differs."""
    if not isinstance(new, dict):
        yield f"{path}={_shown(new)}"
        return
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{path}.{name}={_shown(new[name]) if name in new else 'default'}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
