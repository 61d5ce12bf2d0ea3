"""Probes: features of a trained run, kept; one dense layer for age, sex and view; what is refused; the report."""

from __future__ import annotations

import csv
import io
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file

from cxrkit import pipeline, predict, report
from cxrkit.base import files
from cxrkit.base.contracts import Batch, Metric, Outputs, Validation
from cxrkit.base.derived import with_labels
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.base.labels import AGE, SEX, VIEW
from cxrkit.base.origin import labels_digest
from cxrkit.base.pretraining import Pretraining
from cxrkit.evaluators import mae, youden
from cxrkit.loaders.inputs import Inputs
from cxrkit.loaders.targets import targets
from cxrkit.losses import build as build_loss
from cxrkit.models import build, compute, prepare_input
from cxrkit.recipes import probing
from cxrkit.report.evidence.reference import known_splits, reference_origin
from cxrkit.report.request import ReportRequest
from cxrkit.runs import checkpoints
from cxrkit.runs.config import read_config
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import read_metrics
from cxrkit.runs.predictions import PredictionInfo, read_predictions, write_predictions
from cxrkit.runs.scores import IDENTITY, Scores, SubsetScores, read_scores, write_scores
from cxrkit.shards.file import ShardSettings
from cxrkit.trainers import features

SMALL = {"model": "resnet14-small", "input_size": 32, "batch_size": 8, "precision": "fp32", "threads": 1, "epochs": 1}
PROBE = {"precision": "fp32", "threads": 1, "epochs": 2}
COLUMN = {"vp": "AP", "gender": "Male", "age": "age_years"}


@pytest.fixture(scope="module", autouse=True)
def _few_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(said: dict[str, Any], resume: bool = False) -> tuple[RunFolder, str]:
    """Train what flags of these names ask for; return the run and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    run = pipeline.train(pipeline.resolve(said, resume=resume), resume, console)
    return run, console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def extractor(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run on fold 1. Read-only apart from its features: copy it before changing it."""
    return train(SMALL | {"data": prepared, "runs": tmp_path_factory.mktemp("extractor"), "fold": "1"})[0]


@pytest.fixture(scope="module")
def probes(extractor: RunFolder, prepared: Path) -> dict[str, tuple[RunFolder, str]]:
    """Return the three probes of the extractor, and what each printed. Read-only."""
    said = PROBE | {"data": prepared, "runs": extractor.path.parent.parent, "from_": extractor.path}
    return {kind: train(said | {"model": f"resnet50-large-{kind}"}) for kind in COLUMN}


def kept_of(run: RunFolder) -> Path:
    (path,) = (run.path / "features").glob("*.safetensors")
    return path


@pytest.mark.parametrize("kind", COLUMN)
def test_a_probe_is_an_ordinary_run(kind: str, probes: Any, extractor: RunFolder) -> None:
    run, _ = probes[kind]
    assert run.path.parts[-2:] == (f"resnet50-large-{kind}", "resample-1")  # the fold is the extractor's
    assert run.state() == "scored"
    info = checkpoints.read_info(run.best)
    assert info.origin.initial_weights == file_digest(extractor.best)
    assert (info.origin.pretraining, info.origin.basis.pretraining) == ("synthetic resample-1", "checked")
    assert info.origin.pretrained == Pretraining("labels", "labels", "none")
    assert info.origin.pixels_digest == checkpoints.read_info(extractor.best).origin.pixels_digest != ""
    assert info.changes == (
        "model.options.features_in=512",
        "model.extractor=resnet14-small with input.size=32, optimizer.batch_size=8, schedule.epochs=1",
        "input.size=32",
        "schedule.epochs=2",
    )
    for subset in ("val", "test"):
        file = read_predictions(run.predictions(subset))  # type: ignore[arg-type]
        assert file.frame.columns == ["image_id", "patient_id", COLUMN[kind]]
        assert file.frame[COLUMN[kind]].std() > 0  # type: ignore[operator]
    metrics = read_scores(run.scores).subsets["test"].names
    assert metrics == {"age": ("mae", "mae_sd", "mae_of_median")}.get(
        kind, ("auc", "threshold", "sensitivity", "specificity")
    )


