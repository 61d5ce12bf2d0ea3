"""Other labels of the same images: NIH's release of 2017, and what radiologists adjudicated (Majkowska et al. 2020).

A source has findings, each of which one or several of NIH's labels stand for. A model that scores the labels scores the
finding by 1 - (1 - p)(1 - q)..., as if they were independent, and NIH says the finding where it says any of its labels.
So one set of predictions is held against both on the same images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base import registry
from cxrkit.base.errors import UserError
from cxrkit.base.labels import ADJUDICATED, CHESTXRAY14, LabelSet
from cxrkit.base.origin import labels_digest
from cxrkit.datasets.nih import adjudicated, roster
from cxrkit.datasets.nih.chestxray14 import label_release
from cxrkit.datasets.nih.tables import ENTRY_FILES, read_entries
from cxrkit.datasets.nih.text import find_table

NIH, NIH_2017, GOOGLE_2019 = "nih", "nih-2017", "google2019"
NAMES = (NIH, NIH_2017, GOOGLE_2019)

# What stands for an adjudicated finding among NIH's labels; nothing there stands for a fracture.
_ADJUDICATED = {
    "Pneumothorax": ("Pneumothorax",),
    "Nodule or Mass": ("Nodule", "Mass"),
    "Airspace opacity": ("Consolidation", "Infiltration", "Pneumonia", "Edema", "Atelectasis"),
}
_PROXIES = ("Airspace opacity",)  # no report was searched for it
_OF_NIH = " (NIH)"  # behind a column's name, where the source has a finding of that name, too


@dataclass(frozen=True)
class LabelSource:
    """Labels of images of ChestX-ray14 that are not those that a run was evaluated with."""

    name: str
    """One of NAMES."""

    title: str
    """What a sentence calls its labels: "the adjudicated labels"."""

    heading: tuple[str, ...]
    """What a column of a table calls them."""

    file: Path
    """Where they come from."""

    findings: LabelSet
    """What can be scored against them."""

    made_of: Mapping[str, tuple[str, ...]]
    """Which of NIH's labels stand for a finding: one, or any of several."""

    proxies: tuple[str, ...]
    """The findings that NIH's labels do not mean, but come near to."""

    images: pl.DataFrame
    """image_id, patient_id, part ("val" or "test" where there are two, else ""), and each finding (Boolean)."""

    scored_part: str
    """The part that runs are scored on."""

    release: str = ""
    """The label release of NIH that its counts are of; "unknown" where of none, "" where it is no release."""

    @property
    def scored(self) -> pl.DataFrame:
        """The images that runs are scored on."""
        return self.images.filter(pl.col("part") == self.scored_part)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over who has what among the images that are scored."""
        return labels_digest(self.scored, self.findings)


@dataclass(frozen=True)
class Truths:
    """What two say of the same images."""

    nih: NDArray[np.float32]
    """(N, F) what NIH's labels say of each finding: 1, 0, or NaN where it is not known."""

    source: NDArray[np.float32]
    """(N, F) what the source says."""

    clusters: NDArray[np.intp]
    """(N,) the number of each image's patient, from 0."""


@dataclass(frozen=True)
class Aligned:
    """One model's scores of a source's findings beside both truths, for the images that both know."""

    findings: LabelSet
    """What the columns are of."""

    scores: NDArray[np.floating]
    """(N, F) probabilities."""

    truths: Truths
    """Of the same images; of NIH's labels, those that the run was evaluated with."""


def read_source(name: str, raw: Path) -> LabelSource:
    """Return the labels called `name`, nih-2017 or google2019; raw: a folder with their file, or the file.

    Raises UserError for another name, a file that is not there, and one that is not what it should be.
    """
    if name not in (NIH_2017, GOOGLE_2019):
        if name == NIH:
            raise UserError(
                "--labels nih: those are the labels that every run is evaluated with",
                remedy=f"name what to hold them against: {NIH_2017} or {GOOGLE_2019}",
            )
        raise registry.unknown("label source", name, NAMES, own="")
    if not raw.exists():
        raise UserError(
            f"{raw}: there is no such folder or file", remedy="name the folder of the NIH download by --raw"
        )
    return _nih_2017(raw) if name == NIH_2017 else _google_2019(raw)


def _google_2019(raw: Path) -> LabelSource:
    path = adjudicated.path_in(raw) if raw.is_dir() else raw
    return LabelSource(
        name=GOOGLE_2019,
        title="the adjudicated labels",
        heading=("Adjudicated", "labels"),
        file=path,
        findings=replace(ADJUDICATED, labels=tuple(_ADJUDICATED), averaged=()),
        made_of=_ADJUDICATED,
        proxies=_PROXIES,
        images=adjudicated.read(path),
        scored_part="test",
    )


