"""The protocol in words, as a paper's methods section states it: from each run's own config and scores.

Runs that were done in the same way share a line. Nothing is filled in: what a run does not say is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from cxrkit.base.errors import UserError
from cxrkit.base.words import count as counted
from cxrkit.datasets.known_splits import known_splits
from cxrkit.models.grammar import ALIASES, SPECS, ModelSpec
from cxrkit.report.document.tables import Cell, Column, Report, Row, Table
from cxrkit.report.each_run.imports_in_words import ELSEWHERE, input_of_import, split_of_import, test_of_import
from cxrkit.report.evidence.run_names import run_names
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.views_used import looked_at, views_of
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.opening import run_config

LOSSES = {
    "bce-mean": "binary cross-entropy, averaged over the labels of an image and over the images of a batch",
    "bce-sum": "binary cross-entropy, summed over the labels of an image and averaged over the images of a batch",
    "bce-batch-weighted": "binary cross-entropy in which the rarer answer of a batch weighs more (Wang et al. 2017)",
    "bce-training-weighted": "binary cross-entropy weighted for each label by its share of positives in training",
    "focal": "focal loss (Lin et al. 2017), averaged over the known labels",
    "asymmetric": "asymmetric loss (Ridnik et al. 2021), averaged over the known labels",
    "auc-margin": "AUC margin loss (Yuan et al. 2021), of each label in a batch",
    "mil-box": "the likelihood of labels and boxes over the cells of a map (Li et al. 2018)",
    "yao2017-sequence": "cross-entropy of each label given the true ones before it (Yao et al. 2017)",
    "squared-error": "squared error, averaged over what is known",
    "absolute-error": "absolute error, averaged over what is known",
}
_SELECTION = {"val_loss": "the lowest validation loss", "val_auc": "the highest mean validation AUC"}
_NAMED = 6  # runs are named in a line; more are counted


@dataclass(frozen=True)
class _Told:
    """One run and what its folder says of it."""

    run: Run
    config: TrainConfig | None
    """None: it was imported, or its config.toml cannot be read."""
    spec: ModelSpec | None
    """None: a network of the user's own, or from elsewhere."""


def protocol(runs: Sequence[Run]) -> Report:
    """Return how the runs were trained and tested, in words; runs that agree share a line."""
    told = [_told(run) for run in runs]
    called = run_names(runs)
    names = [called[run.folder] for run in runs]
    rows = tuple(row for part, say in _PARTS.items() for row in _rows(part, say, told, names))
    columns = (Column("what", ("What was done",), left=True), Column("runs", ("Runs",), left=True))
    if len(rows) == len(_PARTS):  # each part is one line: nothing to keep together
        rows = tuple(replace(row, rule_above=False) for row in rows)
    table = Table("How it was done", "Part", columns, rows, key="protocol-parts")
    unread = [name for name, item in zip(names, told, strict=True) if item.config is None and not item.run.imported]
    notes = tuple(f"{name}: its config.toml cannot be read" for name in unread)
    return Report("The protocol in words", (table,), notes, key="protocol", text=(_source(runs),))


def _source(runs: Sequence[Run]) -> str:
    """Return which files the sentences are written from: an import has no settings of a training."""
    trained, imported = (any(run.imported is kind for run in runs) for kind in (False, True))
    files = ["`config.toml`"] * trained + ["`import.json`"] * imported + ["`scores.json`"]
    text = f"Every sentence is written from what lies in the run folders ({', '.join(files)})"
    if not trained:
        return f"{text}; of how the models were trained, it is what was declared of them."
    return f"{text}, not from what a recipe intends. `cxrkit train --recipe RUN/config.toml` runs a training again."


def _rows(part: str, say: Callable[[_Told], str], told: Sequence[_Told], names: Sequence[str]) -> Iterator[Row]:
    groups: dict[str, list[str]] = {}
    for name, item in zip(names, told, strict=True):
        groups.setdefault(say(item), []).append(name)
    for number, (sentence, members) in enumerate(groups.items()):
        yield Row("", part, (Cell(sentence), Cell(_which(members, len(told)))), rule_above=not number)


