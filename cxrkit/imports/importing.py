"""`cxrkit import`: files of anyone's predictions become a run folder, or a message says why they cannot."""

from __future__ import annotations

from collections.abc import Iterator

from cxrkit.base.contracts import Subset
from cxrkit.base.errors import UserError
from cxrkit.evaluators.truth import Truth
from cxrkit.imports import adding, checking, cohort, placing, splitting, validation, writing
from cxrkit.imports.cohort import Cohort
from cxrkit.imports.identity import imported_of, info_of, origin_of
from cxrkit.imports.placing import Part
from cxrkit.imports.request import ImportedRun, ImportRequest
from cxrkit.imports.scored_file import ScoredFile, read_scored
from cxrkit.imports.splitting import Asked
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.imported import AboutModel, read_about

__all__ = ["ImportRequest", "ImportedRun", "import_predictions"]


def import_predictions(request: ImportRequest) -> ImportedRun:
    """Check files of predictions and write them as a run folder; nothing is written unless all of it is well.

    The subset that an earlier import of this name lacks is added to it. Raises UserError for whatever is wrong with a
    file, and where the run folder holds what would be written.
    """
    _refuse_asked(request)
    about = read_about(request.about) if request.about else AboutModel()
    found = cohort.read(request.raw, request.data, request.dataset)
    asked = splitting.split_of(request.split, found)
    run = RunFolder.of(request.runs, request.name, asked.split.name, about.seed)
    truth = Truth(found.source, found.frame, found.dataset, found.label_release)
    file = read_scored(request.file, request, found)
    if adding.is_for(run, request):
        parts = adding.add(run, request, found, asked, file)
        began = [f"added to the {', '.join(set(run.predicted()) - parts.keys())} predictions of before"]
    else:
        writing.refuse_held(run)
        splitting.refuse_other_test(request.file, asked.split, file.frame["image_id"], found)
        parts = _parts(request, asked, file, found)
        _write(run, request, about, found, asked, parts)
        began = []
    return ImportedRun(run, truth, tuple(_notes(run, request, asked, parts, found, began)))


def _refuse_asked(request: ImportRequest) -> None:
    """Raise a UserError for a name that no folder has as it is, and for validation images that are said twice."""
    if wrong := [sign for sign in ("/", "\\", ":") if sign in request.name]:
        plain = request.name
        for sign in wrong:
            plain = plain.replace(sign, "-")
        raise UserError(
            f"--name {request.name!r}: holds {' and '.join(wrong)}, and a run is a folder of that name",
            remedy=f"give --name {plain.strip('.- ') or 'mymodel'!r}",
        )
    if request.val is not None and "val" in request.subsets:
        raise UserError(
            f"--val {request.val} and --subset val: both say where the validation predictions are",
            remedy="leave --subset val out: --val imports them",
        )


def _parts(request: ImportRequest, asked: Asked, file: ScoredFile, found: Cohort) -> dict[Subset, Part]:
    """Return the predictions of each subset, of one file or of two."""
    wanted = request.subsets
    if not wanted:
        inside = file.frame.join(asked.listed("val"), on="image_id", how="semi").height
        wanted = ("test", "val") if asked.has_validation_of_table and inside and request.val is None else ("test",)
    parts = placing.place(file, asked, wanted, found)
    if request.val is not None:
        parts["val"] = placing.validation_part(read_scored(request.val, request, found), asked, found)
    return parts


def _write(
    run: RunFolder, request: ImportRequest, about: AboutModel, found: Cohort, asked: Asked, parts: dict[Subset, Part]
) -> None:
    training = splitting.training_of(request.trained_on, found) if request.trained_on else None
    if training is not None:
        for subset, part in parts.items():
            splitting.refuse_trained_on(f"--trained-on {training.file}", subset, part.frame, training.frame)
    own = validation.own_of(parts, asked)
    frames, unscored = validation.aligned(parts, found.labels)
    origin = validation.stated(origin_of(found, asked.split, training, about), own)
    sha256 = next(iter(parts.values())).file.read.sha256  # stands for the model that predicted
    files = {
        subset: (frames[subset], info_of(request, about, sha256, subset, len(part.listed), origin, unscored))
        for subset, part in parts.items()
    }
    imported = imported_of(request, about, found, training, parts)
    trained_on = training.frame if training else None
    writing.write(run, writing.Content(imported, asked.split, files, trained_on, own))


def _notes(
    run: RunFolder,
    request: ImportRequest,
    asked: Asked,
    parts: dict[Subset, Part],
    found: Cohort,
    began: list[str],
) -> Iterator[str]:
    yield from began
    yield from asked.notes
    yield from placing.coverage_notes(parts, asked.split.name)
    files = {part.file.path: part.file for part in parts.values()}
    told: dict[str, list[str]] = {}
    for path, file in files.items():
        found_of_file = checking.notes(file.read, file.chosen, file.frame, found.labels, logits=request.logits)
        for note in (*found_of_file, *writing.same_file_notes(run, request.runs, file.read.sha256)):
            told.setdefault(note, []).append(path.name)
    for note, names in told.items():
        yield note if len(names) == len(files) else f"{' and '.join(names)}: {note}"