def _nih_2017(raw: Path) -> LabelSource:
    file = ENTRY_FILES[1]
    path = find_table(raw, (file,)) if raw.is_dir() else raw
    if path is None:
        raise UserError(
            f"{raw}: no {file} here, so there are no labels of 2017",
            remedy=f"put {file} of an early download into this folder; NIH has since replaced it by {ENTRY_FILES[0]}",
        )
    entries = read_entries(path)
    lists = roster.read().select("image_id", "official")
    release = label_release(entries.join(lists, on="image_id", how="left"))
    if release == "v2020":
        raise UserError(
            f"{path}: holds the labels of release v2020, not those of 2017",
            remedy="take the file of an early download: its test images have 477 positives of Pneumonia, not 555",
        )
    return LabelSource(
        name=NIH_2017,
        title="the labels of 2017",
        heading=("Labels", "of 2017"),
        file=path,
        findings=CHESTXRAY14,
        made_of={label: (label,) for label in CHESTXRAY14.labels},
        proxies=(),
        images=entries.select("image_id", "patient_id", pl.lit("").alias("part"), *CHESTXRAY14.labels),
        scored_part="",
        release=release,
    )


def align(
    images: pl.DataFrame,
    score_NL: NDArray[np.floating],
    truth_NL: NDArray[np.float32],
    labels: LabelSet,
    source: LabelSource,
) -> Aligned:
    """Return a model's scores beside both truths, for those of its images that the source has.

    images: image_id and patient_id of the rows; truth_NL: 1, 0, or NaN. Findings that no label of `labels` stands for
    are left out, the mean, too, where it would be over fewer of them.
    """
    findings = _without(
        source.findings, {name for name, of in source.made_of.items() if not set(of) <= set(labels.labels)}
    )
    rows = images.select("image_id", "patient_id").with_row_index("row")
    both = rows.join(source.scored.drop("patient_id"), on="image_id", maintain_order="left")
    row_N = both["row"].to_numpy()
    columns = [[labels.labels.index(label) for label in source.made_of[name]] for name in findings.labels]
    return Aligned(
        findings=findings,
        scores=_stacked([any_of_scores(score_NL[row_N][:, place]) for place in columns], len(both)),
        truths=Truths(
            nih=_stacked([any_of_truth(truth_NL[row_N][:, place]) for place in columns], len(both)),
            source=_numbers(both, findings.labels),
            clusters=_numbered(both["patient_id"]),
        ),
    )


def _without(findings: LabelSet, absent: set[str]) -> LabelSet:
    if not absent:
        return findings
    averaged = () if absent & set(findings.averaged) else findings.averaged
    return replace(findings, labels=tuple(name for name in findings.labels if name not in absent), averaged=averaged)


def _stacked(columns: list[NDArray[np.floating]], rows: int) -> NDArray[np.floating]:
    return np.stack(columns, axis=1) if columns else np.empty((rows, 0), np.float32)


def any_of_scores(score_NK: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probability of any of several labels, as if they were independent: 1 - (1 - p)(1 - q)...; shape (N,).

    One label keeps its very score: rounding would make ties, and ties move an AUC.
    """
    exact_NK = np.asarray(score_NK, np.float64)
    if exact_NK.shape[1] == 1:
        return np.asarray(exact_NK[:, 0])
    with np.errstate(divide="ignore"):  # log(1 - 1) is minus infinity, whose share is 1, as it must be
        return np.asarray(-np.expm1(np.log1p(-exact_NK).sum(axis=1)))


def any_of_truth(truth_NK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return whether an image has any of several labels: NaN where none is known to be there and one is not known."""
    none_N = (truth_NK < 0.5).all(axis=1)  # NaN compares as False
    return np.where((truth_NK > 0.5).any(axis=1), 1, np.where(none_N, 0, np.nan)).astype(np.float32)


def both_truths(records: pl.DataFrame, source: LabelSource, *, everywhere: bool = True) -> Truths:
    """Return what NIH's labels and the source say of its images that `records` has, whatever any model says.

    records: image_id and NIH's labels (Boolean; null: not known). everywhere: of both parts, not only the scored one.
    """
    images = source.images if everywhere else source.scored
    both = images.join(records.select("image_id", *CHESTXRAY14.labels), on="image_id", suffix=_OF_NIH)
    own = {label: label + _OF_NIH if label in source.findings.labels else label for label in CHESTXRAY14.labels}
    return Truths(
        nih=np.stack([any_of_truth(_numbers(both, [own[label] for label in of])) for of in source.made_of.values()], 1),
        source=_numbers(both, source.findings.labels),
        clusters=_numbered(both["patient_id"]),
    )


def _numbers(frame: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.float32]:
    return frame.select(pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in columns).to_numpy()


def _numbered(patients: pl.Series) -> NDArray[np.intp]:
    return np.unique(patients.to_numpy(), return_inverse=True)[1].astype(np.intp)
