"""What a network had seen before it was trained, and whether images of the data set at hand were among it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cxrkit.base import typed
from cxrkit.base.errors import UserError

# images: without their labels, by a self-supervised method. labels: images with labels, those of ImageNet, too.
HowMuch = Literal["none", "images", "labels", "unknown"]
_ORDER = {"none": 0, "images": 1, "labels": 2}


@dataclass(frozen=True)
class Pretraining:
    """How much a network had seen, of anything and of what it is tested on.

    Each field is about a part of what the one before is about: a part of nothing is nothing, and a part of which more
    was seen than of the whole raises ValueError.
    """

    seen: HowMuch = "unknown"
    """Of any images: none where it started from random numbers."""

    this_data_set: HowMuch = "unknown"
    """Of the data set that it is trained and tested on."""

    test_images: HowMuch = "unknown"
    """Of the very images that it is tested on."""

    def __post_init__(self) -> None:
        """Say of the parts what follows from the whole."""
        whole, of_whole = "seen", self.seen
        for name in ("this_data_set", "test_images"):
            if of_whole == "none" and getattr(self, name) == "unknown":
                object.__setattr__(self, name, "none")
            value = getattr(self, name)
            if value == "unknown":
                continue
            if of_whole != "unknown" and _ORDER[value] > _ORDER[of_whole]:
                raise ValueError(f"{name} is {value!r}, which is more than {whole}, {of_whole!r}")
            whole, of_whole = name, value

    @property
    def known(self) -> bool:
        """Whether anything is known of it."""
        return self != UNKNOWN

    @property
    def of_data_set(self) -> bool:
        """Whether it is known to have seen images of the data set at hand."""
        return self.this_data_set in ("images", "labels")

    @property
    def words(self) -> str:
        """How it has seen the data set at hand, for a sentence: "" where that is not known to have been the case."""
        if not self.of_data_set:
            return ""
        what = "images" if self.this_data_set == "images" else "labelled images"
        match self.test_images:
            case "none":
                tested = "none of its test images among them"
            case "unknown":
                tested = "perhaps its test images among them"
            case _:
                tested = "its test images among them"
        return f"pretrained on {what} of this data set, {tested}"


UNKNOWN = Pretraining()
NOTHING = Pretraining("none")
IMAGENET = Pretraining("labels", "none")
_BY_NAME = {"none": NOTHING, "ImageNet": IMAGENET}


def named(text: str) -> Pretraining:
    """Return what follows from the name alone of a pretraining: of "none" and "ImageNet" everything, of others nothing.

    Files written before a Pretraining was kept have only the name.
    """
    return _BY_NAME.get(text, UNKNOWN)


@dataclass(frozen=True)
class Declared:
    """What somebody says of a file of weights."""

    pretraining: str
    """What the network had seen before, by name: "MAE on 0.5M chest X-rays"."""

    pretrained: Pretraining = UNKNOWN
    """How much it had seen."""


def contradiction(name: str, pretrained: Pretraining) -> str:
    """Return how what is said of a pretraining contradicts its name, "none" or "ImageNet"; "" where it does not."""
    told = named(name)
    for part in ("seen", "this_data_set", "test_images"):
        one, other = getattr(told, part), getattr(pretrained, part)
        if "unknown" not in (one, other) and one != other:
            return f"pretraining {name!r} and pretrained.{part} {other!r} contradict each other"
    return ""


def read_declared(weights: Path) -> Declared | None:
    """Return what the file WEIGHTS.toml beside a file of weights says of it; None where there is none.

    Raises UserError for a file that is not TOML, or says something else.
    """
    path = weights.with_name(f"{weights.name}.toml")
    remedy = 'write pretraining = "what it was" and pretrained = { seen = "images", this_data_set = "none" }'
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        found: Declared = typed.build(Declared, values, extra="refuse")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", remedy=remedy) from None
    except typed.FieldError as error:
        raise UserError(f"{path}: {error}", remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid TOML ({error})", remedy=remedy) from None
    if wrong := contradiction(found.pretraining, found.pretrained):
        raise UserError(f"{path}: {wrong}", remedy="give it a name of its own, or correct what was seen")
    return found