def _which(members: Sequence[str], of: int) -> str:
    members = list(dict.fromkeys(members))
    if len(members) == of:
        return "all" if of > 1 else members[0]
    if len(members) <= _NAMED:
        return "; ".join(members)
    return f"{len(members)}: {'; '.join(members[: _NAMED - 1])}; ..."


def _told(run: Run) -> _Told:
    try:
        config = None if run.imported else run_config(RunFolder(run.folder))
    except UserError:
        config = None
    # A model from elsewhere may bear the name of one of cxrkit's, and be another.
    found = None if run.imported else SPECS.get(ALIASES.get(run.scores.model, run.scores.model))
    return _Told(run, config, found.at(run.scores.input_size) if found and found.image else found)


def _trained(say: Callable[[TrainConfig, _Told], str]) -> Callable[[_Told], str]:
    """Return a function that says what is not known where a run has no config."""

    def said(told: _Told) -> str:
        if told.config is None:
            return ELSEWHERE if told.run.imported else "not known: its config.toml cannot be read"
        return say(told.config, told)

    return said


def _split(told: _Told) -> str:
    origin, test = told.run.origin, told.run.test
    if told.run.imported:
        return split_of_import(told.run)
    known = known_splits().get(origin.split)
    words = [f"split {origin.split}"]
    if known is not None and known.digest == origin.split_digest:
        words.append(f"{known.train:,} images to train on, {known.val:,} to validate, {known.test:,} to test")
    else:
        words += [f"{origin.train_images:,} images to train on"] * bool(origin.train_images)
        words.append(f"{test.subset_images:,} to test")
    if origin.train_images and not origin.complete:
        words.append(f"trained on {origin.train_images:,} of {origin.train_subset_images:,}")
    if not test.complete:
        words.append(f"tested on {test.images:,} of {test.subset_images:,}")
    apart = (
        "no test image and no patient of one was trained on"
        if test.leakage_checked
        else "whether a test patient was trained on is not checked"
    )
    return f"{'; '.join(words)}; {apart}"


def _labels(told: _Told) -> str:
    origin, labels = told.run.origin, told.run.scores.labels
    release = f"of release {origin.label_release}" if origin.label_release != "unknown" else "of an unknown release"
    if labels.unit:
        return f"{', '.join(map(labels.heading, labels.labels))} in {labels.unit}, {release} of {origin.dataset}"
    scored = {metric.label for metric in told.run.test.overall}
    without = [labels.heading(label) for label in labels.labels if label not in scored] if any(scored) else []
    count = counted(len(labels), "label")
    if without:
        count = f"{len(labels) - len(without)} of the {count} (no scores of {', '.join(without)})"
    averaged = [label for label in labels.averaged if labels.heading(label) not in without]
    mean = f"; the mean is over {len(averaged)}, unweighted" if len(averaged) > 1 else ""
    return f"{count} of {labels.name}, {release} of {origin.dataset}{mean}; a label that is not known counts nowhere"


def _network(told: _Told) -> str:
    origin = told.run.origin
    not_known = "what it had seen before is not known"
    before = {"none": "from scratch", "": not_known, "unknown": not_known}
    start = before.get(origin.pretraining, f"pretrained: {origin.pretraining}")
    declared = " (declared)" if origin.basis.pretraining == "declared" else ""
    meta = ", with age, sex and view" if told.spec and told.spec.meta and told.spec.image else ""
    frozen = ", its dense layer alone trained" if told.spec and told.spec.frozen_backbone else ""
    return f"{told.run.scores.model}{meta}; {start}{declared}{frozen}"


