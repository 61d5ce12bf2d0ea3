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
    held = {item.name: value for item in fields(batch) if (value := getattr(batch, item.name)) is not None}
    pieces = {name: value.tensor_split(parts) for name, value in held.items()}
    return [Batch(**{name: of_all[part] for name, of_all in pieces.items()}) for part in range(parts)]
