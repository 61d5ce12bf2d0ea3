"""Numbers as they are printed: one rounding everywhere, so that one published number never reads in two ways."""

from __future__ import annotations

import re
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_runs import Study

from cxrkit import report
from cxrkit.report.document.numbers import rounded
from cxrkit.report.document.tables import AVERAGE, Cell, Report, Row, bold_best
from cxrkit.report.literature import works
from cxrkit.report.literature.published import from_literature, table5


@pytest.mark.parametrize(
    ("value", "decimals", "factor", "text"),
    [
        (0.8005, 3, 1, "0.801"),
        (0.7955, 3, 1, "0.796"),
        (0.8045, 3, 1, "0.805"),
        (0.80449999, 3, 1, "0.804"),
        (0.8455, 1, 100, "84.6"),
        (1.0, 3, 1, "1.000"),
        (0, 3, 1, "0.000"),
        (1e-9, 3, 1, "0.000"),
    ],
)
def test_a_half_goes_up_as_on_paper(value: float, decimals: int, factor: int, text: str) -> None:
    assert rounded(value, decimals, factor) == text


@given(st.integers(0, 10**5))
def test_it_is_the_rounding_of_the_printed_decimals(digits: int) -> None:
    source = f"0.{digits:05d}"
    assert rounded(float(source)) == str(Decimal(source).quantize(Decimal("0.001"), ROUND_HALF_UP))


def test_bold_is_what_is_printed_highest() -> None:
    """0.8005 is printed as 0.801: level with 0.801, and not below it."""
    cells = tuple(Cell(rounded(value), {"auc": value}) for value in (0.8005, 0.801, 0.8004))
    (row,) = bold_best([Row("", "", cells)], "auc", 3, {0, 1, 2})
    assert [cell.bold for cell in row.cells] == [True, True, False]


def printed(found: Report) -> dict[str, set[str]]:
    """Every text of a mean of a published result, by the result's key, wherever the document has it."""
    texts: dict[str, set[str]] = defaultdict(set)
    names = {from_literature(key).name: key for key in works.literature()}
    names |= {column.name: column.key for column in table5().columns}
    for table in found.tables:
        if table.key == "rank":
            for row in table.rows:
                if row.cells[0].text == "published":
                    texts[row.key].add(row.cells[1].text)
        average = next((row for row in table.rows if row.key == AVERAGE), None)
        for place, column in enumerate(table.columns):
            if average is not None and column.name in names and average.cells[place].values:
                texts[names[column.name]].add(average.cells[place].text)
    for note in found.notes:
        if said := re.match(r"(\S+): of the pathologies it gives the average alone, ([\d.]+)", note):
            texts[said[1]].add(said[2].rstrip("."))
    return texts


def test_a_published_number_is_printed_in_one_way(study: Study) -> None:
    found = printed(report.official(study.runs, also=[work.key for work in works.comparable()]))
    assert {work.key for work in works.comparable()} <= found.keys()
    assert {key for key, texts in found.items() if len(texts) != 1} == set()
    # The rounding matters for some: their sources give a half at the fourth decimal.
    halves = [work for work in works.comparable() if re.fullmatch(r"0\.\d{3}5", str(work.mean))]
    assert halves
    for work in halves:
        assert found[work.key] == {str(Decimal(str(work.mean)).quantize(Decimal("0.001"), ROUND_HALF_UP))}