def test_features_are_computed_once_and_kept(probes: Any, extractor: RunFolder, prepared: Path) -> None:
    printed = [printed for _, printed in probes.values()]
    assert [("images kept" in text) for text in printed] == [True, False, False]
    tensors = load_file(kept_of(extractor))
    names = tensors["image_id"].tobytes().decode().split("\n")
    assert names == sorted(names)
    # What the network itself says of an image: of its centre crop, in evaluation mode.
    model, spec, _ = predict.load(extractor.best)
    inputs = Inputs.of(prepared, "1", None)
    (batch, *_) = inputs.loader(inputs.eval_plan("test", spec, 4), "opencv", "cpu", 1).epoch(0)
    with torch.inference_mode():
        expected = model.features(prepare_input(batch.image, spec)).numpy()
    places = [names.index(inputs.frame["image_id"][int(row)]) for row in batch.index]
    inputs.close()
    assert expected.std() > 0
    np.testing.assert_allclose(tensors["features"][places], expected, atol=1e-4)  # memory laid out otherwise


def test_a_probes_scores_are_its_dense_layer_on_the_features(probes: Any, extractor: RunFolder) -> None:
    tensors = load_file(kept_of(extractor))
    place = {name: number for number, name in enumerate(tensors["image_id"].tobytes().decode().split("\n"))}
    for kind, column in COLUMN.items():
        run, _ = probes[kind]
        weights, _ = checkpoints.read(run.best)
        frame = read_predictions(run.predictions("test")).frame
        vectors = tensors["features"][[place[name] for name in frame["image_id"]]]
        logit = vectors @ weights["model/fc.weight"].numpy()[0] + weights["model/fc.bias"].numpy()
        expected = 46.87 + 16.60 * logit if kind == "age" else 1 / (1 + np.exp(-logit))
        np.testing.assert_allclose(frame[column].to_numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_age_shows_its_error_and_no_auc(probes: Any) -> None:
    run, printed = probes["age"]
    (line, *_) = [line for line in read_metrics(run.metrics) if line["kind"] == "epoch"]
    assert line["val_auc"] is None
    assert line["val_unit"] == "years"
    assert f"MAE {line['val_mae']:.2f} years  lr" in printed


def test_a_probe_resumes_to_the_same_numbers(probes: Any, extractor: RunFolder, prepared: Path, tmp_path: Path) -> None:
    said = PROBE | {"data": prepared, "runs": tmp_path, "model": "resnet50-large-age", "from_": extractor.path}
    train(said | {"epochs": 1})
    again, _ = train({"model": "resnet50-large-age", "fold": "1", "runs": tmp_path, "epochs": 2}, resume=True)
    whole, _ = probes["age"]
    for subset in ("val", "test"):
        one, other = (read_predictions(run.predictions(subset)).frame for run in (again, whole))  # type: ignore[arg-type]
        assert one.equals(other)
    assert read_config(again.config).model.from_run == extractor.path


def test_predict_writes_the_same_predictions_again(probes: Any, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(probes["vp"][0].path, tmp_path / "resample-1")))
    before = read_predictions(run.predictions("test")).frame
    pipeline.predict(run, Console(quiet=True), device="cpu", threads=1)
    assert read_predictions(run.predictions("test")).frame.equals(before)


