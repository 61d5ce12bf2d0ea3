"""Table 4 of Baltruschat et al. 2019: how alike the models' predictions are, by Spearman's rank correlation.

Of each label over the test images, averaged over the averaged labels, then over the folds; runs of several seeds by the
mean of all their pairs. The paper's low values of networks with non-image features look like rows that were not aligned
in some folds: here rows are aligned by image.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from cxrkit.base import manifests
from cxrkit.datasets.splits import resample, resample_number
from cxrkit.report.comparing.contenders import is_fold
from cxrkit.report.comparing.matrix import WRITTEN
from cxrkit.report.document.figures import Figure, Grid, Panel
from cxrkit.report.document.tables import EMPTY, Cell, Column, Number, Report, Row, Table
from cxrkit.report.evidence.comparability import Verdict, judge
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.variants import Variant, details, full_name, pool
from cxrkit.report.literature.published import of_the_paper
from cxrkit.report.paper.correlations import Pairs, of_pairs
from cxrkit.report.paper.official import SPLIT as OFFICIAL
from cxrkit.runs.epochs import ranges


@dataclass(frozen=True)
class Published4:
    """Table 4 as printed."""

    citation: str
    """Of the paper that prints it."""

    label_release: str
    """Of the labels that it was measured on."""

    folds: int
    """How many folds it is averaged over."""

    correlation: Mapping[tuple[str, str], float]
    """By the names of the networks that repeat the paper's, either one first."""

    models: tuple[str, ...]
    """Their names, in the paper's order."""


@cache
def published() -> Published4:
    """Return Table 4 from `table4.toml`."""
    table = manifests.read("published/table4.toml")
    models = tuple(table["models"])
    found = {
        (one, other): value
        for one, row in zip(models, table["correlation"], strict=True)
        for other, value in zip(models, row, strict=True)
        if one != other
    }
    return Published4(table["citation"], table["label_release"], table["folds"], found, models)


def table4(runs: Sequence[Run], opened: Opened) -> Report:
    """Return how alike the predictions of all models are: over the folds beside the paper, and on the official split.

    Only runs that the paper's tables would take stand in it; runs of another data set have a table of their own. A
    split counts for two models when both were tested on the same images. Raises UserError where the predictions or
    labels of a run are gone.
    """
    paper = published()
    tables: list[Table] = []
    figures: list[Figure] = []
    for models, where, beside in _groups(runs, paper):
        table, figure = _document(models, where, beside, opened, len(tables), runs)
        tables.append(table)
        figures.append(figure)
    nothing = "Table 4 takes two models or more that compare: on the official split, or on the same resampling folds"
    notes = [] if tables else [nothing]
    return Report("Rank correlation of predictions", tuple(tables), tuple(notes), tuple(figures), "table4")


def correlated(runs: Sequence[Run]) -> list[Run]:
    """Return the runs whose predictions `table4` asks for."""
    groups = _groups(runs, published())
    return [verdict.run for models, _, _ in groups for members in models.values() for verdict in members]


def _groups(
    runs: Sequence[Run], paper: Published4
) -> list[tuple[dict[Variant, list[Verdict]], str, Published4 | None]]:
    """Return for each table its models, where they were tested, and what the paper says, where it says it."""
    folds = tuple(map(resample, range(1, paper.folds + 1)))
    runs = [run for run in runs if run.has_auc and run.scores.labels.averaged]
    over = judge([run for run in runs if is_fold(run.split)], folds, paper.label_release)
    alone = judge([run for run in runs if run.split == OFFICIAL], (OFFICIAL,), paper.label_release)
    groups = (
        (_comparable(over), "resampling folds", paper),
        (_comparable(alone), "official split", None),
        *((group, f"resampling folds, {group[0].run.origin.dataset}", None) for group in _elsewhere(over)),
    )
    found = [(_models(verdicts), where, beside) for verdicts, where, beside in groups]
    return [group for group in found if len(group[0]) > 1]


def _comparable(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.comparable]


