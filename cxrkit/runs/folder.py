"""A run folder: RUNS/NAME/SPLIT, what lies where in it, and how far it has come."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from cxrkit.base import files, typed
from cxrkit.base.contracts import Subset
from cxrkit.base.errors import UserError
from cxrkit.base.files import output_error, remove_parts, replacing, write_json
from cxrkit.datasets.splits import Split

BUSY = "another process is working in this run"
_LONGEST_NAME = 200  # bytes; file systems take 255
RunState = Literal["new", "training", "trained", "predicted", "scored"]


@dataclass(frozen=True)
class Trained:
    """done/train.json: a training has come to its end."""

    epochs: int
    """How many it took."""

    best_sha256: str
    """Of checkpoints/best.safetensors."""


@dataclass(frozen=True)
class Predicted:
    """done/predict.json: a checkpoint has been asked about the subsets."""

    checkpoint_sha256: str
    """Of the checkpoint that was asked."""

    predictions: dict[str, str]
    """SHA-256 of each prediction file, by subset."""


@dataclass(frozen=True)
class Scored:
    """done/evaluate.json: predictions have been scored."""

    predictions: dict[str, str]
    """SHA-256 of each prediction file that the scores are of, by subset."""


@dataclass(frozen=True)
class RunFolder:
    """Names of the files of one run; nothing is read or made by asking for one."""

    path: Path
    """RUNS/NAME/SPLIT."""

    @classmethod
    def of(cls, runs: Path, name: str, split: str, seed: int = 0) -> RunFolder:
        """Return the folder of a run called `name` on a split; seeds other than 0 stand beside it as SPLIT-seed-N.

        A user's own `package.module:function` becomes a plain name. Raises UserError for a name that no folder of RUNS
        can have.
        """
        folder = name.replace(":", ".").replace("/", ".")
        # Hidden folders are not looked into when runs are collected.
        hidden = folder.startswith(".")
        if hidden or not folder.strip(" .") or not folder.isprintable() or len(folder.encode()) > _LONGEST_NAME:
            raise UserError(
                f"--name {name!r}: not the name of a folder inside {runs}",
                remedy=f"give printable characters, at most {_LONGEST_NAME} bytes, no dot first, not spaces alone",
            )
        return cls(runs / folder / (f"{split}-seed-{seed}" if seed else split))

    @property
    def config(self) -> Path:
        """The complete configuration; `cxrkit train --recipe` runs it again."""
        return self.path / "config.toml"

    @property
    def imported(self) -> Path:
        """What predictions from elsewhere were made of, in place of a config: see imported.py."""
        return self.path / "import.json"

    @property
    def training_list(self) -> Path:
        """The images that a model from elsewhere is declared to be trained on."""
        return self.path / "training.parquet"

    @property
    def validation_list(self) -> Path:
        """The validation images of a model from elsewhere, where they are not those of the split."""
        return self.path / "validation.parquet"

    @property
    def provenance(self) -> Path:
        """Origin, versions, code state and machine."""
        return self.path / "provenance.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: kind "step" and kind "epoch"."""
        return self.path / "metrics.jsonl"

    @property
    def split(self) -> Path:
        """The complete split: see `write_split`."""
        return self.path / "split.parquet"

    @property
    def last(self) -> Path:
        """The newest state, to resume from."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def best(self) -> Path:
        """The model of the best epoch."""
        return self.path / "checkpoints" / "best.safetensors"

    def predictions(self, subset: Subset) -> Path:
        """Scores of the best model on val or test."""
        return self.path / "predictions" / f"{subset}.parquet"

    @property
    def epochs(self) -> Path:
        """The predictions of every epoch, where they are kept: see runs/epochs.py."""
        return self.path / "predictions" / "epochs"

    @property
    def scores(self) -> Path:
        """AUCs and their intervals."""
        return self.path / "scores.json"

    @property
    def epoch_scores(self) -> Path:
        """AUCs of every epoch that is kept."""
        return self.path / "epochs.json"

    def derived(self, name: str) -> Path:
        """Arrays that reports worked out from the predictions, read the next time: report/evidence/opened.py."""
        return self.path / "derived" / f"{name}.npz"

    def done(self, stage: str) -> Path:
        """Return the file that says what a finished stage (train, predict, evaluate) has read, by its digests."""
        return self.path / "done" / f"{stage}.json"

    def state(self) -> RunState:
        """Return how far the run has come, from small files alone: each stage must have read what the one before made.

        A file that says nothing readable says that its stage is not done: it can be done again. So does a stage whose
        own files are gone. An imported run has no training: it is predicted or scored, or new where nothing is left.
        """
        imported = self.imported.exists()
        if not imported and not self.config.exists():
            return "new"
        trained = self._done("train", Trained)
        if not imported and (trained is None or not self.best.exists()):
            return "training"
        unpredicted: RunState = "new" if imported else "trained"
        predicted = self._done("predict", Predicted)
        if predicted is None or not (imported or predicted.checkpoint_sha256 == trained.best_sha256):
            return unpredicted
        if not all((self.predictions("val").parent / f"{subset}.parquet").exists() for subset in predicted.predictions):
            return unpredicted
        scored = self._done("evaluate", Scored)
        if scored is None or scored.predictions != predicted.predictions or not self.scores.exists():
            return "predicted"
        return "scored"

    def predicted(self) -> tuple[str, ...]:
        """Return the subsets that done/predict.json names and whose predictions lie there."""
        done = self._done("predict", Predicted)
        folder = self.predictions("val").parent
        return tuple(name for name in (done.predictions if done else ()) if (folder / f"{name}.parquet").exists())

    def _done(self, stage: str, kind: type[Any]) -> Any:
        try:
            return typed.read_typed(kind, self.done(stage), "what a stage has done", "do it again")
        except UserError:
            return None

    def remove_parts(self) -> None:
        """Remove the temporary files that a killed process left."""
        for folder in {
            self.path,
            self.last.parent,
            self.predictions("val").parent,
            self.epochs,
            self.done("train").parent,
        }:
            remove_parts(folder)

    def finish(self, stage: str, done: Trained | Predicted | Scored) -> None:
        """Write down that a stage is done."""
        write_json(self.done(stage), asdict(done))

    def forget(self, *stages: str) -> None:
        """Take back that stages are done, and remove the scores: what they were made of is about to change."""
        try:
            for stage in stages:
                self.done(stage).unlink(missing_ok=True)
            self.scores.unlink(missing_ok=True)
            self.epoch_scores.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.scores, error) from error


def write_split(run: RunFolder, split: Split, used: pl.DataFrame) -> None:
    """Write split.parquet: image_id, patient_id, subset, and what this run knows of each image's pixels.

    used: image_id, `used` (Boolean: trained on, validated or tested by this run) and `source_crc32` (UInt32: checksum
    of the source file) of the prepared images; the other images get false and null.
    """
    frame = split.frame.join(used, on="image_id", how="left", maintain_order="left")
    frame = frame.with_columns(pl.col("used").fill_null(False))
    buffer = io.BytesIO()  # by way of memory: what goes wrong with the disk is then a plain OSError
    frame.write_parquet(buffer)
    with replacing(run.split) as part:
        part.write_bytes(buffer.getbuffer())


def read_split(run: RunFolder) -> tuple[Split, pl.DataFrame]:
    """Return a run's split, and the table that it stands in (see `write_split`).

    Raises UserError when there is none, or it is not readable.
    """
    remedy = "train the run again, or take split.parquet from a copy of it"
    try:
        frame = pl.read_parquet(io.BytesIO(run.split.read_bytes()))
        schema: dict[str, pl.DataType] = dict.fromkeys(("image_id", "patient_id", "subset"), pl.String())
        schema |= {"used": pl.Boolean(), "source_crc32": pl.UInt32()}
        if absent := schema.keys() - set(frame.columns):
            raise UserError(
                f"{run.split}: no column {' and '.join(sorted(absent))}; expected a split written by this version",
                remedy=remedy,
            )
        frame = frame.select(pl.col(name).cast(kind) for name, kind in schema.items())
    except FileNotFoundError:
        raise UserError(f"{run.split}: the run's split is missing", remedy=remedy) from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{run.split}: not a readable split ({str(error).splitlines()[0]})", remedy=remedy) from None
    if frame["image_id"].null_count() or frame["image_id"].n_unique() < len(frame):
        raise UserError(f"{run.split}: an image without a name, or listed twice", remedy=remedy)
    name = run.path.name.partition("-seed-")[0]
    return Split(name, frame.select("image_id", "patient_id", "subset").sort("image_id")), frame


@contextmanager
def claimed(run: RunFolder) -> Iterator[None]:
    """Hold the run folder for this process; a kill lets go of it. Raises UserError when another one works in it.

    A folder that was made for the claim alone is taken away again when nothing came of it.
    """
    busy = f"{run.path}: {BUSY}"
    try:
        with files.claimed(run.path / ".lock", busy, "wait for it, or choose another --name or --runs folder"):
            yield
    finally:
        with suppress(OSError):  # not empty, as it should be
            run.path.rmdir()
            run.path.parent.rmdir()
