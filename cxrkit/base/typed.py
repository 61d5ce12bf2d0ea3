"""Parsed JSON or TOML -> dataclasses: every field is checked, and what is wrong is named by its place in the file."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cxrkit.base.errors import UserError
from cxrkit.base.files import read_json

Extra = Literal["ignore", "refuse"]
_LONGEST = 60  # characters of a wrong value that a message shows
_PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


class FieldError(ValueError):
    """Says which field is wrong and how: "subsets.test.images is '9' (str), expected a whole number"."""


def read_typed(kind: Any, path: Path, what: str, remedy: str, *, extra: Extra = "ignore") -> Any:
    """Return the JSON file `path` as `kind` (see `build`); `what` ("the scores file") and `remedy` go into the errors.

    Raises UserError when the file is missing, is not JSON or not of this kind.
    """
    value = read_json(path, what, remedy)
    try:
        return build(kind, value, extra=extra)
    except FieldError as error:
        raise UserError(f"{path}: {error}", remedy=remedy) from None


def build(kind: Any, value: Any, where: str = "", *, extra: Extra = "ignore") -> Any:
    """Return `value`, as a JSON or TOML parser gave it, as `kind`. Raises FieldError when it is something else.

    kind: a dataclass, dict[str, X] or Mapping[str, X], list[X], tuple[X, ...], tuple[X, Y], X | None (or another
    union), Literal, Path, bool, int, float, str or Any. Nothing is converted but a whole number for a float, a list for
    a tuple and text for a Path: "1" is no number, 1 is not true, and a float is finite. where: the place of `value` in
    its file, for the messages. extra: what happens to a key that is no field of a dataclass. A missing key takes the
    field's default, where it has one.
    """
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where, extra)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if kind is None or kind is types.NoneType:
        return _expect(value is None, None, value, where, "null")
    if origin is Literal:
        fits = any(type(value) is type(choice) and value == choice for choice in inner)
        return _expect(fits, value, value, where, f"one of {', '.join(map(str, inner))}")
    if origin in (types.UnionType, typing.Union):
        return _build_union(inner, value, where, extra)
    if origin in (dict, Mapping):
        _expect(isinstance(value, dict), value, value, where, "an object")
        return {
            build(str, name, f"a name in {where or 'the content'}"): build(
                inner[1], item, _at(where, name), extra=extra
            )
            for name, item in value.items()
        }
    if origin in (list, tuple):
        return origin(_build_items(origin, inner, value, where, extra))
    return _build_plain(kind, value, where)


def _build_dataclass(kind: Any, value: Any, where: str, extra: Extra) -> Any:
    _expect(isinstance(value, dict), value, value, where, "an object")
    hints, fields = _fields_of(kind)
    if extra == "refuse" and (unknown := [name for name in value if name not in fields]):
        raise FieldError(f"{_at(where, unknown[0])} is not a known field; known are {', '.join(fields)}")
    found = {}
    for name, item in fields.items():
        if name in value:
            found[name] = build(hints[name], value[name], _at(where, name), extra=extra)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise FieldError(f"{_at(where, name)} is missing")
    try:
        return kind(**found)
    except (FieldError, UserError):
        raise
    except ValueError as error:  # the dataclass's own check
        raise FieldError(f"{where}: {error}" if where else str(error)) from None


@functools.cache
def _fields_of(kind: Any) -> tuple[dict[str, Any], dict[str, dataclasses.Field[Any]]]:
    fields = {item.name: item for item in dataclasses.fields(kind) if item.init}
    return typing.get_type_hints(kind), fields


def _build_union(kinds: tuple[Any, ...], value: Any, where: str, extra: Extra) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not types.NoneType]
    if len(others) == 1:  # its own message says more
        return build(others[0], value, where, extra=extra)
    for kind in others:
        try:
            return build(kind, value, where, extra=extra)
        except FieldError:
            continue
    raise _wrong(value, where, " or ".join(_PLAIN.get(kind, str(kind)) for kind in others))


def _build_items(origin: Any, inner: tuple[Any, ...], value: Any, where: str, extra: Extra) -> list[Any]:
    _expect(isinstance(value, list | tuple), value, value, where, "a list")
    if origin is list or (len(inner) == 2 and inner[1] is Ellipsis):
        kinds = [inner[0]] * len(value)
    else:
        kinds = list(inner)
        _expect(len(kinds) == len(value), value, value, where, f"a list of {len(kinds)}")
    return [
        build(kind, item, f"{where}[{number}]", extra=extra)
        for number, (kind, item) in enumerate(zip(kinds, value, strict=True))
    ]


def _build_plain(kind: Any, value: Any, where: str) -> Any:
    if kind is Path:
        fits = isinstance(value, Path) or (type(value) is str and value != "" and "\0" not in value)
        return Path(_expect(fits, value, value, where, "a path"))
    assert kind in _PLAIN, f"typed.build does not know {kind}"
    if kind is float and type(value) is int and abs(value) < 2**1000:
        value = float(value)
    _expect(type(value) is kind, value, value, where, _PLAIN[kind])
    if kind is float:
        _expect(math.isfinite(value), value, value, where, "a finite number")
    if kind is str:
        _expect(_is_text(value), value, value, where, "text")
    return value


def _is_text(value: str) -> bool:
    """Whether `value` can be printed and written: JSON can spell halves of characters, UTF-8 cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _at(where: str, name: object) -> str:
    shown = _shorten(str(name).encode("utf-8", "backslashreplace").decode())
    return f"{where}.{shown}" if where else shown


def _expect(fits: bool, result: Any, value: Any, where: str, expected: str) -> Any:
    if not fits:
        raise _wrong(value, where, expected)
    return result


def _wrong(value: Any, where: str, expected: str) -> FieldError:
    return FieldError(f"{where or 'the content'} is {describe(value)}, expected {expected}")


def describe(value: Any) -> str:
    """Return a parsed value as a message shows it: its text, cut to a readable length, and its kind."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return f"an object of {len(value)}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if type(value) is int and abs(value) >= 10**_LONGEST:  # Python refuses to write out the longest
        return f"a number of {value.bit_length()} bits (int)"
    return f"{_shorten(repr(value))} ({type(value).__name__})"


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
