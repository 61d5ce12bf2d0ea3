"""What was looked at and found, with what to do about it, and how a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from cxrkit.base.errors import shown
from cxrkit.base.wrapping import wrapped

State = Literal["ok", "note", "problem"]
COLOURS: dict[State, str] = {"ok": "green", "note": "yellow", "problem": "red"}
_STATE_WIDTH = len("problem  ")
_WHAT_WIDTH = len("processor  ")


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    """What it is: Python, disk, download, ..."""
    state: State
    """ok, note (works, could be better) or problem (something will fail)."""
    found: str
    """What was found."""
    remedy: str = ""
    """What to do about it; empty where all is well."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print it in three columns, broken between words: a name that is too long for its line stays whole."""
        indent = _STATE_WIDTH + _WHAT_WIDTH
        room = max(20, options.max_width - indent)
        # Text, not markup: a folder called data[1] must not lose its brackets.
        lines = [Text(line) for line in wrapped(shown(self.found, keep="\n"), room)]
        if self.remedy:
            lines += [Text(line, style="dim") for line in wrapped(f"-> {shown(self.remedy)}", room)]
        for number, line in enumerate(lines):
            start = Text(" " * indent)
            if number == 0:
                start = Text(f"{self.state:<{_STATE_WIDTH}}", COLOURS[self.state]) + Text(f"{self.what:<{_WHAT_WIDTH}}")
            text = start + line
            text.no_wrap, text.overflow = True, "ignore"
            yield text


def to_rich(findings: Iterable[Finding]) -> Group:
    """Return the findings as what a console prints, one below the other."""
    return Group(*findings)
