"""Which evaluators are called, with which options, and what of a run each of them is given beside the scores."""

from __future__ import annotations

import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from cxrkit.base import registry
from cxrkit.base.contracts import Evaluator, Validation
from cxrkit.base.errors import UserError

_GIVEN = ("validation", "images")  # keyword arguments that cxrkit fills in, and no user
_AUC = "auc"
# Those of cxrkit's own that find no AUC of all images, but take what has AUCs.
_WITHOUT_AUC = ("average-precision", "calibration", "net-benefit", "subgroups", "thresholds")
_POSITIONAL = 4  # scores, truth, clusters, labels
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}
_EXAMPLES = {bool: "true", int: "10", float: "0.5"}


@dataclass(frozen=True)
class ChosenEvaluator:
    """An evaluator and its settings."""

    name: str
    """Registered name, or package.module:function."""

    function: Evaluator
    """What the name names."""

    options: Mapping[str, Any]
    """Keyword arguments for the function: those that the user gave."""

    def asks_for(self, given: str) -> bool:
        """Return whether the function has a keyword argument that cxrkit fills in: "validation", or "images"."""
        return given in _parameters(self.function)

    def knowing(self, validation: Validation | None) -> ChosenEvaluator:
        """Return the evaluator with the validation images' scores and truth, where it asks for them."""
        return (
            replace(self, options={**self.options, "validation": validation}) if self.asks_for("validation") else self
        )


def choose_evaluators(names: str, options: Mapping[str, Any]) -> list[ChosenEvaluator]:
    """Return the evaluators, whose names are joined by commas, with those of the options that each takes.

    Raises UserError for an unknown name, one given twice, and an option that none of them takes.
    """
    functions = _functions(names)
    for option in options:
        if not any(_takes(function, option) for function in functions.values()):
            raise _not_taken(names, functions, option)
    return [
        ChosenEvaluator(name, function, {key: value for key, value in options.items() if _takes(function, key)})
        for name, function in functions.items()
    ]