def test_a_probe_is_told_where_its_run_has_moved(extractor: RunFolder, prepared: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(extractor.path, tmp_path / "old"))
    said = PROBE | {"data": prepared, "runs": tmp_path, "model": "resnet50-large-vp"}
    run, _ = train(said | {"from_": old})
    before = read_predictions(run.predictions("test")).frame
    new = old.rename(tmp_path / "new")
    with pytest.raises(UserError, match=r"--from .*old: not a run folder") as caught:
        pipeline.predict(run, Console(quiet=True), device="cpu", threads=1)
    assert "tell the probe by `cxrkit train --resume --from RUN`" in str(caught.value)
    train({"model": "resnet50-large-vp", "runs": tmp_path, "from_": new}, resume=True)
    assert read_config(run.config).model.from_run == new
    pipeline.predict(run, Console(quiet=True), device="cpu", threads=1)
    assert read_predictions(run.predictions("test")).frame.equals(before)


def resolve(extractor: RunFolder, **said: Any) -> Any:
    return pipeline.resolve({"model": "resnet50-large-vp", "from_": extractor.path, "runs": Path("runs")} | said)


def test_another_fold_than_the_extractors_is_refused(extractor: RunFolder) -> None:
    for fold in ("2", "official"):
        with pytest.raises(UserError) as caught:
            resolve(extractor, fold=fold)
        name = "resample-2" if fold == "2" else fold
        assert f"--fold {fold}: {extractor.path} was trained on split resample-1; a probe on {name} " in str(
            caught.value
        )
        assert f"remedy: leave out --fold, or give --from a run on {name}" in str(caught.value)
    assert resolve(extractor, fold="1").run.fold == resolve(extractor, fold="resample-1").run.fold[-1:] == "1"


@pytest.mark.parametrize(
    ("said", "message", "remedy"),
    [
        ({"from_": None}, "resnet50-large-vp: a probe learns from the features of a trained run", "give --from RUN"),
        ({"from_": Path("nowhere")}, "--from nowhere: not a run folder", "name a run that is trained"),
        ({"model": "resnet50-large"}, "resnet50-large learns from images, not", "leave out --from, or choose a probe"),
        ({"input_size": 64}, "--input-size 64: ", "leave out --input-size"),
        ({"model": "resnet50-large-age", "select": "val_auc"}, "predicts years, which have no AUC", "leave it at"),
        ({"model": "resnet50-large-age", "loss": "bce-mean"}, "predicts years, not", "choose squared-error"),
        ({"from_": "mlp"}, "mlp-meta has no features of images", "name a run of a network that looks at images"),
        ({"from_": "probe"}, "resnet50-large-vp has no features of images", "name a run of a network that looks at"),
        ({"from_": "half"}, "its training has not come to its end", "finish it with `cxrkit train --resume`"),
    ],
)
def test_what_cannot_be_a_probe(
    said: dict[str, Any], message: str, remedy: str, extractor: RunFolder, probes: Any, prepared: Path, tmp_path: Path
) -> None:
    if said.get("from_") == "mlp":
        mlp = {"model": "mlp-meta", "epochs": 1, "data": prepared, "runs": tmp_path}
        said = said | {"from_": train(mlp)[0].path}
    if said.get("from_") == "probe":
        said = said | {"from_": probes["vp"][0].path}
    if said.get("from_") == "half":
        shutil.copytree(extractor.path, tmp_path / "half")
        RunFolder(tmp_path / "half").done("train").unlink()
        said = said | {"from_": tmp_path / "half"}
    with pytest.raises(UserError) as caught:
        resolve(extractor, **said)
    assert message in str(caught.value)
    assert f"remedy: {remedy}" in str(caught.value)


