"""Numbers of things in words."""

from __future__ import annotations

import pytest

from cxrkit.base.words import count


@pytest.mark.parametrize(
    ("number", "what", "said"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (1500, "image", "1,500 images"),
        (2, "box", "2 boxes"),
        (3, "body", "3 bodies"),
        (2, "patch", "2 patches"),
        (12, "epoch", "12 epochs"),
    ],
)
def test_a_number_and_its_noun(number: int, what: str, said: str) -> None:
    assert count(number, what) == said
