"""Runs of recipes beside what the recipes' authors published, where that was measured on another split.

Such numbers do not compare, so none is in bold and none has a rank; a reader still wants to see both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.report.document.numbers import rounded
from cxrkit.report.document.tables import AVERAGE, Cell, Column, Table, label_rows
from cxrkit.report.evidence.cells import run_heading
from cxrkit.report.evidence.variants import Variant, full_name
from cxrkit.report.literature import published, works
from cxrkit.report.literature.marks import OTHER_SPLIT, in_heading, mark_notes, marks_of
from cxrkit.report.literature.works import OFFICIAL, Work

_SPLITS = {
    OFFICIAL: "on NIH's official split",
    "unknown": "on a split that is not known",
    "ChestMNIST": "on the split of ChestMNIST",
}


def counterparts(
    own: Mapping[Variant, Mapping[str, Cell]],
    words: Mapping[Variant, tuple[str, ...]],
    beside: Collection[str],
    label_release: str,
    *,
    factor: int = 1,
) -> list[Table]:
    """Return a table of the runs whose authors published figures on another split, with these; none: no table.

    own: the cells of each column of a table. words: what its heading needs. beside: keys of the results that stand in
    that table already. factor: 1 for AUCs, 100 for AUC x 100 with one decimal, as in the table.
    """
    heads: list[Column] = []
    cells: list[Mapping[str, Cell]] = []
    notes: list[str] = []
    marks = [OTHER_SPLIT]
    for variant in own:
        repeated = works.repeated_by(variant.recipe)
        known = [work for work in repeated if work.key not in beside and work.mean is not None]
        if known:
            name = full_name(variant, words[variant])
            field = "auc" if factor == 1 else "auc_x100"
            heads.append(Column(name, run_heading(variant.name, words[variant], doubtful=False), (field,), own=True))
            cells.append(own[variant])
            for work in known:
                own_marks = (OTHER_SPLIT, *marks_of(work, label_release))
                paper = published.from_literature(work.key)
                heads.append(Column(paper.name, in_heading(paper.heading, own_marks), (field,), cite=work.key))
                cells.append(_published_cells(work, field, factor))
                notes.append(_note(work, variant))
                marks += own_marks
    if not heads:
        return []
    notes = [*dict.fromkeys(notes), *mark_notes(marks), f"Average: over the {len(CHESTXRAY14.averaged)} pathologies"]
    unit = "AUC" if factor == 1 else f"AUC x {factor}"
    title = f"{unit} beside what their authors published on another split"
    return [Table(title, "Pathology", tuple(heads), label_rows(cells, CHESTXRAY14), tuple(notes), "counterparts")]


def _published_cells(work: Work, field: str, factor: int) -> dict[str, Cell]:
    decimals = 3 if factor == 1 else 1
    values = {**work.by_label, AVERAGE: work.mean}
    return {
        label: Cell(rounded(auc, decimals, factor), {field: factor * auc})
        for label, auc in values.items()
        if auc is not None
    }


def _note(work: Work, variant: Variant) -> str:
    left_out = work.recipes[variant.recipe]
    labels = (
        "by labels of a release that is not known"
        if work.label_release == "unknown"
        else f"by labels of release {work.label_release}"
    )
    said = [f"{work.key}: {_SPLITS.get(work.split, f'on a {work.split} split')}", labels, f"from {work.source}"]
    return "; ".join((*said, *work.notes, *([f"{variant.recipe} repeats it {left_out}"] if left_out else [])))


def without_figures(variants: Iterable[Variant]) -> list[str]:
    """Return a note for each recipe whose authors' figures were not found."""
    notes = {
        f"{variant.recipe}: no figure of its authors was found (`cxrkit literature show {work.key}`)"
        for variant in variants
        for work in works.repeated_by(variant.recipe)
        if work.mean is None
    }
    return sorted(notes)
