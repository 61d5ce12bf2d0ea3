"""What the stages hand to one another: names, schemas and small protocols. Nothing here computes.

Shape letters used throughout: N images of a data set, B images of a batch, L labels of a LabelSet, C channels, H and W
pixels. Each Protocol of a plug-in has an example in `examples/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.labels import CHESTXRAY14, NO_FINDING, PATHOLOGIES, LabelSet

__all__ = [
    "BOX_SCHEMA",
    "EVALUATED",
    "IMAGE_SCHEMA",
    "IMAGE_SIZE",
    "LABELS",
    "NO_FINDING",
    "PATHOLOGIES",
    "PIXEL_SCHEMA",
    "RECORD_SCHEMA",
    "SUBSETS",
    "Batch",
    "Dataset",
    "Ended",
    "Evaluator",
    "Executor",
    "ExecutorFactory",
    "Job",
    "Loader",
    "LoaderFactory",
    "Loss",
    "LossFactory",
    "Model",
    "ModelFactory",
    "Outputs",
    "Records",
    "Share",
    "Subset",
    "Trainer",
]


__all__ = [
    "BOX_SCHEMA",
    "EVALUATED",
    "IMAGE_SCHEMA",
    "IMAGE_SIZE",
    "LABELS",
    "NO_FINDING",
    "PATHOLOGIES",
    "PIXEL_SCHEMA",
    "RECORD_SCHEMA",
    "SUBSETS",
    "Batch",
    "Dataset",
    "Loader",
    "Records",
    "Subset",
    "record_schema",
]

if TYPE_CHECKING:
    import torch

LABELS = CHESTXRAY14.labels


def record_schema(labels: LabelSet) -> dict[str, pl.DataType]:
    """Return the columns of a data set's table: one row per image, sorted by image_id.

    The whole data set is listed, also images whose pixels are not at hand: splits are a property of the data set, not
    of what somebody happened to download. What is not known of an image (age, sex, view, a label) is null.
    """
    return {
        "image_id": pl.String(),  # the file name, 00000001_000.png
        "patient_id": pl.String(),  # a name, never a number: "1" and "01" may be two people elsewhere
        "follow_up": pl.Int32(),  # the CSV's column; not the number in the file name
        "age_years": pl.Int32(),
        "sex": pl.String(),  # M or F
        "view": pl.String(),  # PA or AP
        **{label: pl.Boolean() for label in labels.labels},
        "official": pl.String(),  # train_val, test, or null where the data set has no official split
    }


RECORD_SCHEMA = record_schema(CHESTXRAY14)
# What an evaluator that asks for `images` is told of each; null: not known, or the source of the labels does not say.
IMAGE_SCHEMA: dict[str, pl.DataType] = {
    name: RECORD_SCHEMA[name] for name in ("image_id", "patient_id", "age_years", "sex", "view")
}
# Where the pixels are; null path: not at hand.
PIXEL_SCHEMA: dict[str, pl.DataType] = {
    "path": pl.String(),  # an image file, or the archive that holds `member`
    "member": pl.String(),  # null for a plain file
}
BOX_SCHEMA: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "label": pl.String(),
    "x": pl.Float64(),  # pixels of the square image as if it were 1024 x 1024, left edge
    "y": pl.Float64(),  # top edge
    "width": pl.Float64(),
    "height": pl.Float64(),
}

IMAGE_SIZE = 1024  # pixels along each side of every ChestX-ray14 image


@dataclass(frozen=True)
class Note:
    """Something in a raw folder that was passed over, or that its owner should know. It stops nobody."""

    found: str
    """What was found, and where."""
    remedy: str
    """What to do about it, one imperative sentence."""
    serious: bool = False
    """Whether nothing good can come of the folder as it is."""


@dataclass(frozen=True)
class Records:
    """A data set's table, before any pixel was read."""

    dataset: str
    """The registered name of the data set."""
    frame: pl.DataFrame
    """`record_schema` of its labels + PIXEL_SCHEMA, sorted by image_id, every image of the data set once."""
    label_release: str
    """Printed beside every result: "v2020", "2017", "synthetic" or "unknown"."""
    boxes: pl.DataFrame | None = None
    """BOX_SCHEMA, or None where the raw folder has no box list."""
    side: int = IMAGE_SIZE
    """Pixels along each side of the images at hand: not IMAGE_SIZE in a resized copy; of the square that they are
    fitted into, where there is a `fit`."""
    notes: tuple[Note, ...] = ()
    """What of the raw folder was passed over."""
    labels: LabelSet = CHESTXRAY14
    """What the frame says of each image."""
    fit: str = ""
    """How images of any size and proportions become squares of `side`: "letterbox" (sources/films.py); "" where they
    are such squares."""

    @property
    def missing(self) -> int:
        """Number of listed images whose pixels are not at hand."""
        return self.frame["path"].null_count()


