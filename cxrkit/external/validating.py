"""A run's AUCs on its own test images and on another hospital's, over the labels that both share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit import predict
from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import auc, gates
from cxrkit.evaluators.truth import Truth
from cxrkit.external.asking import Elsewhere, external_origin, open_elsewhere
from cxrkit.external.telling import notes
from cxrkit.models import compute
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.external import SCORES, SharedLabel, Validity, folder_of, write_validity
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import Predictions, read_predictions, write_predictions
from cxrkit.statistics import clustered
from cxrkit.statistics.comparing import Comparison, compare_independent


@dataclass(frozen=True)
class _Side:
    """Scores and truth of the shared labels on one side."""

    scores: NDArray[np.floating]  # (N, L)
    truth: NDArray[np.float32]  # (N, L): 1, 0 or NaN
    clusters: NDArray[np.intp]  # (N,)

    def of(self, places: Sequence[int]) -> _Side:
        return _Side(self.scores[:, list(places)], self.truth[:, list(places)], self.clusters)

    def estimates(self) -> list[clustered.Estimate]:
        known = ~np.isnan(self.truth)
        return clustered.estimates(self.scores, self.truth > 0.5, self.clusters, known_NL=known)

    def metrics(self, labels: LabelSet, replicates: int | None) -> dict[str | None, Metric]:
        options: dict[str, Any] = {} if replicates is None else {"replicates": replicates}
        found = auc.evaluate(self.scores.astype(np.float32), self.truth, self.clusters, labels, **options)
        return {metric.label: metric for metric in found}


def validate(
    run: RunFolder,
    folder: Path,
    own: Truth,
    *,
    part: str | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    replicates: int | None = None,
    bar: Callable[[int], AbstractContextManager[Any]] | None = None,
) -> Path:
    """Ask a run's best checkpoint about the images of the prepared `folder`; return the folder with what it is worth.

    own: the labels of the run's own data set. part: see `open_elsewhere`. replicates: of the bootstrap; default, the
    AUC evaluator's own. bar: from the number of images to a progress bar. What was there of the same data set is
    replaced when all is known. Raises UserError as `open_elsewhere` does, and where the run has no test predictions.
    """
    internal = _internal(run, own)
    model, spec, info = predict.load(run.best)
    elsewhere = open_elsewhere(folder, info, spec, part)
    try:
        external = _ask(run, model, elsewhere, info, device, precision, bar or nullcontext)
    finally:
        elsewhere.inputs.close()
    home = folder_of(run.path, elsewhere.inputs.store.about["dataset"])
    write_validity(home, _validity(run, elsewhere, info, internal, external, replicates))
    return home


def _internal(run: RunFolder, own: Truth) -> tuple[Predictions, NDArray[np.float32]]:
    """Return the run's own test predictions, which must be of its best checkpoint, and the truth of their images."""
    path = run.predictions("test")
    predictions = read_predictions(path)
    if predictions.about.checkpoint_sha256 != file_digest(run.best):
        raise UserError(
            f"{path}: is of another checkpoint than {run.best.name}", remedy="predict again with `cxrkit predict`"
        )
    records = gates.check_labels(path, predictions.about, own)
    return predictions, gates.true_labels(path, predictions, records, own.source)


def _ask(
    run: RunFolder,
    model: Any,
    elsewhere: Elsewhere,
    info: CheckpointInfo,
    device: str,
    precision: str,
    bar: Callable[[int], AbstractContextManager[Any]],
) -> Predictions:
    """Predict the images, write scores.parquet, and return it."""
    inputs, spec = elsewhere.inputs, model.spec.at(info.input_size)
    compute.set_switches(device, precision)
    import torch

    model = model.to(device, memory_format=torch.channels_last)
    plan = inputs.eval_plan("test", spec, compute.batch_size(device, spec.input_size))
    feed = inputs.loader(plan, "auto", device, None)
    with bar(len(inputs.rows["test"])) as shown:
        scored = compute.score(model, feed, spec, device, precision, progress=getattr(shown, "advance", None))
    frame = predict.table(scored, inputs, info)
    about = predict.identity(
        info, inputs, "test", epoch=info.epoch, checkpoint_sha256=file_digest(run.best), views="none"
    )
    path = folder_of(run.path, inputs.store.about["dataset"]) / SCORES
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(path, frame, replace(about, origin=external_origin(elsewhere, info)))
    return read_predictions(path)


