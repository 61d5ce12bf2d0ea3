"""A batch in parts that are computed one after the other, where all of it at once would take too much memory."""

from __future__ import annotations

from dataclasses import fields

from cxrkit.base.contracts import Batch


def count(images: int, at_once: int, processes: int = 1) -> int:
    """Return in how many parts `images` of one process are computed, `at_once` by all of them together; 0: in one."""
    return -(-images // max(at_once // processes, 1)) if at_once else 1


def largest(images: int, parts: int) -> int:
    """Return how many images the largest part has."""
    return -(-images // parts)


def split(batch: Batch, parts: int) -> list[Batch]:
    """Return a batch in at most `parts` parts of consecutive images, as equal as can be, the larger ones first."""
    parts = min(parts, len(batch.index))
    pieces = (getattr(batch, item.name).tensor_split(parts) for item in fields(batch))
    return [Batch(*piece) for piece in zip(*pieces, strict=True)]
