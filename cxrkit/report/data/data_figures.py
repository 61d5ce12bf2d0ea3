"""Figures of a data set: the ages (the paper's Figure 3), prevalence by subset, labels that come together."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from cxrkit.base.labels import LabelSet
from cxrkit.report.data import cohort_counts
from cxrkit.report.data.cohort_counts import BIN_YEARS, Counts
from cxrkit.report.document.figures import Axis, Bars, Figure, Grid, Line, Panel

_SEXES = {"M": "Male", "F": "Female"}


def ages(frame: pl.DataFrame, whole: Counts) -> Figure:
    """Return the histogram of ages, of all images and by sex, in bins of two years."""
    known = frame.drop_nulls("age_years")
    lines = []
    caption = "No age is known."
    if whole.age_mean is not None and len(known):
        youngest, oldest = (int(known["age_years"].to_numpy().min()), int(known["age_years"].to_numpy().max()))
        youngest -= youngest % BIN_YEARS
        groups = {"All": known, **{name: known.filter(sex=sex) for sex, name in _SEXES.items()}}
        for name, group in groups.items():
            counts = cohort_counts.age_histogram(group, youngest, oldest)
            edges = [float(youngest + BIN_YEARS * number) for number in range(len(counts) + 1)]
            if counts.any():
                lines.append(Line(name, tuple(edges), (*map(float, counts), float(counts[-1])), steps=True))
        spread = "" if whole.age_sd is None else f", standard deviation {whole.age_sd:.2f}"
        caption = (
            f"Age of the patient, of {len(known):,} images, in bins of {BIN_YEARS} years: mean {whole.age_mean:.2f} "
            f"years{spread}."
        )
    panel = Panel("", tuple(lines), Axis("Age in years"), Axis("Images", low=0.0))
    return Figure("figure3", "Ages of the patients", caption, (panel,))


def prevalences(split: str, counts: Mapping[str, Counts], labels: LabelSet) -> Figure:
    """Return the prevalence of each label in the subsets of a split."""
    order = (*labels.averaged, *labels.beside)
    bars = tuple(
        Bars(name, tuple(_percent(item, label) for label in order)) for name, item in counts.items() if item.images
    )
    caption = f"Per cent of the images of each subset of split {split} that have the label."
    categories = tuple(map(labels.heading, order))
    panel = Panel("", bars, Axis("Prevalence in per cent", low=0.0), categories=categories, across="y")
    return Figure("prevalence", f"Prevalence in split {split}", caption, (panel,))


def _percent(item: Counts, label: str) -> float:
    share = item.labels[label].prevalence
    return float("nan") if share is None else 100 * share


def together(frame: pl.DataFrame, labels: LabelSet, pathologies: tuple[str, ...]) -> Figure:
    """Return the matrix of labels that come together, in per cent of the images with the label of the row."""
    both = cohort_counts.together(frame, pathologies)
    size = range(len(pathologies))
    values = [
        [
            float("nan") if one == other or not both[one, one] else 100 * both[one, other] / both[one, one]
            for other in size
        ]
        for one in size
    ]
    texts = tuple(tuple("" if value != value else f"{value:.0f}" for value in row) for row in values)
    grid = Grid(tuple(tuple(map(float, row)) for row in values), texts)
    caption = "Of the images with the label of the row, per cent that have the label of the column, too."
    categories = tuple(map(labels.heading, pathologies))
    return Figure("co-occurrence", "Labels that come together", caption, (Panel("", (grid,), categories=categories),))
