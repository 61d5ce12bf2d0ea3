"""What is wrong with how a command was called, said as all errors are: what it is, and a remedy."""

from __future__ import annotations

import re
from typing import Any

import typer

from cxrkit.base.errors import UserError
from cxrkit.cli import help

# click's exceptions, of which recent typers have copies of their own.
UsageError: Any = typer.BadParameter.__mro__[1]


def as_user_error(error: Any) -> UserError:
    """Return the UserError that a UsageError is: of an argument that is missing, an option or command that is none."""
    names = _names(error.ctx)
    what = _what(error, getattr(error, "param", None))
    said = f"{names}: {what}" if names else what
    return UserError(said, remedy=f"see `cxrkit {names}{' ' * bool(names)}-h`")


def _names(context: Any) -> str:
    """Return the command as it is called behind `cxrkit`: "literature show"; "" for none."""
    names: list[str] = []
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return " ".join(names)


def _what(error: Any, param: Any) -> str:
    text = " ".join(str(error.format_message()).split()).rstrip(".")
    if param is not None and param.param_type_name == "argument":  # is called as the help calls it
        name = help.argument_name(param)
        if type(error).__name__ == "MissingParameter":
            return f"{name} is missing"
        text = re.sub(rf"(?i)'[\[{{<]*{re.escape(name)}[\]}}>.]*'", name, text, count=1)
    return text[:1].lower() + text[1:]
