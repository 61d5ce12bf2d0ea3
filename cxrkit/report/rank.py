"""Where a run stands among the published results on the official split, by mean AUC as printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cxrkit.base.contracts import Metric
from cxrkit.report import works
from cxrkit.report.marks import OTHER_LABELS, SAW_DATA_SET, TEST_SELECTED, mark_notes, marks_of, run_marks, shown
from cxrkit.report.runs import Run
from cxrkit.report.tables import EMPTY, Cell, Column, Row, Table
from cxrkit.report.works import Work

DECIMALS = 3


@dataclass(frozen=True)
class Place:
    """A mean AUC among published ones, all as printed."""

    rank: int
    """1 for the highest; equal ones share a rank."""

    above: Work | None
    """The lowest of those that are higher."""

    level: tuple[Work, ...]
    """Those that are equal."""

    below: Work | None
    """The highest of those that are lower."""


def place(mean: float, published: Sequence[Work]) -> Place:
    """Return the place of a mean among results of which each has one, both rounded to the digits that are printed."""
    by_mean = works.ranked(published)
    higher = [work for work in by_mean if _printed(work) > round(mean, DECIMALS)]
    level = [work for work in by_mean if _printed(work) == round(mean, DECIMALS)]
    lower = by_mean[len(higher) + len(level) :]
    return Place(len(higher) + 1, higher[-1] if higher else None, tuple(level), lower[0] if lower else None)


def _printed(work: Work) -> float:
    assert work.mean is not None, "comparable results have a mean"
    return round(work.mean, DECIMALS)


def rank_table(runs: Sequence[tuple[str, Run]], label_release: str) -> Table | None:
    """Return the rank of each run that has a mean AUC; None where none has.

    runs: name and run, of those that compare. label_release: of the labels that they are tested by.
    """
    published = works.comparable()
    rows = tuple(
        _row(f"{name} {shown(run_marks(run))}".rstrip(), mean, published, label_release)
        for name, run in runs
        if (mean := run.auc()) is not None and mean.value is not None
    )
    if not rows:
        return None
    columns = (
        Column("average", ("Average",), ("auc",), own=True),
        Column("rank", ("Rank", f"of {len(published) + 1}"), ("rank", "results"), own=True),
        Column("in its interval", ("In its", "interval"), ("within",), own=True),
        Column("neighbours", ("Neighbours",), left=True),
    )
    title = "Rank among published results on the official split, by average AUC"
    return Table(title, "Run", columns, rows, tuple(_notes(published, label_release)), "rank")


def _row(name: str, mean: Metric, published: Sequence[Work], label_release: str) -> Row:
    assert mean.value is not None
    found = place(mean.value, published)
    values = {"rank": found.rank, "results": len(published) + 1}
    tie = "=" * bool(found.level)
    near = [
        f"{word}: {_named(work, label_release)}"
        for word, work in (("above", found.above), ("below", found.below))
        if work is not None
    ]
    if found.level:
        near.insert(1 if found.above else 0, f"level: {', '.join(_named(work, label_release) for work in found.level)}")
    cells = (
        Cell(f"{mean.value:.{DECIMALS}f}", {"auc": mean.value}),
        Cell(f"{found.rank}{tie}", values),
        _within(mean, published),
        Cell("; ".join(near)),
    )
    return Row("", name, cells)


def _within(mean: Metric, published: Sequence[Work]) -> Cell:
    lower, upper = mean.lower, mean.upper
    if lower is None or upper is None:
        return EMPTY
    count = sum(lower <= work.mean <= upper for work in published if work.mean is not None)
    return Cell(f"{count}", {"within": count})


def _named(work: Work, label_release: str) -> str:
    return f"{work.key} {work.mean:.{DECIMALS}f} {shown(marks_of(work, label_release))}".rstrip()


def _notes(published: Sequence[Work], label_release: str) -> list[str]:
    marks = [marks_of(work, label_release) for work in published]
    count = {mark: sum(mark in found for found in marks) for mark in (TEST_SELECTED, SAW_DATA_SET, OTHER_LABELS)}
    not_known = sum(work.pretrained.this_data_set == "unknown" for work in published)
    return [
        f"Among the {len(published)} published results that name the official split and give an average "
        "(`cxrkit literature`), and the run itself; by the average as printed here, and = shares a rank",
        f"Read ranks with care: {count[TEST_SELECTED]} of these results were selected on the test set by their "
        f"released code (S), {count[SAW_DATA_SET]} were pretrained on this data set's images (P) and of {not_known} it "
        f"is not known, {count[OTHER_LABELS]} tested by other labels (L)",
        "In its interval: how many published averages lie in the run's own 95 % interval. The intervals of published "
        "results are not known, and neither is whether they differ from the run by more than chance",
        *mark_notes(mark for found in marks for mark in found),
    ]