def test_a_changed_checkpoint_is_noticed(probes: Any, extractor: RunFolder, prepared: Path, tmp_path: Path) -> None:
    """A probe neither goes on nor predicts with features of another network; a new one computes its own."""
    home = RunFolder(shutil.copytree(extractor.path.parent.parent, tmp_path / "runs") / extractor.path.parent.name)
    moved = RunFolder(home.path / "resample-1")
    probe = RunFolder(tmp_path / "runs" / "resnet50-large-vp" / "resample-1")
    text = probe.config.read_text().replace(str(extractor.path), str(moved.path))
    probe.config.write_text(text)
    before = kept_of(moved)
    tensors, info = checkpoints.read(moved.best)
    checkpoints.save_tensors(moved.best, {name: value + 0.01 for name, value in tensors.items()}, info)
    with pytest.raises(
        UserError, match=r"resample-1: its training has not come|learned from the features of"
    ) as caught:
        pipeline.predict(probe, Console(quiet=True), device="cpu", threads=1)
    assert "give --from the run as it was then, or train the probe again" in str(caught.value)
    run, printed = train(
        PROBE | {"data": prepared, "runs": tmp_path / "new", "model": "resnet50-large-vp", "from_": moved.path}
    )
    assert "images kept" in printed
    assert not before.exists()
    assert checkpoints.read_info(run.best).origin.initial_weights == file_digest(moved.best)


def attached(extractor: RunFolder, data: Path) -> tuple[np.ndarray, str]:
    """Return the features that a probe is given, and what was printed."""
    config = resolve(extractor, data=data, precision="fp32", threads=1)
    inputs = Inputs.of(data, "1", None)
    console = Console(file=io.StringIO(), width=200)
    spec = build(config.model.name, options=config.model.options).spec
    features.attach(inputs, config, spec, "cpu", console, Path("none"))  # type: ignore[arg-type]
    inputs.close()
    assert inputs.features is not None
    return inputs.features, console.file.getvalue()  # type: ignore[attr-defined]


def test_kept_features_that_do_not_fit_are_computed_again(extractor: RunFolder, prepared: Path, tmp_path: Path) -> None:
    copy = RunFolder(Path(shutil.copytree(extractor.path, tmp_path / "resample-1")))
    shutil.rmtree(copy.path / "features", ignore_errors=True)
    expected, printed = attached(copy, prepared)
    assert "images kept" in printed
    path = kept_of(copy)
    whole = path.read_bytes()
    tensors = load_file(path)
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="np") as file:
        about = file.metadata()

    def other_source() -> None:
        changed = tensors["source_crc32"].copy()
        changed[3] += 1
        save_file(tensors | {"source_crc32": changed}, path, metadata=about)

    def fewer_images() -> None:
        names = "\n".join(tensors["image_id"].tobytes().decode().split("\n")[1:]).encode()
        fewer = {"image_id": np.frombuffer(names, np.uint8)}
        fewer |= {name: tensors[name][1:] for name in ("source_crc32", "features")}
        save_file(fewer, path, metadata=about)

    def other_preparation() -> None:
        changed = json.loads(about["cxrkit"]) | {"preparation": "another"}
        save_file(tensors, path, metadata={"cxrkit": json.dumps(changed)})

    for spoil in (other_source, fewer_images, other_preparation, lambda: path.write_bytes(whole[:-100])):
        spoil()
        found, printed = attached(copy, prepared)
        assert "images kept" in printed
        np.testing.assert_array_equal(found, expected)
    assert "images kept" not in attached(copy, prepared)[1]


def test_two_probes_at_once_compute_features_once(extractor: RunFolder, prepared: Path, tmp_path: Path) -> None:
    """The second waits for the first, and then finds what it has left."""
    copy = RunFolder(Path(shutil.copytree(extractor.path, tmp_path / "resample-1")))
    attached(copy, prepared)
    path = kept_of(copy)
    content = path.read_bytes()
    path.unlink()
    held, done = threading.Event(), threading.Event()

    def first() -> None:
        with files.claimed(path.with_name(f".{path.stem}.lock"), "busy", ""):
            held.set()
            assert done.wait(60)
            path.write_bytes(content)

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(60)
    waited: list[str] = []

    class Heard(Console):
        def print(self, *objects: Any, **how: Any) -> None:
            waited.append(str(objects[0]))
            done.set()

    config = resolve(copy, data=prepared, precision="fp32", threads=1)
    inputs = Inputs.of(prepared, "1", None)
    spec = build(config.model.name, options=config.model.options).spec
    features.attach(inputs, config, spec, "cpu", Heard(), Path("none"))  # type: ignore[arg-type]
    inputs.close()
    thread.join()
    assert len(waited) == 1
    assert "another process computes these features" in waited[0]
    assert waited[0].endswith("; waiting for it")
    assert path.read_bytes() == content


