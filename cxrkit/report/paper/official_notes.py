"""What is said below the official table: where its columns come from, what bold means, what is not verified."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.base.words import count as counted
from cxrkit.report.document.tables import UNCHECKED
from cxrkit.report.evidence.cells import CONSTANT_NOTE, has_constant
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.variants import Variant
from cxrkit.report.literature import works
from cxrkit.report.literature.marks import PRETRAINING_NOTE, mark_notes, marks_of
from cxrkit.report.literature.published import Published, Table5
from cxrkit.report.paper.own_columns import OwnColumns
from cxrkit.report.paper.rank import higher_than
from cxrkit.runs.predictions import IMPORTED
from cxrkit.runs.scores import SubsetScores


def table_notes(
    table: Table5, columns: Sequence[Published], own: OwnColumns, means: Sequence[float], *, reasons_follow: bool
) -> list[str]:
    """Return the notes of the table of these published columns and runs.

    means: the averages that compete for bold. reasons_follow: whether runs that are not in it are named below.
    """
    added = columns[len(table.columns) :]
    there = f"The first {len(table.columns)} columns" if added else "Published columns"
    notes = [f"{there}: {table.citation}, as printed there"]
    names = [*(" ".join(column.heading) for column in table.columns), *(column.key for column in added)]
    notes += [f"{name}: {column.note}" for name, column in zip(names, columns, strict=True) if column.note]
    bold = "Bold: the highest AUC of a row as printed, ties included"
    if any(own.altered):
        bold += "; not among them: a published system that was trained on other terms"
    notes += [bold, *_higher_note(means), f"Average: over the {len(CHESTXRAY14.averaged)} pathologies"]
    if own.members:
        notes += own.at.notes({variant: own.name(variant) for variant in own.members})
    if any(len(members) > 1 for members in own.members.values()):
        notes.append(
            "±: sample standard deviation over the seeds (n - 1), the spread of training; that of the test images is "
            "in the intervals below, one for each seed's network"
        )
    if any(has_constant(verdict.run) for verdict in own.verdicts):
        notes.append(CONSTANT_NOTE)
    notes += _origins(own)
    marks = [mark for column in columns for mark in marks_of(works.get(column.key), table.label_release)]
    marks += [mark for variant in own.members for mark in own.marks(variant)]
    notes += [*mark_notes(marks), PRETRAINING_NOTE]
    if own.verdicts:
        notes.append(_labels_note(table, added))
    elif reasons_follow:
        notes.append("No run compares with these columns; the reasons follow below")
    else:
        notes.append("No run is of what these columns are of: AUCs of findings, on the official split")
    return notes


def _higher_note(means: Sequence[float]) -> list[str]:
    """Say how many published averages are higher than the best of the table: its bold numbers alone would mislead."""
    published = works.comparable()
    higher = higher_than(max(means), published)
    beyond = f"{higher} of the {len(published)} published averages on the official split are higher"
    return [f"The bold average is the best of this table alone: {beyond} (table of ranks; `cxrkit literature`)"] * bool(
        higher
    )


def _labels_note(table: Table5, added: Sequence[Published]) -> str:
    """Return which release of the labels each column is of, as far as that is known."""
    known = {column.key: works.get(column.key).label_release for column in added}
    parts = [f"this work and the three ResNets on release {table.label_release}"]
    for release in dict.fromkeys(known.values()):
        if release != "unknown":
            parts.append(f"{', '.join(key for key, own in known.items() if own == release)} on {release}")
    unsaid = "the other works do not say, and the release of 2017 has 188 positive test labels fewer"
    return f"Labels: {'; '.join((*parts, unsaid))}"


def _origins(own: OwnColumns) -> list[str]:
    """Say where each column comes from and what of it is not verified, once for all columns of which the same holds."""
    notes: list[str] = []
    elsewhere = [variant for variant in own.members if variant.recipe == IMPORTED]
    for variant, members in own.members.items():
        if variant.recipe != IMPORTED:
            repeats = _repeats(own.paper(variant), variant)
            notes.append(_origin([verdict.run for verdict in members], variant, own.name(variant)) + repeats)
    if elsewhere:
        files = [f"{own.name(variant)} {_files(own, variant)}" for variant in elsewhere]
        test = own.members[elsewhere[0]][0].run.test
        notes.append(f"Predictions made outside cxrkit, by SHA-256 of their files: {', '.join(files)}; {_tested(test)}")
    alike: dict[tuple[str, ...], dict[str, None]] = defaultdict(dict)
    for variant, members in own.members.items():
        for verdict in members:
            if verdict.doubts:
                alike[verdict.doubts][own.name(variant)] = None
    return notes + [f"{UNCHECKED} {', '.join(names)}: {'; '.join(doubts)}" for doubts, names in alike.items()]


def _files(own: OwnColumns, variant: Variant) -> str:
    return " and ".join(verdict.run.scores.checkpoint_sha256[:12] for verdict in own.members[variant])


def _tested(test: SubsetScores) -> str:
    return f"{counted(test.images, 'image')} of {counted(test.patients, 'patient')}"


def _origin(runs: Sequence[Run], variant: Variant, name: str) -> str:
    scores, tested = runs[0].scores, _tested(runs[0].test)
    terms = f"recipe {variant.recipe}" + (f" with {', '.join(variant.changes)}" if variant.changes else "")
    looks = "without images" if scores.origin.basis.pixels == "unused" else f"at {scores.input_size} px"
    if len(runs) == 1:
        return f"{name}: trained {looks}, {terms}, {_epoch(runs[0])}; {tested}"
    each = "; ".join(f"seed {run.scores.seed}, {_epoch(run)}" for run in runs)
    return f"{name}: mean of {len(runs)} runs trained {looks}, {terms}: {each}; {tested}"


def _repeats(paper: Published | None, variant: Variant) -> str:
    """Return which published column a run repeats, and what its recipe must leave out of it."""
    if paper is None or variant.recipe not in paper.recipes:
        return ""
    left_out = paper.recipes[variant.recipe]
    return f"; repeats {paper.name}" + f", {left_out}" * bool(left_out)


def _epoch(run: Run) -> str:
    sha = run.scores.checkpoint_sha256
    return f"epoch {run.scores.epoch}, " + (f"checkpoint {sha[:12]}" if sha else "by its kept predictions")
