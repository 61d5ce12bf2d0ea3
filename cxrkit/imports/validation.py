"""The validation images of a model from elsewhere: those of the split, or its own, which must be of other patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from cxrkit.base.contracts import Subset
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.base.origin import Origin
from cxrkit.datasets.known_splits import list_digest
from cxrkit.imports import splitting
from cxrkit.imports.placing import Part
from cxrkit.imports.splitting import Asked
from cxrkit.runs.imported import ImportedValidation


def own_of(parts: Mapping[Subset, Part], asked: Asked) -> pl.DataFrame | None:
    """Return image_id and patient_id of the model's own validation images; None where they are the split's, or none.

    Raises UserError where an image of a patient who is tested is among them.
    """
    part = parts.get("val")
    if part is None or not part.own:
        return None
    splitting.refuse_tested(part.file.path, part.listed, asked)
    return part.listed.sort("image_id")


def stated(origin: Origin, own: pl.DataFrame | None) -> Origin:
    """Return the origin with the model's own validation images, where it has some."""
    if own is None:
        return origin
    return replace(origin, validation_images=len(own), validation_digest=list_digest(own["image_id"]))


def about(part: Part, *, logits: bool) -> ImportedValidation:
    """Return what import.json says of the validation predictions."""
    return ImportedValidation(
        file=str(part.file.path),
        sha256=part.file.read.sha256,
        columns=part.file.chosen.by_label,
        logits=logits,
        left_out=part.left_out,
        images=len(part.frame),
        patients=part.frame["patient_id"].n_unique(),
        own=part.own,
    )


def aligned(parts: Mapping[Subset, Part], labels: LabelSet) -> tuple[dict[Subset, pl.DataFrame], tuple[str, ...]]:
    """Return the predictions of each subset with scores of the same labels, and the labels without any.

    What the first file has no scores of is taken out of the other. Raises UserError where the other lacks more.
    """
    first, *others = parts.values()
    unscored = unscored_of(first, labels)
    for part in others:
        refuse_fewer(part, unscored, f"{first.file.path}", labels)
    return {subset: without(part.frame, unscored) for subset, part in parts.items()}, unscored


def unscored_of(part: Part, labels: LabelSet) -> tuple[str, ...]:
    """Return the labels that a file has no scores of."""
    return tuple(label for label in labels.labels if label not in part.file.chosen.by_label)


def refuse_fewer(part: Part, unscored: tuple[str, ...], other: str, labels: LabelSet) -> None:
    """Raise a UserError where a file lacks scores that the predictions of the other subset have."""
    if fewer := [label for label in unscored_of(part, labels) if label not in unscored]:
        raise UserError(
            f"{part.file.path}: no column of scores for {', '.join(fewer)}, which {other} has",
            remedy="give both files the same columns",
        )


def without(frame: pl.DataFrame, unscored: tuple[str, ...]) -> pl.DataFrame:
    """Return predictions with nothing in the columns of labels that are not scored."""
    return frame.with_columns(pl.lit(None, pl.Float64).alias(label) for label in unscored)
