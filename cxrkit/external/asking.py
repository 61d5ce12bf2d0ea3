"""A run's network is asked about another data set's prepared images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cxrkit.base import labels as label_sets
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.base.origin import Origin
from cxrkit.datasets.hospitals import sharing
from cxrkit.datasets.hospitals.sharing import Shared
from cxrkit.datasets.splits import Split
from cxrkit.loaders.inputs import Inputs
from cxrkit.models import ModelSpec
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.shards.store import ShardStore

ALL, TEST = "all", "test"
_NIH = "nih-"  # ChestX-ray14 and ChestX-ray8 are the same films
_SYNTHETIC = "synthetic"  # cohorts of other seeds are other people
_METADATA = {"age_years": "age", "sex": "sex", "view": "view"}


@dataclass(frozen=True)
class Elsewhere:
    """Another data set's images, labelled with the run's labels where these are shared."""

    inputs: Inputs
    """Its images as the test subset; a label that is not shared is not known of any."""

    shared: tuple[Shared, ...]
    """What both share."""

    part: str
    """ALL or TEST."""

    theirs: LabelSet
    """The other data set's own labels."""

    by_image: bool
    """Whether every film of it is its own patient."""

    unknown: dict[str, int]
    """"age", "sex", "view" -> of how many of the images it is not known; empty for a network that is not given them."""


def open_elsewhere(folder: Path, info: CheckpointInfo, spec: ModelSpec, part: str | None) -> Elsewhere:
    """Return the images of the prepared folder for a network that was trained as `info` says.

    part: TEST, its official test part, or ALL; None: TEST where it has one. Raises UserError where it is the run's own
    data set, shares no label with it, holds none of the images, or says nothing that the network looks at.
    """
    ours = label_sets.get(info.origin.label_set)
    store = ShardStore(folder)
    try:
        found = _elsewhere(store, ours, info, spec, part)
    except BaseException:
        store.close()
        raise
    return found


def _elsewhere(store: ShardStore, ours: LabelSet, info: CheckpointInfo, spec: ModelSpec, part: str | None) -> Elsewhere:
    folder = store.folder
    refuse_own(folder, info.origin, store)
    if spec.probe or spec.unit or ours.metadata:
        raise UserError(
            f"--on {folder}: this run predicts {ours.name}, and not findings",
            remedy="name a run that was trained on findings",
        )
    shared = sharing.shared(ours, store.labels)
    records = store.records()
    listed = _chosen(folder, records, part)
    chosen = TEST if len(listed) < len(records) or part == TEST else ALL
    frame = store.index if spec.image else records
    rows = np.flatnonzero(frame["image_id"].is_in(listed["image_id"].implode()).to_numpy())
    if not len(rows):
        raise UserError(
            f"--on {folder}: none of its {len(listed):,} films of part {chosen!r} is prepared",
            remedy="prepare them, or take what is prepared by --part all",
        )
    split = Split(f"{store.about['dataset']}-{chosen}", listed.select("image_id", "patient_id", subset=pl.lit("test")))
    names = {pair.ours: pair.theirs for pair in shared}
    labelled = frame.select(
        *("image_id", "patient_id", *_METADATA),
        *(_label(label, names.get(label)) for label in ours.labels),
    )
    seen = labelled[rows]
    unknown = {word: seen[column].null_count() for column, word in _METADATA.items()}
    if not spec.image and all(number == len(rows) for number in unknown.values()):
        raise UserError(
            f"--on {folder}: knows neither age, sex nor view of any film, and {spec.name} looks at nothing else",
            remedy="name a run whose network looks at images",
        )
    inputs = Inputs(
        store=store,
        split=split,
        labels=ours,
        pixels=spec.image,
        frame=labelled,
        rows={"train": np.zeros(0, np.int64), "val": np.zeros(0, np.int64), "test": rows},
        numbers=np.arange(len(frame), dtype=np.int64),
        age_range=info.age_range,
    )
    by_image = bool((records["image_id"] == records["patient_id"]).all())
    given = spec.meta or not spec.image or spec.source == "own"
    return Elsewhere(inputs, shared, chosen, store.labels, by_image, unknown if given else {})


def refuse_own(folder: Path, origin: Origin, store: ShardStore) -> None:
    """Raise a UserError where the prepared folder is the data set that a run was trained on."""
    name = store.about["dataset"]
    same_films = name.startswith(_NIH) and origin.dataset.startswith(_NIH)
    if store.labels_digest == origin.labels_digest or same_films or name == origin.dataset != _SYNTHETIC:
        raise UserError(
            f"--on {folder}: is {name}, which the run was trained on ({origin.dataset})",
            remedy="name the prepared folder of another hospital's data set; `cxrkit evaluate RUN` has the run's own "
            "test scores",
        )


def _chosen(folder: Path, records: pl.DataFrame, part: str | None) -> pl.DataFrame:
    """Return the records of the films that are taken."""
    if part not in (None, ALL, TEST):
        raise UserError(f"--part {part}: there is no such part", remedy=f"choose {TEST} or {ALL}")
    official = records.filter(pl.col("official") == "test")
    if part == TEST and official.is_empty():
        raise UserError(
            f"--on {folder}: this data set has no official test part", remedy="leave out --part: all films are taken"
        )
    return records if part == ALL or official.is_empty() else official


def _label(ours: str, theirs: str | None) -> pl.Expr:
    return (pl.lit(None, pl.Boolean) if theirs is None else pl.col(theirs)).alias(ours)


def external_origin(elsewhere: Elsewhere, info: CheckpointInfo) -> Origin:
    """Return what the external numbers are made of: the other data set, by the network that was trained elsewhere."""
    of_images, trained = elsewhere.inputs.origin(), info.origin
    kept: dict[str, Any] = {
        name: getattr(trained, name)
        for name in ("train_images", "train_subset_images", "initial_weights", "pretraining", "pretrained")
    }
    basis = replace(
        of_images.basis, training=trained.basis.training, pretraining=trained.basis.pretraining, split="checked"
    )
    return replace(of_images, basis=basis, **kept)