def test_an_extractor_of_part_of_the_images_is_not_probed_with_more(
    extractor: RunFolder, prepared: Path, tmp_path: Path
) -> None:
    part, _ = train(SMALL | {"data": prepared, "runs": tmp_path, "fold": "1", "limit": 8})
    assert resolve(part).run.limit == 8  # as the extractor's, where nothing is said
    with pytest.raises(UserError, match=r"was trained on 8 images, and the probe would be on \d+") as caught:
        train(
            PROBE | {"data": prepared, "runs": tmp_path, "model": "resnet50-large-vp", "from_": part.path, "limit": 99}
        )
    assert "remedy: give --limit 8, or train that run on all images" in str(caught.value)
    assert not (tmp_path / "resnet50-large-vp").exists()


# Labels of metadata, losses, evaluators


def people(**columns: list[Any]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    return pl.DataFrame({"image_id": [f"{n}.png" for n in range(count)], "patient_id": ["1"] * count, **columns})


def test_labels_are_read_from_the_metadata() -> None:
    records = people(
        age_years=[0, 99, 100, 414, None], sex=["M", "F", "O", None, "M"], view=["AP", "PA", "LL", None, "PA"]
    )
    nan = float("nan")
    for labels, expected in ((AGE, [0, 99, nan, nan, nan]), (SEX, [1, 0, nan, nan, 1]), (VIEW, [1, 0, nan, nan, 0])):
        found = targets(records, labels)
        np.testing.assert_array_equal(found[:, 0], expected)
        assert found.flags.writeable
        assert with_labels(records, labels)[labels.labels[0]].null_count() == sum(np.isnan(expected))
        # Whatever changes a label changes its digest.
        changed = records.with_columns(age_years=pl.Series([1, 99, 100, 414, None]), sex=pl.lit("F"), view=pl.lit("PA"))
        assert labels_digest(records, labels) != labels_digest(changed, labels)


def test_losses_of_amounts_mask_what_is_not_known() -> None:
    output = torch.tensor([[50.0], [30.0], [7.0]], requires_grad=True)
    target = torch.tensor([[40.0], [35.0], [float("nan")]])
    batch = Batch(torch.empty(3, 1, 0, 0), target, torch.empty(3, 2), torch.arange(3))
    squared = build_loss("squared-error", labels=AGE, options={"scale": 10.0})(Outputs(output), batch)
    assert squared.item() == pytest.approx((1 + 0.25) / 2)
    assert build_loss("absolute-error", labels=AGE, options={"scale": 10.0})(Outputs(output), batch).item() == 0.75
    squared.backward()
    assert output.grad is not None
    np.testing.assert_allclose(output.grad[:, 0], [0.1, -0.05, 0.0], rtol=1e-6)
    nothing = Batch(batch.image, torch.full((3, 1), float("nan")), batch.meta, batch.index)
    assert build_loss("squared-error", labels=AGE)(Outputs(output), nothing).item() == 0


def by_name(metrics: Any) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics if metric.label is not None}


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_youdens_threshold_is_chosen_on_val_and_counted_on_test() -> None:
    validation = Validation(column(0.1, 0.4, 0.35, 0.8), column(0, 0, 1, 1), np.arange(4))
    scores, truth = column(0.2, 0.5, 0.7, 0.9, 0.3, 0.6), column(0, 0, 1, 1, 1, float("nan"))
    found = by_name(youden.evaluate(scores, truth, np.arange(6), VIEW, validation=validation, replicates=200))
    # At 0.8: sensitivity 1/2, specificity 1; at 0.35: 1 and 1/2; the higher of equal ones.
    assert found["threshold"].value == pytest.approx(0.8)
    assert (found["sensitivity"].value, found["sensitivity"].positives) == (pytest.approx(1 / 3), 3)
    assert (found["specificity"].value, found["specificity"].negatives) == (1.0, 2)
    assert found["auc"].value == pytest.approx(5 / 6)
    without = by_name(youden.evaluate(scores, truth, np.arange(6), VIEW, replicates=20))
    assert without["sensitivity"].value is None
    assert without["sensitivity"].reason == "no threshold: no validation predictions"
    one_kind = Validation(column(0.1, 0.4), column(1, 1), np.arange(2))
    found = by_name(youden.evaluate(scores, truth, np.arange(6), VIEW, validation=one_kind, replicates=20))
    assert found["specificity"].reason == "no threshold: validation images of one kind only"


