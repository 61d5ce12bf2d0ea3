"""Add predictions of the subset that an earlier import lacks: validation images to test images, or the reverse."""

from __future__ import annotations

from dataclasses import replace

from cxrkit.base.contracts import Subset
from cxrkit.base.errors import UserError
from cxrkit.base.origin import differences
from cxrkit.evaluators.gates import read_declared, read_validation
from cxrkit.imports import placing, splitting, validation, writing
from cxrkit.imports.cohort import Cohort
from cxrkit.imports.identity import origin_of
from cxrkit.imports.placing import Part
from cxrkit.imports.request import ImportRequest
from cxrkit.imports.scored_file import ScoredFile
from cxrkit.imports.splitting import Asked
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.imported import Imported, read_about, read_imported
from cxrkit.runs.predictions import Predictions, read_predictions

_WHOLE = "import both files into a run of another --name, with --val"


def is_for(run: RunFolder, request: ImportRequest) -> bool:
    """Whether an import of this name has just the one subset that is not asked for."""
    wanted = request.subsets or ("test",)
    held = run.predicted() if run.imported.exists() else ()
    return len(held) == 1 and len(wanted) == 1 and wanted != held and request.val is None


def add(run: RunFolder, request: ImportRequest, found: Cohort, asked: Asked, file: ScoredFile) -> dict[Subset, Part]:
    """Write the predictions beside those that are there, and return them. Raises UserError, and then writes nothing."""
    subset: Subset = (request.subsets or ("test",))[0]
    other: Subset = "val" if subset == "test" else "test"
    imported = read_imported(run.imported)
    before = read_predictions(run.predictions(other))
    _refuse_others(run, request, imported, before, found, asked)
    if subset == "val":
        part = placing.validation_part(file, asked, found)
    else:
        part = placing.place(file, asked, ("test",), found)["test"]
    part = replace(part, left_out={name: number for name, number in part.left_out.items() if name != other})
    parts: dict[Subset, Part] = {subset: part}
    validation.refuse_fewer(part, before.about.unscored, f"{run.predictions(other)}", found.labels)
    declared = read_declared(run.training_list, before.about)
    if declared is not None:
        splitting.refuse_trained_on(f"{run.training_list} and {file.path}", subset, part.frame, declared)
    own = validation.own_of(parts, asked) if subset == "val" else read_validation(run.validation_list, before.about)
    origin = validation.stated(before.about.origin, own)
    frame = validation.without(part.frame, before.about.unscored)
    files = {
        other: (before.frame, replace(before.about, origin=origin)),
        subset: (frame, replace(before.about, origin=origin, subset=subset, subset_images=len(part.listed))),
    }
    if subset == "val":
        imported = replace(imported, validation=validation.about(part, logits=request.logits))
    else:
        imported = replace(
            imported, file=f"{file.path}", sha256=file.read.sha256, columns=file.chosen.by_label,
            logits=request.logits, left_out=part.left_out,
        )  # fmt: skip
    writing.write(run, writing.Content(imported, asked.split, files, declared, own), adding=True)
    return parts


def _refuse_others(
    run: RunFolder, request: ImportRequest, imported: Imported, before: Predictions, found: Cohort, asked: Asked
) -> None:
    """Raise a UserError where what is said now is not what was said at the first import."""
    if request.about is not None and read_about(request.about) != imported.about:
        raise UserError(
            f"--about {request.about}: says something else of the model than at the import of {run.path}",
            remedy=f"leave it out; or {_WHOLE}",
        )
    if request.trained_on is not None:
        digest = splitting.training_of(request.trained_on, found).digest
        if digest != imported.trained_on_digest:
            raise UserError(
                f"--trained-on {request.trained_on}: other training images than at the import of {run.path}",
                remedy=f"leave it out; or {_WHOLE}",
            )
    mine = origin_of(found, asked.split, None, imported.about)
    for difference in differences(mine, before.about.origin, {"data set", "labels", "split"}):
        raise UserError(
            f"{run.path}: was imported for {difference.other}, and now there is {difference.one}",
            remedy=f"name the same data set and --split as before; or {_WHOLE}",
        )
