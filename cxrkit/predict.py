"""Stage 7: a checkpoint's scores for every image of a subset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from cxrkit import models
from cxrkit.base import labels
from cxrkit.base.contracts import Subset
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.base.ranks import ALONE, Ranks
from cxrkit.loaders.inputs import Inputs
from cxrkit.models import ModelSpec, compute
from cxrkit.runs import predictions
from cxrkit.runs.checkpoints import CheckpointInfo, load_model, read


def load(checkpoint: Path, ranks: Ranks = ALONE) -> tuple[torch.nn.Module, ModelSpec, CheckpointInfo]:
    """Return the model of a checkpoint, in evaluation mode on the CPU, its spec (at the trained size) and its info."""
    tensors, info = ranks.once(lambda: read(checkpoint))
    model = models.build(info.model, labels=labels.get(info.origin.label_set), options=info.options, pretrained=False)
    load_model(checkpoint, tensors, model, info.model)
    spec: ModelSpec = model.spec  # type: ignore[assignment]
    return model.eval(), spec.at(info.input_size), info


def predict(
    checkpoint: Path,
    inputs: Inputs,
    subset: Subset,
    out: Path,
    *,
    seen: pl.DataFrame | None,
    model_name: str,
    device: str = "cpu",
    precision: str = "fp32",
    loader: str = "auto",
    loader_options: Mapping[str, Any] | None = None,
    threads: int | None = None,
    compile: bool = False,
    batch_size: int | None = None,
    progress: Any = None,
    before_writing: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
    views: str = "none",
    restated: Mapping[str, Any] | None = None,
) -> int:
    """Write the scores of `checkpoint` for the prepared images of `subset` to `out`; returns how many images.

    seen: the run's split table (runs.read_split). loader_options: what of them the loader takes. compile: compile the
    network for full batches. batch_size: default, compute.batch_size. before_writing: called when the scores are there,
    before the file is replaced as a whole. ranks: share the images; the first one reads the checkpoint and writes.
    views: how each image is looked at (`test.views`). restated: what the file says otherwise than the checkpoint.
    Raises UserError for a checkpoint of another model than `model_name`, and
    for one of another split, data set, labels or pixels: it could have seen the images, or be measured against other
    labels.
    """
    model, spec, info = load(checkpoint, ranks)
    if info.model != model_name:
        raise UserError(
            f"{checkpoint}: a checkpoint of {info.model}, but this run is one of {model_name}",
            remedy="name a checkpoint of this run's model, or the run folder of that model",
        )
    inputs.refuse_other(
        f"{checkpoint}: trained with",
        info.origin,
        seen,
        "name a checkpoint of this run, and the --data that it was trained on",
    )
    inputs.age_range = info.age_range
    compute.set_switches(device, precision)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    together = batch_size or compute.batch_size(device, spec.input_size)
    feed = inputs.loader(
        plan := inputs.eval_plan(subset, spec, together, ranks, views),
        loader,
        device,
        threads,
        options=loader_options,
        known_only=True,
    )
    forward = compute.Forward(model, spec, device, precision, compile=compile)
    scored = compute.score(
        model, feed, spec, device, precision, progress=progress, forward=forward, ranks=ranks, views=len(plan.views)
    )
    feed.close()
    _check(scored, inputs, subset, spec, loader)
    if not ranks.first:
        return len(scored.index)
    frame = table(scored, inputs, info)
    about = identity(info, inputs, subset, epoch=info.epoch, checkpoint_sha256=file_digest(checkpoint), views=views)
    about = replace(about, **(restated or {}))
    before_writing()
    predictions.write_predictions(out, frame, about)
    return frame.height


def table(scored: compute.Scored, inputs: Inputs, info: CheckpointInfo) -> pl.DataFrame:
    """Return the content of a prediction file: image_id, patient_id and a score for each label that was learned."""
    images = inputs.frame.select("image_id", "patient_id")[scored.index]
    scores = images.hstack(pl.DataFrame(scored.score, schema=list(inputs.labels.labels)))
    return scores.with_columns(pl.lit(None, pl.Float32).alias(label) for label in info.masked)


def identity(
    info: CheckpointInfo, inputs: Inputs, subset: Subset, *, epoch: int, checkpoint_sha256: str, views: str
) -> predictions.PredictionInfo:
    """Return what a prediction file says of itself, for a network that was trained as `info` says."""
    return predictions.PredictionInfo(
        name=info.name,
        model=info.model,
        recipe=info.recipe,
        recipe_digest=info.recipe_digest,
        changes=info.changes,
        seed=info.seed,
        input_size=info.input_size,
        epoch=epoch,
        checkpoint_sha256=checkpoint_sha256,
        subset=subset,
        subset_images=inputs.split.images(subset),
        # The folder may have grown since the training: the pixels are those that were looked at now.
        origin=replace(info.origin, pixels_digest=inputs.origin().pixels_digest),
        unscored=info.masked,
        views=views,
    )


def _check(scored: compute.Scored, inputs: Inputs, subset: Subset, spec: ModelSpec, loader: str) -> None:
    """Raise a UserError, before anything is written, for images that a loader left out, and scores that are no numbers.

    A network of cxrkit's own gives NaN where its training diverged, which who writes the predictions says.
    """
    rows = inputs.rows[subset]
    if not np.array_equal(np.sort(scored.index), np.sort(rows)):
        raise UserError(
            f"loader {loader!r}: delivered {len(scored.index):,} {subset} images, {len(np.unique(scored.index)):,} "
            f"different ones; expected each of {len(rows):,} once",
            remedy="choose another --loader, or correct it: it has to execute the plan that it is given",
        )
    wrong = ~np.isfinite(scored.score).all(axis=1)
    if spec.source == "own" and wrong.any():
        raise UserError(
            f"model {spec.name!r}: its scores are not numbers for {wrong.sum():,} of {len(rows):,} {subset} images, "
            f"the first {inputs.frame['image_id'][int(scored.index[wrong][0])]}",
            remedy="correct its forward; where the training diverged, train again with a smaller --lr or with "
            "--precision fp32",
        )
