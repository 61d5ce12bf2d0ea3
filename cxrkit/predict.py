"""Stage 7: a checkpoint's scores for every image of a subset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import torch

from cxrkit import compute, models, predictions
from cxrkit.checkpoints import CheckpointInfo, file_digest, load_model, read
from cxrkit.contracts import LABELS, Subset
from cxrkit.errors import UserError
from cxrkit.inputs import Inputs
from cxrkit.models import ModelSpec

# Without gradients an image needs a fraction of the memory, so prediction takes more of them at once.
BATCH_SIZE = 32


def load(checkpoint: Path) -> tuple[torch.nn.Module, ModelSpec, CheckpointInfo]:
    """Return the model of a checkpoint, in evaluation mode on the CPU, its spec (at the trained size) and its info."""
    tensors, info = read(checkpoint)
    model = models.build(info.model, pretrained=False)
    load_model(checkpoint, tensors, model, info.model)
    spec: ModelSpec = model.spec  # type: ignore[assignment]
    return model.eval(), spec.at(info.input_size), info


def check_split(checkpoint: Path, info: CheckpointInfo, inputs: Inputs) -> None:
    """Raise a UserError unless the checkpoint was trained on this split of this data set with these labels and pixels.

    Anything else could predict images that it was trained on, or be measured against other labels. Pixels are others
    when the folder was prepared with other levels, another codec or quality.
    """
    about = inputs.store.about
    found = {
        "split": inputs.split.digest,
        "data set": about["dataset"],
        "label release": about["label_release"],
        "pixels": about["settings_digest"],
    }
    trained = {
        "split": info.split_digest,
        "data set": info.dataset,
        "label release": info.label_release,
        "pixels": info.settings_digest,
    }
    for what, value in trained.items():
        if found[what] != value:
            raise UserError(
                f"{checkpoint}: trained with {what} {_short(value)}, but {inputs.store.folder} has "
                f"{_short(found[what])} (split {inputs.split.name})",
                remedy="give the --data that the model was trained on",
            )


def predict(
    checkpoint: Path,
    inputs: Inputs,
    subset: Subset,
    out: Path,
    *,
    model_name: str,
    device: str = "cpu",
    precision: str = "fp32",
    loader: str = "auto",
    threads: int | None = None,
    batch_size: int = BATCH_SIZE,
    progress: Any = None,
) -> int:
    """Write the scores of `checkpoint` for the prepared images of `subset` to `out`; returns how many images.

    The file is replaced as a whole. Raises UserError for a checkpoint of another model than `model_name`, or of
    another split.
    """
    model, spec, info = load(checkpoint)
    if info.model != model_name:
        raise UserError(
            f"{checkpoint}: a checkpoint of {info.model}, but this run is one of {model_name}",
            remedy="name a checkpoint of this run's model, or the run folder of that model",
        )
    check_split(checkpoint, info, inputs)
    inputs.age_range = info.age_range
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    feed = inputs.loader(inputs.eval_plan(subset, spec, batch_size), loader, device, threads)
    scored = compute.score(model, feed, spec, device, precision, progress=progress)
    feed.close()
    images = inputs.store.index.select("image_id", "patient_id")[scored.index]
    frame = images.hstack(pl.DataFrame(scored.score, schema=list(LABELS)))
    about = predictions.PredictionInfo(
        model=info.model,
        split=info.split,
        split_digest=info.split_digest,
        subset=subset,
        subset_images=inputs.split.images(subset),
        dataset=info.dataset,
        label_release=info.label_release,
        checkpoint_sha256=file_digest(checkpoint),
        input_size=info.input_size,
        epoch=info.epoch,
        train_images=info.train_images,
        train_subset_images=info.train_subset_images,
    )
    predictions.write(out, frame, about)
    return frame.height


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value
