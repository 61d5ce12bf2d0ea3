"""What a report learns from a run's predictions beyond its scores: curves, variances, subgroups.

An Evidence is the scores of one subset beside the truth. It is opened when something asks for it, and kept for the next
question. What is worked out from it by a Derivation is a few arrays, which stay in the run folder (`derived/`): the
second report reads them instead, as long as predictions, labels and the derivation are the same. What was replaced
since it was scored, and labels that are not the run's, are refused whether anything is kept or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.contracts import Subset
from cxrkit.base.errors import UserError
from cxrkit.base.files import digest_lines
from cxrkit.base.labels import LabelSet
from cxrkit.base.origin import metadata_digest
from cxrkit.evaluators import gates
from cxrkit.evaluators.scoring import scored_arrays
from cxrkit.evaluators.truth import Truth, read_truth
from cxrkit.report.evidence import keeping
from cxrkit.report.evidence.keeping import Arrays
from cxrkit.report.evidence.runs import Run
from cxrkit.runs import epochs
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.opening import evaluated_with
from cxrkit.runs.predictions import PredictionInfo, Predictions, read_prediction_info, read_predictions
from cxrkit.statistics import clustered
from cxrkit.statistics.clustered import Estimate


@dataclass(frozen=True)
class Evidence:
    """Scores and truth of the evaluated images of one subset, sorted by image_id."""

    images: pl.DataFrame
    """image_id, patient_id, age_years, sex, view; null where the source of the labels does not say."""

    scores: NDArray[np.floating]
    """(N, L) probabilities, of the labels that have scores."""

    truth: NDArray[np.float32]
    """(N, L) of 1, 0, or NaN where it is not known."""

    labels: LabelSet
    """What the columns are of."""

    @cached_property
    def clusters(self) -> NDArray[np.intp]:
        """(N,) the number of each image's patient, by sorted names: the same images are numbered alike."""
        return np.unique(self.images["patient_id"].to_numpy(), return_inverse=True)[1].astype(np.intp)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """(N, L) whether it is known that an image has, or has not, a label."""
        return ~np.isnan(self.truth)

    @cached_property
    def positive(self) -> NDArray[np.bool_]:
        """(N, L) whether an image has a label; False where it is not known."""
        return self.truth > 0.5

    def estimates(self) -> list[Estimate]:
        """Return each label's AUC with its clustered variance (statistics/clustered.py)."""
        return clustered.estimates(self.scores, self.positive, self.clusters, known_NL=self.known)


@dataclass(frozen=True)
class Derivation:
    """Something that is worked out from the evidence of one run, a pure function."""

    name: str
    """Of its file in `derived/`."""

    version: int
    """Raised whenever `compute` would give other arrays: what was kept before is then made anew."""

    compute: Callable[[Evidence], Arrays]
    """Arrays of numbers or text by name."""

    settings: str = ""
    """What decides the arrays beside the evidence and the version: thresholds that were chosen on val, say."""


@dataclass(frozen=True)
class _Labelled:
    """What the labels' source says of the images of one prediction file."""

    ids: pl.DataFrame
    """image_id and patient_id, in the order of the file."""

    images: pl.DataFrame
    """See Evidence.images."""

    truth: NDArray[np.float32]
    """(N, L) of 1, 0, or NaN where it is not known; of all labels of the set."""


