"""The simulation of coverage: its patients are the official test set's, its AUCs are true, its record is whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage, record
from benchmarks.drawn_test_sets import RARER, Population, draw_test_set, population
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.statistics import ranking


@pytest.fixture(scope="module")
def official() -> Population:
    return population()


def test_patients_are_those_of_the_official_test_set(official: Population) -> None:
    assert len(official.truth) == official.images.sum() == 25_596
    assert (len(official.images), official.images.max()) == (2_797, 184)
    assert official.names[:15] == CHESTXRAY14.labels
    assert official.truth[:, official.names.index("Hernia")].sum() == 86
    cluster_N = np.repeat(np.arange(2_797), official.images)
    for name, count in RARER.items():
        assert len(set(cluster_N[official.truth[:, official.names.index(name)]])) == count


def test_a_drawn_test_set_has_whole_patients_and_the_aucs_it_says(official: Population) -> None:
    score_MNL, truth_NL, cluster_N = draw_test_set(official, np.random.default_rng(0), 0.0)  # images are independent
    assert score_MNL.shape == (2, *truth_NL.shape)
    sizes = set(official.images.tolist())
    assert set(np.bincount(cluster_N).tolist()) <= sizes
    for label in ("Effusion", "Infiltration", "No Finding"):
        place = official.names.index(label)
        for score_NL in score_MNL:
            found = ranking.auc(score_NL[:, place], truth_NL[:, place])
            assert found == pytest.approx(official.auc[place], abs=0.015)


def test_half_of_the_noise_is_the_patients(official: Population) -> None:
    score_MNL, truth_NL, cluster_N = draw_test_set(official, np.random.default_rng(1), 0.5)
    place = official.names.index("Hernia")
    healthy_N = ~truth_NL[:, place]
    score_N, of_N = score_MNL[0, healthy_N, place], cluster_N[healthy_N]
    assert score_N.var() == pytest.approx(1, abs=0.05)
    neighbours_N = of_N[1:] == of_N[:-1]
    alike = np.corrcoef(score_N[1:][neighbours_N], score_N[:-1][neighbours_N])[0, 1]
    assert alike == pytest.approx(0.5, abs=0.08)
    both = np.corrcoef(score_MNL[:, healthy_N, place])[0, 1]
    assert both == pytest.approx(0.5, abs=0.08)


def test_the_record_has_every_label_and_the_mean(
    official: Population, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tenth of the patients, too few with a hernia for an interval."""
    tenth = 280
    few = replace(
        official,
        truth=official.truth[: official.images[:tenth].sum()],
        first=official.first[:tenth],
        images=official.images[:tenth],
    )
    monkeypatch.setattr(coverage, "population", lambda: few)
    coverage.main(["--test-sets", "2", "--replicates", "20", "--out", str(tmp_path)])
    found = record.read(tmp_path / "coverage.json")
    names = [*CHESTXRAY14.labels, *RARER, coverage.MEAN]
    assert [entry.name for entry in found.entries] == names * len(coverage.OF_PATIENT)
    by_name = {entry.name: entry for entry in found.entries}
    assert by_name["Infiltration"].values[0] in (0.0, 50.0, 100.0)
    width = {key: value for key, value in by_name["Infiltration"].figures.items() if key.startswith("width of ")}
    assert width["width of logit-t"] > width["width of image-level DeLong"]
    assert by_name["Hernia, 14 patients"].unavailable == "too few patients in every test set"
    text = (tmp_path / "coverage.md").read_text()
    assert text == coverage.document(found)
    assert "| Infiltration | " in text
    assert "| Hernia, 14 patients | too few patients in every test set |" in text


def test_a_test_set_shows_the_same_whatever_was_examined_before(official: Population) -> None:
    one, again = (coverage.examine(3, official, 5, 0.5) for _ in range(2))
    other = coverage.examine(4, official, 5, 0.5)
    np.testing.assert_array_equal(one.width, again.width)
    assert (one.width != other.width).any()


def test_the_committed_record_is_whole_and_what_its_tables_show() -> None:
    """Of every label from 20 patients on, 91 to 98 % of the intervals hold the truth, and those over images do not."""
    folder = Path(coverage.__file__).parent / "results" / "statistics"
    found = record.read(folder / "coverage.json")
    assert (folder / "coverage.md").read_text() == coverage.document(found)
    labels = [entry for entry in found.entries if entry.name != coverage.MEAN]
    many = [entry for entry in labels if entry.figures["patients with the finding"] >= coverage.FROM_PATIENTS - 0.5]
    assert len(many) == 16 * len(coverage.OF_PATIENT)
    for entry in many:
        assert coverage.LOWEST <= entry.values[0] <= coverage.HIGHEST, entry.name
        assert entry.figures[f"covered by {coverage.BY_IMAGE}, %"] < coverage.LOWEST, entry.name