def test_errors_of_ages() -> None:
    scores, truth = column(50, 30, 70, 20), column(40, 35, 70, float("nan"))
    validation = Validation(column(1, 2, 3), column(30, 40, float("nan")), np.arange(3))
    found = by_name(mae.evaluate(scores, truth, np.array([0, 0, 1, 2]), AGE, validation=validation, replicates=500))
    assert found["mae"].value == 5.0
    assert found["mae_sd"].value == pytest.approx(5.0)  # of 10, 5 and 0
    assert found["mae"].reason == "3 of 4 images, of which it is known"
    assert found["mae_of_median"].value == pytest.approx((5 + 0 + 35) / 3)
    # Patient 0 has 7.5 on the average, patient 1 has 0; where patient 2 alone is drawn, there is none.
    assert (found["mae"].lower, found["mae"].upper) == (0.0, 7.5)
    sure = by_name(mae.evaluate(scores[:3], truth[:3], np.array([0, 0, 1]), AGE, replicates=500))
    assert (sure["mae"].lower, sure["mae"].upper) == (0.0, 7.5)
    assert sure["mae_of_median"].reason == "no validation images"


def test_years_are_no_probabilities() -> None:
    spec = build("resnet50-large-age", options={"features_in": 4}).spec
    model = build("resnet50-large-age", options={"features_in": 4})
    batch = Batch(torch.empty(2, 1, 0, 0, dtype=torch.uint8), torch.zeros(2, 1), torch.zeros(2, 4), torch.arange(2))

    class One:
        def epoch(self, epoch: int) -> Any:
            yield batch

    with torch.no_grad():
        model.fc.bias.fill_(1.0)  # type: ignore[union-attr, operator]
    scored = compute.score(model, One(), spec, "cpu", "fp32")  # type: ignore[arg-type]
    np.testing.assert_allclose(scored.score, 46.87 + 16.60, rtol=1e-6)


def test_the_probes_of_the_paper_are_those_of_the_grammar() -> None:
    assert set(probing.PROBES) == {"resnet50-large-age", "resnet50-large-gender", "resnet50-large-vp"}
    assert report.probes.__doc__


# The report

PREPARATION = ShardSettings("nih-chestxray14", "jpeg", 95, (1024, 512, 256), 1024).digest  # the default


