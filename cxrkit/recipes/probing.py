"""What the run that a probe starts from (--from RUN) decides of its config. No torch is imported to read this."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from cxrkit.base import labels as label_sets
from cxrkit.base.errors import UserError
from cxrkit.datasets import splits
from cxrkit.datasets.splits import Split
from cxrkit.models import grammar
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.config import TrainConfig, read_run_config, settings
from cxrkit.runs.folder import RunFolder, read_split

PROBES = tuple(spec.name for spec in grammar.SPECS.values() if spec.probe)


def is_probe(config: TrainConfig) -> bool:
    """Whether a config is of a probe."""
    return config.model.name in PROBES


def extractor_of(config: TrainConfig) -> RunFolder:
    """Return the run that a probe starts from. Raises UserError where there is none, or it is not trained."""
    if config.model.from_run is None:
        raise UserError(
            f"{config.model.name}: a probe learns from the features of a trained run, and none is named",
            remedy="give --from RUN, such as --from runs/resnet50-large/resample-1",
        )
    run = RunFolder(config.model.from_run)
    if (state := run.state()) in ("new", "training"):
        if state == "new":
            raise UserError(
                f"--from {run.path}: not a run folder (no config.toml)",
                remedy="name a run that is trained, RUNS/NAME/SPLIT; where it has moved since a probe started from it, "
                "tell the probe by `cxrkit train --resume --from RUN`",
            )
        raise UserError(
            f"--from {run.path}: its training has not come to its end",
            remedy="finish it with `cxrkit train --resume`",
        )
    return run


def settled(config: TrainConfig, said: Collection[str]) -> TrainConfig:
    """Return the config with what the extractor decides: fold, limit, input size, length of the features, its terms.

    said: the settings, as "section.key", that the user has named. Any config but a probe's is returned as it is.

    Raises UserError for --from without a probe, a run that is not trained or has no features, and for another fold or
    input size than the run's, naming both.
    """
    if not is_probe(config):
        if config.model.from_run is not None:
            raise UserError(
                f"--from {config.model.from_run}: {config.model.name} learns from images, not from a run's features",
                remedy=f"leave out --from, or choose a probe: {', '.join(PROBES)}",
            )
        return config
    from cxrkit.runs import checkpoints

    run = extractor_of(config)
    info, stored = checkpoints.read_info(run.best), read_run_config(run.config)
    _refuse_other_fold(config, run, info, said)
    if "input.size" in said and config.input.size != info.input_size:
        raise UserError(
            f"--input-size {config.input.size}: {run.path} looks at {info.input_size} pixels",
            remedy="leave out --input-size: a probe learns from what that network sees",
        )
    if unit := grammar.parse(config.model.name).unit:
        _refuse_probabilities(config, unit)
    values: dict[str, Any] = {
        "run.limit": config.run.limit if "run.limit" in said else stored.run.limit,
        "input.size": info.input_size,
        "model.options": {"features_in": _features(run, info)} | config.model.options,
        "model.extractor": described(info),
        "model.extractor_digest": info.recipe_digest,
    }
    if "run.fold" not in said and config.run.fold == TrainConfig().run.fold:
        values["run.fold"] = stored.run.fold
    return config.with_values(values)


def as_before(config: TrainConfig, stored: TrainConfig) -> TrainConfig:
    """Return the config of a probe with what the extractor decided when its run, of `stored`, began."""
    if not is_probe(config):
        return config
    decided = {"input.size", "model.options", "model.extractor", "model.extractor_digest"}
    return config.with_values({item.path: item.of(stored) for item in settings() if item.path in decided})


def _refuse_probabilities(config: TrainConfig, unit: str) -> None:
    """Raise a UserError for what makes sense of probabilities alone, where a probe predicts an amount."""
    if config.selection.metric == "val_auc":
        raise UserError(
            f"--select val_auc: {config.model.name} predicts {unit}, which have no AUC", remedy="leave it at val_loss"
        )
    if config.loss.name in ("bce-mean", "bce-sum"):
        raise UserError(
            f"--loss {config.loss.name}: {config.model.name} predicts {unit}, not probabilities",
            remedy="choose squared-error, its recipe's own, or absolute-error",
        )


def _refuse_other_fold(config: TrainConfig, run: RunFolder, info: CheckpointInfo, said: Collection[str]) -> None:
    if "run.fold" not in said and config.run.fold == TrainConfig().run.fold:
        return
    if (wanted := splits.name_of(config.run.fold)) != info.origin.split:
        raise UserError(
            f"--fold {config.run.fold}: {run.path} was trained on split {info.origin.split}; a probe on {wanted} would "
            "be tested on images that its features were learned from",
            remedy=f"leave out --fold, or give --from a run on {wanted}",
        )


def _features(run: RunFolder, info: CheckpointInfo) -> int:
    """Return the length of the feature vectors of the run's network."""
    from cxrkit import models

    spec = models.spec(info.model, labels=label_sets.get(info.origin.label_set), options=info.options)
    if not spec.features:
        raise UserError(
            f"--from {run.path}: {info.model} has no features of images",
            remedy="name a run of a network that looks at images, such as resnet50-large",
        )
    return spec.features


def described(info: CheckpointInfo) -> str:
    """Return in words what a run's network was trained as: its name, and what of it is not as in its recipe."""
    name = info.model if info.recipe == info.model else f"{info.model} by recipe {info.recipe}"
    return f"{name} with {', '.join(info.changes)}" if info.changes else name


def split_of(config: TrainConfig) -> str | Split:
    """Return the split to train on: what --fold names, or the extractor's own where its table is gone."""
    fold = config.run.fold
    return read_split(extractor_of(config))[0] if splits.is_file(fold) and not Path(fold).exists() else fold