def _input(told: _Told) -> str:
    if told.run.imported:
        return input_of_import(told.run)
    spec, size, side = told.spec, told.run.scores.input_size, told.run.origin.image_side
    if spec is not None and not spec.pixels:
        return "age, sex and view; no image is looked at"
    if spec is not None and spec.probe:
        return "the features that another run's network has of the image"
    if not size:
        return "not known"
    source = f" from images of {side:,} pixels" if side else ""
    if spec is None:
        return f"{size} x {size} pixels{source}"
    channels = "1 gray channel" if spec.channels == 1 else f"{spec.channels} equal channels"
    return (
        f"{size} x {size} pixels of {channels}{source}; pixels scaled to [0, 1], minus {_listed(spec.mean)}, divided "
        f"by {_listed(spec.std)}"
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _augmentation(config: TrainConfig, told: _Told) -> str:
    if told.spec is not None and not told.spec.image:
        return "none"
    item = config.augmentation
    aspect = Fraction(item.aspect_max).limit_denominator(20)
    return (
        f"a random crop of {100 * item.area_min:g} to 100 % of the area with sides of {1 / aspect} to {aspect}, scaled "
        f"to the input; turned by up to {item.angle:g} degrees either way; mirrored with probability {item.flip:g}"
    )


def _loss(config: TrainConfig, told: _Told) -> str:
    words = LOSSES.get(config.loss.name, f"a loss of its own, {config.loss.name}")
    options = ", ".join(f"{name} = {value}" for name, value in config.loss.options.items())
    return f"{words}; {options}" if options else words


def _optimiser(config: TrainConfig, told: _Told) -> str:
    item = config.optimizer
    own = config.run.trainer != "supervised"
    penalty = f"L2 penalty {item.weight_decay:g}" if item.weight_decay else "no weight decay"
    rate = f"learning rate {item.lr:g}" if item.lr is not None else "the network's own learning rate"
    batch = f"batches of {item.batch_size:,}" if item.batch_size is not None else "the network's own batch size"
    who = f"by a trainer of its own, {config.run.trainer}, given " if own else ""
    betas = f"betas {item.beta1:g} and {item.beta2:g}"
    name = {"adam": f"Adam, {rate}, {betas}", "adamw": f"AdamW, {rate}, {betas}"}.get(
        item.name, f"SGD, {rate}, momentum {item.momentum:g}"
    )
    more = [f"computed {item.micro_batch:,} images at a time"] * bool(item.micro_batch)
    more += [f"gradients no longer than {item.clip_norm:g}"] * bool(item.clip_norm)
    more += [f"each layer at {item.layer_decay:g} of the rate of the next"] * (item.layer_decay != 1)
    more += [f"weights averaged with a decay of {item.ema:g}"] * bool(item.ema)
    return "; ".join([f"{who}{name}, {penalty}", batch, *more, f"in {config.run.precision}"])


def _schedule(config: TrainConfig, told: _Told) -> str:
    item = config.schedule
    more = item.patience + 1
    after = "an epoch" if more == 1 else f"{more} epochs"
    how = {
        "cosine": f"the learning rate falls along a cosine to {item.min_lr:g}",
        "constant": "the learning rate stays as it is",
    }.get(item.name, f"the learning rate times {item.factor:g} after {after} without a lower validation loss")
    words = [f"{counted(item.epochs, 'epoch')}", how]
    if item.warmup_epochs:
        words.append(f"it rises from {item.warmup_from:g} in the first {item.warmup_epochs:g} epochs")
    if item.stop_patience:
        words.append(f"ended after {counted(item.stop_patience, 'epoch')} without a better one")
    return "; ".join(words)


def _selection(config: TrainConfig, told: _Told) -> str:
    run = told.run
    if run.own is not None:
        return f"epoch {run.scores.epoch}, chosen for all runs of a column together"
    return f"the epoch of {_SELECTION[config.selection.metric]}"


def _test(told: _Told) -> str:
    if told.run.imported:
        return test_of_import(told.run)
    evaluator = f"evaluator {told.run.scores.evaluator}"
    looked = looked_at(told.spec, views_of(told.run, told.config))
    return f"{looked}; {evaluator}" if looked else f"each image once, {evaluator}"


def _statistics(told: _Told) -> str:
    """Return how intervals were made, in the words that the evaluation wrote beside the numbers."""
    said = [metric.interval for metric in told.run.test.metrics if metric.lower is not None and metric.interval]
    return "; ".join(dict.fromkeys(said)) or "no intervals"


_PARTS: dict[str, Callable[[_Told], str]] = {
    "Split": _split,
    "Labels": _labels,
    "Network": _network,
    "Input": _input,
    "Augmentation": _trained(_augmentation),
    "Loss": _trained(_loss),
    "Optimiser": _trained(_optimiser),
    "Schedule": _trained(_schedule),
    "Selection": _trained(_selection),
    "Test": _test,
    "Intervals": _statistics,
}