def save_scores(runs: Path, kind: str, split: str, values: dict[str, float], **changes: Any) -> None:
    """Write a run folder as an evaluated probe on all of ChestX-ray14 leaves it, without its training."""
    model, labels = f"resnet50-large-{kind}", {"age": AGE, "gender": SEX, "vp": VIEW}[kind]
    known, label = known_splits()[split], labels.labels[0]
    about = {field: changes.pop(field, "") for field in ("mark", "interval")}
    metrics = [Metric(name, value, label, value - 0.004, value + 0.004, **about) for name, value in values.items()]
    metrics += [Metric("auc", values["auc"], None)] if "auc" in values else []
    origin = replace(
        reference_origin(split),
        label_set=labels.name,
        labels_digest="1abe1" * 12,
        pixels_digest="ab" * 32,
        preparation_digest=PREPARATION,
        initial_weights=known.digest,  # another checkpoint in every fold
        pretraining=f"nih-chestxray14 {split}",
    )
    of_origin = {name: changes.pop(name) for name in list(changes) if hasattr(origin, name)}
    test = SubsetScores(
        "test", known.test, known.test, known.test_digest, known.test_patients, "", True, tuple(metrics)
    )
    scores = Scores(
        name=model, model=model, recipe=model, recipe_digest="5e" * 32, changes=(), seed=0, input_size=448, epoch=9,
        checkpoint_sha256="c0ffee" * 10 + "abcd", origin=replace(origin, **of_origin),
        evaluator="mae" if kind == "age" else "youden", subsets={"test": test},
    )  # fmt: skip
    scores = replace(scores, **changes)
    run = RunFolder(runs / scores.name / (split if not scores.seed else f"{split}-seed-{scores.seed}"))
    identity = {name: getattr(scores, name) for name in IDENTITY}
    about = PredictionInfo(**identity, subset="test", subset_images=known.test)
    images = pl.DataFrame({"image_id": ["a.png"], "patient_id": ["1"], label: [0.5]})
    write_predictions(run.predictions("test"), images, about)
    sha256 = file_digest(run.predictions("test"))
    write_scores(run.scores, replace(scores, subsets={"test": replace(test, predictions_sha256=sha256)}))


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    for fold in range(1, 6):
        auc = {"auc": 0.99 + 0.001 * fold, "sensitivity": 0.98, "specificity": 0.97 + 0.002 * fold}
        save_scores(tmp_path, "vp", f"resample-{fold}", auc)
    save_scores(tmp_path, "vp", "official", {"auc": 0.991, "sensitivity": 0.9, "specificity": 0.8})
    for fold, error in ((1, 9.0), (2, 10.0)):
        save_scores(tmp_path, "age", f"resample-{fold}", {"mae": error, "mae_sd": 7 + fold, "mae_of_median": 13.5})
    other = ("model.options.features_in=2048", "model.extractor=resnet38-large with schedule.epochs=3")
    gender = {"auc": 0.9, "sensitivity": 0.8, "specificity": 0.7}
    save_scores(tmp_path, "gender", "resample-1", gender, changes=other, recipe_digest="38" * 32)
    save_scores(tmp_path, "gender", "resample-1", gender, metadata_digest="2017" * 16, seed=1)
    return tmp_path


def rows_of(shown: report.Report, title: str) -> list[list[str]]:
    (table,) = [table for table in shown.tables if table.title == title]
    return [[row.heading, *(cell.text for cell in row.cells)] for row in table.rows]


def test_the_report_pools_folds_beside_the_paper(evaluated: Path) -> None:
    shown = report.probes(evaluated, apart=True)
    # Each fold has another extractor; they are pooled all the same. The deviation of 1, 2, 3, 4, 5 is 1.5811.
    assert rows_of(shown, "View position, AP or PA, from the features") == [
        ["resnet50-large-vp", "0.9930 ± 0.0016", "98.0 ± 0.0", "97.6 ± 0.3", "5 of 5"],
        ["resnet50-large-vp", "0.9910 [0.9870, 0.9950]", "90.0 [89.6, 90.4]", "80.0 [79.6, 80.4]", "official"],
        ["paper: ResNet-50-large-VP", "0.9983 ± 0.0002", "99.3", "99.1", "5 of 5"],
    ]
    # Beside an error stands the deviation of the images' errors, as in the paper, not that over folds.
    assert rows_of(shown, "Age from the features, in years") == [
        ["resnet50-large-age", "9.50 ± 8.50", "13.50", "2 of 5"],
        ["paper: ResNet-50-large-age", "9.13 ± 7.05", "-", "5 of 5"],
    ]


