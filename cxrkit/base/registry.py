"""Plug-in points: a readable table of name -> "module:attribute", loaded when asked for.

`package.module:attribute` works in place of a name without registering; an installed package may add names through
the entry point group of the kind (`cxrkit.models`, `cxrkit.losses`, ...). What each kind is called with is in
`contracts.py`.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit.base import current_folder
from cxrkit.base.errors import UserError

if TYPE_CHECKING:
    from cxrkit.base.labels import LabelSet

BUILT_IN: dict[str, dict[str, str]] = {
    "dataset": {
        "nih-chestxray14": "cxrkit.datasets.nih.chestxray14:read",
        "nih-chestxray8": "cxrkit.datasets.nih.chestxray8:read",
        "chexpert": "cxrkit.datasets.hospitals.chexpert:read",
        "mimic-cxr-jpg": "cxrkit.datasets.hospitals.mimic:read",
        "padchest": "cxrkit.datasets.hospitals.padchest:read",
        "vindr-cxr": "cxrkit.datasets.hospitals.vindr:read",
        "synthetic": "cxrkit.datasets.phantom.cohort:read",
    },
    "loader": {
        "opencv": "cxrkit.loaders.opencv:OpenCVLoader",
        "dali": "cxrkit.loaders.dali:DaliLoader",
        "resident": "cxrkit.loaders.resident:ResidentLoader",  # what --cache gpu chooses
        "pixelless": "cxrkit.loaders.pixelless:PixellessLoader",  # what a network that looks at no image gets
    },
    "model": {
        # Names of the grammar (resnet50-large-meta, ...) are resolved by cxrkit.models; see `cxrkit models`.
        "yao2017": "cxrkit.models.yao2017:build",
        "yao2018": "cxrkit.models.yao2018:build",
        "li2018": "cxrkit.models.li2018:build",
        "guendel2018": "cxrkit.models.guendel2018:build",
    },
    "loss": {
        "bce-mean": "cxrkit.losses.cross_entropy:bce_mean",
        "bce-sum": "cxrkit.losses.cross_entropy:bce_sum",
        "bce-batch-weighted": "cxrkit.losses.weighted:batch_weighted",  # Wang 2017's W-CEL
        "bce-training-weighted": "cxrkit.losses.weighted:training_weighted",
        "focal": "cxrkit.losses.focusing:focal",
        "asymmetric": "cxrkit.losses.focusing:asymmetric",
        "auc-margin": "cxrkit.losses.auc_margin:auc_margin",
        "yao2017-sequence": "cxrkit.losses.sequence:sequence",
        "mil-box": "cxrkit.losses.boxes:MilBox",
        "squared-error": "cxrkit.losses.regression:squared_error",
        "absolute-error": "cxrkit.losses.regression:absolute_error",
    },
    "pooling": {
        "average": "cxrkit.models.pooling:Average",
        "max": "cxrkit.models.pooling:Maximum",
        "lse": "cxrkit.models.pooling:LogSumExp",
        "lse-lba": "cxrkit.models.pooling:AdaptiveLogSumExp",
        "noisy-or": "cxrkit.models.pooling:NoisyOr",
    },
    "trainer": {
        "supervised": "cxrkit.trainers.supervised:train",
    },
    "evaluator": {
        "auc": "cxrkit.evaluators.auc:evaluate",
        "average-precision": "cxrkit.evaluators.average_precision:evaluate",
        "calibration": "cxrkit.evaluators.calibration:evaluate",
        "mae": "cxrkit.evaluators.mae:evaluate",
        "net-benefit": "cxrkit.evaluators.net_benefit:evaluate",
        "subgroups": "cxrkit.evaluators.subgroups:evaluate",
        "thresholds": "cxrkit.evaluators.thresholds:evaluate",
        "youden": "cxrkit.evaluators.youden:evaluate",
    },
    "executor": {
        "local": "cxrkit.reproduce.local:LocalExecutor",
        "ray": "cxrkit.reproduce.on_ray:RayExecutor",
        "slurm": "cxrkit.reproduce.on_slurm:SlurmExecutor",
    },
}

# How a kind is called, where it is not by `construct`: (positional arguments, keyword arguments).
_CALLED_WITH: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dataset": (("raw",), ("allow_missing",)),
    "loader": (("store", "plan", "targets", "metadata"), ("threads", "device")),
    "trainer": (("task",), ()),
    "executor": (("share",), ()),
}
_FEW = 12  # names that find room in a message beside those that are meant
# Top-level packages of the plug-ins that were asked for; what is cxrkit's own is told from them by its name.
_FOREIGN: set[str] = set()


def group(kind: str) -> str:
    """Return the entry point group through which installed packages add to `kind`: cxrkit.models, cxrkit.losses."""
    return f"cxrkit.{kind}{'es' if kind.endswith('s') else 's'}"


def names(kind: str) -> list[str]:
    """Return the registered names of `kind`, built-in and installed, sorted."""
    return sorted({*BUILT_IN[kind], *(point.name for point in _installed(kind))})


def _installed(kind: str) -> Any:
    """Return the entry points of installed packages."""
    from importlib.metadata import entry_points  # takes 11 ms, which every command would pay

    return entry_points(group=group(kind))


def load(kind: str, name: str) -> Any:
    """Return the object behind `name`: a registered name, or `package.module:attribute`.

    Raises UserError for an unknown name (with the nearest known one) and for a module that cannot be imported.
    """
    if is_foreign(kind, name):
        return _load_foreign(kind, name, _target(kind, name))
    return load_attribute(BUILT_IN[kind][name])


def is_foreign(kind: str, name: str) -> bool:
    """Return whether `name` is no part of cxrkit: a user's own, an installed package's, or not known at all.

    Of models the grammar's names count as such; see cxrkit.models.
    """
    return ":" in name or name not in BUILT_IN[kind]


def _target(kind: str, name: str) -> str:
    """Return "module:attribute" of a foreign plug-in. Raises UserError where nobody, or more than one, has the name."""
    if ":" in name:
        return name
    targets = dict.fromkeys(f"{point.module}:{point.attr}" for point in _installed(kind) if point.name == name)
    if not targets:
        raise unknown(kind, name, names(kind))
    if len(targets) > 1:
        raise UserError(
            f"{kind} {name!r}: installed packages mean different things by it, {' and '.join(targets)}",
            remedy="name the one that you want by its module:attribute, or uninstall the other's package",
        )
    return next(iter(targets))


def failed(kind: str, name: str, error: BaseException, doing: str) -> UserError:
    """Return the error of a foreign plug-in that raised `error`; doing: what it was asked to do."""
    text = f"{type(error).__name__}: {error}"
    return UserError(
        f"plug-in {_target(kind, name).partition(':')[0]} failed: {text}\n  {kind} {name!r}, {doing}",
        remedy="correct it; --debug shows where it failed",
    )


def _load_foreign(kind: str, name: str, target: str) -> Any:
    found = load_attribute(target)
    positional, keywords = _CALLED_WITH.get(kind, ((), ()))
    try:
        if kind in _CALLED_WITH:
            inspect.signature(found).bind(*positional, **dict.fromkeys(keywords))
    except TypeError as error:
        called = ", ".join((*positional, *(f"{word}=..." for word in keywords)))
        raise UserError(
            f"{kind} {name!r}: cannot be called as ({called}): {error}",
            remedy="compare it with the one in examples/; cxrkit/base/contracts.py says what it is given",
        ) from None
    except ValueError:  # some callables written in C do not tell
        pass
    return found


def failed_plug_in(error: BaseException) -> str | None:
    """Return the module of a foreign plug-in that `error` came out of, or None where it is cxrkit's own.

    The innermost frame that is a plug-in's or cxrkit's decides: a library fails because of who called it.
    """
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    for module in reversed(frames):
        root = module.partition(".")[0]
        if root == "cxrkit":
            break
        if root in _FOREIGN:
            return str(module)
    if isinstance(error, SyntaxError) and _FOREIGN:  # a module that cannot be read has no frame
        return error.filename
    return None


def load_attribute(target: str) -> Any:
    """Import `package.module:attribute`; an attribute of an attribute is joined by a dot.

    Raises UserError where there is no such module or attribute. What fails inside the module shows its own error.
    """
    module_name, _, attribute = target.partition(":")
    remedy = "name it as package.module:attribute"
    if not _are_names(module_name, attribute):
        stem = module_name.removesuffix(".py").removeprefix("./").replace("/", ".")
        if _are_names(stem, attribute):  # the path of a file
            remedy = f"name it as {stem}:{attribute}, in the folder that it is found from"
        raise UserError(f"{target!r}: not of the form package.module:attribute", remedy=remedy)
    _FOREIGN.add(module_name.partition(".")[0])
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise UserError(
                f"{target!r}: there is no module {module_name!r}",
                remedy=f"{remedy}, and install its package, or run cxrkit in the folder that holds "
                f"{_file_of(module_name)}",
            ) from None
        raise
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        what, here = f"{target!r}: module {module_name!r} has no attribute {attribute!r}", _hidden(module)
        if here:
            what += f"; it is {getattr(module, '__file__', None) or 'part of Python'}, and not {here} in this folder"
            remedy = f"give {here} another name: installed modules go before those of the current folder"
        raise UserError(what, remedy=remedy) from None


def _are_names(*dotted: str) -> bool:
    return all(part.isidentifier() for name in dotted for part in name.split("."))


def _file_of(module_name: str) -> str:
    return module_name.partition(".")[0] + ("" if "." in module_name else ".py")


def _hidden(module: Any) -> str | None:
    """Return what of the current folder has the name of a module that was found elsewhere."""
    here = current_folder.holds(module.__name__)
    file = getattr(module, "__file__", None)
    return here if here and not (file and Path(file).is_relative_to(Path.cwd() / here)) else None


def construct(
    kind: str, name: str, factory: Callable[..., Any], labels: LabelSet, options: Mapping[str, Any] | None = None
) -> Any:
    """Return `factory(labels, **options)`; a factory without a parameter for the labels is called without them.

    Raises UserError for what is no factory, and for an option that it does not take, with the nearest one that it does.
    """
    options = dict(options or {})
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # not callable, or a C function that does not tell
        raise UserError(
            f"{kind} {name!r}: expected a function that builds a {kind}, found {factory!r}",
            remedy=f"name a function (labels, **options) that returns the {kind}",
        ) from None
    takes_labels = next(iter(parameters), None) == "labels"
    known = [
        parameter.name
        for parameter in list(parameters.values())[takes_labels:]
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option == "labels" or not (option in known or takes_any):
            raise unknown_option(kind, name, option, known)
    needed = [item for item in known if parameters[item].default is inspect.Parameter.empty and item not in options]
    if needed:
        raise UserError(
            f"{kind} {name!r}: its option {needed[0]!r} has no default",
            remedy="give it a value; the label set goes to a first parameter named `labels`",
        )
    return factory(labels, **options) if takes_labels else factory(**options)


def unknown_option(kind: str, name: str, option: str, known: Iterable[str]) -> UserError:
    """Return the error for an option that the plug-in `name` does not take, with the nearest known ones."""
    known = list(known)
    near = difflib.get_close_matches(option, known, n=3, cutoff=0.5)
    if near:
        remedy = f"did you mean {' or '.join(near)}?"
    else:
        remedy = f"choose from {', '.join(known)}" if known else "leave it out: there are no options"
    return UserError(f"{kind} {name!r}: unknown option {option!r}", remedy=remedy)


def unknown(
    kind: str, name: str, known: Iterable[str], *, own: str = "package.module:function", listed: str = ""
) -> UserError:
    """Return the error for a name that is not registered, with the nearest known ones.

    own: how one's own is named. listed: the command that lists the names, where they are too many for a message.
    """
    known = list(known)
    begun = [item for item in known if item.startswith(name)] if len(name) > 1 else []
    near = begun[:3] or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    known_ones = f"`{listed}` lists what is known" if listed else f"known: {', '.join(known)}."
    hint = f"did you mean {' or '.join(near)}?" if near else known_ones
    if near and not listed and len(near) < len(known) <= _FEW:
        hint += f" Known: {', '.join(known)}."
    return UserError(
        f"unknown {kind} {name!r}",
        remedy=f"{hint} Your own goes in as {own}" if own else hint,
    )