class Dataset(Protocol):
    """A registered data set: a function from a raw folder to its records.

    Raises UserError when the folder is not of this data set or contradicts itself. With `allow_missing` false, an
    absent image is an error too. A reader whose labels leave a choice has a keyword argument `policy: str = ""`, which
    `prepare --label-policy` is passed to.
    """

    def __call__(self, raw: Path, *, allow_missing: bool = False) -> Records:
        """Return the records of the raw folder."""
        ...


@dataclass(frozen=True)
class Batch:
    """One step's input, on the loader's device.

    A loader may reuse the memory after the next batch is asked for: copy what is to be kept.
    """

    image: torch.Tensor
    """(B, 1, H, W) uint8, gray levels, not yet normalised."""

    target: torch.Tensor
    """(B, L) float32: 1 where the image has the label, 0 where it has not, NaN where that is not known; the amount
    where labels have a unit."""

    meta: torch.Tensor
    """(B, 3) float32: age scaled to [0, 1], sex (M = 1) and view (AP = 1); 0.5 where not known. A probe is given (B, F)
    features of another network in their place."""

    index: torch.Tensor
    """(B,) int64, rows of the store's index."""

    region: torch.Tensor | None = None
    """(B, L, P, P) uint8, of the image cut into P x P places: 1 where a box of the label touches a place, else 0.
    None unless the loss asks for it (loaders/regions.py)."""


@dataclass(frozen=True)
class Outputs:
    """What a network says of a batch."""

    logits: torch.Tensor
    """(B, L) float32, in the order of the LabelSet; the sigmoid is in the loss and in the scores. Where the model's
    spec names a unit, amounts in it."""

    maps: torch.Tensor | None = None
    """(B, L, h, w) score maps of each label, for networks that have them: for activation maps and patch losses."""

    extra: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Whatever else the network's own loss needs, by name; cxrkit looks at none of it."""


class Model(Protocol):
    """A network: a torch.nn.Module with an attribute `spec`, a cxrkit.models.ModelSpec."""

    spec: Any

    def __call__(self, image_BCHW: torch.Tensor, meta_B3: torch.Tensor) -> Outputs:
        """Return the outputs for normalised images (`models.prepare_input`) and `Batch.meta`."""
        ...


class ModelFactory(Protocol):
    """A registered model, or `package.module:function`: builds the network, on the CPU.

    It draws from torch's global generator, which is seeded for it. A function without parameters is welcome too; its
    network then has to have as many outputs as the labels that it is used for.
    """

    def __call__(self, labels: LabelSet, **options: Any) -> Model:
        """Return a new network with one output for each of `labels`."""
        ...


