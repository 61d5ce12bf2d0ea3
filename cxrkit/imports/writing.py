"""The run folder of an import, and what lies beside it already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from cxrkit.base import provenance
from cxrkit.base.contracts import Subset
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest, replacing, write_json
from cxrkit.datasets.splits import Split
from cxrkit.runs.folder import Predicted, RunFolder, claimed, write_split
from cxrkit.runs.imported import Imported, read_imported, write_imported
from cxrkit.runs.predictions import PredictionInfo, write_predictions


@dataclass(frozen=True)
class Content:
    """What an imported run's folder holds."""

    imported: Imported
    """The content of import.json."""

    split: Split
    """The split that it stands under."""

    files: dict[Subset, tuple[pl.DataFrame, PredictionInfo]]
    """The predictions of each subset."""

    training: pl.DataFrame | None
    """image_id and patient_id of the declared training images."""

    own_validation: pl.DataFrame | None
    """image_id and patient_id of the validation images, where they are not the split's."""


def write(run: RunFolder, content: Content, *, adding: bool = False) -> None:
    """Write the run folder. Raises UserError where it holds a run, unless this adds to it.

    import.json comes last: a run that has it has all that goes with it. To one that has it, what is added counts from
    done/predict.json on, and until then it is what it was.
    """
    with claimed(run):
        if not adding:
            refuse_held(run)
            run.remove_parts()
            run.forget("predict")
            for left in (run.predictions("val"), run.predictions("test"), run.training_list, run.validation_list):
                left.unlink(missing_ok=True)  # of an import that did not come to its end
        run.forget("evaluate")
        for path, frame in ((run.training_list, content.training), (run.validation_list, content.own_validation)):
            if frame is not None:
                with replacing(path) as part:
                    frame.write_parquet(part)
        files = content.files
        write_split(run, content.split, _used(content))
        for subset, (frame, info) in files.items():
            write_predictions(run.predictions(subset), frame, info)
        origin = next(iter(files.values()))[1].origin
        about = {"imported": content.imported.file, "origin": asdict(origin)}
        write_json(run.provenance, provenance.collect() | about)
        predicted = Predicted(
            content.imported.sha256, {subset: file_digest(run.predictions(subset)) for subset in files}
        )
        if adding:
            write_imported(run.imported, content.imported)
            run.finish("predict", predicted)
        else:
            run.finish("predict", predicted)
            write_imported(run.imported, content.imported)


def _used(content: Content) -> pl.DataFrame:
    """Return which images of the split's own subsets were predicted, as `write_split` takes it."""
    own = content.own_validation is not None
    predicted = [frame["image_id"] for subset, (frame, _) in content.files.items() if not (subset == "val" and own)]
    images = pl.concat([pl.Series("image_id", [], dtype=pl.String), *predicted])
    return images.to_frame().with_columns(used=pl.lit(True), source_crc32=pl.lit(None, pl.UInt32))


def refuse_held(run: RunFolder) -> None:
    """Raise a UserError where the folder holds a run."""
    if not (run.config.exists() or run.imported.exists()):
        return
    remedy = "choose another --name or --runs folder, or delete that folder first"
    if run.config.exists():
        raise UserError(f"{run.path}: already holds a training", remedy=remedy)
    held = run.predicted()
    if held == ("test",):
        remedy += "; validation predictions are added to it with --subset val"
    elif held == ("val",):
        remedy += "; test predictions are added to it with --subset test"
    raise UserError(
        f"{run.path}: already holds imported predictions" + f" of {' and '.join(held)}" * bool(held), remedy=remedy
    )


def same_file_notes(run: RunFolder, runs: Path, sha256: str) -> Iterator[str]:
    """Yield that another run of the folder was made of the very same file."""
    for path in sorted(runs.glob("*/*/import.json")):
        if path.parent.parent == run.path.parent:  # folds of one model may come from one file
            continue
        try:
            other = read_imported(path)
        except UserError:
            continue
        if sha256 in (other.sha256, other.validation.sha256 if other.validation else ""):
            yield f"the same file, byte by byte, as that of run {path.parent.parent.name}"
            return
