"""Tables of a data set beyond the paper's: the subsets of a split, and how labels and images are spread."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from cxrkit.base.labels import LabelSet
from cxrkit.datasets.splits import Split
from cxrkit.report.data import cohort_counts
from cxrkit.report.data.cohort_counts import Counts, LabelCount
from cxrkit.report.document.tables import EMPTY, Cell, Column, Row, Table


def percent_cell(share: float | None, decimals: int = 2) -> Cell:
    """Return a share as per cent; "-" for None."""
    return EMPTY if share is None else Cell(f"{100 * share:.{decimals}f}", {"percent": 100 * share})


def count_cell(number: int, name: str = "images") -> Cell:
    """Return a number of images, or of what `name` says."""
    return Cell(f"{number:,}", {name: number})


def subsets_table(split: Split, counts: Mapping[str, Counts]) -> Table:
    """Return who is in each subset of a split, and in the whole data set."""

    def row(name: str, cells: Mapping[str, Cell], rule: bool = False) -> Row:
        return Row(name, name, tuple(cells[subset] for subset in counts), rule)

    def years(item: Counts) -> Cell:
        if item.age_mean is None or item.age_sd is None:
            return EMPTY
        return Cell(f"{item.age_mean:.1f} ± {item.age_sd:.1f}", {"mean": item.age_mean, "sd": item.age_sd})

    def share(item: Counts, values: Mapping[str, int], of: str) -> Cell:
        return percent_cell(values[of] / total if (total := sum(values.values())) else None, 1)

    def ratio(item: Counts) -> Cell:
        return Cell(f"{item.images / item.patients:.2f}", {"mean": item.images / item.patients})

    rows = (
        row("Images", {name: count_cell(item.images) for name, item in counts.items()}),
        row("Patients", {name: count_cell(item.patients, "patients") for name, item in counts.items()}),
        row("Images a patient, mean", {name: ratio(item) for name, item in counts.items()}),
        row("Images a patient, most", {name: count_cell(item.most_images) for name, item in counts.items()}),
        row("Male, % of images", {name: share(item, item.sex, "M") for name, item in counts.items()}, True),
        row("AP, % of images", {name: share(item, item.view, "AP") for name, item in counts.items()}),
        row("Age, mean ± SD, years", {name: years(item) for name, item in counts.items()}),
    )
    fields = ("images", "patients", "mean", "sd", "percent")
    columns = tuple(Column(name, (name,), fields, own=True) for name in counts)
    return Table(
        f"Subsets of split {split.name}", "Of each subset", columns, rows, tuple(_split_notes(split)), "subsets"
    )


def _split_notes(split: Split) -> list[str]:
    if split.name != "official":
        return []
    return [
        "test: the data set's own list; train and val: its other list, an eighth of whose images validates, by patient"
    ]


def positives_table(split: Split, counts: Mapping[str, Counts], labels: LabelSet) -> Table:
    """Return how many images, and patients, of each subset have each label."""

    def cell(found: LabelCount) -> Cell:
        numbers = {"images": found.positive, "patients": found.positive_patients}
        return Cell(f"{found.positive:,} ({found.positive_patients:,})", numbers)

    rows = _label_rows(
        labels, {label: [cell(item.labels[label]) for item in counts.values()] for label in labels.labels}
    )
    columns = tuple(Column(f"{name} positive", (name,), ("images", "patients"), own=True) for name in counts)
    title = f"Positive images (patients) in split {split.name}"
    return Table(title, "Pathology", columns, rows, (), "positives")


def prevalence_table(split: Split, counts: Mapping[str, Counts], labels: LabelSet) -> Table:
    """Return the share of each subset that has each label, and how it shifts from validation to test."""
    cells = {}
    for label in labels.labels:
        shares = {name: item.labels[label].prevalence for name, item in counts.items()}
        val, test = shares["val"], shares["test"]
        ratio = Cell(f"{test / val:.2f}", {"ratio": test / val}) if test is not None and val else EMPTY
        cells[label] = [*map(percent_cell, shares.values()), ratio]
    columns = (
        *(Column(f"{name} prevalence", (name, "%"), ("percent",), own=True) for name in counts),
        Column("test / val", ("test /", "val"), ("ratio",), own=True),
    )
    note = (
        "A ratio away from 1 is a shift: thresholds and calibration that fit the validation images do not fit the test "
        "images, and average precisions of the two do not compare"
    )
    title = f"Prevalence in split {split.name}"
    return Table(title, "Pathology", columns, _label_rows(labels, cells), (note,), "prevalence")


def _label_rows(labels: LabelSet, cells: Mapping[str, list[Cell]]) -> tuple[Row, ...]:
    first_beside = (*labels.beside, "")[0]
    order = (*labels.averaged, *labels.beside)
    return tuple(Row(label, labels.heading(label), tuple(cells[label]), label == first_beside) for label in order)


def labels_an_image_table(groups: Mapping[str, pl.DataFrame], pathologies: tuple[str, ...]) -> Table:
    """Return how many images have none, one, two, ... of the pathologies."""
    found = {name: cohort_counts.labels_an_image(frame, pathologies) for name, frame in groups.items()}
    rows = []
    for number in range(max(map(len, found.values()))):
        counts = {name: int(items[number]) if number < len(items) else 0 for name, items in found.items()}
        shares = [percent_cell(counts[name] / max(len(groups[name]), 1)) for name in groups]
        rows.append(Row(f"{number} labels", f"{number}", (count_cell(counts["all"]), *shares)))
    columns = (
        Column("images by labels", ("Images",), ("images",), own=True),
        *(Column(f"{name} share by labels", (name, "%"), ("percent",), own=True) for name in groups),
    )
    note = f"Of {len(pathologies)} labels; an image with none has no finding, or one that is not among them"
    return Table("Images by number of findings", "Findings", columns, tuple(rows), (note,), "labels-an-image")


def images_a_patient_table(groups: Mapping[str, pl.DataFrame]) -> Table:
    """Return how many patients have how many images."""
    found = {name: cohort_counts.images_a_patient(frame) for name, frame in groups.items()}
    bounds = cohort_counts.PATIENT_BOUNDS
    rows = []
    for number, (low, high) in enumerate(zip(bounds, (*bounds[1:], None), strict=True)):
        heading = f"{low} or more" if high is None else f"{low}" if high == low + 1 else f"{low} to {high - 1}"
        patients = [count_cell(int(found[name][0][number]), "patients") for name in groups]
        rows.append(Row(f"{heading} images", heading, (*patients, count_cell(int(found["all"][1][number])))))
    columns = (
        *(Column(f"{name} by images", (name,), ("patients",), own=True) for name in groups),
        Column("their images", ("their", "images"), ("images",), own=True),
    )
    return Table("Patients by their number of images", "Images", columns, tuple(rows), (), "images-a-patient")


def together_table(frame: pl.DataFrame, labels: LabelSet, pathologies: tuple[str, ...]) -> Table:
    """Return, for each label, the share of its images that have each other label: columns are numbered as the rows."""
    both = cohort_counts.together(frame, pathologies)
    rows = []
    for one, label in enumerate(pathologies):
        cells = [
            EMPTY
            if one == other or not both[one, one]
            else Cell(
                f"{100 * both[one, other] / both[one, one]:.0f}",
                {"images": int(both[one, other]), "percent": float(100 * both[one, other] / both[one, one])},
            )
            for other in range(len(pathologies))
        ]
        rows.append(Row(label, f"{one + 1} {labels.heading(label)}", tuple(cells)))
    columns = tuple(
        Column(f"with {label}", (f"{number}",), ("images", "percent"), own=True)
        for number, label in enumerate(pathologies, 1)
    )
    note = "Of the images with the label of the row, per cent that have the label of the column, too"
    return Table("Labels that come together", "Pathology", columns, tuple(rows), (note,), "co-occurrence")
