"""Numbers of things in words: "1 image", never "1 images" or "1 image(s)"; and a few names of many."""

from __future__ import annotations

from collections.abc import Iterable

from cxrkit.base.errors import shown


def count(number: int, what: str) -> str:
    """Return "1 image", "1,500 images", "2 boxes", "3 bodies"; `what` in the singular."""
    return f"{number:,} {what if number == 1 else plural(what)}"


def of_them(number: int, total: int, what: str) -> str:
    """Return "1 of 2 images is", "2 of 2 images are", "1 of 1 image is": how many of several, and the verb."""
    return f"{number:,} of {count(total, what)} {'is' if number == 1 else 'are'}"


def plural(what: str) -> str:
    """Return the plural of a regular word."""
    if what.endswith("y") and what[-2:-1] not in "aeiou":
        return f"{what[:-1]}ies"
    hissing = what.endswith(("s", "x", "sh", "ch")) and not what.endswith("epoch")  # whose ch is a k
    return f"{what}es" if hissing else f"{what}s"


def few(names: Iterable[str], most: int = 3) -> str:
    """Return "a, b, c and 12 more": enough of `names` (sorted) to find the rest, safe to print."""
    names = sorted(names)
    listed = ", ".join(shown(name) for name in names[:most])
    return listed + (f" and {len(names) - most:,} more" if len(names) > most else "")
