"""`cxrkit stats`: what a data set counts to. Of ChestX-ray14 it is Table 2 and Figure 3 of Baltruschat et al. 2019.

The paper's figures stand beside those of ChestX-ray14 alone; of any other data set, phantoms too, the same is counted.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from cxrkit.base.contracts import SUBSETS
from cxrkit.base.labels import CHESTXRAY14, LabelSet
from cxrkit.base.words import count as counted
from cxrkit.datasets import splits
from cxrkit.datasets.splits import Split
from cxrkit.imports.cohort import NIH, Cohort
from cxrkit.report.data import data_figures
from cxrkit.report.data.cohort_counts import Counts, count
from cxrkit.report.data.data_tables import (
    count_cell,
    images_a_patient_table,
    labels_an_image_table,
    percent_cell,
    positives_table,
    prevalence_table,
    subsets_table,
    together_table,
)
from cxrkit.report.document.tables import EMPTY, Cell, Column, Report, Row, Table
from cxrkit.report.literature.paper_tables import Table2, table2
from cxrkit.report.literature.published import of_the_paper

_COUNT = ("positive", "negative", "unknown", "prevalence")


def data_statistics(cohort: Cohort, fold: str | None = None) -> Report:
    """Return the report on a data set and the subsets of one of its splits.

    fold: the split, as `--fold` names it; None: the official one, and no split where there is none. Raises UserError
    for an unknown fold.
    """
    frame, labels = cohort.frame, cohort.labels
    paper = table2() if (cohort.dataset, labels.name) == (NIH, CHESTXRAY14.name) else None
    whole = count(frame, labels)
    tables = [_labels_table(whole, labels, paper, cohort.label_release), _people_table(whole, paper)]
    figures = [data_figures.ages(frame, whole)]
    listed = f"{counted(whole.images, 'image')} of {counted(whole.patients, 'patient')}, labels {cohort.label_release}"
    notes = [f"{listed}: all that the data set's table lists, prepared or not"]
    if fold is None and frame["official"].null_count():
        notes.append("No official split: name another by --fold to see its subsets")
        parts: dict[str, pl.DataFrame] = {}
    else:
        split = splits.make(frame, fold or "official")
        parts = _parts(frame, split)
        counts = {name: count(part, labels) for name, part in parts.items()}
        tables += [
            subsets_table(split, {**counts, "all": whole}),
            positives_table(split, counts, labels),
            prevalence_table(split, counts, labels),
        ]
        figures.append(data_figures.prevalences(split.name, counts, labels))
    pathologies = labels.averaged or labels.labels
    groups = {**parts, "all": frame}
    tables += [
        labels_an_image_table(groups, pathologies),
        images_a_patient_table(groups),
        together_table(frame, labels, pathologies),
    ]
    figures.append(data_figures.together(frame, labels, pathologies))
    return Report(f"Statistics of {_name(cohort.dataset)}", tuple(tables), tuple(notes), tuple(figures), "stats")


def _name(dataset: str) -> str:
    return "ChestX-ray14" if dataset == NIH else dataset


def _parts(frame: pl.DataFrame, split: Split) -> dict[str, pl.DataFrame]:
    joined = frame.join(split.frame.select("image_id", "subset"), on="image_id")
    return {subset: joined.filter(subset=subset) for subset in SUBSETS}


def _labels_table(whole: Counts, labels: LabelSet, paper: Table2 | None, release: str) -> Table:
    unknown = any(found.unknown for found in whole.labels.values())
    columns = [
        Column("positive", ("Positive",), ("images",), own=True),
        Column("negative", ("Negative",), ("images",), own=True),
        *[Column("not known", ("Not known",), ("images",), own=True)] * unknown,
        Column("prevalence", ("Prevalence", "%"), ("percent",), own=True),
        Column("positive patients", ("Positive", "patients"), ("patients",), own=True),
    ]
    if paper:
        columns += [
            Column("paper: positive", ("paper:", "Positive"), ("images",)),
            Column("paper: prevalence", ("paper:", "Prevalence"), ("percent",)),
        ]
    rows = []
    for label in (*labels.averaged, *labels.beside):
        found = whole.labels[label]
        cells = [count_cell(found.positive), count_cell(found.negative)]
        cells += [count_cell(found.unknown)] * unknown
        cells += [percent_cell(found.prevalence), count_cell(found.positive_patients, "patients")]
        if paper:
            printed = paper.labels.get(label)
            cells += (
                [EMPTY, EMPTY]
                if printed is None
                else [
                    count_cell(printed.positive),
                    Cell(f"{printed.prevalence:.2f}", {"percent": printed.prevalence}),
                ]
            )
        rows.append(Row(label, labels.heading(label), tuple(cells), label == (*labels.beside, "")[0]))
    notes = _labels_notes(whole, paper, release) if paper else []
    title = "Labels" + (f" ({of_the_paper('Table 2a')})" if paper else "")
    return Table(title, "Pathology", tuple(columns), tuple(rows), tuple(notes), "table2a")


def _labels_notes(whole: Counts, paper: Table2, release: str) -> list[str]:
    notes = [f"Paper's columns: {paper.citation}, as printed there"]
    other = [label for label, printed in paper.labels.items() if whole.labels[label].positive != printed.positive]
    if not other:
        return [*notes, "The number of images of every label equals the printed one"]
    if len(other) == len(paper.labels):
        differ = "No label has as many images as in the paper"
    else:
        differ = f"Not as many images as in the paper have {', '.join(map(CHESTXRAY14.heading, other))}"
    return [*notes, f"{differ}: these are labels {release}, and the paper counted those of {paper.label_release}"]


def _people_table(whole: Counts, paper: Table2 | None) -> Table:
    sexes, views = {"M": "Male", "F": "Female"}, {"PA": "PA", "AP": "AP"}
    rows = [
        *_kinds("Sex", whole.images, whole.sex, sexes, (paper.sex, paper.sex_ratio) if paper else None),
        *_kinds("View", whole.images, whole.view, views, (paper.view, paper.view_ratio) if paper else None),
        _years("Age, mean", whole.age_mean, paper.age_mean if paper else None),
        _years("Age, SD", whole.age_sd, paper.age_sd if paper else None),
    ]
    if whole.ages < whole.images:
        rows.append(Row("Age not known", "Age not known", (count_cell(whole.images - whole.ages), EMPTY)))
    columns = [Column("images", ("Images",), ("images", "ratio", "years"), own=True)]
    notes = ["Age in years over images, with its sample standard deviation (n - 1)"]
    if paper:
        columns.append(Column("paper", ("paper",), ("images", "ratio", "years")))
        notes += _people_notes(whole, paper)
    else:
        rows = [Row(row.key, row.heading, row.cells[:1], row.rule_above) for row in rows]
    title = "Sex, view and age" + (f" ({of_the_paper('Table 2b and section 2.4')})" if paper else "")
    return Table(title, "Of the images", tuple(columns), tuple(rows), tuple(notes), "table2b")


def _kinds(
    what: str,
    images: int,
    found: Mapping[str, int],
    names: Mapping[str, str],
    printed: tuple[Mapping[str, int], float] | None,
) -> list[Row]:
    """Return a row for each of two kinds of images, and one for their ratio. printed: the paper's counts and ratio."""
    paper = {key: count_cell(printed[0][key]) if printed else EMPTY for key in names}
    rows = [
        Row(name, name, (count_cell(found[key]), paper[key]), rule_above=number == 0)
        for number, (key, name) in enumerate(names.items())
    ]
    one, other = (found[key] for key in names)
    ratio = Cell(f"{one / other:.2f}", {"ratio": one / other}) if other else EMPTY
    paper_ratio = Cell(f"{printed[1]:.2f}", {"ratio": printed[1]}) if printed else EMPTY
    name = " / ".join(names.values())
    rows.append(Row(name, name, (ratio, paper_ratio)))
    if unknown := images - one - other:
        rows.append(Row(f"{what} not known", f"{what} not known", (count_cell(unknown), EMPTY)))
    return rows


def _years(name: str, found: float | None, printed: float | None) -> Row:
    cells = [EMPTY if value is None else Cell(f"{value:.2f}", {"years": value}) for value in (found, printed)]
    return Row(name, name, tuple(cells), name.endswith("mean"))


def _people_notes(whole: Counts, paper: Table2) -> list[str]:
    notes = []
    if whole.sex == {"M": paper.sex["F"], "F": paper.sex["M"]}:
        notes.append(
            f"The paper's Table 2b has the sexes swapped: {whole.sex['M']:,} images are of men, {whole.sex['F']:,} of "
            "women"
        )
    if whole.age_mean is not None and abs(whole.age_mean - paper.age_mean) >= 0.005:
        notes.append(
            f"The paper's mean age of {paper.age_mean} is that of NIH's table of 2017 without its 16 ages of 100 and "
            "more; the release v2020 has corrected many ages, and its mean is 46.63"
        )
    return notes
