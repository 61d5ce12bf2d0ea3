"""How wide a report is laid out where standard output is no terminal: a pipe, a file."""

from __future__ import annotations

import os
from collections.abc import Iterable

NOBODY_WATCHES = 160  # a log file: lines are for grep, not folded at 80 columns
_STDERR, _STDIN = 2, 0


def piped_width(terminals: Iterable[int] = (_STDERR, _STDIN)) -> int:
    """Return $COLUMNS, else the width of the terminal in front of which somebody sits, else NOBODY_WATCHES.

    `cxrkit report | head` ends in a terminal, too: that of standard error, or of standard input. terminals: the file
    descriptors to ask, in order.
    """
    said = os.environ.get("COLUMNS", "")
    if said.isascii() and said.isdecimal() and int(said) > 0:
        return int(said)
    for descriptor in terminals:
        try:
            columns = os.get_terminal_size(descriptor).columns
        except (OSError, ValueError):  # no terminal, closed
            continue
        if columns > 0:  # some terminals do not say
            return columns
    return NOBODY_WATCHES