class Opened:
    """The evidence of runs, opened on demand. One object serves a whole report."""

    def __init__(self, data: Path | None = None) -> None:
        """Read labels from `data`, a prepared folder or a table; None: from what each run was evaluated with."""
        self._data = data
        self._truths: dict[Path, Truth] = {}
        self._evidence: dict[Path, Evidence] = {}
        self._metadata: dict[Path, str] = {}
        self._unchanged: set[Path] = set()
        self._fitting: set[tuple[object, ...]] = set()
        self._labelled: dict[tuple[object, ...], _Labelled] = {}

    def evidence(self, run: Run, subset: Subset = "test") -> Evidence:
        """Return the evidence of a run. Raises UserError when predictions or labels are not there, or do not fit."""
        path = _predictions(run, subset)
        if path not in self._evidence:
            self._evidence[path] = self._read(run, path, subset)
        return self._evidence[path]

    def derived(self, run: Run, derivation: Derivation, subset: Subset = "test") -> Arrays:
        """Return what `derivation` makes of a run's evidence, from its folder where that is there. Raises UserError."""
        self.check(run, subset)
        path = _file(run, derivation, subset)
        made_of = _made_of(run, derivation, subset)
        found = keeping.kept(path, made_of)
        if found is None:
            found = derivation.compute(self.evidence(run, subset))
            keeping.keep(path, made_of, found)
        return found

    def is_kept(self, run: Run, derivation: Derivation, subset: Subset = "test") -> bool:
        """Return whether `derived` finds what it needs in the run folder. Raises UserError as that does."""
        self.check(run, subset)
        return keeping.is_kept(_file(run, derivation, subset), _made_of(run, derivation, subset))

    def close(self) -> None:
        """Let go of predictions that were opened; the labels stay."""
        self._evidence.clear()

    def check(self, run: Run, subset: Subset = "test") -> None:
        """Raise UserError for predictions that were replaced after they were scored, and for labels of another run.

        What is kept knows a run by its scores alone, so this is asked before it is used.
        """
        path = _predictions(run, subset)
        if path in self._unchanged:
            return
        about, sha256 = read_prediction_info(path)
        _refuse_replaced(run, path, subset, sha256)
        if self._data is not None:
            self._check_labels(path, about, self.truth(run))
        self._unchanged.add(path)

    def _check_labels(self, path: Path, about: PredictionInfo, truth: Truth) -> None:
        origin, labels = about.origin, about.labels
        release = (origin.dataset, origin.label_release, origin.labels_digest, origin.boxes_digest)
        asked = (truth.source, *release, labels.name, labels.labels)
        if asked not in self._fitting:  # once for all runs of the same labels: a digest takes a while
            gates.check_labels(path, about, truth)
            self._fitting.add(asked)

    def metadata_digest(self, run: Run) -> str:
        """Return a digest of the ages, sexes and views that a run's evidence has, for what depends on them.

        Where the labels are gone, that of what it was trained with: what is kept may still be read.
        """
        try:
            truth = self.truth(run)
        except UserError:
            if self._data is not None:
                raise
            return run.origin.metadata_digest
        if truth.source not in self._metadata:
            self._metadata[truth.source] = metadata_digest(truth.images(truth.table))
        return self._metadata[truth.source]

    def _read(self, run: Run, path: Path, subset: Subset) -> Evidence:
        predictions = read_predictions(path)
        _refuse_replaced(run, path, subset, predictions.sha256)
        truth = self.truth(run)
        self._check_labels(path, predictions.about, truth)
        labelled = self._labels_of(path, predictions, truth)
        score_NL, truth_NL = scored_arrays(predictions, labelled.truth)
        return Evidence(labelled.images, score_NL, truth_NL, predictions.about.scored)

    def _labels_of(self, path: Path, predictions: Predictions, truth: Truth) -> _Labelled:
        """Return what is true of the predicted images, found once for all runs that predict the same ones."""
        about, ids = predictions.about, predictions.frame.select("image_id", "patient_id")
        of = (truth.source, about.labels.name, about.labels.labels, about.origin.split, about.subset)
        if of not in self._labelled or not self._labelled[of].ids.equals(ids):
            truth_NL = gates.true_labels(path, predictions, truth.records(about.labels), truth.source)
            self._labelled[of] = _Labelled(ids, truth.images(ids), truth_NL)
        return self._labelled[of]

    def truth(self, run: Run) -> Truth:
        """Return the labels of the whole data set that a run is evaluated with. Raises UserError."""
        labels = self._data or evaluated_with(RunFolder(run.folder))[0]
        if labels not in self._truths:
            self._truths[labels] = read_truth(labels)
        return self._truths[labels]


def _file(run: Run, derivation: Derivation, subset: Subset) -> Path:
    """Return where the arrays of a derivation are kept."""
    epoch = "" if run.own is None else f"-epoch-{run.scores.epoch}"
    return RunFolder(run.folder).derived(f"{derivation.name}-{subset}{epoch}")


def _predictions(run: Run, subset: Subset) -> Path:
    folder = RunFolder(run.folder)
    return folder.predictions(subset) if run.own is None else epochs.predictions_of(folder, run.scores.epoch, subset)


def _refuse_replaced(run: Run, path: Path, subset: Subset, sha256: str) -> None:
    if sha256 != run.scores.subsets[subset].predictions_sha256:
        raise UserError(
            f"{path}: was replaced after it was scored", remedy=f"score it again: `cxrkit evaluate {run.folder}`"
        )


def _made_of(run: Run, derivation: Derivation, subset: Subset) -> str:
    """Return a digest of all that decides what a derivation finds."""
    scores = run.scores
    predictions = scores.subsets[subset].predictions_sha256
    origin = scores.origin
    lines = [f"{derivation.version}", predictions, origin.labels_digest, origin.metadata_digest]
    return digest_lines(lines + [derivation.settings] * bool(derivation.settings))
