"""What headings name, and what one note says of all runs: settings that they have in common tell no two apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_report import make_scores, save

from cxrkit import report
from cxrkit.report.everything import Material, build
from cxrkit.report.evidence.common_terms import terms_notes
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.run_names import model_names
from cxrkit.report.evidence.runs import Run, find_runs
from cxrkit.report.request import heading

TERMS = ("augmentation.area_min=0.4", "schedule.patience=3")
DIGEST = "06708bee" * 8
OTHER = {"labels_digest": "aa" * 32, "dataset": "synthetic"}


def runs_of(*wanted: dict[str, Any]) -> list[Run]:
    found = []
    for number, changes in enumerate(wanted):
        name, split = changes.get("name", f"net-{number}"), changes.get("split", "official")
        known = {"changes": TERMS, "preparation_digest": DIGEST, "model": name, "recipe": name} | OTHER | changes
        scores = make_scores(
            name, split, **{key: value for key, value in known.items() if key not in ("name", "split")}
        )
        found.append(Run(Path(f"runs-{number}") / name / split, name, scores))
    return found


def names(runs: list[Run]) -> list[str]:
    return sorted(model_names(runs).values())


def test_what_all_runs_have_in_common_is_in_a_note_and_in_no_name() -> None:
    runs = runs_of({}, {})
    assert names(runs) == ["net-0", "net-1"]
    assert terms_notes(runs) == [
        "All runs: area_min 0.4, patience 3 (their recipes say otherwise), prepared 06708bee (not the default "
        "preparation)"
    ]


def test_a_run_by_itself_has_its_name_alone() -> None:
    runs = runs_of({"name": "mine"}, {"name": "mine", "seed": 1}, {"name": "mine", "split": "resample-1"})
    assert names(runs) == ["mine, seed 0", "mine, seed 0", "mine, seed 1"]
    assert terms_notes(runs) == [
        "mine: area_min 0.4, patience 3 (its recipe says otherwise), prepared 06708bee (not the default preparation)"
    ]


def test_what_some_have_is_in_their_names_and_nothing_is_said_of_none() -> None:
    assert names(runs_of({}, {"changes": TERMS[1:], "preparation_digest": "bb" * 32})) == [
        "net-0, area_min 0.4, prepared 06708bee",
        "net-1, prepared bbbbbbbb",
    ]
    plain = {"changes": (), "preparation_digest": ""}
    assert terms_notes(runs_of(plain, plain)) == []
    assert terms_notes([]) == []


def test_runs_of_one_name_never_have_the_same_heading() -> None:
    same = {"name": "net"}
    runs = runs_of(
        same,
        same | {"changes": (*TERMS, "loss.name=focal")},
        same | {"preparation_digest": "bb" * 32},
        same | {"recipe_digest": "99" * 32},
    )
    assert len(set(names(runs))) == len(runs)
    assert "net, prepared bbbbbbbb" in names(runs)
    assert not any("patience" in name for name in names(runs))


def test_imported_runs_and_those_without_images_do_not_count() -> None:
    """Of the one no setting is known, of the other no preparation counts."""
    elsewhere = {"name": "theirs", "recipe": "imported", "changes": (), "preparation_digest": ""}
    runs = runs_of({}, {}, {"preparation_digest": ""}, elsewhere)
    assert [name.partition(",")[0] for name in names(runs)] == [name.removesuffix(", imported") for name in names(runs)]
    assert terms_notes(runs) == [
        "All runs trained by cxrkit: area_min 0.4, patience 3 (their recipes say otherwise); All runs that look at "
        "images: prepared 06708bee (not the default preparation)"
    ]


def test_settings_that_a_name_only_counts_are_told_in_a_note() -> None:
    many = tuple(f"model.options.part{number}={number}" for number in range(5))
    runs = runs_of({"changes": (*TERMS, *many)}, {})
    assert names(runs)[0] == "net-0, part0 0, part1 1, part2 2, 2 more"
    assert terms_notes(runs)[1] == f"{names(runs)[0]}: part0 0, part1 1, part2 2, part3 3, part4 4"


def test_a_run_beside_the_published_column_that_it_repeats_says_how_it_differs(tmp_path: Path) -> None:
    save(tmp_path, make_scores("resnet50-large-meta", "official", changes=("schedule.epochs=3",)))
    shown = report.official(tmp_path)
    assert [column.name for column in shown.tables[0].columns if column.own] == ["resnet50-large-meta, 3 epochs"]
    assert shown.notes[0] == "resnet50-large-meta: 3 epochs (its recipe says otherwise)"


@pytest.mark.parametrize("name", ["official", "curves", "provenance", "table1"])
def test_each_document_of_runs_has_the_note_once(name: str, tmp_path: Path) -> None:
    for number in (0, 1):
        run = save(tmp_path, make_scores(f"net-{number}", "official", changes=TERMS, **OTHER))
        (run / "metrics.jsonl").write_text('{"kind": "epoch", "epoch": 1, "val_loss": 0.5}\n')
    notes = build(name, Material(find_runs(tmp_path), Opened())).notes
    assert sum("area_min 0.4, patience 3" in note for note in notes) == (name != "table1")


def test_the_page_says_what_it_is_about(tmp_path: Path) -> None:
    for number, (split, day) in enumerate([("official", "2026-11-30"), ("resample-1", "2026-12-01")], 1):
        run = save(tmp_path, make_scores("net", split, **OTHER))
        (run / "provenance.json").write_text(f'{{"time": "{day}T02:38:13+00:00"}}')
        expected = {
            1: ("cxrkit report: 1 run on the official split", "Data set synthetic; trained on 2026-11-30; "),
            2: (
                "cxrkit report: 2 runs on 2 splits",
                "Data set synthetic; trained from 2026-11-30 to 2026-12-01; ",
            ),
        }
        assert heading(Material(find_runs(tmp_path), Opened())) == expected[number]
