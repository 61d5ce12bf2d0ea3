"""Scores of films as tables: one film in detail, a few side by side, many with what stands out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.labels import LabelSet
from cxrkit.films.meaning import Meaning
from cxrkit.report.document.tables import EMPTY, Cell, Column, Report, Row, Table, heading_lines
from cxrkit.statistics.intervals import FEW_PATIENTS

RESEARCH = "Research output of a network that was trained on one data set; not for clinical use."
SIDE_BY_SIDE = 6  # films that have a column each
_HIGHEST = 3  # scores of a film among many


@dataclass(frozen=True)
class Scored:
    """One film with its scores."""

    name: str
    """The film's."""

    scores: NDArray[np.float32]
    """(L,) in the order of the labels; NaN where a label was not learned."""

    warnings: tuple[str, ...]
    """What should be known of it."""


def report(
    scored: Sequence[Scored],
    failed: Sequence[tuple[str, str]],
    labels: LabelSet,
    meanings: Mapping[str, Meaning],
    *,
    title: str,
    notes: Sequence[str],
) -> Report:
    """Return the tables of films: scores, warnings, and what could not be read."""
    tables = []
    if len(scored) == 1:
        tables.append(_one(scored[0], labels, meanings))
    elif len(scored) <= SIDE_BY_SIDE and scored:
        tables.append(_few(scored, labels, meanings))
    elif scored:
        tables.append(_many(scored, labels, meanings))
    warned = [(item.name, text) for item in scored for text in item.warnings]
    if warned:
        tables.append(_texts("Before you read the scores", "What was found", warned, "warnings"))
    if failed:
        tables.append(_texts("Not read", "Why", failed, "unread"))
    return Report(title, tuple(tables), tuple(notes), key="films", text=(RESEARCH,))


def order(labels: LabelSet) -> tuple[str, ...]:
    """Return the labels as tables list them."""
    return (*labels.averaged, *labels.beside)


def reached(score: float, meaning: Meaning | None) -> bool:
    """Return whether a score is at least its label's threshold."""
    return meaning is not None and bool(score >= meaning.threshold)  # NaN: never


def standing_out(scores: NDArray[np.float32], labels: LabelSet, meanings: Mapping[str, Meaning]) -> list[str]:
    """Return the averaged labels that stand out most: by the score's place among those of val, else by the score."""

    def place(label: str) -> float:
        score = float(scores[labels.labels.index(label)])
        meaning = meanings.get(label)
        return -1.0 if np.isnan(score) else meaning.rank(score) if meaning else score

    return sorted(labels.averaged or labels.labels, key=place, reverse=True)[:_HIGHEST]


def _score(value: float, meaning: Meaning | None) -> Cell:
    if np.isnan(value):
        return EMPTY
    at_least = reached(value, meaning)
    return Cell(f"{value:.3f}{' +' if at_least else '  ' if meaning else ''}", {"score": float(value)}, bold=at_least)


def _notes(meanings: Mapping[str, Meaning], *, detailed: bool) -> tuple[str, ...]:
    if not meanings:
        return ()
    images = max(meaning.images for meaning in meanings.values())
    notes = [
        f"+: at least the threshold with the highest Youden index (sensitivity + specificity - 1) on the {images:,} "
        "validation images"
    ]
    if detailed:
        notes += [
            "Above: the share of validation images with a lower score",
            "Sensitivity and specificity: of the validation images, on which the threshold was chosen, so they flatter",
        ]
    return tuple(notes)


def _rows(labels: LabelSet, cells: Mapping[str, tuple[Cell, ...]]) -> tuple[Row, ...]:
    first_beside = next(iter(labels.beside), None)
    return tuple(Row(key, labels.heading(key), cells[key], rule_above=key == first_beside) for key in order(labels))


def _one(film: Scored, labels: LabelSet, meanings: Mapping[str, Meaning]) -> Table:
    value = {label: float(score) for label, score in zip(labels.labels, film.scores, strict=True)}
    columns = [Column("score", ("Score",), ("score",), own=True)]
    if meanings:
        columns += [
            Column("above", ("Above", "% of val"), ("above",)),
            Column("prevalence", ("Prevalence", "% of val"), ("prevalence",)),
            Column("threshold", ("Threshold",), ("threshold",)),
            Column("sensitivity", ("Sens.", "%"), ("sensitivity",)),
            Column("specificity", ("Spec.", "%"), ("specificity",)),
        ]
    cells = {
        label: (_score(value[label], meanings.get(label)), *_meant(value[label], meanings, label)) for label in value
    }
    few = [
        f"{labels.heading(label)} ({meanings[label].few})"
        for label in order(labels)
        if label in meanings and meanings[label].few
    ]
    doubtful = (f"~: a threshold of fewer than {FEW_PATIENTS} patients of val, by their number: {', '.join(few)}",)
    return Table(
        f"Scores of {film.name}", "Finding", tuple(columns), _rows(labels, cells),
        (*_notes(meanings, detailed=True), *(doubtful if few else ())), key="scores",
    )  # fmt: skip


def _meant(score: float, meanings: Mapping[str, Meaning], label: str) -> tuple[Cell, ...]:
    if not meanings:
        return ()
    meaning = meanings.get(label)
    if meaning is None or np.isnan(score):
        return (EMPTY,) * 5
    threshold = EMPTY
    if not np.isnan(meaning.threshold):
        threshold = Cell(f"{'~' * bool(meaning.few)}{meaning.threshold:.3f}", {"threshold": meaning.threshold})
    return (
        Cell(f"{100 * meaning.rank(score):.0f}", {"above": meaning.rank(score)}),
        Cell(f"{100 * meaning.prevalence:.1f}", {"prevalence": meaning.prevalence}),
        threshold,
        _share("sensitivity", meaning.sensitivity),
        _share("specificity", meaning.specificity),
    )


def _share(name: str, value: float | None) -> Cell:
    return EMPTY if value is None else Cell(f"{100 * value:.0f}", {name: value})


def _few(scored: Sequence[Scored], labels: LabelSet, meanings: Mapping[str, Meaning]) -> Table:
    cells = {
        label: tuple(_score(float(film.scores[number]), meanings.get(label)) for film in scored)
        for number, label in enumerate(labels.labels)
    }
    columns = tuple(Column(film.name, heading_lines(film.name), ("score",), own=True) for film in scored)
    return Table("Scores", "Finding", columns, _rows(labels, cells), _notes(meanings, detailed=False), key="scores")


def _many(scored: Sequence[Scored], labels: LabelSet, meanings: Mapping[str, Meaning]) -> Table:
    rows = []
    for film in scored:
        said = []
        for label in standing_out(film.scores, labels, meanings):
            value = float(film.scores[labels.labels.index(label)])
            if not np.isnan(value):
                said.append(f"{labels.heading(label)} {_score(value, meanings.get(label)).text.strip()}")
        rows.append(Row("", film.name, (Cell(", ".join(said)),)))
    by = "their place among the validation images' scores" if meanings else "score"
    columns = (Column("highest", (f"Highest {_HIGHEST}, by {by}",), left=True),)
    return Table("Scores", "Film", columns, tuple(rows), _notes(meanings, detailed=False), key="scores")


def _texts(title: str, heading: str, lines: Sequence[tuple[str, str]], key: str) -> Table:
    rows = []
    before = None
    for name, text in lines:
        rows.append(Row("", "" if name == before else name, (Cell(text),)))
        before = name
    return Table(title, "Film", (Column(key, (heading,), left=True),), tuple(rows), key=key)
