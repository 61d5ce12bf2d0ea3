"""Answers to CLAIM's items 22 to 34: the model, its training and evaluation."""

from __future__ import annotations

from collections.abc import Callable

from cxrkit.models import catalog
from cxrkit.models.grammar import MLP_HIDDEN
from cxrkit.report.evidence.metric_names import metrics_listed
from cxrkit.report.evidence.undefined import defined_names
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.sections import OptimizerSettings, ScheduleSettings
from cxrkit.standards.claim_data import SCORES
from cxrkit.standards.facts import FILES, RunFacts
from cxrkit.standards.tables import subgroups_table
from cxrkit.standards.words import (
    Said,
    author,
    count,
    data_name,
    groups_found,
    how_intervals,
    kind,
    listed,
    sentences,
)

_LOSSES = {
    "bce-mean": "binary cross-entropy, averaged over labels and images (bce-mean)",
    "bce-sum": "binary cross-entropy, summed over labels and averaged over images (bce-sum)",
}
CONFIG, PROVENANCE, IMPORT = FILES["config"], FILES["provenance"], FILES["imported"]


def model(facts: RunFacts) -> Said:
    """Item 22."""
    spec, name = facts.spec, facts.run.scores.model
    if spec is None or facts.config is None:
        source = CONFIG if facts.config else IMPORT
        return Said(f"{name}.", "describe inputs, outputs, layers and connections", (source,))
    parameters, trainable, _ = catalog.cost(spec, facts.labels)
    learn = "all of them trained" if trainable == parameters else f"of which {trainable:,} are trained"
    hidden = f" with hidden layers of {listed(map(str, MLP_HIDDEN))}" if not (spec.blocks or spec.probe) else ""
    depth = f", blocks {listed(map(str, spec.blocks))} in four stages, {spec.width} channels first" * bool(spec.blocks)
    text = [f"{name}: {kind(facts)}{hidden}{depth}, {parameters:,} parameters, {learn}"]
    inputs = [f"{count(spec.channels, 'channel')} of {spec.input_size} x {spec.input_size} pixels"] * spec.image
    inputs += ["age, sex and view position"] * spec.meta
    inputs += [f"{spec.features_in:,} features of the network of {facts.config.model.extractor}"] * bool(spec.probe)
    text.append(f"Input: {listed(inputs)}")
    outputs = facts.labels.unit or "logits, whose sigmoid is the score"
    text.append(f"Output: {count(len(facts.labels), 'number')}, {outputs}")
    return Said(sentences(text), "refer to the paper of the architecture", (CONFIG,))


def software(facts: RunFacts) -> Said:
    """Item 23."""
    found = facts.provenance or {}
    packages = found.get("packages")
    if facts.config is not None and isinstance(packages, dict) and packages:
        named = [f"Installed: cxrkit {found.get('cxrkit')}", f"Python {found.get('python')}"]
        named += [f"{name} {version}" for name, version in packages.items()]
        machine = found.get("processor") or found.get("platform") or ""
        device = f"Device: {found['device']}" if found.get("device") else ""
        return Said(sentences([", ".join(named), f"Machine: {machine}" if machine else "", device]), "", (PROVENANCE,))
    scored = f"Evaluated with cxrkit {facts.run.scores.cxrkit_version}"
    framework = facts.imported.about.framework if facts.imported else ""
    declared = f"Declared: trained with {framework}" if framework else ""
    hint = "name the versions of what it was trained with"
    return Said(sentences([scored, declared]), hint, (SCORES, IMPORT) if declared else (SCORES,))


def initialization(facts: RunFacts) -> Said:
    """Item 24."""
    origin = facts.run.origin
    known = origin.basis.pretraining
    if known == "unknown":
        return author("say what the parameters started from")
    said = "" if known == "checked" else " (declared, not checked)"
    if origin.pretraining == "none" and not origin.initial_weights:
        seed = f", seed {facts.run.scores.seed}" if facts.config else ""
        return Said(f"At random, from scratch{seed}{said}.", "", (SCORES,))
    digest = f" (SHA-256 {origin.initial_weights[:12]}...)" if origin.initial_weights else ""
    return Said(f"Pretrained: {origin.pretraining}{digest}{said}.", "", (SCORES,))