class Loss(Protocol):
    """What a training minimises, and what the best epoch is chosen by."""

    def __call__(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """Return the batch's loss, a scalar; entries of `batch.target` that are NaN do not count."""
        ...


class LossFactory(Protocol):
    """A registered loss, or `package.module:function`. A function without `labels` is called without them."""

    def __call__(self, labels: LabelSet, **options: Any) -> Loss:
        """Return the loss for networks with one output for each of `labels`."""
        ...


class Loader(Protocol):
    """Executes a plan. `steps` is the number of batches of one epoch, on this rank."""

    steps: int

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from `start_step` on, in the plan's order."""
        ...

    def close(self) -> None:
        """Stop threads and free buffers. Safe to call twice."""
        ...


class LoaderFactory(Protocol):
    """A registered loader, or `package.module:Class`."""

    def __call__(
        self,
        store: Any,
        plan: Any,
        targets: NDArray[np.float32],
        metadata: NDArray[np.float32],
        *,
        threads: int | None,
        device: str,
    ) -> Loader:
        """Return a loader that executes `plan` (a loaders.plan.Plan) from `store` (a shards.store.ShardStore).

        targets: (N, L), metadata: (N, 3) for all rows of the store's index, as `Batch` holds them. threads: None for
        one per core that this process may use. device: where the batches shall lie.
        """
        ...


class Trainer(Protocol):
    """A registered trainer, or `package.module:function`."""

    def __call__(self, task: Any) -> None:
        """Train `task` (a cxrkit.trainers.TrainTask); leaves checkpoints and metrics.jsonl in its run folder."""
        ...


@dataclass(frozen=True)
class Metric:
    """One number that an evaluator found, with all that is needed to read it alone."""

    name: str
    """What is measured: "auc", "f1", ... Reports make AUC tables of the metrics called "auc"."""

    value: float | None
    """The number; None where it is undefined, with `reason`."""

    label: str | None = None
    """The label that it is of, or None for the mean over the averaged labels."""

    lower: float | None = None
    """Lower bound of the interval; None where there is no interval."""

    upper: float | None = None
    """Upper bound of the interval; None where there is no interval."""

    positives: int | None = None
    """How many images have the label; None for a mean."""

    negatives: int | None = None
    """How many images are known not to have the label; None for a mean."""

    labels: int | None = None
    """How many labels a mean is over; None for a single label."""

    reason: str = ""
    """Why there is no value ("0 positives"), or what a reader must know of it ("over 12 of 14")."""

    interval: str = ""
    """How the interval was made, or why there is none."""

    constant: bool = False
    """Whether every image has the same score: such a model says nothing of this label."""

    positive_patients: int | None = None
    """How many patients have an image with the label; for a mean, the fewest of its labels."""

    clusters_effective: float | None = None
    """Effective number of patients behind the interval; for a mean, the smallest of its labels."""

    mark: str = ""
    """How far the interval can be trusted: "approximate", "too few patients" (there is none then), or nothing."""

    group: str = ""
    """The images that it is of, where these are not all: "sex F", "view AP"; a difference names both, "view AP against
    PA". Numbers of different groups never stand in one column of a table."""

    p_value: float | None = None
    """Of a difference: two-sided, of there being none; None where it is no difference, or nothing is known of it."""

    evaluator: str = ""
    """Who found it, by registered name or package.module:function: cxrkit fills it in, whatever an evaluator says."""

    @property
    def of(self) -> str:
        """Return in words what it is of, for messages: "auc of Edema, sex F"."""
        return f"{self.name} of {self.label or 'the mean'}" + f", {self.group}" * bool(self.group)


@dataclass(frozen=True)
class Validation:
    """What an evaluator may choose by: the validation images, which the model was not tested on."""

    scores: NDArray[np.float32]
    """(N, L), as the evaluator is given them of the images that it evaluates."""

    truth: NDArray[np.float32]
    """(N, L): 1, 0 or NaN, or an amount."""

    clusters: NDArray[np.intp]
    """(N,) the number of each image's patient, from 0."""


class Evaluator(Protocol):
    """A pure function from scores and truth to metrics."""

    def __call__(
        self,
        scores_NL: NDArray[np.float32],
        truth_NL: NDArray[np.float32],
        clusters_N: NDArray[np.intp],
        labels: LabelSet,
        /,
    ) -> Iterable[Metric]:
        """Return the metrics of N images and L labels, in the order of `labels.labels`.

        scores_NL: probabilities, finite. truth_NL: 1, 0, or NaN where an image's label is not known; such pairs are to
        be left out. clusters_N: the number of each image's patient, from 0. Further settings are keyword arguments with
        defaults; those that the user gives are passed on. Where labels have a unit, scores and truth are amounts.

        An evaluator with a keyword argument `validation` is given a Validation, or None where val was not predicted:
        thresholds are chosen there, never on the images that they are counted on. One with a keyword argument `images`
        is given a pl.DataFrame with a row for each of the N images (IMAGE_SCHEMA), for subgroups.
        """
        ...


@dataclass(frozen=True)
class Job:
    """One run of a study, as a process that an executor starts somewhere."""

    name: str
    """Its run folder below RUNS: resnet50-large-meta/resample-1."""

    command: tuple[str, ...]
    """What to start. It goes on where an earlier start of it ended, and does nothing where that had finished."""

    folder: Path
    """Where to start it: the command names files from there."""

    log: Path
    """File that takes what it prints; appended to."""

    gpu: bool = False
    """Whether it computes on a GPU."""

    threads: int | None = None
    """Threads that it computes with on a CPU, where it has begun or its study says so: its last digits depend on them.
    None: the executor gives each job its share of the cores."""


@dataclass(frozen=True)
class Ended:
    """A job that has ended, well or not: what it leaves in its run folder says how far it has come."""

    name: str
    """The job's name."""

    code: int
    """Its exit status; negative where a signal ended it."""

    reason: str = ""
    """What the executor knows of a bad end and the log does not say: "its node is gone"."""


@dataclass(frozen=True)
class Share:
    """How the machines are shared out among jobs."""

    jobs: int | None = None
    """At most so many at a time; None: as many as there are places."""

    per_gpu: int = 1
    """How many share a GPU."""

    folder: Path = Path()
    """Where the executor may keep files of its own."""


class Executor(Protocol):
    """Runs independent jobs, here or elsewhere. A job's own log and run folder say how it is doing."""

    places: int | None
    """How many jobs it takes at a time; None where it has a queue of its own."""

    def submit(self, job: Job) -> None:
        """Take a job; returns at once. Never more than `places` that have not ended."""
        ...

    def ended(self) -> Iterable[Ended]:
        """Return the jobs that have ended since the last call."""
        ...

    def close(self) -> None:
        """End what is running, gently first. Safe to call twice."""
        ...


class ExecutorFactory(Protocol):
    """A registered executor, or `package.module:Class`. Options are keyword arguments with defaults."""

    def __call__(self, share: Share, **options: Any) -> Executor:
        """Return an executor that shares machines out as `share` says."""
        ...


Subset = Literal["train", "val", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "val", "test")
EVALUATED: tuple[Subset, ...] = ("val", "test")  # what a trained network is asked about
