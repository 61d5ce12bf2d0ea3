"""Where a run stands among the published results on the official split, by mean AUC as printed."""

from __future__ import annotations

from collections import Counter
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

    above: tuple[Work, ...]
    """The next that is higher; none of them for the first."""

    level: tuple[Work, ...]
    """Those that are equal."""

    below: tuple[Work, ...]
    """The next that is lower; none of them for the last."""


def place(mean: float, published: Sequence[Work]) -> Place:
    """Return the place of a mean among results of which each has one, both rounded to the digits that are printed."""
    by_mean = works.ranked(published)
    higher = [work for work in by_mean if _printed(work.mean) > _printed(mean)]
    level = [work for work in by_mean if _printed(work.mean) == _printed(mean)]
    lower = by_mean[len(higher) + len(level) :]
    return Place(len(higher) + 1, tuple(higher[-1:]), tuple(level), tuple(lower[:1]))


def _printed(mean: float | None) -> float:
    assert mean is not None, "comparable results have a mean"
    return float(f"{mean:.{DECIMALS}f}")


def rank_table(runs: Sequence[tuple[str, Run]], label_release: str) -> Table | None:
    """Return the rank of each run that has a mean AUC; None where none has.

    runs: those that compare, each behind what tells it from others of its name, which stands in the table where there
    are any. label_release: of the labels that they are tested by.
    """
    published = works.comparable()
    names = Counter(run.name for _, run in runs)
    rows = tuple(
        _row(f"{run.name}, {words}" if words and names[run.name] > 1 else run.name, run, mean, published, label_release)
        for words, run in runs
        if (mean := run.auc()) is not None and mean.value is not None
    )
    if not rows:
        return None
    columns = (
        Column("average", ("Average",), own=True),
        Column("rank", ("Rank", f"of {len(published) + 1}"), own=True),
        Column("in its interval", ("In its", "interval"), own=True),
        Column("neighbours", ("Neighbours",), left=True),
    )
    title = "Rank among published results on the official split, by average AUC"
    return Table(title, "Run", columns, rows, tuple(_notes(published, label_release)), "rank")


def _row(name: str, run: Run, mean: Metric, published: Sequence[Work], label_release: str) -> Row:
    assert mean.value is not None
    found = place(mean.value, published)
    values = {"rank": found.rank, "results": len(published) + 1}
    tie = "=" * bool(found.level)
    near = [
        f"{word}: {', '.join(_named(work, label_release) for work in of_word)}"
        for word, of_word in (("above", found.above), ("level", found.level), ("below", found.below))
        if of_word
    ]
    cells = (
        Cell(f"{mean.value:.{DECIMALS}f}", {"auc": mean.value}),
        Cell(f"{found.rank}{tie}", values),
        _within(mean, published),
        Cell("; ".join(near)),
    )
    return Row("", f"{name} {shown(run_marks(run))}".rstrip(), cells)


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
        "Read ranks with care. Of these results, selected on the test set by their released code (S): "
        f"{count[TEST_SELECTED]}; pretrained on this data set's images (P): {count[SAW_DATA_SET]}, and not known: "
        f"{not_known}; tested by other labels (L): {count[OTHER_LABELS]}",
        "In its interval: how many published averages lie in the run's own 95 % interval. The intervals of published "
        "results are not known, and neither is whether they differ from the run by more than chance",
        *mark_notes(mark for found in marks for mark in found),
    ]
