"""What a plug-in does wrong is told as its own before a training begins, and the next try is not in its way."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import REPOSITORY
from rich.console import Console
from safetensors.torch import load_file
from test_loaders import write_folder
from tiny_cohort import change_table, describe, records, table_of, write_images

from cxrkit import pipeline
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY8, CHESTXRAY14
from cxrkit.base.origin import labels_digest
from cxrkit.prepare.records import read_records
from cxrkit.prepare.stage import PrepareConfig, prepare_raw
from cxrkit.reproduce import costs, planning, study
from cxrkit.runs.folder import RunFolder
from cxrkit.trainers import rehearsal, stepping

MODULE = "plug_in_with_mistakes"
SOURCE = '''
import random
import numpy as np
import torch
from examples.plain_loader import PlainLoader
from cxrkit.base.contracts import Batch, Metric, Outputs
from cxrkit.losses.cross_entropy import bce_mean, cross_entropy
from cxrkit.models import ModelSpec
from cxrkit.trainers import supervised

FAULTY = False

class Net(torch.nn.Module):
    def __init__(self, outputs=15, width=4):
        super().__init__()
        self.spec = ModelSpec(name="mine", input_size=32, resize=36, learning_rate=0.01, batch_size=4)
        self.features, self.dense = torch.nn.Conv2d(1, width, 3, stride=4), torch.nn.Linear(width, outputs)

    def logits(self, image):
        return self.dense(self.features(image).mean((2, 3)))

    def forward(self, image, meta):
        logits = self.logits(image)
        return Outputs(logits * float("nan") if FAULTY else logits)

class Drawing(Net):
    def forward(self, image, meta):
        return Outputs(torch.nn.functional.dropout(self.logits(image) + random.random() + np.random.rand(), 0.5))

class OneArgument(Net):
    def forward(self, image): return Outputs(self.logits(image))
class Bare(Net):
    def forward(self, image, meta): return self.logits(image)
class NotANumber(Net):
    def forward(self, image, meta): return Outputs(self.logits(image) / 0 * 0)
class NotWhenEvaluated(Net):
    def forward(self, image, meta): return Outputs(self.logits(image) * (1 if self.training else float("inf")))
class Squeezed(Net):
    def forward(self, image, meta): return Outputs(self.logits(image).squeeze())
class Viewed(Net):
    def forward(self, image, meta): return Outputs(self.dense(self.features(image).view(len(image), -1)[:, :4]))
class Failing(Net):
    def forward(self, image, meta): raise KeyError("my own fault")
class Library(Net):
    def forward(self, image, meta): return Outputs(torch.cat([self.logits(image), meta[:1]], dim=1))
class Detached(Net):
    def forward(self, image, meta): return Outputs(self.logits(image).detach())
class Rooted(Net):
    def forward(self, image, meta): return Outputs(self.logits(image) + (self.dense.bias * 0).sqrt())
class Remembering(Net):
    kept = None
    def forward(self, image, meta):
        logits = self.logits(image)
        if self.kept is None and not self.training:
            self.kept = logits.mean() + 1
        return Outputs(logits if self.kept is None else logits * self.kept)
class Stateful(Net):
    def get_extra_state(self): return {"a": 1}
    def set_extra_state(self, state): pass

def good(labels): return Net(len(labels))
def hurried(labels):
    net = Net(len(labels))
    net.spec = ModelSpec(name="mine", input_size=32, resize=36, learning_rate=-1, batch_size=4)
    return net
def for_eight(labels):
    assert len(labels) == 8, f"for eight labels, not {len(labels)}"
    return Net(8)
def fourteen(labels): return Net(14)
def double(labels): return Net().double()
def frozen(labels): return Net().requires_grad_(False)
def restless(labels): return Net(width=random.randint(4, 4000))

def vector():
    return lambda outputs, batch: outputs.logits.mean(1)
def number():
    return lambda outputs, batch: 0.5
def never():
    return lambda outputs, batch: outputs.logits.sum() * float("nan")
def detached():
    return lambda outputs, batch: bce_mean()(outputs, batch).detach()
def unmasked():
    return lambda outputs, batch: torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, batch.target)
def absent():
    return lambda outputs, batch: torch.nn.functional.binary_cross_entropy_with_logits(
        outputs.logits, batch.target.nan_to_num())
def by_row():
    def loss(outputs, batch):
        entropy, known = cross_entropy(outputs.logits, batch.target)
        return (entropy.sum(1) / known.sum(1)).mean()
    return loss
def changing():
    def loss(outputs, batch):
        batch.target.nan_to_num_()
        return bce_mean()(outputs, batch)
    return loss
def trap():
    def loss(outputs, batch):
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(
            outputs.logits, batch.target, reduction="none")
        return torch.where(batch.target.isnan(), 0, entropy).sum()
    return loss
def raising():
    def loss(outputs, batch): raise KeyError("my own fault")
    return loss
def late():
    def loss(outputs, batch):
        if batch.index.max() > 8:
            raise KeyError("on real images alone")
        return bce_mean()(outputs, batch)
    return loss
def positives():
    """A loss that no negative enters: it masks what is not known, though filling it with 0 changes nothing."""
    return lambda outputs, batch: ((batch.target == 1) * torch.nn.functional.softplus(-outputs.logits)).mean()

class Floats(PlainLoader):
    def epoch(self, epoch, start_step=0):
        for batch in super().epoch(epoch, start_step):
            yield Batch(batch.image.float(), batch.target, batch.meta, batch.index)
class Short(PlainLoader):
    def epoch(self, epoch, start_step=0):
        yield from list(super().epoch(epoch, start_step))[:-1]
class Twice(PlainLoader):
    def epoch(self, epoch, start_step=0):
        first, *others = super().epoch(epoch, start_step)
        yield from [first] * (1 + len(others))
class More(PlainLoader):
    def epoch(self, epoch, start_step=0):
        batches = list(super().epoch(epoch, start_step))
        yield from batches + batches
class Deaf(PlainLoader):
    def epoch(self, epoch, start_step=0): return super().epoch(epoch)
class Mislabelled(PlainLoader):
    def epoch(self, epoch, start_step=0):
        for batch in super().epoch(epoch, start_step):
            yield Batch(batch.image, 1 - batch.target, batch.meta, batch.index)
class Tuples(PlainLoader):
    def epoch(self, epoch, start_step=0):
        for batch in super().epoch(epoch, start_step):
            yield batch.image, batch.target
class Unclosed(PlainLoader):
    closed = False
    def close(self):
        if self.closed: raise OSError("closed already")
        self.closed = True
class Stepless(PlainLoader):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        del self.steps

def loaderless(store, plan, targets, metadata, *, threads, device): return None

def nan(scores, truth, clusters, labels): return [Metric("mine", float("nan"), labels.labels[0])]
def nothing(scores, truth, clusters, labels): return []
def strangers(scores, truth, clusters, labels): return [Metric("mine", 0.5, "Mumps")]
def upside_down(scores, truth, clusters, labels): return [Metric("mine", 0.5, None, 0.9, 0.1)]
def nameless(scores, truth, clusters, labels): return [Metric("", 0.5)]
def auc(scores, truth, clusters, labels): return [Metric("auc", 0.5)]
def hits(scores, truth, clusters, labels): return [Metric("hits", float((scores > 0.5).mean()))]
def only_both(scores, truth, clusters, labels):
    if not np.nan_to_num(truth).any(0).all(): raise ValueError("only one class present")
    return [Metric("mine", 0.5)]

def idle(task): pass
def broken(task): raise OSError("my own fault")
'''


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("mistakes") / "shards", "raw", 60, (64,))


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(REPOSITORY)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(MODULE, None)


def train(shards: Path, runs: Path, **said: Any) -> RunFolder:
    given: dict[str, Any] = {"model": f"{MODULE}:good", "data": shards, "runs": runs, "name": "trial", "fold": "1"}
    given |= {"epochs": 1, "limit": 6, "batch_size": 4, "device": "cpu", "precision": "fp32", "threads": 1}
    return pipeline.train(pipeline.resolve(given | said), False, Console(quiet=True))


MODELS = [
    ("fourteen", "model '{}': expected logits (4, 15) for 4 images and 15 labels, found (4, 14)"),
    ("OneArgument", "model '{}': its forward cannot be called as (image_BCHW, meta_B3): too many positional arguments"),
    ("Bare", "model '{}': expected Outputs(logits, maps=None, extra={{}}), found a Tensor"),
    ("NotANumber", "model '{}': 60 of 60 logits are not finite numbers in training, on a plain batch of noise"),
    ("NotWhenEvaluated", "logits are not finite numbers in evaluation mode, on a plain batch of noise"),
    ("Squeezed", "model '{}': expected logits (1, 15) for 1 images and 15 labels, found (15,)"),
    ("Viewed", f"plug-in {MODULE} failed: RuntimeError: view size is not compatible"),
    ("Failing", f"plug-in {MODULE} failed: KeyError: 'my own fault'\n  model '{{}}', in its forward pass in training"),
    ("Library", f"plug-in {MODULE} failed: RuntimeError: Sizes of tensors must match"),
    ("Detached", "loss 'bce-mean' of model '{}': has no gradient"),
    ("Rooted", "model '{}': the gradient of 'dense.bias' is not finite on a plain batch of noise"),
    ("Remembering", f"plug-in {MODULE} failed: RuntimeError: Inference tensors cannot be saved"),
    ("Stateful", "model '{}': its state_dict holds '_extra_state', a dict, and a checkpoint tensors alone"),
    ("double", "model '{}': its parameter 'features.weight' is torch.float64, expected torch.float32"),
    ("hurried", "model '{}': learning_rate = -1 is not a number above 0"),
    ("frozen", "model '{}': none of its parameters requires a gradient"),
    ("restless", "model '{}': built twice with equal options it has other parameters, the first 'features.weight'"),
]
LOSSES = [
    ("vector", "loss '{}': expected a scalar, found a tensor of shape (4,)"),
    ("number", "loss '{}': expected a scalar, found a float"),
    ("never", "loss '{}': is nan on a plain batch of noise, with all labels known"),
    ("detached", "loss '{}' of model 'mlp-meta': has no gradient"),
    (
        "unmasked",
        "loss '{}': is nan on a plain batch of noise, where some labels are not known\n  remedy: leave entries",
    ),
    ("by_row", "loss '{}': is nan on a plain batch of noise, where some labels are not known"),
    ("absent", "loss '{}': counts labels that are not known as absent"),
    ("changing", "loss '{}': changes batch.target, where some labels are not known"),
    ("trap", "loss '{}': its gradient is not finite where some labels are not known\n  remedy: leave entries"),
    ("raising", f"plug-in {MODULE} failed: KeyError: 'my own fault'\n  loss '{{}}', of 4 images and 15 labels"),
]
LOADERS = [
    ("Floats", "loader '{}': batch 1 in epoch 0 from step 0 on, of 5 validation images in batches of 2: image is "),
    (
        "Short",
        "loader '{}': delivers 2 batches in epoch 0 from step 0 on, of 5 validation images in batches of 2; expect",
    ),
    ("Twice", "loader '{}': batch 2 in epoch 0 from step 0 on, of 5 validation images in batches of 2: its images are"),
    ("More", "loader '{}': delivers more batches in epoch 0 from step 0 on, of 5 validation images in batches of 2"),
    ("Deaf", "loader '{}': batch 2 in epoch 1 from step 1 on, of 5 validation images in batches of 2: its images are"),
    (
        "Mislabelled",
        "loader '{}': batch 1 in epoch 0 from step 0 on, of 5 validation images in batches of 2: target is ",
    ),
    ("Tuples", "is a tuple, expected a Batch"),
    ("loaderless", "loader '{}': expected an object with steps, epoch and close, found None, which has no epoch"),
    ("Unclosed", f"plug-in {MODULE} failed: OSError: closed already\n  loader '{{}}', closed twice"),
    ("Stepless", f"plug-in {MODULE} failed: AttributeError: 'Stepless' object has no attribute 'steps'"),
]
EVALUATORS = [
    ("nan", "evaluator '{}': mine of Cardiomegaly: value is nan; where it is undefined, give None and the reason"),
    ("nothing", "evaluator '{}': it found no metric\n  tried before the training, on made-up scores of 24 images"),
    ("strangers", "evaluator '{}': mine of Mumps: no label of chestxray14"),
    ("upside_down", "evaluator '{}': mine of the mean has an interval that ends before it begins, [0.9, 0.1]"),
    ("nameless", "evaluator '{}': a metric is called '', expected a printable name"),
    ("only_both", f"plug-in {MODULE} failed: ValueError: only one class present\n  evaluator '{{}}', given the scores"),
    ("only_both", "on made-up scores of 24 images: no image has Cardiomegaly, Emphysema is not known of any"),
]
TRAINERS = [
    ("idle", "best.safetensors: trainer '{}' has left no checkpoint there\n  remedy: a trainer of your own must"),
    ("broken", "my own fault"),
]
CASES = [
    (kind, *case)
    for kind, cases in {
        "model": MODELS, "loss": LOSSES, "loader": LOADERS, "evaluator": EVALUATORS, "trainer": TRAINERS,
    }.items()
    for case in cases
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "text"), CASES)
def test_a_mistake_is_told_before_the_training_and_leaves_no_run(
    kind: str, name: str, text: str, shards: Path, tmp_path: Path
) -> None:
    said = {"model": "mlp-meta"} if kind in ("loss", "evaluator", "trainer") else {}  # the quickest
    with pytest.raises((UserError, OSError)) as caught:
        train(shards, tmp_path / "runs", **(said | {kind: f"{MODULE}:{name}"}))
    assert text.format(f"{MODULE}:{name}") in str(caught.value)
    if isinstance(caught.value, UserError):
        assert caught.value.remedy
    assert not list((tmp_path / "runs").rglob("*"))


def test_a_network_is_built_for_the_labels_of_its_data_set_alone(tmp_path: Path) -> None:
    """It may refuse any others: none are tried on it, not even to learn its input size."""
    data, name = write_folder(tmp_path / "shards", "raw", 60, (64,)), f"{MODULE}:for_eight"
    listed = pl.read_parquet(table_of(data, "records"))
    eight = listed.drop(set(CHESTXRAY14.labels) - set(CHESTXRAY8.labels))
    describe(data, label_set=CHESTXRAY8.name, labels_digest=labels_digest(eight, CHESTXRAY8))
    change_table(data, "records", eight)
    assert train(data, tmp_path / "runs", model=name).state() == "scored"
    with pytest.raises(UserError, match="run `cxrkit prepare --data "):  # not: built for others, and failed
        train(tmp_path / "none", tmp_path / "others", model=name)
    (tmp_path / "eight.toml").write_text(f'[model]\nname = "{name}"\n')
    (tmp_path / "study.toml").write_text('recipes = ["eight.toml"]\nfolds = [1]\n')
    places = planning.Places(data, tmp_path / "others", ())
    (planned,) = planning.check(planning.plan(study.read(str(tmp_path / "study.toml")), places))
    assert costs.disk_bytes(planned) > 0


def test_the_next_try_works_at_once(shards: Path, tmp_path: Path) -> None:
    """Also after a fault that only real images show, when the run folder was there already."""
    runs = tmp_path / "runs"
    with pytest.raises(UserError, match="expected logits"):
        train(shards, runs, model=f"{MODULE}:fourteen")
    with pytest.raises(KeyError, match="on real images alone"):
        train(shards, runs, loss=f"{MODULE}:late", limit=30)
    assert not list(runs.rglob("*"))
    run = train(shards, runs, loss=f"{MODULE}:positives", loader="examples.plain_loader:PlainLoader")
    assert run.state() == "scored"
    sys.modules[MODULE].FAULTY = True  # type: ignore[attr-defined]
    before = run.scores.read_bytes()
    with pytest.raises(UserError, match=rf"model '{MODULE}:good': its scores are not numbers for 6 of 6 val images"):
        pipeline.predict(run, Console(quiet=True))
    assert run.scores.read_bytes() == before


def test_a_run_that_has_a_checkpoint_keeps_it(shards: Path, tmp_path: Path) -> None:
    run = train(shards, tmp_path / "runs")
    best = run.best.read_bytes()
    config = pipeline.resolve({"trainer": f"{MODULE}:broken"})
    with pytest.raises(OSError, match="later"), rehearsal.no_trace_of_a_failure(run, config, Any):  # type: ignore[arg-type]
        raise OSError("later")
    assert run.best.read_bytes() == best
    assert run.state() == "scored"


def test_a_rehearsal_changes_no_number(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network draws from torch, numpy and Python."""

    def trained(runs: Path) -> dict[str, torch.Tensor]:
        random.seed(0)
        np.random.seed(0)
        return load_file(train(shards, runs, model=f"{MODULE}:Drawing").best)

    tried = trained(tmp_path / "tried")
    monkeypatch.setattr(rehearsal, "rehearse", lambda task, inputs: None)
    plain = trained(tmp_path / "plain")
    assert tried.keys() == plain.keys()
    assert all(torch.equal(tried[name], plain[name]) for name in plain)


