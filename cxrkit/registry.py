"""Plug-in points: a readable table of name -> "module:attribute", loaded when asked for.

`package.module:attribute` works in place of a name without registering; an installed package may add names through
the entry point group `cxrkit.<kind>s` (for instance `cxrkit.models`).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

from cxrkit.errors import UserError

BUILT_IN: dict[str, dict[str, str]] = {
    "dataset": {
        "nih-chestxray14": "cxrkit.datasets.nih_chestxray14:read",
        "synthetic": "cxrkit.datasets.synthetic:read",
    },
    "loader": {
        "opencv": "cxrkit.loaders.opencv:OpenCVLoader",
        "dali": "cxrkit.loaders.dali:DaliLoader",
        "resident": "cxrkit.loaders.resident:ResidentLoader",  # what --cache gpu chooses
    },
    "model": {
        # Names of the grammar (resnet50-large-meta, ...) are resolved by cxrkit.models; see `cxrkit models`.
    },
    "trainer": {
        "supervised": "cxrkit.trainers.supervised:train",
    },
    "evaluator": {
        "auc": "cxrkit.evaluators.auc:evaluate",
    },
}


def names(kind: str) -> list[str]:
    """Return the registered names of `kind`, built-in and installed, sorted."""
    return sorted({*BUILT_IN[kind], *(point.name for point in entry_points(group=f"cxrkit.{kind}s"))})


def load(kind: str, name: str) -> Any:
    """Return the object behind `name`: a registered name, or `package.module:attribute`.

    Raises UserError for an unknown name (with the nearest known one) and for a module that cannot be imported.
    """
    if ":" in name:
        return load_attribute(name)
    if name in BUILT_IN[kind]:
        return load_attribute(BUILT_IN[kind][name])
    for point in entry_points(group=f"cxrkit.{kind}s", name=name):
        return point.load()
    raise unknown(kind, name, names(kind))


def load_attribute(target: str) -> Any:
    """Import `package.module:attribute`."""
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise UserError(
                f"{target!r}: there is no module {module_name!r}",
                remedy="name it as package.module:attribute, and install its package or set PYTHONPATH",
            ) from None
        raise
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UserError(
            f"{target!r}: module {module_name!r} has no attribute {attribute!r}",
            remedy="name it as package.module:attribute",
        ) from None


def unknown(kind: str, name: str, known: Iterable[str], *, own: str = "package.module:function") -> UserError:
    """Return the error for a name that is not registered, with the nearest known ones; own: how one's own is named."""
    known = list(known)
    begun = [item for item in known if item.startswith(name)] if len(name) > 1 else []
    near = begun[:3] or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}."
    return UserError(
        f"unknown {kind} {name!r}",
        remedy=f"{hint} Your own goes in as {own}" if own else hint,
    )
