"""Numbers on the pages of the documentation, held against what the program finds: real tables, records, manifests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cxrkit.datasets.nih.tables import read_entries
from cxrkit.evaluators.label_sources import read_source
from cxrkit.imports import cohort, splitting
from cxrkit.report.literature import works
from cxrkit.report.other_labels.label_agreement import Agreement, agreement
from cxrkit.statistics.intervals import FEW_PATIENTS, MIN_PATIENTS

REPOSITORY = Path(__file__).resolve().parents[1]
NUMBER_WORDS = {10: "ten", 30: "thirty"}


def page(name: str) -> str:
    """A page as one line: its sentences run over the ends of lines."""
    return " ".join((REPOSITORY / "docs" / name).read_text(encoding="utf-8").split())


def percent(share: float, decimals: int = 1) -> str:
    return f"{100 * share:.{decimals}f} %"


@pytest.fixture(scope="module")
def pneumothorax(nih_raw: Path) -> dict[bool, Agreement]:
    """NIH's labels against the adjudicated ones: of all images (true), of the test images (false)."""
    source = read_source("google2019", nih_raw)
    records = read_entries(nih_raw / "Data_Entry_2017_v2020.csv")
    found = {}
    for everywhere in (True, False):
        found[everywhere] = next(
            item for item in agreement(records, source, everywhere=everywhere) if item.finding == "Pneumothorax"
        )
    return found


def test_what_nihs_labels_are_worth(pneumothorax: dict[bool, Agreement]) -> None:
    everywhere, test = pneumothorax[True], pneumothorax[False]
    text = page("statistics.md")
    said = (
        f"adjudicated labels of {everywhere.images:,} images they find {percent(everywhere.sensitivity.value)} of the "
        f"pneumothoraces, and {percent(everywhere.positive_predictive_value.value)} of those they name are right; of "
        f"the {test.images:,} test images among them they find {percent(test.sensitivity.value)}, and "
        f"{percent(test.positive_predictive_value.value)} of those they name are right"
    )
    assert said in text


def test_the_official_split_is_as_the_page_says(nih_raw: Path) -> None:
    found = cohort.read(nih_raw, None)
    split = splitting.split_of("official", found).split
    joined = found.frame.join(split.frame.select("image_id", "subset"), on="image_id")
    val, test = (joined.filter(joined["subset"] == name) for name in ("val", "test"))
    text = page("statistics.md")
    patients = test["patient_id"].n_unique()
    assert f"has {len(test):,} images of {patients:,} patients, nine of each on average" in text
    assert round(len(test) / patients) == 9
    shares = [percent(part["Pneumothorax"].cast(int).mean()) for part in (val, test)]
    assert (
        f"{shares[0]} of the validation images and {shares[1]} of the official test images have a pneumothorax" in text
    )
    hernia = test.filter(test["Hernia"].cast(bool))["patient_id"].n_unique()
    assert f"For Hernia, {hernia} test patients count like 18" in text
    assert f"a run on 242 of {len(test):,} test images" in page("reading.md")


def test_the_coverage_is_that_of_the_record() -> None:
    record = (REPOSITORY / "benchmarks/results/statistics/coverage.md").read_text(encoding="utf-8")
    halves = [part.splitlines() for part in record.split("## Targets")[0].split("## ")[1:]]
    rows = [
        {cells[0]: list(map(float, cells[2:])) for line in part if (cells := _cells(line)) and cells[2][0].isdigit()}
        for part in halves
    ]
    half, most = rows
    own, image_level, clustered, plain = 1, 4, 5, 6  # behind the effective patients
    text = page("statistics.md")
    labels = [{name: row for name, row in part.items() if name != "Mean of 14"} for part in (half, most)]
    many = [{name: row for name, row in part.items() if "14 patients" not in name} for part in labels]
    worst = [f"{min(row[own] for row in part.values()):g} %" for part in many]
    assert f"| logit-t over patients, worst label from 20 patients on | {worst[0]} | {worst[1]} |" in text
    for word, pick in (("its best label", max), ("its worst label", min)):
        values = [f"{pick(row[image_level] for row in part.values()):g} %" for part in labels]
        assert f"| image-level DeLong, {word} | {values[0]} | {values[1]} |" in text
    hernia = half["Hernia"]
    assert hernia[0] == 18
    of_all = [row for part in labels for row in part.values()]
    wrongly = [pick(row[clustered] for row in of_all) for pick in (min, max)]
    assert f"called different in {wrongly[0]:.0f} to {wrongly[1]:.0f} % of simulated comparisons" in text
    wrongly = [pick(row[plain] for row in of_all) for pick in (min, max)]
    assert f"image-level DeLong's test in {wrongly[0]:g} to {wrongly[1]:g} %." in text


def _cells(line: str) -> list[str]:
    """The cells of a line of the record's tables of labels; none of another line."""
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    return cells if len(cells) == 9 else []


def test_limits_of_intervals_are_those_of_the_code() -> None:
    few, approximate = NUMBER_WORDS[MIN_PATIENTS], NUMBER_WORDS[FEW_PATIENTS]
    assert f"below {few} patients with the finding there is no interval; below {approximate}" in page("statistics.md")
    reading = page("reading.md")
    assert f"an interval of fewer than {FEW_PATIENTS} patients" in reading
    assert f"| too few patients | fewer than {few}: no interval can be trusted |" in reading


def test_published_results_are_as_many_as_the_pages_say() -> None:
    known, comparable = len(works.literature()), len(works.comparable())
    assert f"Of {known} published results, {comparable} are on the official split" in page("reading.md")
    counts = re.search(
        r"(\d+) results that compare, \d+ that do not; without --split all (\d+)", page("predictions.md")
    )
    assert counts is not None
    assert counts.groups() == (f"{comparable}", f"{known}")
