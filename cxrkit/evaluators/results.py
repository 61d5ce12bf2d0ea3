"""`scores.json`: what an evaluation found, typed and versioned. Written here, read by the report and by people.

A number never stands alone: each AUC comes with its interval and its counts, the file with its origin (model, split and
its digest, data set, label release, checkpoint) and with how the intervals were made.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cxrkit import __version__
from cxrkit.contracts import LABELS, PATHOLOGIES
from cxrkit.errors import UserError
from cxrkit.files import read_json, write_json

SCHEMA_VERSION = 1
BOOTSTRAP = "percentile bootstrap over patients, drawn with replacement with all their images"
_AGAIN = "write it again with `cxrkit evaluate`"


@dataclass(frozen=True)
class LabelScore:
    """One label's AUC. auc is null where it is undefined, with the reason ("0 positives").

    lower and upper bound the interval; both are null, with interval_reason, where too few replicates define the AUC.
    """

    auc: float | None
    lower: float | None
    upper: float | None
    positives: int
    negatives: int
    reason: str = ""
    interval_reason: str = ""


@dataclass(frozen=True)
class MeanScore:
    """The mean AUC over the pathologies that have one: `labels` of the 14. "No Finding" never enters."""

    auc: float | None
    lower: float | None
    upper: float | None
    labels: int
    reason: str = ""
    interval_reason: str = ""


@dataclass(frozen=True)
class Intervals:
    """How every interval of the file was made."""

    confidence: float
    replicates: int
    seed: int
    method: str = BOOTSTRAP


@dataclass(frozen=True)
class SubsetScores:
    """One subset's scores: `images` were evaluated of the `subset_images` that the subset has in the whole data set.

    images_digest: SHA-256 over the sorted names of the evaluated images, one a line.
    leakage_checked: whether these images and their patients were compared with what the model was trained on.
    labels: one LabelScore for each of contracts.LABELS, "No Finding" last.
    """

    subset: str
    images: int
    subset_images: int
    images_digest: str
    patients: int
    leakage_checked: bool
    mean: MeanScore
    labels: dict[str, LabelScore]
    intervals: Intervals

    @property
    def complete(self) -> bool:
        """Whether the whole subset was evaluated."""
        return self.images == self.subset_images

    @property
    def undefined(self) -> list[str]:
        """The pathologies without an AUC."""
        return [label for label in PATHOLOGIES if self.labels[label].auc is None]


@dataclass(frozen=True)
class Scores:
    """The content of `scores.json`. subsets: by name, "val" and "test" where they were predicted."""

    model: str
    split: str
    split_digest: str
    dataset: str
    label_release: str
    checkpoint_sha256: str
    input_size: int
    epoch: int
    train_images: int
    train_subset_images: int
    subsets: dict[str, SubsetScores]
    cxrkit_version: str = __version__
    schema_version: int = SCHEMA_VERSION


def write(path: Path, scores: Scores) -> None:
    """Write `scores.json` atomically."""
    write_json(path, asdict(scores))


def read(path: Path) -> Scores:
    """Return the scores in `path`. Raises UserError, naming the file and the field, when it is not of this schema."""
    value = read_json(path, "the scores file", _AGAIN)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found {_name(value)}", remedy=_AGAIN)
    version = value.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: scores of schema version {version!r}; this cxrkit reads version {SCHEMA_VERSION}", remedy=_AGAIN
        )
    try:
        scores: Scores = _build(Scores, value, "")
        _check(scores)
    except _FieldError as error:
        raise UserError(f"{path}: {error}", remedy=_AGAIN) from None
    return scores


class _FieldError(Exception):
    """Says which field is wrong, and how."""


def _build(kind: Any, value: Any, where: str) -> Any:
    """Return `value` (parsed JSON) as `kind`: a dataclass, dict[str, ...], an optional or a plain type."""
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise _FieldError(f"{where} is {_name(value)}, expected an object")
        inner = typing.get_args(kind)[1]
        return {name: _build(inner, item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(kind, types.UnionType):  # X | None
        return None if value is None else _build(typing.get_args(kind)[0], value, where)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _FieldError(f"{where} is {_name(value)}, expected {kind.__name__}")
    return value


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _FieldError(f"{where} is {_name(value)}, expected an object")
    hints = typing.get_type_hints(kind)
    dot = f"{where}." if where else ""
    missing = [name for name in hints if name not in value]
    if missing:
        raise _FieldError(f"{dot}{missing[0]} is missing")
    return kind(**{name: _build(hint, value[name], dot + name) for name, hint in hints.items()})


def _check(scores: Scores) -> None:
    """Refuse what cannot be: a label without scores, an AUC outside [0, 1], more images than there are."""
    for name, subset in scores.subsets.items():
        if name != subset.subset:
            raise _FieldError(f"subsets.{name}.subset is {subset.subset!r}")
        if tuple(subset.labels) != LABELS:
            raise _FieldError(f"subsets.{name}.labels are {', '.join(subset.labels)}; expected {', '.join(LABELS)}")
        if not 0 < subset.images <= subset.subset_images:
            raise _FieldError(f"subsets.{name}.images is {subset.images} of {subset.subset_images}")
        everything: dict[str, LabelScore | MeanScore] = {**subset.labels, "mean": subset.mean}
        for label, score in everything.items():
            for bound in (score.auc, score.lower, score.upper):
                if bound is not None and not 0 <= bound <= 1:
                    raise _FieldError(f"subsets.{name}: an AUC of {label} is {bound}, outside [0, 1]")


def _name(value: Any) -> str:
    return "null" if value is None else f"{value!r} ({type(value).__name__})"
