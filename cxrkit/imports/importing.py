"""`cxrkit import`: a file of anyone's predictions becomes a run folder, or a message says why it cannot."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from cxrkit import __version__
from cxrkit.base import provenance
from cxrkit.base.contracts import Subset
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest, replacing, write_json
from cxrkit.base.origin import Basis, Origin, labels_digest
from cxrkit.datasets.nih.tables import entries_path
from cxrkit.datasets.splits import Split
from cxrkit.evaluators.truth import Truth
from cxrkit.imports import checking, cohort, reading, splitting
from cxrkit.imports.cohort import Cohort
from cxrkit.imports.splitting import Training
from cxrkit.runs.folder import Predicted, RunFolder, claimed, write_split
from cxrkit.runs.imported import AboutModel, Imported, read_about, write_imported
from cxrkit.runs.predictions import IMPORTED, PredictionInfo, write_predictions


@dataclass(frozen=True)
class ImportRequest:
    """What a user says of a file of predictions."""

    file: Path
    """CSV, parquet or NPZ."""

    name: str
    """Name of the run."""

    split: str
    """official, resample-K, or a file of test images."""

    raw: Path | None = None
    """Raw folder, or NIH's CSV alone: where labels and patients come from."""

    data: Path | None = None
    """Prepared folder, of tables alone too; one of both."""

    dataset: str = cohort.NIH
    """Name of the data set in the raw folder."""

    columns: str | None = None
    """Pattern of the columns of scores, with {label} in it."""

    logits: bool = False
    """Whether the scores are outputs before the sigmoid."""

    trained_on: Path | None = None
    """List of the images that the model was trained on."""

    about: Path | None = None
    """TOML file of `AboutModel`."""

    subsets: tuple[Subset, ...] = ("test",)
    """Which subsets of the split to import."""

    runs: Path = Path("runs")
    """Where run folders go."""


@dataclass(frozen=True)
class ImportedRun:
    """What an import has made."""

    run: RunFolder
    """The run folder: predictions without scores yet."""

    truth: Truth
    """The labels to evaluate with."""

    notes: tuple[str, ...]
    """What its reader should know."""


def import_predictions(request: ImportRequest) -> ImportedRun:
    """Check a file of predictions and write it as a run folder; nothing is written unless all of it is well.

    Raises UserError for whatever is wrong with the file, and where the run folder holds something already.
    """
    about = read_about(request.about) if request.about else AboutModel()
    read = reading.read_table(request.file)
    found = cohort.read(request.raw, request.data, request.dataset)
    split, split_notes = splitting.split_of(request.split, found)
    chosen = reading.choose_columns(read, found.frame["image_id"], found.labels, request.columns)
    frame = checking.scores_of(read, chosen, found.frame, found.labels, logits=request.logits)
    checking.refuse_truth(read, chosen, frame, found.frame)
    splitting.refuse_other_test(request.file, split, frame["image_id"], found)
    parts, left_out = _by_subset(request, split, frame)
    tested = pl.concat([part.select("image_id", "patient_id") for part in parts.values()])
    training = splitting.training_of(request.trained_on, found, tested) if request.trained_on else None
    origin = _origin(found, split, training, about)
    run = RunFolder.of(request.runs, request.name, split.name, about.seed)
    imported = Imported(
        file=str(request.file),
        sha256=read.sha256,
        truth=_truth_path(request, found),
        split=request.split,
        columns=chosen.by_label,
        logits=request.logits,
        left_out=left_out,
        trained_on=str(request.trained_on or ""),
        trained_on_digest=training.digest if training else "",
        about=about,
        cxrkit_version=__version__,
    )
    unscored = tuple(label for label in found.labels.labels if label not in chosen.by_label)
    infos = {subset: _info(request, about, read.sha256, subset, split, origin, unscored) for subset in parts}
    notes = (
        *split_notes,
        *_coverage_notes(parts, left_out, split),
        *checking.notes(read, chosen, frame, found.labels, logits=request.logits),
    )
    _write(run, imported, split, training, {subset: (parts[subset], infos[subset]) for subset in parts})
    return ImportedRun(run, Truth(found.source, found.frame, found.dataset, found.label_release), notes)


def _by_subset(
    request: ImportRequest, split: Split, frame: pl.DataFrame
) -> tuple[dict[Subset, pl.DataFrame], dict[str, int]]:
    """Return the predictions of each subset that is asked for, and how many of the others are left out."""
    placed = frame.join(split.frame.select("image_id", "subset"), on="image_id", how="left", maintain_order="left")
    counts = dict(placed.group_by(pl.col("subset").fill_null("none")).len().sort("subset").iter_rows())
    for subset in request.subsets:
        if not counts.get(subset):
            where = ", ".join(f"{count:,} in {name}" for name, count in counts.items())
            raise UserError(
                f"{request.file}: none of its {len(frame):,} images is in the {subset} subset of split {split.name} "
                f"({where})",
                remedy="give the split that was predicted: official, resample-1 to -5, or a list of its test images",
            )
    parts = {subset: placed.filter(pl.col("subset") == subset).drop("subset") for subset in request.subsets}
    return parts, {name: count for name, count in counts.items() if name not in request.subsets}


