"""Runs that must not stand in a comparison: shown all the same, apart, each with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cxrkit.evaluators.results import LabelScore, MeanScore
from cxrkit.report.runs import Run
from cxrkit.report.tables import AVERAGE, Cell, Column, Row, Table, heading_lines, label_rows

# Runs side by side in a table of their numbers; a page of text has no room for more.
SIDE_BY_SIDE = 4


def score_cells(run: Run, *, uncertainty: bool = False) -> dict[str, Cell]:
    """Return the run's test scores by row key, three decimals; an undefined AUC is "n/a" with the reason.

    uncertainty: print the interval too, or how few positives or negatives there are where no interval could be made.
    """
    scores: dict[str, LabelScore | MeanScore] = {**run.test.labels, AVERAGE: run.test.mean}
    return {key: _score_cell(score, uncertainty) for key, score in scores.items()}


def _score_cell(score: LabelScore | MeanScore, uncertainty: bool) -> Cell:
    values: dict[str, float | int | None] = {"auc": score.auc, "lower": score.lower, "upper": score.upper}
    if isinstance(score, LabelScore):
        values["positives"] = score.positives
    if score.auc is None:
        return Cell(f"n/a ({score.reason})", values)
    text = f"{score.auc:.3f}"
    if score.reason:
        text += f" ({score.reason})"
    if uncertainty and score.lower is not None:
        text += f" [{score.lower:.3f}, {score.upper:.3f}]"
    elif uncertainty and isinstance(score, LabelScore):
        rarer = min((score.positives, "positive"), (score.negatives, "negative"))
        text += f" ({rarer[0]} {rarer[1]}{'s' if rarer[0] > 1 else ''})"
    return Cell(text, values)


def apart_tables(apart: Iterable[tuple[Run, list[str]]], detailed: Callable[[Run], bool]) -> Iterator[Table]:
    """Yield a table that names each run with its reasons, then the numbers of those that are `detailed`."""
    apart = list(apart)
    if not apart:
        return
    yield _reasons_table(apart)
    shown = [(run, reasons) for run, reasons in apart if detailed(run)]
    for start in range(0, len(shown), SIDE_BY_SIDE):
        group = shown[start : start + SIDE_BY_SIDE]
        which = f" ({start // SIDE_BY_SIDE + 1})" if len(shown) > SIDE_BY_SIDE else ""
        columns = [
            Column(
                name=f"not comparable ({'; '.join(reasons)}): {run.name} {run.split}",
                heading=(*heading_lines(run.name), run.split),
                fields=("auc", "lower", "upper", "positives"),
                own=True,
            )
            for run, reasons in group
        ]
        yield Table(
            f"Not comparable: their numbers{which}",
            "Pathology",
            tuple(columns),
            label_rows(score_cells(run, uncertainty=True) for run, _ in group),
        )


def _reasons_table(apart: list[tuple[Run, list[str]]]) -> Table:
    heads = ("Split", "Test images", "Average")
    columns = [Column(head, (head,), own=True) for head in heads]
    rows = []
    for run, reasons in apart:
        cells = score_cells(run)
        test = run.test
        images = f"{test.images:,}" if test.complete else f"{test.images:,} of {test.subset_images:,}"
        texts = (run.split, images, cells[AVERAGE].text, "; ".join(reasons))
        rows.append(Row("", run.name, tuple(map(Cell, texts))))
    return Table(
        "Not comparable: runs kept out of the comparison",
        "Run",
        (*columns, Column("why", ("Why",), left=True)),
        tuple(rows),
    )