def read_options(names: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return the options that a user gives as "name=value", for the evaluators `names`, joined by commas.

    A value becomes what the evaluator's own default or annotation is: a whole number, a number, true or false, text, or
    several of one kind, joined by commas. Raises UserError for an option that none of them takes, and for a value that
    is none.
    """
    functions = _functions(names)
    found: dict[str, Any] = {}
    for text in texts:
        option, equals, value = text.partition("=")
        option = option.strip().replace("-", "_")
        if not equals or not option:
            raise UserError(f"--option {text!r}: expected name=value", remedy="write it as --option bins=10")
        if option in found:
            raise UserError(f"--option {option}: is given twice", remedy="give it once")
        takers = [function for function in functions.values() if _takes(function, option)]
        if not takers:
            raise _not_taken(names, functions, option)
        found[option] = _typed(option, value.strip(), takers[0])
    return found


def options_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the options that an evaluator takes."""
    keywords = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = list(_parameters(function).values())[_POSITIONAL:]
    return tuple(item.name for item in parameters if item.kind in keywords and item.name not in _GIVEN)


def quickly(item: ChosenEvaluator) -> ChosenEvaluator:
    """Return the evaluator for scores whose intervals nobody will see: one of cxrkit's own makes a single replicate."""
    if registry.is_foreign("evaluator", item.name) or not _takes(item.function, "replicates"):
        return item
    return replace(item, options={**item.options, "replicates": 1})


def with_aucs(evaluators: str) -> str:
    """Return the names, `auc` before them where cxrkit's own evaluators without AUCs are named alone.

    So the AUCs stay in a run's scores whatever else is asked of it. An evaluator of somebody else's may find AUCs of
    its own, so beside it `auc` is asked only by name.
    """
    names = split_names(evaluators)
    return ",".join([_AUC, *names]) if all(name in _WITHOUT_AUC for name in names) else evaluators


def split_names(evaluators: str) -> list[str]:
    """Return the names that are joined by commas."""
    return [name.strip() for name in evaluators.split(",")]


def _functions(names: str) -> dict[str, Evaluator]:
    several = split_names(names)
    remedy = "name each once, joined by commas: auc,mine:brier"
    if "" in several:
        raise UserError(f"--evaluator {names!r}: an evaluator without a name", remedy=remedy)
    if twice := [name for name in several if several.count(name) > 1]:
        raise UserError(f"--evaluator {names}: {twice[0]} is named twice", remedy=remedy)
    return {name: _function(name) for name in several}


def _function(name: str) -> Evaluator:
    function: Evaluator = registry.load("evaluator", name)
    if not callable(function):
        raise UserError(f"evaluator {name!r} is not a function", remedy="name it as package.module:function")
    return function


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters by name; none of some callables written in C, which do not tell."""
    with suppress(TypeError, ValueError):
        return inspect.signature(function).parameters
    return {}


def _takes(function: Evaluator, option: str) -> bool:
    parameters = _parameters(function)
    if not parameters:  # the call will tell
        return True
    takes_any = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    return option in options_of(function) or (takes_any and option not in (*_GIVEN, *list(parameters)[:_POSITIONAL]))


def _not_taken(names: str, functions: Mapping[str, Evaluator], option: str) -> UserError:
    """Return the error for an option that no chosen evaluator takes: what they take, and who takes this one."""
    who = f"evaluator {names!r} takes no" if len(functions) == 1 else f"none of the evaluators {names!r} takes"
    others = [name for name in registry.BUILT_IN["evaluator"] if option in options_of(registry.load("evaluator", name))]
    leave = f"leave --{'option ' * (option != 'replicates')}{option} out"
    if others:
        return UserError(f"{who} {option!r}", remedy=f"{leave}, or add --evaluator {names},{others[0]}")
    takes = "; ".join(
        f"{name} takes {', '.join(options_of(function)) or 'none'}" for name, function in functions.items()
    )
    known = [known for function in functions.values() for known in options_of(function)]
    near = difflib.get_close_matches(option, dict.fromkeys(known), n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"{leave};"
    return UserError(f"{who} {option!r}", remedy=f"{hint} {takes}")


def _typed(option: str, text: str, function: Evaluator) -> Any:
    """Return the value of an option as the function wants it."""
    kind, several = _kind_of(option, function)
    if several:
        return tuple(_one(option, item.strip(), kind) for item in text.split(",") if item.strip())
    return _one(option, text, kind)


def _kind_of(option: str, function: Evaluator) -> tuple[type, bool]:
    """Return the kind of an option's value, and whether it is several of them; text where nothing is said."""
    parameter = _parameters(function).get(option)
    default = None if parameter is None else parameter.default
    if isinstance(default, tuple) and default:
        return type(default[0]), True
    if isinstance(default, bool | int | float | str):
        return type(default), False
    said: Any = None
    with suppress(Exception):  # the annotations of somebody else may name what is not there
        said = typing.get_type_hints(function).get(option)
    return next(_kinds(said), (str, False))


def _kinds(said: Any) -> Iterator[tuple[type, bool]]:
    """Yield the plain kinds that an annotation allows: of `int | None` int, of `tuple[float, ...]` several floats."""
    origin, inner = typing.get_origin(said), typing.get_args(said)
    if origin in (types.UnionType, typing.Union):
        for item in inner:
            yield from _kinds(item)
    elif origin is tuple and inner:
        yield from ((kind, True) for kind, _ in _kinds(inner[0]))
    elif said in (bool, int, float, str):
        yield said, False


def _one(option: str, text: str, kind: type) -> Any:
    try:
        if kind is bool:
            return _WORDS[text.lower()]
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError
    except (ValueError, KeyError):
        raise UserError(
            f"--option {option}={text}: expected {_KINDS[kind]}, found {text!r}",
            remedy=f"write it like --option {option}={_EXAMPLES[kind]}",
        ) from None
    return value
