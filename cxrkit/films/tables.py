"""Scores of films as tables: one film in detail, a few side by side, many with what stands out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.labels import LabelSet
from cxrkit.base.origin import Origin
from cxrkit.base.words import count
from cxrkit.films.meaning import Meaning
from cxrkit.report.document.tables import EMPTY, ROUGHLY, Cell, Column, Report, Row, Table, heading_lines
from cxrkit.runs.scores import SubsetScores
from cxrkit.statistics.intervals import APPROXIMATE, FEW_PATIENTS

RESEARCH = "Research output of a network that was trained on one data set; not for clinical use."
DOUBTFUL = "!"  # marks a film that is probably no frontal chest film
SIDE_BY_SIDE = 6  # films that have a column each
_AUC = "auc"
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

    verdict: str = ""
    """What it probably is where that is no frontal chest film, with the reason."""

    @property
    def marked(self) -> str:
        """Its name, with the mark of a verdict."""
        return f"{DOUBTFUL} {self.name}" if self.verdict else self.name

    @property
    def said(self) -> tuple[str, ...]:
        """The verdict, where there is one, and the warnings."""
        return (self.verdict, *self.warnings) if self.verdict else self.warnings


def report(
    scored: Sequence[Scored],
    failed: Sequence[tuple[str, str]],
    labels: LabelSet,
    meanings: Mapping[str, Meaning],
    *,
    title: str,
    notes: Sequence[str],
) -> Report:
    """Return the tables of films: warnings first, then scores, and what could not be read."""
    tables = []
    if warned := [(item.marked, text) for item in scored for text in item.said]:
        tables.append(_texts("Before you read the scores", "What was found", warned, "warnings", _doubted(scored)))
    if len(scored) == 1:
        tables.append(_one(scored[0], labels, meanings))
    elif len(scored) <= SIDE_BY_SIDE and scored:
        tables.append(_few(scored, labels, meanings))
    elif scored:
        tables.append(_many(scored, labels, meanings))
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


def trained_and_tested(origin: Origin, test: SubsetScores | None) -> str:
    """Return on how many images a network was trained, and how well it does on its test images, in one line.

    test: None where no scores of this network are there.
    """
    trained = "Trained on a number of images that is not known"
    if origin.train_images:
        of = f"of {origin.train_subset_images:,} training images"
        trained = f"Trained on {origin.train_images:,} {of}" if not origin.complete else f"Trained on all {of[3:]}"
    if test is None:
        return f"{trained}; no scores of test images are there: see cxrkit evaluate"
    mean = test.metric(_AUC)
    if mean is None or mean.value is None:
        return f"{trained}; no mean AUC on its test images"
    tested = f"{'its' if test.complete else f'{test.images:,} of'} {count(test.subset_images, 'test image')}"
    how = f"no interval: {mean.interval}" if mean.interval else "no interval"
    if mean.lower is not None and mean.upper is not None:
        how = f"{ROUGHLY * (mean.mark == APPROXIMATE)}[{mean.lower:.3f}, {mean.upper:.3f}]"
    return f"{trained}; mean AUC on {tested} {mean.value:.3f} ({how})"


def _score(value: float, meaning: Meaning | None) -> Cell:
    if np.isnan(value):
        return EMPTY
    at_least = reached(value, meaning)
    return Cell(f"{value:.3f}{' +' if at_least else '  ' if meaning else ''}", {"score": float(value)}, bold=at_least)


def _notes(labels: LabelSet, meanings: Mapping[str, Meaning], *, detailed: bool) -> tuple[str, ...]:
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
    few = [
        f"{labels.heading(label)} ({meanings[label].few})"
        for label in order(labels)
        if label in meanings and meanings[label].few
    ]
    if few:
        notes.append(
            f"{ROUGHLY}: a threshold of fewer than {FEW_PATIENTS} patients of val, by their number: {', '.join(few)}"
        )
    return tuple(notes)


def _doubted(scored: Sequence[Scored]) -> tuple[str, ...]:
    if not any(film.verdict for film in scored):
        return ()
    return (f"{DOUBTFUL}: where this verdict is right, the scores and maps mean nothing, however clear they look",)


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
    return Table(
        f"Scores of {film.marked}", "Finding", tuple(columns), _rows(labels, cells),
        _notes(labels, meanings, detailed=True), key="scores",
    )  # fmt: skip


def _meant(score: float, meanings: Mapping[str, Meaning], label: str) -> tuple[Cell, ...]:
    if not meanings:
        return ()
    meaning = meanings.get(label)
    if meaning is None or np.isnan(score):
        return (EMPTY,) * 5
    return (
        Cell(f"{100 * meaning.rank(score):.0f}", {"above": meaning.rank(score)}),
        Cell(f"{100 * meaning.prevalence:.1f}", {"prevalence": meaning.prevalence}),
        _threshold(meaning),
        _share("sensitivity", meaning.sensitivity),
        _share("specificity", meaning.specificity),
    )


def _threshold(meaning: Meaning | None) -> Cell:
    if meaning is None or np.isnan(meaning.threshold):
        return EMPTY
    return Cell(f"{ROUGHLY * bool(meaning.few)}{meaning.threshold:.3f}", {"threshold": meaning.threshold})


def _share(name: str, value: float | None) -> Cell:
    return EMPTY if value is None else Cell(f"{100 * value:.0f}", {name: value})


def _few(scored: Sequence[Scored], labels: LabelSet, meanings: Mapping[str, Meaning]) -> Table:
    cells = {
        label: (
            *((_threshold(meanings.get(label)),) if meanings else ()),
            *(_score(float(film.scores[number]), meanings.get(label)) for film in scored),
        )
        for number, label in enumerate(labels.labels)
    }
    columns = [Column("threshold", ("Threshold",), ("threshold",))] if meanings else []
    columns += [Column(film.name, heading_lines(film.marked), ("score",), own=True) for film in scored]
    notes = _notes(labels, meanings, detailed=False)
    return Table("Scores", "Finding", tuple(columns), _rows(labels, cells), notes, key="scores")


def _many(scored: Sequence[Scored], labels: LabelSet, meanings: Mapping[str, Meaning]) -> Table:
    rows = []
    for film in scored:
        said = []
        for label in standing_out(film.scores, labels, meanings):
            value = float(film.scores[labels.labels.index(label)])
            if not np.isnan(value):
                text = _score(value, meanings.get(label)).text.strip()
                rough = ROUGHLY * (text.endswith("+") and bool(meanings[label].few))
                said.append(f"{labels.heading(label)} {text}{rough}")
        rows.append(Row("", film.marked, (Cell(", ".join(said)),)))
    by = "their place among the validation images' scores" if meanings else "score"
    columns = (Column("highest", (f"Highest {_HIGHEST}, by {by}",), left=True),)
    return Table("Scores", "Film", columns, tuple(rows), _notes(labels, meanings, detailed=False), key="scores")


def _texts(title: str, heading: str, lines: Sequence[tuple[str, str]], key: str, notes: tuple[str, ...] = ()) -> Table:
    rows = []
    before = None
    for name, text in lines:
        rows.append(Row("", "" if name == before else name, (Cell(text),)))
        before = name
    return Table(title, "Film", (Column(key, (heading,), left=True),), tuple(rows), notes, key=key)