def test_the_reports_csv_has_a_row_for_each_run_and_measure(evaluated: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(report.render(report.probes(evaluated, apart=True), "csv"))))
    found = {(row["table"], row["run"], row["metric"]): row for row in rows}
    assert len(found) == len(rows)
    assert found["view", "resnet50-large-vp official", "auc"]["lower"] == "0.987"
    paper = found["sex", "ResNet-50-large-gender", "auc"]
    assert (paper["value"], paper["source"], paper["label"]) == ("0.9435", "published", "sex")
    assert found["age", "resnet50-large-age", "mae"]["std"] == "8.5"
    assert found["age", "resnet50-large-age", "mae"]["source"] == "own"
    apart = {key: row for key, row in found.items() if key[1] == "resnet50-large-gender resample-1"}
    assert {table for table, _, _ in apart} == {"apart-sex"}
    assert all("not comparable: ages, sexes and views with digest" in row["doubts"] for row in apart.values())


def test_a_common_epoch_is_not_promised_for_probes(evaluated: Path) -> None:
    with pytest.raises(UserError, match="--probes shows each probe at its own best epoch"):
        ReportRequest(evaluated, "probes", epoch="common")


def test_intervals_of_few_patients_are_marked_and_explained(tmp_path: Path) -> None:
    save_scores(tmp_path, "vp", "official", {"auc": 0.991}, mark="approximate", interval="somehow")
    (table,) = [table for table in report.probes(tmp_path, apart=True).tables if table.title.startswith("View")]
    assert table.rows[0].cells[0].text == "0.9910 ~[0.9870, 0.9950]"
    assert table.notes[0] == "Intervals of AUC: somehow"
    assert table.notes[1].startswith("~: an approximate interval")


def test_the_report_names_terms_and_sets_apart_what_does_not_compare(evaluated: Path) -> None:
    shown = report.probes(evaluated, apart=True)
    sex = "Sex, male or not, from the features"
    assert rows_of(shown, sex) == [
        ["resnet50-large-gender (1)", "0.9000", "80.0", "70.0", "1 of 5"],
        ["paper: ResNet-50-large-gender", "0.9435 ± 0.0067", "87.8", "85.9", "5 of 5"],
    ]
    (table,) = [table for table in shown.tables if table.title == sex]
    assert table.notes[0] == "(1) resnet50-large-gender, extractor resnet38-large with schedule.epochs=3"
    ((name, split, average, why),) = rows_of(shown, "Not comparable: runs kept out of the comparison")
    assert (name, split, average) == ("resnet50-large-gender", "resample-1", "0.900")
    assert "ages, sexes and views with digest 201720172017" in why
    apart = rows_of(shown, f"Not comparable: s{sex[1:]}")
    assert apart == [
        ["resnet50-large-gender", "0.9000 [0.8960, 0.9040]", "80.0 [79.6, 80.4]", "70.0 [69.6, 70.4]", "resample-1"]
    ]
    for format in report.FORMATS:
        assert "0.9435" in report.render(shown, format)
    console = Console(width=80, file=io.StringIO())
    console.print(report.to_rich(shown))
    assert max(map(len, console.file.getvalue().splitlines())) <= 80  # type: ignore[attr-defined]


def test_probes_are_no_rows_of_the_other_reports(evaluated: Path) -> None:
    note = "probes of age, sex or view belong in another table: `cxrkit report --probes`"
    for shown in (report.official(evaluated, apart=True), report.resampled(evaluated, apart=True)):
        assert any(line.endswith(note) for line in shown.notes)
        assert not any("resnet50-large-vp" in row.heading for table in shown.tables for row in table.rows)
        assert not any(column.own for table in shown.tables for column in table.columns)
    said = report.official(evaluated, apart=True).tables[0].notes[-1]
    assert said.startswith("No run is of what these columns are of"), "no reasons follow"
