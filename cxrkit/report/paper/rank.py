"""Where a run stands among the published results on the official split, by mean AUC as printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cxrkit.base.contracts import Metric
from cxrkit.report.document.numbers import rounded
from cxrkit.report.document.tables import AVERAGE, EMPTY, Cell, Column, Row, Table
from cxrkit.report.evidence.cells import run_marks
from cxrkit.report.evidence.comparability import Verdict
from cxrkit.report.literature import works
from cxrkit.report.literature.marks import OTHER_LABELS, SAW_DATA_SET, TEST_SELECTED, mark_notes, marks_of
from cxrkit.report.literature.works import Work

DECIMALS = 3
SENTENCES = 3  # runs of which the place is said in words


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


def higher_than(mean: float, published: Sequence[Work]) -> int:
    """Return how many results are higher than a mean, both as printed."""
    return sum(_printed(work.mean) > _printed(mean) for work in published)


@dataclass(frozen=True)
class Around:
    """The published averages around a run's interval."""

    above: int
    """How many are higher than its upper bound."""

    within: tuple[Work, ...]
    """Those in it, best first."""

    below: int
    """How many are lower than its lower bound."""


def around(mean: Metric, published: Sequence[Work]) -> Around | None:
    """Return where published averages lie beside the interval of a mean; None where it has no interval."""
    lower, upper = mean.lower, mean.upper
    if lower is None or upper is None:
        return None
    known = [(work, work.mean) for work in works.ranked(published) if work.mean is not None]
    return Around(
        sum(value > upper for _, value in known),
        tuple(work for work, value in known if lower <= value <= upper),
        sum(value < lower for _, value in known),
    )


def _printed(mean: float | None) -> float:
    return float(_rounded(mean))


def _rounded(mean: float | None) -> str:
    assert mean is not None, "comparable results have a mean"
    return rounded(mean, DECIMALS)


def rank_table(runs: Sequence[tuple[str, Verdict]], label_release: str, also: Sequence[Work] = ()) -> Table | None:
    """Return the runs that have a mean AUC among the published results next to them; None where none has.

    runs: those that compare, each behind what tells it from others of its name, which stands in the table where there
    are any. label_release: of the labels that they are tested by. also: results to show wherever they stand.
    """
    published = works.comparable()
    found = [(words, verdict, verdict.run.auc()) for words, verdict in runs]
    means = [(words, verdict, mean) for words, verdict, mean in found if mean is not None and mean.value is not None]
    if not means:
        return None
    names = Counter(verdict.run.name for _, verdict, _ in means)
    own, said = [], []
    for words, verdict, mean in means:
        name = verdict.run.name
        told_apart = f"{name}, {words}" if words and names[name] > 1 else name
        own.append(_own_row(told_apart, verdict, mean, published))
        said.append((told_apart, mean))
    places = [place(mean.value, published) for *_, mean in means if mean.value is not None]
    near = dict.fromkeys(work for found in places for work in (*found.above, *found.level, *found.below))
    near |= dict.fromkeys(also)
    rows = [*own, *(_published_row(work, label_release) for work in near)]
    rows.sort(key=lambda row: -_printed(row.cells[1].values["auc"]))  # of equal ones the runs stay first
    columns = (
        Column("whose", ("From",), left=True),
        Column(AVERAGE, ("Average",), ("auc",)),
        Column("rank", ("Rank", f"of {len(published) + 1}"), ("rank", "results")),
        Column("above, in, below its interval", ("Above/in/", "below CI"), ("above", "within", "below")),
        Column("marks", ("Marks",), left=True),
    )
    title = "Rank among published results on the official split, by average AUC"
    said.sort(key=lambda item: -(item[1].value or 0))
    notes = (*_sentences(said, published), *_notes(published, label_release))
    return Table(title, "Result", columns, _ruled(rows, published), notes, "rank", rows_are_runs=True)