def test_cxrkits_own_parts_are_not_rehearsed(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(rehearsal._Rehearsal, "of", refuse)
    monkeypatch.setattr(stepping, "fixed_batch", refuse)
    assert train(shards, tmp_path / "runs", model="mlp-meta").state() == "scored"
    with pytest.raises(AssertionError):
        train(shards, tmp_path / "own")


# Several evaluators


def test_evaluators_side_by_side(shards: Path, tmp_path: Path) -> None:
    from cxrkit.runs.scores import read_scores

    hits = f"{MODULE}:hits"
    with pytest.raises(UserError, match=rf"evaluators 'auc' and '{MODULE}:auc' both give auc of the mean"):
        train(shards, tmp_path / "runs", model="mlp-meta", evaluator=f"auc,{MODULE}:auc")
    with pytest.raises(UserError, match=r"--evaluator auc,auc: auc is named twice\n  remedy: name each once"):
        train(shards, tmp_path / "runs", model="mlp-meta", evaluator="auc,auc")
    with pytest.raises(UserError, match="unknown evaluator 'acu'\n  remedy: did you mean auc"):
        train(shards, tmp_path / "runs", model="mlp-meta", evaluator="acu, auc")
    run = train(shards, tmp_path / "runs", model="mlp-meta", evaluator=f"auc, {hits}")
    scores = read_scores(run.scores)
    assert (scores.evaluator, scores.subsets["test"].names) == (f"auc,{hits}", ("auc", "hits"))
    assert scores.evaluators == ("auc", hits)
    pipeline.evaluate(
        run, None, Console(quiet=True), replicates=3, evaluator=f"{hits},auc"
    )  # for the one that takes it
    assert read_scores(run.scores).subsets["test"].names == ("auc", "hits")  # the order of before
    config = pipeline.resolve({"evaluator": "auc", **_same(run, shards)}, resume=True)
    pipeline.train(config, True, Console(quiet=True))
    assert read_scores(run.scores).subsets["test"].names == ("auc", "hits"), "what was asked by hand stays"


def _same(run: RunFolder, shards: Path) -> dict[str, Any]:
    return {"model": "mlp-meta", "name": "trial", "fold": "1", "runs": run.path.parent.parent, "data": shards}


# Data sets

DATASETS = """
from dataclasses import replace
import polars as pl
from tiny_cohort import records
from cxrkit.base.labels import LabelSet

KIDS = LabelSet("elsewhere", ("Mass",), ("Mass",))
def changed(**columns):
    def read(raw, *, allow_missing=False):
        found = records(raw, 20)
        return replace(found, frame=found.frame.with_columns(**columns))
    return read
def with_records(**fields):
    def read(raw, *, allow_missing=False): return replace(records(raw, 20), **fields)
    return read
def frame(raw, *, allow_missing=False): return records(raw, 20).frame
def pandas(raw, *, allow_missing=False): return replace(records(raw, 20), frame={"image_id": []})
def lacking(raw, *, allow_missing=False):
    return replace(records(raw, 20), frame=records(raw, 20).frame.drop("view", "Mass"))
def none(raw, *, allow_missing=False): return replace(records(raw, 20), frame=records(raw, 20).frame.clear())
def broken(raw, *, allow_missing=False): raise KeyError("my own fault")
def good(raw, *, allow_missing=False): return records(raw, 20)
whole = changed(age_years=pl.col("age_years").cast(pl.Float64))
unknown = changed(age_years=pl.when(pl.col("age_years") < 33).then(-1).otherwise("age_years").cast(pl.Int32))
twice = changed(image_id=pl.col("image_id").replace("00000002_001.png", "00000001_000.png"))
nobodys = changed(patient_id=pl.when(pl.col("patient_id") == "3").then(None).otherwise("patient_id"))
men = changed(sex=pl.lit("male"))
even = pl.int_range(pl.len()) % 2 == 0
sideways = changed(official=pl.when(even).then(pl.lit("test")).otherwise(pl.lit("train_val")))
lost = with_records(labels=KIDS)
unlabelled = with_records(labels=("Mass",))
nameless = with_records(label_release=None)
boxed = with_records(boxes=pl.DataFrame({"image_id": ["a"]}))
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("frame", "expected cxrkit.base.contracts.Records, found a DataFrame"),
        ("pandas", "expected a polars.DataFrame as the frame of its Records, found a dict"),
        ("lacking", "its frame lacks the column 'view', 'Mass'; what is not known is null, not left out"),
        ("whole", "column 'age_years' of its frame is Float64, expected Int32"),
        ("unknown", "age_years is -1 in 3 rows, expected years, or null where it is not known"),
        ("twice", "1 images are listed more than once, the first 00000001_000.png"),
        ("nobodys", "patient_id is empty in 3 of 20 rows; every image has one"),
        ("men", "sex is 'male' in 20 rows, expected M, F or null"),
        ("sideways", "patient '1' is in train_val and in test of its official split (7 such patients)"),
        ("none", "lists no image"),
        ("lost", "its label set 'elsewhere' cannot be found again by that name, as every later step must"),
        ("unlabelled", "expected a cxrkit.base.labels.LabelSet with labels as its Records' labels, found ('Mass',)"),
        ("nameless", "its Records' label_release is None, expected a name"),
        ("boxed", "its boxes lacks the column 'label'"),
        ("broken", "plug-in data_set_with_mistakes failed: KeyError: 'my own fault'\n  dataset "),
    ],
)
def test_a_data_sets_mistake_is_told_before_anything_is_prepared(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, data, module = tmp_path / "raw", tmp_path / "shards", "data_set_with_mistakes"
    raw.mkdir()
    (tmp_path / f"{module}.py").write_text(DATASETS)
    monkeypatch.delitem(sys.modules, module, raising=False)
    for tables_only in (True, False):
        config = PrepareConfig(raw, data, dataset=f"{module}:{name}", tables_only=tables_only, workers=1, levels=(64,))
        with pytest.raises(UserError) as caught:
            prepare_raw(config)
        assert text in str(caught.value)
        assert f"{module}" in str(caught.value)
        assert caught.value.remedy
        assert not data.exists()
    if name == "frame":  # and the corrected one is prepared into the same place
        write_images(raw / "images", 20)
        config = PrepareConfig(raw, data, dataset=f"{module}:good", workers=1, levels=(64,), codec="raw")
        assert prepare_raw(config).images == 20


def test_a_data_set_that_is_right_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every cell known, and with boxes; of examples/table_dataset.py most are null (test_examples.py)."""
    module = "data_set_with_mistakes"
    (tmp_path / f"{module}.py").write_text(
        f"{DATASETS}\nfrom cxrkit.base.contracts import BOX_SCHEMA\n"
        "listed = with_records(boxes=pl.DataFrame(schema=BOX_SCHEMA))\n"
    )
    monkeypatch.delitem(sys.modules, module, raising=False)
    for name in ("good", "listed"):
        found = read_records(f"{module}:{name}", tmp_path, allow_missing=False)
        assert found.frame.equals(records(tmp_path, 20).frame)
