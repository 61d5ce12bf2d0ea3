"""`scores.json`: what an evaluation found, typed and versioned. Written here, read by the report and by people.

A number never stands alone: each metric comes with its interval and its counts, the file with the identity of the run
(recipe, checkpoint, origin) and the digests of the prediction files that were scored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cxrkit import __version__
from cxrkit.base import labels as label_sets
from cxrkit.base import typed
from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.files import read_json, write_json
from cxrkit.base.labels import LabelSet
from cxrkit.base.origin import Origin

SCHEMA_VERSION = 2
_AGAIN = "write it again with `cxrkit evaluate`"
_RETRAIN = "train, predict and evaluate again with this version"


@dataclass(frozen=True)
class SubsetScores:
    """The metrics of one subset."""

    subset: str
    """"val" or "test"."""

    images: int
    """How many images were evaluated."""

    subset_images: int
    """How many images the subset has in the whole data set."""

    images_digest: str
    """SHA-256 over the sorted names of the evaluated images, one a line."""

    patients: int
    """How many patients the evaluated images are of."""

    predictions_sha256: str
    """Of the prediction file that was scored."""

    leakage_checked: bool
    """Whether these images and their patients were compared with what the model was trained on."""

    metrics: tuple[Metric, ...]
    """All that the evaluator found, in its order."""

    @property
    def complete(self) -> bool:
        """Whether the whole subset was evaluated."""
        return self.images == self.subset_images

    def metric(self, name: str, label: str | None = None, group: str = "") -> Metric | None:
        """Return one metric: of a label, or the mean; of a group of images, or all; None where it was not found."""
        for metric in self.metrics:
            if (metric.name, metric.label, metric.group) == (name, label, group):
                return metric
        return None

    @property
    def overall(self) -> tuple[Metric, ...]:
        """The metrics that are of all images, of no group of them, in the evaluator's order."""
        return tuple(metric for metric in self.metrics if not metric.group)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the metrics that are of all images, each once, in the evaluator's order."""
        return tuple(dict.fromkeys(metric.name for metric in self.overall))


@dataclass(frozen=True)
class Scores:
    """The content of `scores.json`."""

    name: str
    """The run's name: its recipe's, or what --name said."""

    model: str
    """Name of the network."""

    recipe: str
    """Name of the recipe that the run started from."""

    recipe_digest: str
    """SHA-256 over all settings that decide numbers, apart from fold and seed."""

    changes: tuple[str, ...]
    """Settings that differ from the recipe's own, as "section.key=value"."""

    seed: int
    """Of initialisation, order and augmentation."""

    input_size: int
    """Side of the network's input in pixels."""

    epoch: int
    """How many epochs the checkpoint was trained."""

    checkpoint_sha256: str
    """Of the checkpoint file that predicted; of imported predictions, of the file that they came from."""

    origin: Origin
    """Data, labels, pixels, split and training behind the numbers."""

    evaluator: str
    """Who found the metrics: registered name, or package.module:function; several are joined by commas."""

    subsets: dict[str, SubsetScores]
    """By name: "val" and "test", where they were predicted."""

    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the user asked of each evaluator, by its name: {"calibration": {"bins": 10}}; the rest were the defaults."""

    cxrkit_version: str = __version__
    """Of the cxrkit that evaluated."""

    schema_version: int = SCHEMA_VERSION
    """Of this file; another one is refused."""

    @property
    def evaluators(self) -> tuple[str, ...]:
        """The evaluators, one by one."""
        return tuple(self.evaluator.split(","))

    @property
    def labels(self) -> LabelSet:
        """The label set that the metrics are of."""
        return label_sets.get(self.origin.label_set)


# What prediction files and the scores made of them say of their run, in the same words.
IDENTITY = (
    "name",
    "model",
    "recipe",
    "changes",
    "recipe_digest",
    "seed",
    "input_size",
    "epoch",
    "checkpoint_sha256",
    "origin",
)


def write_scores(path: Path, scores: Scores) -> None:
    """Write `scores.json` atomically."""
    write_json(path, asdict(scores))


def read_scores(path: Path) -> Scores:
    """Return the scores in `path`. Raises UserError, naming the file and the field, when it is not of this schema."""
    value: Any = read_json(path, "the scores file", _AGAIN)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found {typed.describe(value)}", remedy=_AGAIN)
    version = value.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: scores of schema version {typed.describe(version)}; this cxrkit reads version {SCHEMA_VERSION}",
            remedy=_RETRAIN,
        )
    try:
        scores: Scores = typed.build(Scores, value)
        _check(scores)
    except typed.FieldError as error:
        raise UserError(f"{path}: {error}", remedy=_AGAIN) from None
    return scores


def _check(scores: Scores) -> None:
    """Refuse what cannot be: a label that the set does not have, an AUC outside [0, 1], more images than there are."""
    try:
        label_sets.get(scores.origin.label_set)
    except UserError as error:
        raise typed.FieldError(f"origin.label_set: {error.what}") from None
    for name, subset in scores.subsets.items():
        if name != subset.subset:
            raise typed.FieldError(f"subsets.{name}.subset is {subset.subset!r}")
        if not 0 < subset.images <= subset.subset_images:
            raise typed.FieldError(f"subsets.{name}.images is {subset.images} of {subset.subset_images}")
        try:
            check_metrics(subset.metrics, scores.labels)
        except ValueError as error:
            raise typed.FieldError(f"subsets.{name}: {error}") from None


def check_metrics(metrics: Iterable[Metric], labels: LabelSet) -> None:
    """Raise ValueError for a metric of a label that is not in the set, one given twice, or an impossible AUC."""
    seen = set()
    for metric in metrics:
        if metric.label is not None and metric.label not in labels.labels:
            raise ValueError(f"{metric.of}: no label of {labels.name} ({', '.join(labels.labels)})")
        if (metric.name, metric.label, metric.group) in seen:
            raise ValueError(f"{metric.of} is given twice")
        seen.add((metric.name, metric.label, metric.group))
        if (metric.lower is None) != (metric.upper is None):
            raise ValueError(f"{metric.of} has one bound of its interval only")
        if metric.lower is not None and metric.upper is not None and metric.lower > metric.upper:
            raise ValueError(
                f"{metric.of} has an interval that ends before it begins, [{metric.lower}, {metric.upper}]"
            )
        for bound in (metric.value, metric.lower, metric.upper):
            if bound is not None and metric.name == "auc" and not 0 <= bound <= 1:
                raise ValueError(f"{metric.of} is {bound}, outside [0, 1]")
        if metric.p_value is not None and not 0 <= metric.p_value <= 1:
            raise ValueError(f"{metric.of} has a p-value of {metric.p_value}, outside [0, 1]")
