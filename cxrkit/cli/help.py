"""The help of a command: its flags in groups, each with what it is and what it is unless one says otherwise.

Typer's own panels give each flag five columns, of which help gets the narrowest: at 80 columns its page for `train` has
250 lines. This has two, and breaks between words alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

_FLAGS, _COMMANDS = 24, 12  # columns; a longer name stands on a line of its own
_WIDEST = 110  # longer lines are hard to read
_KINDS = {"text": "TEXT", "str": "TEXT", "path": "PATH", "file": "PATH", "directory": "PATH"}
_KINDS |= {"integer": "N", "int": "N", "float": "X", "bool": "", "boolean": ""}


Function = TypeVar("Function", bound=Callable[..., Any])


class Command(TyperCommand):
    """A command whose help is this module's."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        print_page(lambda width: page(self, ctx, width))


class Commands(typer.Typer):
    """A group of commands, each with this module's help."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Function], Function]:
        """Register a command."""
        return super().command(name, **{"cls": Command, **options})


class Group(TyperGroup):
    """A group whose help is this module's, without titles."""

    titles: ClassVar[Mapping[str, Sequence[str]]] = {}

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        print_page(lambda width: group_page(self, ctx, width, self.titles))


def print_page(lines: Callable[[int], Iterator[Text]]) -> None:
    """Print the lines of a help page that is made for a width."""
    console = Console(highlight=False, emoji=False)
    for line in lines(min(console.width, _WIDEST)):
        console.print(line, soft_wrap=True)  # folded already, and never inside a name


def page(command: Any, context: Any, width: int) -> Iterator[Text]:
    """Yield the lines of a command's help."""
    shown = [item for item in command.get_params(context) if not getattr(item, "hidden", False)]
    arguments = [item for item in shown if item.param_type_name == "argument"]
    names = " ".join(_argument(item) for item in arguments)
    yield Text(f"\nUsage: {context.command_path} {names}{' ' * bool(names)}[OPTIONS]\n")
    for paragraph in (command.help or "").split("\n\n"):
        yield Text(
            textwrap.fill(" ".join(paragraph.split()), width - 1, break_long_words=False, break_on_hyphens=False)
        )
        yield Text()
    groups: dict[str, list[Any]] = {}
    for item in shown:
        usual = "Arguments" if item in arguments else "Options"
        groups.setdefault(getattr(item, "rich_help_panel", None) or usual, []).append(item)
    if "Options" in groups and len(groups) > 1:  # what belongs nowhere in particular stands last
        groups["Options"] = groups.pop("Options")
    for title, items in groups.items():
        yield Text(title, style="bold")
        for item in items:
            yield from _lines(item, context, width)
        yield Text()


def group_page(group: Any, context: Any, width: int, titles: Mapping[str, Sequence[str]]) -> Iterator[Text]:
    """Yield the lines of the help of a group of commands, under `titles`; what stands under none of them is last."""
    yield Text(f"\nUsage: {context.command_path} [OPTIONS] COMMAND ...\n")
    yield from map(Text, _wrapped(group.help or "", width - 1))
    listed = {name for names in titles.values() for name in names}
    rest = [name for name in group.commands if name not in listed]
    for title, names in {**titles, ("Other" if titles else "Commands"): rest}.items():
        there = [name for name in names if name in group.commands]
        if there:
            yield Text(f"\n{title}", style="bold")
        for name in there:
            about = " ".join((group.commands[name].help or "").split("\n\n")[0].split())
            yield from _beside(name, about, _COMMANDS, width)
    yield Text("\nOptions", style="bold")
    for item in group.get_params(context):
        if not getattr(item, "hidden", False):
            yield from _lines(item, context, width)
    yield Text()
    if group.epilog:
        yield from map(Text, _wrapped(group.epilog, width - 1))


def _lines(item: Any, context: Any, width: int) -> Iterator[Text]:
    flag = _argument(item) if item.param_type_name == "argument" else _flag(item, context)
    said = Text.from_markup(item.help or "").plain
    if default := _default(item, context):
        said = f"{said} [{default}]"
    yield from _beside(flag, said, _FLAGS, width)


def _beside(name: str, said: str, column: int, width: int) -> Iterator[Text]:
    """Yield a name with its text beside it, or below it where it is longer than its column."""
    lines = _wrapped(said, max(30, width - 1 - column - 2)) or [""]
    beside = len(name) <= column - 2
    if not beside:
        yield Text(f"  {name}", style="cyan")
    for number, line in enumerate(lines):
        left = Text(f"  {name if beside and number == 0 else '':<{column}}", style="cyan")
        yield left.append(line, style="default")


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


def argument_name(item: Any) -> str:
    """Return what an argument is called: RUN."""
    return str(item.metavar or item.name or "").upper().strip("[]<>{}.")


def _argument(item: Any) -> str:
    name = argument_name(item)
    name += "..." if item.nargs != 1 else ""
    return name if item.required else f"[{name}]"


def _flag(item: Any, context: Any) -> str:
    """Return "--epochs N", "--compile, --no-compile", "-h, --help"."""
    names = ", ".join([*sorted(item.opts, key=len), *item.secondary_opts])
    kind = _kind(item, context)
    return f"{names} {kind}" if kind else names


def _kind(item: Any, context: Any) -> str:
    """Return what is to be given with a flag: N, PATH, own|common; "" for one that stands alone."""
    if item.metavar:
        return str(item.metavar)
    if hasattr(item, "display_type_rich"):  # since typer 0.27; before it, click's own types
        kind = str(item.display_type_rich(ctx=context) or "")
    elif choices := getattr(item.type, "choices", None):
        kind = "|".join(str(choice.value if isinstance(choice, Enum) else choice) for choice in choices)
    else:
        kind = "bool" if item.is_flag else str(item.type.name)
    kind = kind.strip("<>").removeprefix("list[").removesuffix("]").removesuffix(" range").lower()
    return _KINDS.get(kind, kind)


def _default(item: Any, context: Any) -> str:
    """Return the default as one would type it; "" where there is none to show."""
    if isinstance(item.show_default, str):  # a value that stands elsewhere: the recipe's
        return item.show_default
    value = item.default() if callable(item.default) else item.default
    if not item.show_default or value is None or isinstance(value, bool) or value in ("", [], ()):
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    return value.as_posix() if isinstance(value, Path) else str(value)