def training(facts: RunFacts) -> Said:
    """Item 25."""
    config = facts.config
    if config is None:
        return author("describe augmentation, loss, optimizer, hyperparameters and how many models were trained")
    trainer = "" if config.run.trainer == "supervised" else f"Trainer {config.run.trainer}"
    looks = "" if facts.looks_at_images is False or (facts.spec and facts.spec.probe) else _augmentation(config)
    text = sentences([trainer, looks, _optimisation(config, facts), f"Seed {config.run.seed}"])
    hint = "say how the hyperparameters were found, and how many models were trained in all"
    return Said(text, hint, (CONFIG, PROVENANCE) if facts.provenance else (CONFIG,))


def _augmentation(config: TrainConfig) -> str:
    it = config.augmentation
    return (
        f"Augmentation: random crops of at least {100 * it.area_min:g} % of the area, aspect ratio up to "
        f"{it.aspect_max:.3g}, "
        f"rotation up to {it.angle:g} degrees, horizontal flips with probability {it.flip:g}"
    )


def _optimisation(config: TrainConfig, facts: RunFacts) -> str:
    loss = _LOSSES.get(config.loss.name, config.loss.name)
    precision = (facts.provenance or {}).get("precision") or config.run.precision
    return f"Loss: {loss}; {_steps(config.optimizer)}; {_rates(config.schedule)}; {precision}"


def _steps(optimizer: OptimizerSettings) -> str:
    """Return how a step is taken, in words."""
    adam = f"(beta {optimizer.beta1:g} and {optimizer.beta2:g})"
    names = {"adam": f"Adam {adam}", "adamw": f"AdamW {adam}", "sgd": f"SGD (momentum {optimizer.momentum:g})"}
    words = [names[optimizer.name]]
    if optimizer.lr is not None:
        words.append(f"learning rate {optimizer.lr:g}")
    if optimizer.layer_decay != 1:
        words.append(f"a factor of {optimizer.layer_decay:g} on it from each layer to the one before")
    if optimizer.batch_size is not None:
        in_parts = f", {optimizer.micro_batch} at once" if optimizer.micro_batch else ""
        words.append(f"{count(optimizer.batch_size, 'image')} a step{in_parts}")
    if optimizer.weight_decay:
        exempt = "" if optimizer.decay_norms else " (not of biases and normalisations)"
        words.append(f"weight decay {optimizer.weight_decay:g}{exempt}")
    if optimizer.clip_norm:
        words.append(f"gradients of at most length {optimizer.clip_norm:g}")
    if optimizer.ema:
        words.append(f"the weights averaged over the steps (decay {optimizer.ema:g})")
    return ", ".join(words)


def _rates(schedule: ScheduleSettings) -> str:
    """Return how long it is trained, and with which rates, in words."""
    early = f" at most, or until {count(schedule.stop_patience, 'epoch')} were no better" * (schedule.stop_patience > 0)
    words = [f"{count(schedule.epochs, 'epoch')}{early}"]
    if schedule.warmup_epochs:
        words.append(f"the rate rises from {schedule.warmup_from:g} over the first {schedule.warmup_epochs:g}")
    late = f" for more than {count(schedule.patience, 'epoch')}" if schedule.patience else ""
    falls = {
        "plateau": f"the rate is multiplied by {schedule.factor:g} when the validation loss has not improved{late}",
        "cosine": f"the rate falls along a cosine to {schedule.min_lr:g}",
        "constant": "the rate is constant",
    }
    return "; ".join([*words, falls[schedule.name]])


def selection(facts: RunFacts) -> Said:
    """Item 26."""
    if facts.config is None:
        return author("say how the final model was chosen, and on which images")
    what = {"val_loss": "lowest loss", "val_auc": "highest mean AUC"}[facts.config.selection.metric]
    epoch = facts.run.scores.epoch
    text = f"The epoch of the {what} on the validation images: {epoch} of {facts.config.schedule.epochs}."
    return Said(text, "", (CONFIG, SCORES))