def _own_row(name: str, verdict: Verdict, mean: Metric, published: Sequence[Work]) -> Row:
    assert mean.value is not None
    found = place(mean.value, published)
    values = {"rank": found.rank, "results": len(published) + 1}
    cells = (
        Cell("this work"),
        Cell(_rounded(mean.value), {"auc": mean.value}, bold=True),
        Cell(f"{found.rank}{'=' * bool(found.level)}", values, bold=True),
        _around_cell(mean, published),
        Cell(", ".join(run_marks(verdict.run)) or "-"),
    )
    return Row(name, name, cells, own=True, doubts=verdict.doubts)


def _published_row(work: Work, label_release: str) -> Row:
    marks = ", ".join(marks_of(work, label_release)) or "-"
    mean = Cell(_rounded(work.mean), {"auc": work.mean})
    cells = (Cell("published"), mean, EMPTY, EMPTY, Cell(marks))
    return Row(work.key, work.key, cells, cite=work.key)


def _ruled(rows: Sequence[Row], published: Sequence[Work]) -> tuple[Row, ...]:
    """Return the rows with a gap wherever published results that stand between two of them are left out."""
    order = {work.key: number for number, work in enumerate(published)}
    ruled: list[Row] = []
    last = -1
    for row in rows:
        number = order.get(row.heading, last) if row.cells[0].text == "published" else last
        ruled.append(replace(row, rule_above=bool(ruled) and number > last + 1))
        last = max(last, number)
    return tuple(ruled)


def _around_cell(mean: Metric, published: Sequence[Work]) -> Cell:
    found = around(mean, published)
    if found is None:
        return EMPTY
    counts = {"above": found.above, "within": len(found.within), "below": found.below}
    return Cell("/".join(map(str, counts.values())), counts)


def _sentences(runs: Sequence[tuple[str, Metric]], published: Sequence[Work]) -> list[str]:
    """Return for the best runs a sentence that may be quoted, and which results lie in the interval."""
    notes = [note for name, mean in runs[:SENTENCES] for note in _sentence(name, mean, published)]
    if len(runs) > SENTENCES:
        notes.append(f"In words the {SENTENCES} best runs alone; the others stand in the table")
    return notes


def _sentence(name: str, mean: Metric, published: Sequence[Work]) -> list[str]:
    assert mean.value is not None
    found, beside = place(mean.value, published), around(mean, published)
    rank = f"ranks {_ordinal(found.rank)}{' (shared)' * bool(found.level)} of {len(published) + 1}"
    among = f"itself and {len(published)} published results on the official split"
    if beside is None:
        return [f"The mean AUC of {name}, {_rounded(mean.value)}, {rank}: {among}; it has no confidence interval"]
    interval = f"(95 % CI {mean.lower:.3f} to {mean.upper:.3f})"
    within = len(beside.within)
    counts = f"{within} published {'average lies' if within == 1 else 'averages lie'} within its interval"
    sentence = (
        f"The mean AUC of {name}, {_rounded(mean.value)} {interval}, {rank}: {among}; {counts}, {beside.above} above "
        f"and {beside.below} below it. Published averages come without an interval and were not tested against it"
    )
    listed = ", ".join(f"{work.key} {_rounded(work.mean)}" for work in beside.within)
    return [sentence, *[f"Within the interval of {name}: {listed}"] * bool(listed)]


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _notes(published: Sequence[Work], label_release: str) -> list[str]:
    marks = [marks_of(work, label_release) for work in published]
    count = {mark: sum(mark in found for found in marks) for mark in (TEST_SELECTED, SAW_DATA_SET, OTHER_LABELS)}
    not_known = sum(work.pretrained.this_data_set == "unknown" for work in published)
    return [
        f"Rank: of the run by itself among the {len(published)} published results that name the official split and "
        "give an average (`cxrkit literature`), by the average as printed here; =: as high as a published one. "
        "Shown are those next to the runs; at a line some are left out",
        "Read ranks with care. Of these results, selected on the test set by their released code (S): "
        f"{count[TEST_SELECTED]}; pretrained on this data set's images (P): {count[SAW_DATA_SET]}, and not known: "
        f"{not_known}; tested by other labels (L): {count[OTHER_LABELS]}",
        "Above/in/below CI: how many published averages lie above, in and below the run's own 95 % interval. Those of "
        "published results are not known, and neither is whether they differ from the run by more than chance",
        *mark_notes(mark for found in marks for mark in found),
    ]
