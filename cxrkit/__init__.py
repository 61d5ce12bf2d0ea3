"""cxrkit: a benchmark toolkit for multi-label chest X-ray classification on NIH ChestX-ray14.

`cxrkit.open` gives the images of a prepared folder to a training loop of one's own (docs/loader.md). It is loaded when
it is asked for: importing the package alone imports no torch.
"""

from __future__ import annotations

# Not typing's: `python -m` searches the current folder first, and a typing.py there would be imported.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cxrkit.feed import Feed as Feed
    from cxrkit.feed import open as open

__version__ = "0.1.0"

_OF_FEED = ("Feed", "open")


def __getattr__(name: str) -> Any:
    if name in _OF_FEED:
        from cxrkit import feed

        return getattr(feed, name)
    raise AttributeError(f"module 'cxrkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_FEED})