def ensembling(facts: RunFacts) -> Said:
    """Item 27."""
    if facts.config is None:
        return author("say whether predictions are of one model or of several")
    return Said(f"None: one checkpoint (SHA-256 {facts.run.scores.checkpoint_sha256[:12]}...).", "", (SCORES,))


def metrics(facts: RunFacts) -> Said:
    """Item 28."""
    known_names = defined_names(facts.run.test)
    if not known_names:
        return author("no metric of this run has a value; give metrics, and say why these")
    found = [metric for metric in facts.run.test.overall if metric.value is not None]
    of_labels = {metric.name for metric in found if metric.label or metric.labels}
    names = metrics_listed(name for name in known_names if name in of_labels)
    at_once = metrics_listed(name for name in known_names if name not in of_labels)
    known = {metric.label for metric in facts.run.test.overall if metric.value is not None}
    labels = count(len(known - {None}), "label")
    text = f"{names} of {labels}{_means(facts, of_labels)}" if names else ""
    text += "; " * bool(names and at_once) + f"{at_once} of all labels at once" * bool(at_once)
    return Said(f"{text[0].upper()}{text[1:]}.", "say why these metrics", (SCORES,))


def _means(facts: RunFacts, of_labels: set[str]) -> str:
    """Return of which metrics there is a mean over the labels, and over how many; "" where there is of none."""
    means = [metric for metric in facts.run.test.overall if metric.label is None and metric.labels]
    found = {metric.name: metric.labels for metric in means if metric.value is not None}
    if not found:
        return ""
    numbers = sorted({number for number in found.values() if number})
    over = f"unweighted mean over {listed(map(str, numbers))}"
    if found.keys() == of_labels:
        return f", and their {over}"
    return f", and the {over} of {metrics_listed(found)}"


def uncertainty(facts: RunFacts) -> Said:
    """Item 29."""
    hint = "describe tests between models, if there are any, and the correction for their number"
    how = how_intervals(facts)
    return Said(f"Intervals: {how}.", hint, (SCORES,)) if how else author(f"no interval was computed; {hint}")


def robustness(facts: RunFacts) -> Said:
    """Item 30."""
    groups = groups_found(facts)
    if not groups:
        return author("report robustness: subgroups, other seeds or splits, other labels, if you tried any")
    where = ": see the table of subgroups below" if subgroups_table(facts) else ": see the metrics of each group"
    text = f"Evaluated on subgroups of the test images by {listed(_factors(groups))} ({', '.join(groups)}){where}."
    return Said(text, "add other seeds, splits or labels, if you tried any", (SCORES,))


def _factors(groups: tuple[str, ...]) -> list[str]:
    """Return what groups are told apart by: "sex", "view"."""
    return list(dict.fromkeys(group.partition(" ")[0] for group in groups))


def internal_test(facts: RunFacts) -> Said:
    """Item 32."""
    if facts.config is None:
        return author("say on which images of its own kind the model was tested")
    test = facts.run.test
    text = (
        f"{count(test.images, 'image')} of {count(test.patients, 'patient')} of {data_name(facts)}, the data set that "
        "it was trained on; neither trained on nor used to select the epoch."
    )
    return Said(text, "", (SCORES, CONFIG))


def external_test(facts: RunFacts) -> Said:
    """Item 33."""
    hint = "report tests on data of other hospitals, or name their absence as a limitation"
    return author(hint) if facts.config is None else Said("None in this run.", hint, (CONFIG,))


ANSWERS: dict[int, Callable[[RunFacts], Said]] = {
    22: model,
    23: software,
    24: initialization,
    25: training,
    26: selection,
    27: ensembling,
    28: metrics,
    29: uncertainty,
    30: robustness,
    31: lambda _: author("name methods of explanation and how they were validated, or that none was used"),
    32: internal_test,
    33: external_test,
    34: lambda _: author("give the registration, or say that it does not apply"),
}
