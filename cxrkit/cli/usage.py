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
    command = error.ctx.command_path if error.ctx is not None else "cxrkit"
    name = command.partition(" ")[2]
    what = _what(error, getattr(error, "param", None))
    return UserError(f"{name}: {what}" if name else what, remedy=f"see `{command} -h`")


def _what(error: Any, param: Any) -> str:
    text = " ".join(str(error.format_message()).split()).rstrip(".")
    if param is not None and param.param_type_name == "argument":  # is called as the help calls it
        name = help.argument_name(param)
        if type(error).__name__ == "MissingParameter":
            return f"{name} is missing"
        text = re.sub(rf"(?i)'[\[{{<]*{re.escape(name)}[\]}}>.]*'", name, text, count=1)
    return text[:1].lower() + text[1:]
