"""Results of other works, typed: what `data_manifests/published/literature.toml` says, and how they are named."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from cxrkit.base import manifests, typed
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.base.pretraining import UNKNOWN, Pretraining
from cxrkit.base.registry import unknown

FILE = "published/literature.toml"
OFFICIAL = "official"
SplitKind = Literal["official", "random patient-wise", "random image-wise", "unknown", "ChestMNIST"]
SelectedOn = Literal["validation", "test, by the released code", "unknown"]
LabelRelease = Literal["v2020", "2017", "unknown"]
Evidence = Literal["primary", "secondary", "abstract", "none"]


@dataclass(frozen=True)
class Work:
    """One published result. What is "", 0, None or "unknown" is not known."""

    key: str
    """A short name for it."""

    year: int
    """Of publication."""

    split: SplitKind
    """What it was tested on; "official": NIH's list."""

    comparable: bool
    """Whether it stands beside runs on the official split."""

    evidence: Evidence
    """Where its number was read: in the work itself, in another one, in an abstract; or nowhere."""

    source: str
    """Where the number was read, in words."""

    split_source: str = ""
    """Who says that its split is the official one."""

    reason: str = ""
    """Why it does not compare although its split is the official one."""

    authors: str = ""
    """Their names, as far as they were read."""

    title: str = ""
    """Of the work."""

    ref: str = ""
    """arXiv number, DOI or address."""

    backbone: str = ""
    """The network."""

    input_size: int = 0
    """Side of the network's input in pixels."""

    extra_data: str = ""
    """What it was trained on beside the training images, in words."""

    pretrained: Pretraining = UNKNOWN
    """How much the network had seen before; "this data set" is ChestX-ray14."""

    selected_on: SelectedOn = "unknown"
    """The images that the best epoch was chosen by."""

    label_release: LabelRelease = "unknown"
    """Which of NIH's labels it was tested by."""

    mean: float | None = None
    """Mean AUC over the 14 pathologies."""

    mean_is_computed: bool = False
    """Whether the mean was computed from the list, not stated."""

    mean_std: float | None = None
    """Standard deviation of the mean over training runs."""

    auc: tuple[tuple[str, float], ...] = ()
    """Pathology and AUC, without those that are not known."""

    notes: tuple[str, ...] = ()
    """What a reader must know of it."""

    repeated_by: tuple[tuple[str, str], ...] = ()
    """The recipes of this toolkit that repeat it, each with what it must leave out; "" for nothing."""

    corrected: str = ""
    """What an earlier version of the file had wrong."""

    def __post_init__(self) -> None:
        """Refuse what the file must not say."""
        if self.comparable and (self.split != OFFICIAL or not self.split_source or self.mean is None):
            raise ValueError(f"{self.key} is comparable without the official split, a split_source or a mean")
        if self.split == OFFICIAL and not self.comparable and not self.reason:
            raise ValueError(f"{self.key} is on the official split and not comparable, without a reason")
        if self.evidence == "none" and self.mean is not None:
            raise ValueError(f"{self.key} has a mean that was read nowhere (evidence none)")

    @property
    def by_label(self) -> dict[str, float]:
        """Its AUCs by pathology."""
        return dict(self.auc)

    @property
    def recipes(self) -> dict[str, str]:
        """By recipe of this toolkit that repeats it what that must leave out; "" for nothing."""
        return dict(self.repeated_by)


@cache
def literature() -> dict[str, Work]:
    """Return the results of `literature.toml` by key, in its order."""
    return read(manifests.folder() / FILE)


def read(path: Path) -> dict[str, Work]:
    """Return the results of a file like `literature.toml` by key. Raises UserError, naming the result and the field."""
    remedy = f"correct it; the fields of a result are {', '.join(field.name for field in fields(Work))}"
    try:
        table = manifests.read_file(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as TOML ({error})", remedy=remedy) from None
    found: dict[str, Work] = {}
    for number, result in enumerate(table.get("result", ()), 1):
        name = result.get("key", f"result {number}") if isinstance(result, dict) else f"result {number}"
        try:
            work: Work = typed.build(Work, _with_labels(table, result), str(name), extra="refuse")
        except (typed.FieldError, UserError) as error:
            raise UserError(f"{path}: {error}", remedy=remedy) from None
        if work.key in found:
            raise UserError(f"{path}: two results are called {work.key}", remedy="give each a key of its own")
        found[work.key] = work
    return found


def _with_labels(table: dict[str, Any], result: Any) -> Any:
    """Return a result with its list of AUCs as pairs of pathology and AUC; nan in the list is not known."""
    if not isinstance(result, dict) or "auc" not in result:
        return result
    names, values = table.get("pathologies", []), result["auc"]
    if sorted(names) != sorted(CHESTXRAY14.averaged) or not isinstance(values, list) or len(values) != len(names):
        raise typed.FieldError(f"{result.get('key')}.auc is not a list of one AUC for each of the pathologies")
    pairs = zip(names, values, strict=True)
    return result | {"auc": [[label, auc] for label, auc in pairs if not (isinstance(auc, float) and math.isnan(auc))]}


def comparable() -> list[Work]:
    """Return the results that may stand beside runs on the official split, best mean first."""
    return ranked(work for work in literature().values() if work.comparable)


def ranked(works: Iterable[Work]) -> list[Work]:
    """Return results with the best mean first, those without one last; equal ones in the order of their keys."""
    return sorted(works, key=lambda work: (-(work.mean if work.mean is not None else -1.0), work.key))


def repeated_by(recipe: str) -> list[Work]:
    """Return the results that a recipe of this toolkit repeats, in the file's order."""
    return [work for work in literature().values() if recipe in work.recipes]


def get(key: str) -> Work:
    """Return one result. Raises UserError for an unknown key, with the nearest known ones."""
    if key not in literature():
        raise unknown("published result", key, literature(), own="", listed="cxrkit literature")
    return literature()[key]


def resolve_also(text: str) -> tuple[str, ...]:
    """Return the keys that `--also` names, each once: keys, `primary`, `all`, `top10` (or `top3`, ...), with commas.

    primary: every comparable result that was read in the work itself; all: every comparable one. Raises UserError for
    an unknown name, with the nearest known ones, and for a result that does not compare, with the reason.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UserError("--also names no published result", remedy="give a key from `cxrkit literature`, or top10")
    return tuple(dict.fromkeys(key for word in words for key in _keys_of(word)))


def _keys_of(word: str) -> Iterator[str]:
    if word == "all":
        yield from (work.key for work in comparable())
    elif word == "primary":
        yield from (work.key for work in comparable() if work.evidence == "primary")
    elif found := re.fullmatch(r"top([1-9]\d{0,2})", word):
        yield from (work.key for work in comparable()[: int(found[1])])
    elif word not in literature():
        names = [*literature(), "primary", "top10", "all"]
        raise unknown("published result", word, names, own="", listed="cxrkit literature")
    else:
        yield _checked(literature()[word]).key


def _checked(work: Work) -> Work:
    """Return a result that compares. Raises UserError, with the reason, for another."""
    if work.comparable:
        return work
    if work.split == OFFICIAL:
        why = f"does not compare: {work.reason}"
    elif work.split == "unknown":
        why = "does not compare: its split is not known"
    else:
        why = f"was not measured on the official test list (split: {work.split})"
    raise UserError(
        f"published result {work.key!r} {why}",
        remedy="choose one of those that `cxrkit literature --split official` lists first",
    )
