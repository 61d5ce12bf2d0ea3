"""`cxrkit reproduce`: studies, what they plan, and what becomes of their runs. Real processes: test_reproduce_kills."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reproduce_parts import InProcess, predictions, request, write_study
from rich.console import Console

from cxrkit import pipeline
from cxrkit.base.contracts import Job, Metric
from cxrkit.base.errors import UserError
from cxrkit.base.files import output_error
from cxrkit.prepare.stage import PrepareConfig, prepare_raw
from cxrkit.reproduce import calibration, grid, main, planning, study
from cxrkit.reproduce.planning import Places, Planned
from cxrkit.runs.config import to_toml
from cxrkit.runs.folder import RunFolder, claimed
from cxrkit.runs.scores import read_scores


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(grid, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(grid, "ELSEWHERE_SECONDS", 0.01)
    monkeypatch.setattr(calibration, "SECONDS", 0.05)
    InProcess.started.clear()
    yield
    InProcess.before = None


@pytest.fixture(scope="module")
def tables(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("tables") / "tables"
    prepare_raw(PrepareConfig(raw=cohort, data=data, dataset="synthetic", tables_only=True))
    return data


def plan(path: Path, runs: Path = Path("runs"), *, data: Path | None = None, **said: Any) -> list[Planned]:
    return planning.plan(study.read(str(path), **said), Places(data, runs))


def reproduce(*arguments: Any, **changes: Any) -> tuple[bool, str]:
    """Return whether all went well, and what was printed."""
    console = Console(width=200)
    with console.capture() as said:
        well = main.reproduce(request(*arguments, **changes), console)
    return well, said.get()


def refused(path: Path, text: str, match: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=match):
        plan(path)


# Studies


def test_table_3_is_eight_set_ups_on_five_resamples() -> None:
    runs = planning.plan(study.read("table3"), Places(None, Path("runs")))
    assert len({item.name for item in runs}) == len(runs) == 40
    first = [item.name.partition("/")[0] for item in runs[:8]]
    from cxrkit.base import manifests

    columns = manifests.read("published/table3.toml")["column"]
    assert sorted(first) == sorted(column["recipe"] for column in columns)
    assert {item.name.partition("/")[2] for item in runs} == {f"resample-{number}" for number in range(1, 6)}


def test_table_5_is_three_depths_on_the_official_split() -> None:
    runs = planning.plan(study.read("table5"), Places(None, Path("runs")))
    assert [item.name for item in runs] == [f"resnet{depth}-large-meta/official" for depth in (38, 50, 101)]


def test_the_probes_come_after_the_network_that_they_look_into() -> None:
    found = study.read("probes")
    assert len(found.runs) == 20
    assert {(run.recipe, run.needs) for run in found.runs} == {
        ("resnet50-large", ""),
        *((f"resnet50-large-{what}", "resnet50-large") for what in ("age", "gender", "vp")),
    }


def test_all_is_every_experiment_once() -> None:
    found = study.read("all")
    assert len(found.runs) == len({(run.recipe, run.fold) for run in found.runs}) == 40 + 3 + 15 + 6
    assert found.reports == ("table3", "table5", "probes")


def test_folds_and_seeds_of_the_command_line_stand_in_for_the_studys(tmp_path: Path) -> None:
    found = plan(write_study(tmp_path / "s.toml", "folds = [1]", 'recipes = ["mlp-meta"]'), folds=["2"], seeds=[0, 3])
    assert [item.name for item in found] == ["mlp-meta/resample-2", "mlp-meta/resample-2-seed-3"]


def test_settings_of_study_run_and_command_line(tmp_path: Path) -> None:
    path = write_study(
        tmp_path / "s.toml",
        "[[runs]]",
        'recipe = "mlp-meta"',
        "settings = {schedule.epochs = 5, optimizer.lr = 0.1, run.loader_options = {prefetch = 3}, loss.options = "
        '{more = [0.5], tables = {"a b" = [{c = "d"}], e = {f = true}}}}',
    )
    (item,) = planning.plan(study.read(str(path)), Places(None, tmp_path, ("optimizer.lr=0.2",)))
    config = item.config
    assert (config.schedule.epochs, config.optimizer.batch_size, config.optimizer.lr) == (5, 8, 0.2)
    assert config.run.loader_options == {"prefetch": 3}
    assert config.loss.options == {"more": [0.5], "tables": {"a b": [{"c": "d"}], "e": {"f": True}}}


def test_a_sweep_is_every_combination_under_names_of_their_own(tmp_path: Path) -> None:
    path = write_study(
        tmp_path / "s.toml",
        "[[runs]]",
        'recipe = "mlp-meta"',
        'vary = {"optimizer.lr" = [0.1, 0.01], "loss.name" = ["bce-mean", "bce-sum"]}',
    )
    found = {item.name: (item.config.optimizer.lr, item.config.loss.name) for item in plan(path)}
    assert found == {
        f"mlp-meta-lr-{rate}-name-{loss}/official": (rate, loss)
        for rate in (0.1, 0.01)
        for loss in ("bce-mean", "bce-sum")
    }


def test_what_is_needed_comes_first_and_its_folder_is_named(tmp_path: Path) -> None:
    path = write_study(
        tmp_path / "s.toml",
        'recipes = ["mlp-meta"]',
        *("[[runs]]", 'recipe = "mlp-meta"', 'name = "probe"', 'needs = "middle"'),
        *('settings = {about.source = "of {needs}"}', "[[runs]]", 'recipe = "mlp-meta"', 'name = "middle"'),
    )
    found = plan(path, tmp_path / "runs", folds=["1"], seeds=[2])
    assert [item.name.partition("/")[0] for item in found] == ["mlp-meta", "middle", "probe"]
    assert found[2].needs == "middle/resample-1-seed-2"
    assert found[2].config.about.source == f"of {tmp_path}/runs/middle/resample-1-seed-2"


def test_a_probe_that_is_there_waits_for_a_run_that_trains_on(tmp_path: Path) -> None:
    """As where a study is given more epochs, and its planner is ended while the needed run takes them."""
    path = write_study(
        tmp_path / "s.toml",
        'recipes = ["resnet50-large"]',
        *("[[runs]]", 'recipe = "resnet50-large-vp"', 'needs = "resnet50-large"'),
        'settings = {model.from_run = "{needs}"}',
    )
    needed, probe = plan(path, tmp_path / "runs")
    before = probe.config.with_values({"model.extractor": "resnet50-large with a change", "input.size": 224})
    for item, config in ((needed, needed.config), (probe, before)):
        item.run.path.mkdir(parents=True)
        item.run.config.write_text(to_toml(config))
    assert needed.run.state() == "training"
    assert plan(path, tmp_path / "runs")[1].config == before


def test_the_paper_table_of_probes_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study.read("probes").reports == ("probes",)
    main.print_reports(study.read("probes"), [], tmp_path, Console(width=80))
    assert "probes: no table yet" in capsys.readouterr().out


def test_a_title_is_printed_as_it_stands(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_study(tmp_path / "s.toml", 'title = "rates [a] and [/b]"', 'recipes = ["mlp-meta"]')
    for dry_run in (True, False):
        assert main.reproduce(request(path, tables, tmp_path / "runs", dry_run=dry_run), Console(width=80))
        assert "rates [a] and [/b]" in capsys.readouterr().out


def test_files_lie_beside_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.toml").write_text('[model]\nname = "mlp-meta"\n')
    path = write_study(tmp_path / "studies" / "s.toml", 'recipes = ["mine.toml"]', 'folds = ["own.csv"]')
    monkeypatch.chdir(tmp_path)
    (item,) = plan(Path("studies/s.toml"))
    assert (item.name, item.config.run.fold) == ("mine/file-own", "studies/own.csv")
    assert plan(path)[0].name == item.name


def test_weights_go_to_the_networks_that_start_from_them() -> None:
    weights = Path("resnet50.pth")
    runs = planning.plan(study.read("table3", folds=["1"]), Places(None, Path("runs"), weights=weights))
    with_weights = {item.config.model.name for item in runs if item.config.model.weights == weights}
    assert with_weights == {f"resnet50-{what}" for what in ("ots", "ots-meta", "ft", "ft-meta")}


def test_what_reproduce_always_sets_is_set_where_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_ALWAYS", {"run.log_steps": 7, "run.of_a_later_version": True})
    path = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]')
    assert plan(path)[0].config.run.log_steps == 7
    path = write_study(path, 'recipes = ["mlp-meta"]', run__log_steps="9")
    assert plan(path)[0].config.run.log_steps == 9


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("recipe = 'mlp-meta'", r"s.toml: recipe is not a known field; known are .*recipes"),
        ("recipes = ['mlp-mta']", r"s.toml: unknown recipe 'mlp-mta'\n  remedy: did you mean mlp-meta"),
        ("recipes = ['mlp-meta']\nfolds = [6]", r"--fold 6: there is no such fold"),
        ("recipes = ['mlp-meta']\n[settings]\nepochs = 3", r"s.toml: settings.epochs is 3 \(int\), expected a section"),
        ("recipes = ['mlp-meta']\n[settings]\nschedule.epoch = 3", r"s.toml: --set schedule.epoch=3: unknown setting"),
        ("recipes = ['mlp-meta']\n[settings]\nrun.seed = 3", r"run.seed among the settings\n  remedy: say it as seeds"),
        ("recipes = ['mlp-meta']\nreports = ['table4']", r"s.toml: unknown report 'table4'\n  remedy: did you"),
        ("title = 'nothing'", r"s.toml: no run in it\n  remedy: name some"),
        ("recipes = [", r"s.toml: not valid TOML"),
        (
            "recipes = ['mlp-meta']\n[[runs]]\nrecipe = 'mlp-meta'\nsettings = {optimizer.lr = 1}",
            r"s.toml: two runs of the name mlp-meta/official, with other settings\n  remedy: give one of them a name",
        ),
        (
            "[[runs]]\nrecipe = 'mlp-meta'\nneeds = 'resnet50-ft'",
            r"mlp-meta/official needs resnet50-ft/official, which is no run of the study\n  remedy: add its recipe",
        ),
        (
            "\n".join(f"[[runs]]\nrecipe = 'mlp-meta'\nname = '{a}'\nneeds = '{b}'" for a, b in ("ab", "ba")),
            r"s.toml: a/official needs b/official needs a/official\n",
        ),
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_is_refused_by_name(text: str, match: str, tmp_path: Path) -> None:
    refused(tmp_path / "s.toml", text, match)


def test_an_unknown_study_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown study 'tabel3'\n  remedy: did you mean table3"):
        study.read("tabel3")
    with pytest.raises(UserError, match=r"none.toml: there is no such file\n  remedy: name a file, or one of all"):
        study.read("none.toml")


# What is refused before the first run starts


@pytest.mark.parametrize(
    ("lines", "changes", "match"),
    [
        (['recipes = ["mlp-meta", "resnet14-small"]'], {}, "holds tables alone"),
        (['recipes = ["mlp-meta"]'], {"engine": "slrum"}, r"unknown executor 'slrum'\n  remedy: did you mean slurm"),
        (['recipes = ["mlp-meta"]'], {"engine_options": {"a": 1}}, r"executor 'reproduce_parts:InProcess': unknown"),
        (['recipes = ["mlp-meta"]'], {"sets": ("run.trainer=no:trainer",)}, "there is no module 'no'"),
        (['recipes = ["mlp-meta"]', 'folds = ["no.csv"]'], {}, "no.csv: there is no such file"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_before_anything_starts(
    lines: list[str], changes: dict[str, Any], match: str, tables: Path, tmp_path: Path
) -> None:
    path = write_study(tmp_path / "s.toml", *lines)
    with pytest.raises(UserError, match=match):
        reproduce(path, tables, tmp_path / "runs", **changes)
    assert not (tmp_path / "runs").exists()
    assert not InProcess.started


def test_a_run_that_is_there_with_other_settings_is_refused(tables: Path, tmp_path: Path) -> None:
    path, runs = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]'), tmp_path / "runs"
    assert reproduce(path, tables, runs)[0]
    with pytest.raises(UserError, match=r"mlp-meta/official: was trained with --lr 0.001; resuming cannot change"):
        reproduce(path, tables, runs, sets=("optimizer.lr=0.01",))
    with pytest.raises(UserError, match=r"has taken 2 epochs already, more than --epochs 1"):
        reproduce(path, tables, runs, sets=("schedule.epochs=1",))


def test_a_disk_that_is_too_small_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"that are missing need .* GB, and the disk has .* [GM]B left\n  remedy: free"):
        planning.refuse_full_disk(tmp_path / "not" / "there", shutil.disk_usage(tmp_path).total + 10**11)


# What becomes of the runs


def test_everything_is_run_once(tables: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]', "folds = [1, 2]", 'reports = ["table3"]')
    well, said = reproduce(path, tables, tmp_path / "runs")
    assert well
    assert InProcess.started == ["mlp-meta/resample-1", "mlp-meta/resample-2"]
    assert "mlp-meta/resample-2: done  (2 runs: 2 done)" in said
    assert "ChestX-ray14, resampling by patient" in said, "the report comes last"
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*") if file.is_file()}
    assert reproduce(path, tables, tmp_path / "runs")[0]
    assert len(InProcess.started) == 2
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*") if file.is_file()} == before


def own_metric(scores: Any, truth: Any, clusters: Any, labels: Any) -> Iterator[Metric]:
    yield Metric("own", 0.5)


def test_an_evaluator_that_is_asked_for_later_scores_what_was_done(tables: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]')
    for evaluator in ("auc", "auc,test_reproduce:own_metric", "auc,test_reproduce:own_metric"):
        wanted = request(path, tables, tmp_path / "runs", (f"test.evaluator={evaluator}",))
        assert main.reproduce(wanted, Console(quiet=True))
    scores = read_scores(tmp_path / "runs" / "mlp-meta" / "official" / "scores.json")
    assert scores.evaluators == ("auc", "test_reproduce:own_metric")
    assert len(InProcess.started) == 2


def test_a_run_that_fails_stops_no_other(tables: Path, tmp_path: Path) -> None:
    path = write_study(
        tmp_path / "s.toml",
        *("[[runs]]", 'recipe = "mlp-meta"', 'name = "bad"', 'settings = {loss.name = "reproduce_parts:broken_loss"}'),
        *("[[runs]]", 'recipe = "mlp-meta"', 'name = "of-bad"', 'needs = "bad"'),
        *("[[runs]]", 'recipe = "mlp-meta"', 'name = "good"'),
    )
    well, said = reproduce(path, tables, tmp_path / "runs", retries=1)
    assert not well
    assert InProcess.started == ["bad/official", "good/official", "bad/official"], "tried again, after the others"
    assert RunFolder(tmp_path / "runs" / "good" / "official").state() == "scored"
    assert "failed: bad/official: ended with exit status 2\n" in said
    assert "    error: the loss is broken\n" in said
    assert f"log: {tmp_path}/runs/.reproduce/s/bad--official.log" in said
    assert "1 run not started: it needs bad/official" in said


def test_on_a_full_disk_nothing_new_is_started(tables: Path, tmp_path: Path) -> None:
    def full(job: Job) -> None:
        raise output_error(tmp_path / "best.safetensors", OSError(errno.ENOSPC, "No space left on device"))

    path = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]', "folds = [1, 2, 3]")
    InProcess.before = full
    well, said = reproduce(path, tables, tmp_path / "runs", retries=5)
    assert not well
    assert InProcess.started == ["mlp-meta/resample-1"]
    assert "best.safetensors: the disk is full" in said
    assert "2 runs not started: the disk is full" in said
    InProcess.before = None
    assert reproduce(path, tables, tmp_path / "runs")[0], "with room again the same command goes on"


def test_a_run_goes_on_where_it_was_ended(tables: Path, tmp_path: Path) -> None:
    """Killed between two epochs, while it predicted, and while it was scored."""
    path = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]', "seeds = [0, 1, 2, 3]", schedule__epochs="4")
    for runs in ("through", "ended"):
        assert reproduce(path, tables, tmp_path / runs, sets=(f"schedule.epochs={4 if runs == 'through' else 2}",))[0]
    one, two, three, four = (RunFolder(tmp_path / "ended/mlp-meta" / name) for name in _SEEDS)
    one.done("train").unlink()
    two.done("predict").unlink()
    three.done("evaluate").unlink()
    four.scores.unlink()
    (three.path / ".scores.json.12345678.part").write_text("half")
    InProcess.started.clear()
    assert reproduce(path, tables, tmp_path / "ended")[0]
    assert len(InProcess.started) == 4
    for name in _SEEDS:
        ended, through = (tmp_path / runs / "mlp-meta" / name for runs in ("ended", "through"))
        assert predictions(ended).equals(predictions(through))
    InProcess.started.clear()
    two.done("predict").unlink()
    before = two.best.stat().st_mtime_ns
    assert reproduce(path, tables, tmp_path / "ended")[0]
    assert InProcess.started == ["mlp-meta/official-seed-1"], "what is scored is left alone"
    assert two.best.stat().st_mtime_ns == before, "and what is trained is not trained again"


_SEEDS = ("official", "official-seed-1", "official-seed-2", "official-seed-3")


def test_a_run_that_another_process_works_in_is_waited_for(tables: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]', "folds = [1, 2]")
    (item, other) = plan(path, tmp_path / "runs", data=tables)
    looked: list[str] = []

    def somebody_else(job: Job) -> None:
        """The other run is under way: meanwhile whoever had the first one ends, with its work done."""
        looked.append(watched.status[item.name])
        held.__exit__(None, None, None)
        pipeline.train(item.config, True, Console(quiet=True))

    held = claimed(item.run)
    held.__enter__()
    InProcess.before = somebody_else
    (tmp_path / "runs" / ".reproduce" / "s").mkdir(parents=True)
    executor = main.make_executor(request(path, tables, tmp_path / "runs"), tmp_path)
    watched = grid.Grid([item, other], executor, tmp_path / "runs" / ".reproduce" / "s")
    watched.run(lambda: None)
    assert looked == ["elsewhere"]
    assert InProcess.started == [other.name]
    assert set(watched.status.values()) == {"done"}


def test_a_job_that_finds_its_run_taken_is_no_failure(tables: Path, tmp_path: Path) -> None:
    """Two planners of one study, on one disk: both start a run, one of them gets it."""
    path, runs = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]'), tmp_path / "runs"

    def taken_once(job: Job) -> None:
        InProcess.before = None
        raise UserError(f"{runs}/mlp-meta/official: another process is working in this run (process 1 on other)")

    InProcess.before = taken_once
    well, said = reproduce(path, tables, runs)
    assert well
    assert "mlp-meta/official: another process works in it" in said
    assert len(InProcess.started) == 2


# What it says


def test_a_dry_run_starts_nothing_and_says_what_is_missing(tables: Path, tmp_path: Path) -> None:
    path, runs = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]', "folds = [1, 2]"), tmp_path / "runs"
    well, said = reproduce(path, tables, runs, dry_run=True, folds=("1",))
    assert well
    assert not InProcess.started
    assert "mlp-meta/resample-1" in said
    assert "1 run, 1 to do" in said
    assert "images/s, measured here, on noise" in said
    measured = json.loads((runs / ".reproduce" / "calibration.json").read_text())
    assert reproduce(path, tables, runs, folds=("1",))[0]
    _, said = reproduce(path, tables, runs, dry_run=True)
    assert "2 runs, 1 to do" in said
    assert "images/s, as mlp-meta/resample-1 has taken" in said, "what a run took is better than what was measured"
    assert json.loads((runs / ".reproduce" / "calibration.json").read_text()) == measured


def test_the_disk_that_runs_take(prepared: Path, tmp_path: Path) -> None:
    """The forecast of a network and the files of the run that came of it: to 10 %."""
    from cxrkit.reproduce.costs import disk_bytes

    path = write_study(
        tmp_path / "s.toml", 'recipes = ["resnet14-small-meta"]', schedule__epochs="1", run__limit="8", input__size="32"
    )
    (item,) = planning.check(plan(path, tmp_path / "runs", data=prepared))
    expected = disk_bytes(item)
    run = pipeline.train(item.config, True, Console(quiet=True))
    files = [file.stat().st_size for file in run.path.rglob("*") if file.is_file()]
    assert sum(files) == pytest.approx(expected, rel=0.1)
    assert disk_bytes(item) < 0.1 * expected


def test_generated_names_stay_apart_from_reports(tables: Path, tmp_path: Path) -> None:
    """The logs lie below RUNS, and no report takes them for a run."""
    from cxrkit.report.evidence.runs import find_runs

    assert reproduce(write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]'), tables, tmp_path / "runs")[0]
    found = find_runs(tmp_path / "runs")
    assert [run.folder.name for run in found.runs] == ["official"]
    assert not found.unusable