def _validity(
    run: RunFolder,
    elsewhere: Elsewhere,
    info: CheckpointInfo,
    internal: tuple[Predictions, NDArray[np.float32]],
    external: Predictions,
    replicates: int | None,
) -> Validity:
    own, own_truth = internal
    ours = own.about.scored
    pairs = [pair for pair in elsewhere.shared if pair.ours in ours.labels]
    sides = [_side(own, own_truth, [pair.ours for pair in pairs])]
    truth_NL = _external_truth(elsewhere, external)
    sides.append(_side(external, truth_NL, [pair.ours for pair in pairs]))
    names = tuple(pair.ours for pair in pairs)
    metrics = [side.metrics(LabelSet("shared", names, ()), replicates) for side in sides]
    estimates = [side.estimates() for side in sides]
    labels = tuple(
        _shared(pair.ours, pair.theirs, pair.caveat, [metric[pair.ours] for metric in metrics], (one, other))
        for pair, one, other in zip(pairs, *estimates, strict=True)
    )
    defined = [label.ours for label in labels if label.difference is not None and label.ours in ours.averaged]
    mean = _mean(names, defined, sides, estimates, replicates) if defined else None
    about = external.about
    return Validity(
        run=about.name,
        model=about.model,
        checkpoint_sha256=about.checkpoint_sha256,
        scores_sha256=external.sha256,
        internal_sha256=own.sha256,
        dataset=about.origin.dataset,
        part=elsewhere.part,
        listed=about.subset_images,
        images=len(external.frame),
        patients=external.frame["patient_id"].n_unique(),
        by_image=elsewhere.by_image,
        internal_images=len(own.frame),
        internal_patients=own.frame["patient_id"].n_unique(),
        origin=about.origin,
        internal_origin=own.about.origin,
        labels=labels,
        mean=mean,
        mean_labels=tuple(defined),
        notes=tuple(notes(elsewhere, info, own, len(external.frame))),
    )


def _side(predictions: Predictions, truth_NL: NDArray[np.float32], names: Sequence[str]) -> _Side:
    columns = [predictions.about.labels.labels.index(name) for name in names]
    clusters = np.unique(predictions.frame["patient_id"].to_numpy(), return_inverse=True)[1]
    return _Side(predictions.frame.select(names).to_numpy(), truth_NL[:, columns], clusters)


def _external_truth(elsewhere: Elsewhere, external: Predictions) -> NDArray[np.float32]:
    """Return (N, L) of all of the run's labels in the order of the prediction file: NaN where not shared or known."""
    labels = external.about.labels.labels
    found = external.frame.select("image_id").join(
        elsewhere.inputs.frame.select("image_id", *labels), on="image_id", how="left", maintain_order="left"
    )
    truth = found.select(pl.col(labels).cast(pl.Float32).fill_null(float("nan"))).to_numpy()
    return np.asarray(truth, np.float32)


def _shared(
    ours: str, theirs: str, caveat: str, metrics: Sequence[Metric], estimates: tuple[clustered.Estimate, ...]
) -> SharedLabel:
    internal, external = metrics
    if internal.value is None or external.value is None:
        side = "internal" if internal.value is None else "external"
        reason = f"{side}: {(internal if internal.value is None else external).reason}"
        return SharedLabel(ours, theirs, internal, external, None, None, None, reason=reason, caveat=caveat)
    gap = compare_independent(estimates[1], estimates[0])
    return SharedLabel(ours, theirs, internal, external, gap.difference, *_bounds(gap), gap.mark, gap.reason, caveat)


def _bounds(gap: Comparison) -> tuple[float | None, float | None]:
    return (None, None) if np.isnan(gap.lower) else (gap.lower, gap.upper)


def _mean(
    names: Sequence[str],
    averaged: Sequence[str],
    sides: Sequence[_Side],
    estimates: Sequence[Sequence[clustered.Estimate]],
    replicates: int | None,
) -> SharedLabel:
    """Return the mean over `averaged` on both sides, and their difference."""
    places = [names.index(name) for name in averaged]
    labels = LabelSet("shared", tuple(averaged), tuple(averaged))
    internal, external = (_mean_of(side.of(places), labels, replicates) for side in sides)
    means = tuple(clustered.mean([side[place] for place in places]) for side in estimates)
    return _shared("", "", "", (internal, external), means)


def _mean_of(side: _Side, labels: LabelSet, replicates: int | None) -> Metric:
    """Return the mean AUC of one side over all of `labels`."""
    return side.metrics(labels, replicates)[None]
