"""A network that is asked several times about the same image computes what it makes of the image once.

Networks of cxrkit make features of the image by `features` or `feature_maps`, and age, sex and view join behind these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_OF_THE_IMAGE_ALONE = ("features", "feature_maps")


@contextmanager
def remembering(model: Any) -> Iterator[None]:
    """Within it, `features` and `feature_maps` of `model` give for the last image what they gave before.

    A network of one's own that has neither is asked anew each time: slower, and the same. The image is known by being
    the same tensor, so it must not be changed in place.
    """
    before = {name: vars(model).get(name) for name in _OF_THE_IMAGE_ALONE if callable(getattr(model, name, None))}
    for name in before:
        object.__setattr__(model, name, _once(getattr(model, name)))
    try:
        yield
    finally:
        for name, own in before.items():
            if own is None:
                object.__delattr__(model, name)
            else:
                object.__setattr__(model, name, own)


def _once(compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
    last: list[Any] = [None, None]

    def remembered(image: Any) -> Any:
        if last[0] is not image:
            last[:] = [image, compute(image)]
        return last[1]

    return remembered
