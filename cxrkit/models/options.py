"""Options of a model: the fields of its ModelSpec that a recipe may set otherwise. Imports neither numpy nor torch."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cxrkit.base import registry
from cxrkit.base.errors import UserError
from cxrkit.models.grammar import SMALLEST_INPUT, ModelSpec

_INPUT = ("input_size", "resize", "channels", "mean", "std")
_META = ("meta_centre", "meta_gain")
_IMAGE_BRANCH = ("meta", "pretrained", "frozen_backbone", "blocks", "width", "extra_pool", "stride_in_3x3")
# Lowest and highest; what is above would only end in a lack of memory.
_LIMITS = {
    "input_size": (SMALLEST_INPUT, 8192),
    "resize": (SMALLEST_INPUT, 16384),
    "channels": (1, 64),
    "width": (1, 1024),
    "blocks": (1, 200),
    "features_in": (1, 1 << 20),
}
_TYPES = typing.get_type_hints(ModelSpec)


def names(spec: ModelSpec) -> tuple[str, ...]:
    """Return the options of a model of the grammar. Learning rate and batch size are the recipe's own."""
    if spec.probe:
        return ("features_in",)
    return (*_INPUT, *_META, *_IMAGE_BRANCH) if spec.blocks else _INPUT


def apply(spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
    """Return `spec` with `options` in place of its own values, as TOML or Python gives them.

    With another `input_size` alone, `resize` keeps its ratio to it. Raises UserError for an unknown option, a value of
    another type or out of range, and values that contradict each other.
    """
    if not options:
        return spec
    known = names(spec)
    for option in options:
        if option not in known:
            raise registry.unknown_option("model", spec.name, option, known)
    values = {option: _typed(spec, option, value) for option, value in options.items()}
    if "input_size" in values and "resize" not in values:
        spec = spec.at(values["input_size"])
    changed = replace(spec, **values)
    check(changed)
    return changed


def check(spec: ModelSpec) -> None:
    """Raise a UserError unless what `spec` says of the input and the training can be, whoever made it."""
    for name in ("input_size", "resize", "channels", "batch_size"):
        value = getattr(spec, name)
        if not isinstance(value, int) or value < 1:
            raise _refused(spec, name, value, "a whole number of at least 1")
    rate = spec.learning_rate
    if not isinstance(rate, int | float) or not 0 < rate < float("inf"):
        raise _refused(spec, "learning_rate", rate, "a number above 0")
    for name in ("mean", "std"):
        if not isinstance(getattr(spec, name), tuple):
            raise _refused(spec, name, getattr(spec, name), "a tuple of numbers, one for each channel")
    if len(spec.mean) != spec.channels or len(spec.std) != spec.channels:
        raise UserError(
            f"model {spec.name!r}: it has {spec.channels} channels, but {len(spec.mean)} values in mean "
            f"and {len(spec.std)} in std",
            remedy="give one mean and one std for each input channel",
        )
    if not all(value > 0 for value in spec.std):
        raise UserError(f"model {spec.name!r}: std = {spec.std} is not above 0", remedy="give deviations above 0")
    if spec.resize < spec.input_size:
        raise UserError(
            f"model {spec.name!r}: resize = {spec.resize} is below input_size = {spec.input_size}",
            remedy="give a resize of at least input_size: the input is cut from the resized image",
        )


def _typed(spec: ModelSpec, option: str, value: Any) -> Any:
    """Return `value` in the type of the field. Raises UserError for one of another type, or out of range."""
    kind = _TYPES[option]
    if typing.get_origin(kind) is not tuple:
        return _number(spec, option, value, kind)
    if not isinstance(value, list | tuple):
        raise _refused(spec, option, value, "a list")
    item_kind = typing.get_args(kind)[0]
    if option == "blocks" and len(value) != 4:
        raise _refused(spec, option, value, "a list of four, for conv2_x to conv5_x")
    return tuple(_number(spec, option, item, item_kind) for item in value)


def _number(spec: ModelSpec, option: str, value: Any, kind: type) -> Any:
    # An int will do for a float, but a bool, which Python counts among the ints, for neither.
    fits = isinstance(value, bool) if kind is bool else isinstance(value, (int, kind)) and not isinstance(value, bool)
    low, high = _LIMITS.get(option, (-1e6, 1e6))
    if not fits or not low <= value <= high:
        words = {bool: "true or false", int: "a whole number", float: "a number"}
        raise _refused(spec, option, value, words[kind] + (f" from {low:g} to {high:g}" if fits else ""))
    return kind(value)


def _refused(spec: ModelSpec, option: str, value: object, expected: str) -> UserError:
    return UserError(f"model {spec.name!r}: {option} = {value!r} is not {expected}", remedy="correct the value")