def _elsewhere(verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
    """Return the runs of other data sets, by what must be the same for them to stand in one table."""
    groups: dict[tuple[str, ...], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        origin = verdict.run.origin
        if verdict.elsewhere:
            groups[origin.dataset, origin.label_set, origin.labels_digest].append(verdict)
    return list(groups.values())


def _models(verdicts: Sequence[Verdict]) -> dict[Variant, list[Verdict]]:
    """Return the runs of each model, the paper's networks in the paper's order, before all others."""
    order = published().models
    pooled = pool(verdicts)
    place = {variant: order.index(variant.model) if variant.model in order else len(order) for variant in pooled}
    return dict(sorted(pooled.items(), key=lambda item: place[item[0]]))


def _document(
    models: Mapping[Variant, list[Verdict]],
    where: str,
    paper: Published4 | None,
    opened: Opened,
    number: int,
    among: Sequence[Run],
) -> tuple[Table, Figure]:
    words = details(models, {}, among)
    names = [full_name(variant, words[variant]) for variant in models]
    pairs = of_pairs([[verdict.run for verdict in members] for members in models.values()], opened)
    networks = [variant.model for variant in models]
    printed = {
        (one, other): paper.correlation.get((networks[one], networks[other]), math.nan) if paper else math.nan
        for one, other in pairs
    }
    labels = len(next(iter(models.values()))[0].run.scores.labels.averaged)
    key = f"table4-{number + 1}" if number else "table4"
    table = Table(
        f"Spearman's rank correlation between predictions, {where}"
        + f" ({of_the_paper('Table 4')})" * (paper is not None),
        "Model",
        tuple(
            Column(f"with {name}", (f"{rank}",), ("correlation", "folds", "paper"))
            for rank, name in enumerate(names, 1)
        ),
        tuple(_row(place, names, pairs, printed, paper) for place in range(len(names))),
        tuple(_notes(names, pairs, paper, labels)),
        key,
        rows_are_runs=True,
    )
    return table, _grid(names, pairs, where, key)


def _row(
    place: int,
    names: Sequence[str],
    pairs: Pairs,
    printed: Mapping[tuple[int, int], float],
    paper: Published4 | None,
) -> Row:
    """Return a model's row: beside the paper ours above the diagonal and the paper's below it, else ours alone."""
    cells = []
    for column in range(len(names)):
        if column == place:
            cells.append(EMPTY)
            continue
        pair = min(place, column), max(place, column)
        own = list(pairs[pair].values())
        mean = float(np.mean(own)) if own else math.nan
        values: dict[str, Number] = {
            "correlation": None if math.isnan(mean) else mean,
            "folds": len(own),
            "paper": None if math.isnan(printed[pair]) else printed[pair],
        }
        shown = printed[pair] if paper and column < place else mean
        cells.append(Cell(EMPTY.text if math.isnan(shown) else f"{shown:z.2f}", values))
    return Row(names[place], f"{place + 1} {names[place]}", tuple(cells), own=True)


def _notes(names: Sequence[str], pairs: Pairs, paper: Published4 | None, labels: int) -> list[str]:
    notes = [
        f"Of each label over the test images, aligned by name; the mean over the {labels} averaged labels"
        + (", then over the folds" if paper else "")
    ]
    if paper:
        notes.append(f"Above the diagonal: this work; below it: {paper.citation}, as printed there, over 5 folds")
        notes.append(
            "The low values printed there with non-image features (0.32 to 0.47) look like rows that were not aligned "
            "in some folds; they are no aim"
        )
    if any(math.isnan(value) for splits in pairs.values() for value in splits.values()):
        notes.append("-: one of the two has the same score for every image in some label, which has no rank")
    return notes + _folds_notes(names, pairs)


def _folds_notes(names: Sequence[str], pairs: Pairs) -> list[str]:
    """Say which folds entered the cells: those of most of them once, and each pair that has others."""
    entered = {pair: _said(tuple(splits)) for pair, splits in pairs.items()}
    said = list(entered.values())
    usual = max(dict.fromkeys(said), key=said.count)
    notes = [f"In each cell: {usual}"] * any(is_fold(split) for splits in pairs.values() for split in splits)
    by_text: dict[str, list[str]] = defaultdict(list)
    for (one, other), text in entered.items():
        if text != usual:
            by_text[text].append(f"{one + 1} and {other + 1}")
    return notes + [f"{text}: models {'; '.join(found)}" for text, found in by_text.items()]


def _said(splits: Sequence[str]) -> str:
    numbers = [number for split in splits if (number := resample_number(split)) is not None]
    if numbers:
        return f"fold{'s' * (len(numbers) > 1)} {ranges(numbers)}"
    return splits[0] if splits else "no split in common"


def _grid(names: Sequence[str], pairs: Pairs, where: str, key: str) -> Figure:
    value_QQ = np.full((len(names), len(names)), math.nan)
    for (one, other), splits in pairs.items():
        if splits:
            value_QQ[one, other] = value_QQ[other, one] = np.mean(list(splits.values()))
    rows = value_QQ.tolist()
    texts = tuple(tuple("" if math.isnan(value) else f"{value:z.2f}" for value in row) for row in rows)
    grid = Grid(tuple(map(tuple, rows)), texts if len(names) <= WRITTEN else ())
    caption = f"Spearman's rank correlation between the predictions of two models, mean over labels, {where}."
    return Figure(
        key, f"Rank correlation of predictions, {where}", caption, (Panel("", (grid,), categories=tuple(names)),)
    )