def _origin(found: Cohort, split: Split, training: Training | None, about: AboutModel) -> Origin:
    trained_on = training.frame.height if training else 0
    return Origin(
        dataset=found.dataset,
        label_set=found.labels.name,
        label_release=found.label_release,
        labels_digest=labels_digest(found.frame, found.labels),
        pixels_digest="",
        preparation_digest="",
        image_side=0,
        split=split.name,
        split_digest=split.digest,
        train_images=trained_on,
        train_subset_images=trained_on,
        pretraining=about.pretraining or ("none" if about.pretrained.seen == "none" else "unknown"),
        pretrained=about.pretrained,
        basis=Basis(
            pixels="unknown",
            training="declared" if training else "unknown",
            pretraining="declared" if about.pretraining or about.pretrained.known else "unknown",
        ),
    )


def _info(
    request: ImportRequest,
    about: AboutModel,
    sha256: str,
    subset: Subset,
    split: Split,
    origin: Origin,
    unscored: tuple[str, ...],
) -> PredictionInfo:
    # Folds of one model are pooled over their files: what is said of the model makes them one.
    # Where nothing is said of how much it had seen, that leaves no trace: earlier imports of it have none.
    left_out = {"seed", "note"} | ({"pretrained"} if not about.pretrained.known else set())
    said = {name: value for name, value in asdict(about).items() if name not in left_out}
    settings = json.dumps({"imported": request.name, **said}, sort_keys=True)
    return PredictionInfo(
        name=request.name,
        model=about.model or request.name,
        recipe=IMPORTED,
        recipe_digest=hashlib.sha256(settings.encode()).hexdigest(),
        changes=(),
        seed=about.seed,
        input_size=about.input_size,
        epoch=0,
        checkpoint_sha256=sha256,
        subset=subset,
        subset_images=split.images(subset),
        origin=origin,
        unscored=unscored,
    )


def _truth_path(request: ImportRequest, found: Cohort) -> Path | None:
    """Return where a later evaluation finds the same labels without asking; None for other data sets' raw folders."""
    if request.data is not None:
        return request.data.absolute()
    if found.dataset != cohort.NIH or request.raw is None:
        return None
    return (entries_path(request.raw) if request.raw.is_dir() else request.raw).absolute()


def _write(
    run: RunFolder,
    imported: Imported,
    split: Split,
    training: Training | None,
    files: dict[Subset, tuple[pl.DataFrame, PredictionInfo]],
) -> None:
    """Write the run folder, import.json last: a run that has it has all that goes with it."""
    with claimed(run):
        if run.config.exists() or run.imported.exists():
            what = "a training" if run.config.exists() else "imported predictions"
            raise UserError(
                f"{run.path}: already holds {what}",
                remedy="choose another --name or --runs folder, or delete that folder first",
            )
        run.remove_parts()
        run.forget("predict", "evaluate")
        for left in (run.predictions("val"), run.predictions("test"), run.training_list):
            left.unlink(missing_ok=True)  # of an import that did not come to its end
        used = pl.concat([frame.select("image_id") for frame, _ in files.values()])
        write_split(run, split, used.with_columns(used=pl.lit(True), source_crc32=pl.lit(None, pl.UInt32)))
        if training is not None:
            with replacing(run.training_list) as part:
                training.frame.write_parquet(part)
        for subset, (frame, info) in files.items():
            write_predictions(run.predictions(subset), frame, info)
        origin = next(iter(files.values()))[1].origin
        write_json(run.provenance, provenance.collect() | {"imported": imported.file, "origin": asdict(origin)})
        digests: dict[str, str] = {subset: file_digest(run.predictions(subset)) for subset in files}
        run.finish("predict", Predicted(imported.sha256, digests))
        write_imported(run.imported, imported)


def _coverage_notes(parts: dict[Subset, pl.DataFrame], left_out: dict[str, int], split: Split) -> list[str]:
    notes = []
    for subset, part in parts.items():
        whole = split.images(subset)
        text = f"{len(part):,} of {whole:,} {subset} images of split {split.name}"
        notes.append(text if len(part) == whole else f"{text}: a partial result, which reports keep apart")
    if left_out:
        told = (f"{count:,} of {'no' if name == 'none' else 'the ' + name} subset" for name, count in left_out.items())
        notes.append(f"left out: {', '.join(told)}")
    return notes
