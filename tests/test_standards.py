"""What journals and hubs ask for, filled from runs of the study: every statement is the run's, or marked "author".

Golden files hold whole documents; after a wanted change run `CXRKIT_UPDATE_GOLDEN=1 pytest tests/test_standards.py` and
read the difference.
"""

from __future__ import annotations

import copy
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pages
import polars as pl
import pytest
import study_runs
import tiny_runs
from study_runs import Study

from cxrkit import __version__
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.base.labels import ADJUDICATED, AGE, CHESTXRAY8
from cxrkit.datasets.known_splits import known_splits
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import read_truth
from cxrkit.prepare.config import PrepareConfig
from cxrkit.prepare.records import read_records
from cxrkit.prepare.stage import prepare_tables
from cxrkit.report.evidence.runs import Run, find_runs
from cxrkit.report.rendering.formats import render
from cxrkit.runs.folder import RunFolder, write_split
from cxrkit.standards import write_standards
from cxrkit.standards.claim import answers, claim_report
from cxrkit.standards.claim_docx import docx_bytes
from cxrkit.standards.every_eval_ever import every_eval_ever
from cxrkit.standards.facts import RunFacts, read_facts
from cxrkit.standards.hub import front_matter, results_file
from cxrkit.standards.items import ITEMS
from cxrkit.standards.markup import plain, yaml
from cxrkit.standards.model_card import model_card
from cxrkit.standards.tables import performance_table
from cxrkit.standards.words import main_metric

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PER_RUN = {"claim.md", "claim.tex", "claim.docx", "model-card.md", "evaluation-results.yaml", "every-eval-ever.json"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """Return the study, as long as its cohort is taken for ChestX-ray14. Read-only."""
    folder = tmp_path_factory.mktemp("study")
    with study_runs.known(folder / "manifests"):
        yield study_runs.build(folder / "study")


def facts_of(study: Study, name: str, split: str = "official") -> RunFacts:
    run = next(run for run in find_runs(study.runs).runs if run.folder == study.runs / name / split)
    return read_facts(run)


def foreign_run(folder: Path, labels: Any, **changes: Any) -> Run:
    """Return an evaluated run of a data set, and of labels, that cxrkit knows nothing of; some labels are unknown."""
    records = tiny_runs.make_records(labels=labels) if not labels.metadata else aged_records()
    if not labels.metadata:
        records = records.with_columns(
            pl.when(pl.col("patient_id") == "50").then(None).otherwise(pl.col(label)).alias(label)
            for label in labels.labels[:1]
        )
    split = tiny_runs.make_split(records)
    table = folder / "labels.parquet"
    folder.mkdir()
    records.write_parquet(table)
    run = folder / "runs" / "mine" / "official"
    tiny_runs.make_run(run, records, split, labels, **({"dataset": "elsewhere"} | changes))
    used = records.select("image_id", used=pl.lit(True), source_crc32=pl.lit(1, pl.UInt32))
    write_split(RunFolder(run), split, used)
    evaluate_run(
        run, read_truth(table), "mae" if labels.unit else "auc", options={} if labels.unit else {"replicates": 20}
    )
    return find_runs(folder / "runs").runs[0]


def aged_records() -> pl.DataFrame:
    records = tiny_runs.make_records()
    return records.with_columns(age_years=20 + pl.int_range(len(records)) % 60, sex=pl.lit("F"), view=pl.lit("PA"))


def same_as_golden(name: str, text: str) -> None:
    text = text.replace(f"cxrkit {__version__}", "cxrkit VERSION").replace(f'"{__version__}"', '"VERSION"')
    text = re.sub(r"\d+\.\d{6,}", lambda found: f"{float(found[0]):.5f}", text)  # the last digits are a processor's own
    path = GOLDEN / name
    if os.environ.get("CXRKIT_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_items_are_those_of_claim_2024() -> None:
    assert [item.number for item in ITEMS] == list(range(1, 45))
    found = Counter((item.section, item.topic) for item in ITEMS)
    # The published table: section, topic, how many items.
    assert list(found.items()) == [
        (("Title / Abstract", ""), 1), (("Abstract", ""), 1), (("Introduction", ""), 2),
        (("Methods", "Study design"), 2), (("Methods", "Data"), 7), (("Methods", "Reference standard"), 5),
        (("Methods", "Data partitions"), 2), (("Methods", "Testing data"), 1), (("Methods", "Model"), 3),
        (("Methods", "Training"), 3), (("Methods", "Evaluation"), 7), (("Results", "Data"), 2),
        (("Results", "Model performance"), 3), (("Discussion", ""), 2), (("Other information", ""), 3),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["resnet50-large-meta", "mlp-meta", "partial", "elsewhere"])
def test_every_item_is_answered_or_the_authors(name: str, study: Study) -> None:
    for item, said in answers(facts_of(study, name)).items():
        assert said.text or said.author, item
        assert bool(said.text) == bool(said.sources), item
        assert not said.text or said.text.endswith("."), said.text
        assert "None" not in said.text.replace("None:", "").replace("None in this run", ""), said.text


def test_golden_documents(study: Study) -> None:
    trained, imported = facts_of(study, "resnet50-large-meta"), facts_of(study, "elsewhere")
    same_as_golden("standards_claim.md", render(claim_report(trained), "md"))
    same_as_golden("standards_claim_imported.md", render(claim_report(imported), "md"))
    same_as_golden("standards_model_card.md", model_card(trained))
    same_as_golden("standards_model_card_imported.md", model_card(imported))
    same_as_golden("standards_evaluation_results.yaml", results_file(trained))
    same_as_golden("standards_every_eval_ever.json", json.dumps(every_eval_ever(trained, NOW), indent=2) + "\n")


def test_numbers_are_those_of_the_scores(study: Study) -> None:
    facts = facts_of(study, "resnet38-large-meta")
    card, metrics = model_card(facts), facts.run.test.metrics
    assert len(metrics) == 16
    for metric in metrics:
        assert f"{metric.value:.3f}" in card
        assert repr(metric.value) in card  # the front matter rounds nothing
        assert metric.lower is None or f"[{metric.lower:.3f}, {metric.upper:.3f}]" in card
    mean = facts.run.auc()
    assert mean is not None
    assert f"value: {mean.value!r}" in results_file(facts)


def test_cases_are_counted_on_the_labels(study: Study) -> None:
    labels = pl.read_parquet(study.labels)
    facts = facts_of(study, "resnet50-large-meta", "resample-2")
    split = pl.read_parquet(facts.run.folder / "split.parquet")
    assert [partition.subset for partition in facts.partitions] == ["train", "val", "test"]
    for partition in facts.partitions:
        rows = labels.filter(pl.col("image_id").is_in(split.filter(subset=partition.subset)["image_id"].implode()))
        cases = partition.cases
        assert cases is not None
        assert (partition.images, partition.patients) == (len(rows), rows["patient_id"].n_unique())
        assert (cases.female, cases.male) == ((rows["sex"] == "F").sum(), (rows["sex"] == "M").sum())
        assert cases.views == {view: (rows["view"] == view).sum() for view in ("AP", "PA")}
        assert cases.positives["Hernia"] == rows["Hernia"].sum()
        assert cases.age_years == tuple(rows["age_years"].quantile(share, "linear") for share in (0.25, 0.5, 0.75))


def test_other_labels_than_those_scored_count_nobody(study: Study, tmp_path: Path) -> None:
    shutil.copytree(study.runs / "mlp-meta", tmp_path / "runs" / "mlp-meta")
    other = tmp_path / "labels.parquet"
    pl.read_parquet(study.labels).with_columns(Mass=~pl.col("Mass")).write_parquet(other)
    facts = read_facts(find_runs(tmp_path / "runs").runs[0], other)
    assert all(partition.cases is None for partition in facts.partitions)
    assert "Cases of each partition" not in model_card(facts)


def test_an_import_claims_nothing_of_its_training(study: Study) -> None:
    said = {item.number: answer for item, answer in answers(facts_of(study, "elsewhere")).items()}
    for number in (9, 20, 24, 25, 26, 27, 32, 33):
        assert not said[number].text, said[number]
    assert "Pretrained" not in model_card(facts_of(study, "elsewhere"))
    assert "What it was trained on is not known" in said[40].text
    assert "14 labels" in said[1].text  # it has no scores of No Finding
    assert "training" not in said[19].text  # how it was split is not how it was trained


def test_a_partial_run_says_so(study: Study) -> None:
    facts = facts_of(study, "partial")
    assert "tested on 60 of the split's" in model_card(facts)
    assert "partial: not all images were used" in results_file(facts)


def test_a_training_beyond_the_papers_protocol_is_told(study: Study) -> None:
    """Item 25, of what a recipe may ask for."""
    facts = facts_of(study, "mlp-meta")
    assert facts.config is not None
    config = facts.config.with_values(
        {
            "optimizer.name": "adamw", "optimizer.weight_decay": 0.05, "optimizer.decay_norms": False,
            "optimizer.layer_decay": 0.75, "optimizer.ema": 0.999, "optimizer.clip_norm": 1.0,
            "optimizer.micro_batch": 4, "optimizer.batch_size": 64, "optimizer.lr": 0.001, "schedule.epochs": 50,
            "schedule.name": "cosine", "schedule.warmup_epochs": 5.0, "schedule.min_lr": 1e-5,
            "schedule.stop_patience": 15,
        }
    )  # fmt: skip
    said = {item.number: answer for item, answer in answers(replace(facts, config=config)).items()}[25].text
    assert (
        "; AdamW (beta 0.9 and 0.999), learning rate 0.001, a factor of 0.75 on it from each layer to the one before, "
        "64 images a step, 4 at once, weight decay 0.05 (not of biases and normalisations), gradients of at most "
        "length 1, the weights averaged over the steps (decay 0.999); 50 epochs at most, or until 15 epochs were no "
        "better; the rate rises from 0 over the first 5; the rate falls along a cosine to 1e-05; "
    ) in said
    other = config.with_values({"optimizer.name": "sgd", "schedule.name": "constant"})
    said = {item.number: answer for item, answer in answers(replace(facts, config=other)).items()}[25].text
    assert "; SGD (momentum 0.9), learning rate 0.001" in said
    assert "; the rate is constant; " in said


def test_files_that_are_gone_or_broken_stay_with_the_author(study: Study, tmp_path: Path) -> None:
    shutil.copytree(study.runs / "mlp-meta", tmp_path / "runs" / "mlp-meta")
    folder = tmp_path / "runs" / "mlp-meta" / "official"
    for name in ("split.parquet", "metrics.jsonl", "config.toml"):
        (folder / name).unlink()
    (folder / "provenance.json").write_text("{")
    said = {item.number: answer for item, answer in answers(read_facts(find_runs(tmp_path / "runs").runs[0])).items()}
    assert [said[number].text for number in (9, 12, 25, 26, 36)] == [""] * 5
    assert "Tested on 391 images" in said[35].text


def test_scores_of_other_predictions_are_told(study: Study, tmp_path: Path) -> None:
    shutil.copytree(study.runs / "mlp-meta", tmp_path / "runs" / "mlp-meta")
    other = study.runs / "resnet38-large-meta" / "official" / "predictions" / "test.parquet"
    shutil.copy(other, tmp_path / "runs" / "mlp-meta" / "official" / "predictions" / "test.parquet")
    card = model_card(read_facts(find_runs(tmp_path / "runs").runs[0]))
    assert "## Limitations\n\n- Evaluate the run again before you use this document: " in card


def test_a_foreign_data_set_is_the_authors(tmp_path: Path) -> None:
    facts = read_facts(foreign_run(tmp_path / "foreign", ADJUDICATED), tmp_path / "foreign" / "labels.parquet")
    said = {item.number: answer for item, answer in answers(facts).items()}
    assert [said[number].text for number in (5, 11, 13, 14, 16)] == [""] * 5
    texts = (model_card(facts), render(claim_report(facts), "md"), json.dumps(every_eval_ever(facts, NOW)))
    assert not any("NIH" in text or "ChestX-ray14" in text for text in texts)
    assert "elsewhere" in texts[0]
    assert "Pneumothorax of 3 images" in said[12].text  # patient 50's
    check_every_eval_ever(json.loads(texts[2]))


def test_other_labels_on_the_same_images_are_not_said_to_be_nihs(tmp_path: Path) -> None:
    run = foreign_run(tmp_path / "other", ADJUDICATED, dataset="nih-chestxray14")
    facts = read_facts(run, tmp_path / "other" / "labels.parquet")
    said = {item.number: answer for item, answer in answers(facts).items()}
    assert [said[number].text for number in (14, 16, 18)] == [""] * 3
    assert "text-mined" not in model_card(facts)
    assert "All images are from one hospital" in said[40].text


def test_the_eight_labels_of_chestxray8_are_nihs_too(tmp_path: Path) -> None:
    run = foreign_run(tmp_path / "eight", CHESTXRAY8, dataset="nih-chestxray8")
    facts = read_facts(run, tmp_path / "eight" / "labels.parquet")
    said = {item.number: answer for item, answer in answers(facts).items()}
    assert "one hospital, the NIH Clinical Center" in said[5].text + said[7].text
    assert "108,948 images" in "".join(answer.text for answer in said.values())
    assert "text-mined" in said[14].text + said[16].text
    card = model_card(facts)
    assert "NIH ChestX-ray8" in card
    assert "one of the six that ChestX-ray14 added" in card
    assert "No Finding" not in card, "it is none of the eight"
    check_every_eval_ever(every_eval_ever(facts, NOW))


def test_an_age_has_no_auc(tmp_path: Path) -> None:
    facts = read_facts(foreign_run(tmp_path / "ages", AGE), tmp_path / "ages" / "labels.parquet")
    document = every_eval_ever(facts, NOW)
    check_every_eval_ever(document)
    config = document["evaluation_results"][0]["metric_config"]
    assert (config["metric_id"], config["metric_unit"], config["lower_is_better"]) == ("mae", "years", True)
    assert "score_type" not in config
    assert "prediction of Age in years" in model_card(facts).replace("Prediction", "prediction")
    assert 'type: "tabular-regression"' in front_matter(facts)


def test_metrics_without_a_direction_are_named_as_left_out(study: Study) -> None:
    facts = facts_of(study, "mlp-meta")
    own = replace(facts.run.test.metrics[0], name="my_score")
    test = replace(facts.run.test, metrics=(*facts.run.test.metrics, own))
    scores = replace(facts.run.scores, subsets={"test": test})
    document = every_eval_ever(replace(facts, run=replace(facts.run, scores=scores)), NOW)
    check_every_eval_ever(document)
    assert len(document["evaluation_results"]) == 16
    assert document["eval_library"]["additional_details"]["metrics_left_out"] == "my_score"


@pytest.mark.parametrize("evaluators", ["auc,subgroups,calibration", "subgroups,calibration,auc"])
def test_numbers_of_groups_and_other_metrics_do_not_stand_for_the_run(evaluators: str, study: Study) -> None:
    facts = facts_of(study, "resnet38-large-meta")
    folder = facts.run.folder
    before = (folder / "scores.json").read_bytes()
    try:
        scores = evaluate_run(folder, read_truth(study.labels), evaluators, {"replicates": 200})
        facts = facts_of(study, "resnet38-large-meta")
        mean = scores.subsets["test"].metric("auc")
        assert main_metric(facts) == mean
        assert f"value: {mean.value!r}\n" in results_file(facts)
        said = {item.number: answer for item, answer in answers(facts).items()}
        assert f"Mean AUC over 14 labels: {mean.value:.3f} [" in said[37].text
        assert "and their unweighted mean over 14" in said[28].text
        table = performance_table(facts)
        effusion = next(row for row in table.rows if row.key == "Effusion")
        value = scores.subsets["test"].metric("auc", "Effusion").value
        place = [column.name for column in table.columns].index("auc")
        assert effusion.cells[place].text.startswith(f"{value:.3f}")
        document = every_eval_ever(facts, NOW)
        check_every_eval_ever(document)
        names = [item["evaluation_name"] for item in document["evaluation_results"]]
        assert len(names) == len(set(names))
        assert "groups of images" in document["eval_library"]["additional_details"]["metrics_left_out"]
        indexed = re.findall(r'name: "(AUC, [^"]*)"', front_matter(facts))
        assert len(indexed) == len(set(indexed)) == 16
    finally:
        (folder / "scores.json").write_bytes(before)


# The rules of Every Eval Ever's aggregate schema 0.2.2 and of its validator, in our words: what must be there, what
# may be beside it, and of which kind.
_RESULT = {"evaluation_name", "source_data", "metric_config", "score_details"}
_TOP = {
    "schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info", "eval_library",
    "evaluation_results",
}  # fmt: skip


def check_every_eval_ever(document: dict[str, Any]) -> None:
    assert document.keys() - {"evaluation_timestamp", "detailed_evaluation_results"} == _TOP
    assert document["schema_version"] == "0.2.2"
    assert re.fullmatch(r"\d+(\.\d+)?", document["retrieved_timestamp"])
    assert document["evaluation_id"].endswith(f"/{document['model_info']['id']}/{document['retrieved_timestamp']}")
    source = document["source_metadata"]
    assert source["source_type"] in ("documentation", "evaluation_run")
    assert source["evaluator_relationship"] in ("first_party", "third_party", "collaborative", "other")
    assert isinstance(source["source_organization_name"], str)
    assert {"name", "version"} <= document["eval_library"].keys()
    assert document["model_info"]["id"].count("/") == 1
    details = document["model_info"]["additional_details"]
    assert details["deployment_type"] in ("self_deployed", "externally_managed", "unknown")
    assert details["model_availability"] in ("open_weights", "closed_weights", "unknown")
    for free in (details, document["eval_library"]["additional_details"]):
        assert all(isinstance(value, str) for value in free.values())
    assert document["evaluation_results"]
    for result in document["evaluation_results"]:
        check_result(result)


def check_result(result: dict[str, Any]) -> None:
    assert result.keys() == _RESULT
    data, config, details = result["source_data"], result["metric_config"], result["score_details"]
    assert isinstance(data["dataset_name"], str)
    assert data["source_type"] in ("url", "other")
    assert data["source_type"] == "other" or (data["url"] and all(isinstance(one, str) for one in data["url"]))
    assert all(isinstance(value, str) for value in data["additional_details"].values())
    assert isinstance(config["lower_is_better"], bool)
    score = details["score"]
    assert type(score) is float
    if "score_type" in config:
        assert config["score_type"] == "continuous"
        assert config["min_score"] <= score <= config["max_score"]
    assert all(isinstance(value, str) for value in details.get("details", {}).values())
    if "uncertainty" in details:
        interval = details["uncertainty"]["confidence_interval"]
        assert interval["lower"] <= score <= interval["upper"]
        assert interval["confidence_level"] == 0.95
        assert type(details["uncertainty"]["num_samples"]) is int


def test_every_eval_ever_meets_its_schema(study: Study) -> None:
    for name in ("resnet50-large-meta", "partial", "elsewhere"):
        check_every_eval_ever(every_eval_ever(facts_of(study, name), NOW))


@pytest.mark.parametrize("where", ["source_metadata", "evaluation_results"])
def test_the_check_of_the_schema_can_fail(where: str, study: Study) -> None:
    document = copy.deepcopy(every_eval_ever(facts_of(study, "mlp-meta"), NOW))
    if where == "source_metadata":
        document[where]["evaluator_relationship"] = "author"
    else:
        document[where][0]["score_details"]["score"] = 1.5
    with pytest.raises(AssertionError):
        check_every_eval_ever(document)


def test_yaml_reads_back() -> None:
    reader = pytest.importorskip("yaml")
    value = {
        "text": ["no", "1.5", "2026-01-01", "a: b # c", 'say "hi"', "Überschrift\n2", ""],
        "numbers": {"one": 1, "half": 0.5, "small": 1e-7, "smaller": 2.5e-9, "said": True, "none": None},
        "empty": [{}, []],
        "nested": [{"a": [1, {"b": "c"}]}, [1, 2]],
    }
    assert reader.safe_load(yaml(value)) == value


def test_the_hub_reads_front_matter_and_results(study: Study) -> None:
    reader = pytest.importorskip("yaml")
    facts = facts_of(study, "resnet50-large-meta")
    index = reader.safe_load(model_card(facts).split("---\n")[1])["model-index"]
    (result,) = index[0]["results"]
    assert {"task", "dataset", "metrics"} == result.keys()
    assert result["task"]["type"] == "image-classification"
    assert [metric["value"] for metric in result["metrics"]] == [metric.value for metric in facts.run.test.metrics]
    (entry,) = reader.safe_load(results_file(facts))
    assert {"id", "task_id"} == entry["dataset"].keys()
    assert all(text.startswith("author: ") for text in entry["dataset"].values())


def test_markdown_shows_names_as_they_are() -> None:
    assert plain("a_b *c* [d] `e_f`\nnext") == "a\\_b \\*c\\* \\[d] `e_f` next"


def test_docx_holds_every_answer(study: Study) -> None:
    docx = pytest.importorskip("docx")
    facts = facts_of(study, "resnet50-large-meta")
    report = claim_report(facts)
    document = docx.Document(io.BytesIO(docx_bytes(report)))
    rows = [[cell.text for cell in row.cells] for table in document.tables[:15] for row in table.rows]
    expected = [
        [row.heading, *(cell.text for cell in row.cells), ""] for table in report.tables[:15] for row in table.rows
    ]
    assert [row for row in rows if row[0] != "No."] == expected
    assert len(expected) == 44
    assert document.core_properties.author == ""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_compiles(study: Study, tmp_path: Path) -> None:
    body = render(claim_report(facts_of(study, "resnet50-large-meta")), "latex")
    packages = "".join(re.findall(r"\\usepackage(?:\[[^]]*\])?\{[^}]*\}", body))  # as the file itself asks for them
    text = f"\\documentclass{{article}}{packages}\\begin{{document}}{body}\\end{{document}}"
    (tmp_path / "claim.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "claim.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60)
    assert done.returncode == 0, done.stdout[-1000:]


@pytest.fixture(scope="module")
def tables(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the study's tables as a prepared folder. Read-only."""
    config = PrepareConfig(raw=study.raw, data=tmp_path_factory.mktemp("tables") / "data", tables_only=True)
    prepare_tables(config, read_records(config.dataset, study.raw, allow_missing=True))
    return config.data


def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def validated(path: Path) -> Any:
    """Return what mlcroissant makes of a document; it raises for an error. Its warnings: what only the author knows."""
    croissant = pytest.importorskip("mlcroissant")
    found = croissant.Dataset(path)
    unsaid = [line for line in found.metadata.ctx.issues.report().splitlines() if line.lstrip().startswith("-")]
    assert all("datePublished" in line or "schema.org/version" in line or "citeAs" in line for line in unsaid), unsaid
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mlcroissant's own
def test_croissant_of_tables(study: Study, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_standards(study.runs, tmp_path / "out", data=tables, chosen=lambda run: run.name == "mlp-meta")
    folder = tmp_path / "data"
    shutil.copytree(tables, folder)
    for name in ("croissant.json", "splits.parquet"):
        shutil.copy(tmp_path / "out" / "nih-chestxray14" / name, folder)
    without_network(monkeypatch)
    found = validated(folder / "croissant.json")
    for file in found.metadata.distribution:
        assert file_digest(folder / file.content_url) == file.sha256
    rows = [{key.split("/")[1]: value for key, value in row.items()} for row in found.records("splits")]
    assert len(rows) == 18
    for row in rows:
        known = known_splits()[row["split"]]
        assert row["split_sha256"] == known.digest
        assert row["images"] == getattr(known, row["subset"])
        assert row["subset"] != "test" or row["images_sha256"] == known.test_digest
    records = pl.read_parquet(next(folder.glob("records-*.parquet")))
    (images,) = (one for one in found.metadata.record_sets if one.id == "images")
    assert [field.name for field in images.fields] == records.columns
    assignment = pl.read_parquet(folder / "splits.parquet")
    assert assignment.columns == ["image_id", *known_splits()]
    assert assignment["resample-1"].value_counts().sort("resample-1")["count"].to_list() == [
        getattr(known_splits()["resample-1"], subset) for subset in ("test", "train", "val")
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlcroissant_reads_the_tables_by_their_columns(
    study: Study, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="mlcroissant reads parquet with pyarrow (mlcroissant[parquet])")
    write_standards(study.runs, tmp_path / "out", data=tables, chosen=lambda run: run.name == "mlp-meta")
    folder = tmp_path / "data"
    shutil.copytree(tables, folder)
    for name in ("croissant.json", "splits.parquet"):
        shutil.copy(tmp_path / "out" / "nih-chestxray14" / name, folder)
    without_network(monkeypatch)
    found = validated(folder / "croissant.json")
    read = pl.DataFrame(list(map(_named, found.records("split-assignment"))))
    assert read.equals(pl.read_parquet(folder / "splits.parquet"))
    records = pl.read_parquet(next(folder.glob("records-*.parquet")))
    first = _named(next(iter(found.records("images"))))
    assert first == {name.replace(" ", "_"): value for name, value in records.row(0, named=True).items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_lines_of_the_page_read_it(
    study: Study, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    write_standards(study.runs, tmp_path / "DIR", data=tables, chosen=lambda run: run.name == "mlp-meta")
    shutil.copytree(tables, tmp_path / "data" / "shards")
    (records,) = (tmp_path / "data" / "shards").glob("records-*.parquet")
    (code,) = pages.blocks("docs/standards.md", "python")
    monkeypatch.chdir(tmp_path)
    exec(compile(re.sub(r"records-\w+\.parquet", records.name, code), "docs/standards.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == len(pl.read_parquet(records))


def _named(record: dict[str, Any]) -> dict[str, Any]:
    values = {key.split("/")[1]: value for key, value in record.items()}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_croissant_of_shards(study: Study, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(prepared, folder)
    chosen = {"data": folder, "chosen": lambda run: run.name == "mlp-meta"}
    assert not any("croissant" in note for note in write_standards(study.runs, out, **chosen).notes)
    without_network(monkeypatch)
    for name in ("croissant.json", "splits.parquet"):
        shutil.copy(out / "synthetic" / name, folder)
    found = validated(folder / "croissant.json")
    shards = [file for file in found.metadata.distribution if file.encoding_formats == ["application/x-hdf5"]]
    assert {file.name: file.sha256 for file in shards} == {
        path.name: file_digest(path) for path in folder.glob("shard-*.h5")
    }
    assert all(file.content_size == f"{(folder / file.name).stat().st_size} B" for file in shards)
    # What a document says is not read again, and what it does not say is.
    document = json.loads((out / "synthetic" / "croissant.json").read_text())
    first = next(item for item in document["distribution"] if item["name"] == shards[0].name)
    first["sha256"] = "ab" * 32
    (out / "synthetic" / "croissant.json").write_text(json.dumps(document))
    (folder / shards[1].name).chmod(0o600)
    write_standards(study.runs, out, **chosen)
    again = {
        item["name"]: item["sha256"]
        for item in json.loads((out / "synthetic" / "croissant.json").read_text())["distribution"]
    }
    assert again[shards[0].name] == "ab" * 32
    assert again[shards[1].name] == shards[1].sha256


def test_a_missing_shard_costs_the_metadata_alone(study: Study, prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(prepared, folder)
    next(folder.glob("shard-*.h5")).unlink()
    written = write_standards(study.runs, tmp_path / "out", data=folder, chosen=lambda run: run.name == "mlp-meta")
    assert len(written.files) == len(PER_RUN)
    assert re.search(r"no croissant.json of .*data: .*shard-\d+-\w+.h5: No such file", written.text())


def test_write_standards(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mine = out / "mlp-meta-official" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    written = write_standards(study.runs, out, now=NOW, chosen=lambda run: run.split == "official")
    assert (written.runs, written.folders, written.notes) == (7, 0, ())
    assert mine.read_text() == "mine"
    folders = {path.name: {file.name for file in path.iterdir()} for path in out.iterdir()}
    assert folders.pop("mlp-meta-official") == {*PER_RUN, "notes.txt"}
    assert len(folders) == 6
    assert all(files == PER_RUN for files in folders.values())
    assert {"resnet50-large-official", "resnet50-large-official-seed-1", "elsewhere-official"} < folders.keys()
    assert written.text().startswith(f"42 documents of 7 runs in {out}\n")
    before = {path: path.read_bytes() for path in out.glob("mlp-meta-*/*") if path.suffix != ".docx"}
    write_standards(study.runs, out, now=NOW, chosen=lambda run: run.name == "mlp-meta")
    assert before == {path: path.read_bytes() for path in before}


def test_names_are_safe_for_files_and_differ(study: Study, tmp_path: Path) -> None:
    for name in ("a b", "A-B", "../up"):
        folder = tmp_path / "runs" / name.replace("../", "") / "official"
        shutil.copytree(study.runs / "mlp-meta" / "official", folder)
        scores = json.loads((folder / "scores.json").read_text()) | {"name": name}
        (folder / "scores.json").write_text(json.dumps(scores))
    written = write_standards(tmp_path / "runs", tmp_path / "out")
    assert {path.parent.name for path in written.files} == {"A-B-official", "a-b-official-2", "up-official"}


def test_no_docx_without_the_library(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docx", None)
    written = write_standards(study.runs, tmp_path, chosen=lambda run: run.name == "mlp-meta")
    assert {path.name for path in written.files} == PER_RUN - {"claim.docx"}
    assert "no claim.docx: a .docx file needs python-docx" in written.text()
    assert "pip install 'cxrkit[report]'" in written.text()


def test_what_cannot_be_is_refused(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run is chosen"):
        write_standards(study.runs, tmp_path / "out", chosen=lambda run: False)
    with pytest.raises(UserError, match="there is no such folder of runs"):
        write_standards(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="its folder is not a folder"):
        write_standards(study.runs, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture(scope="module")
def without_val(study: Study, tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    """An import without validation predictions, asked for what needs them: nothing of that has a value."""
    folder = tmp_path_factory.mktemp("imports") / "elsewhere"
    shutil.copytree(study.runs / "elsewhere", folder)
    options = {"replicates": 20}
    evaluate_run(folder / "official", read_truth(study.labels), "auc,calibration,thresholds,subgroups", options)
    return read_facts(find_runs(folder).runs[0], study.labels)


def test_items_are_answered_from_metrics_that_have_a_value(without_val: RunFacts) -> None:
    said = {item.number: answer for item, answer in answers(without_val).items()}
    assert "sensitivity" in without_val.run.test.names
    assert not said[38].text
    assert said[28].text == "AUC, Brier and ECE of 14 labels, and their unweighted mean over 14."
    table = performance_table(without_val)
    assert [column.name for column in table.columns] == ["auc", "brier", "ece", "positive"]
    for place in range(len(table.columns)):
        assert any(row.cells[place].text[0].isdigit() for row in table.rows)
    (note,) = [note for note in table.notes if note.startswith("Left out")]
    assert note.startswith("Left out, for want of any value: temperature; Brier, tempered; ")
    assert note.endswith("; sensitivity; specificity; PPV; NPV (no validation predictions)")
    metrics = front_matter(without_val).split("model-index")[0]
    assert re.findall(r'- "(\w+)"\n', metrics.split("metrics:")[1]) == ["roc_auc", "brier", "ece"]
    left_out = every_eval_ever(without_val, NOW)["eval_library"]["additional_details"]["metrics_left_out"]
    assert left_out == "ece, what is of groups of images"


def test_robustness_points_to_the_subgroups_that_were_evaluated(without_val: RunFacts, study: Study) -> None:
    said = {item.number: answer for item, answer in answers(without_val).items()}
    assert said[30].text.startswith("Evaluated on subgroups of the test images by sex")
    assert "against" not in said[30].text  # a difference is of no group
    (table,) = [table for table in claim_report(without_val).tables if table.key == "subgroups"]
    women = next(row for row in table.rows if row.key == "sex F")
    mean = without_val.run.test.metric("auc", None, "sex F")
    assert mean is not None
    assert mean.value is not None
    assert women.cells[0].text.startswith(f"{mean.value:.3f} [")
    assert "## Subgroups of the test images" in model_card(without_val)
    assert "by sex" in model_card(without_val)
    alone = {item.number: answer for item, answer in answers(facts_of(study, "elsewhere")).items()}
    assert not alone[30].text
    assert "subgroups" in alone[30].author


def test_an_import_has_no_checkpoint(without_val: RunFacts, study: Study) -> None:
    details = every_eval_ever(without_val, NOW)["model_info"]["additional_details"]
    assert without_val.imported is not None
    assert details["predictions_sha256"] == without_val.imported.sha256
    assert not details.keys() & {"checkpoint_sha256", "recipe", "recipe_sha256", "seed", "epoch"}
    assert "checkpoint" not in model_card(without_val)
    own = facts_of(study, "mlp-meta")
    details = every_eval_ever(own, NOW)["model_info"]["additional_details"]
    assert details["checkpoint_sha256"] == own.run.scores.checkpoint_sha256
    assert "predictions_sha256" not in details
