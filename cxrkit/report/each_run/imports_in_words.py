"""What is known of predictions that were made elsewhere, for the protocol: what was declared, and what was checked."""

from __future__ import annotations

from cxrkit.base.errors import UserError
from cxrkit.base.words import count as counted
from cxrkit.report.evidence.runs import Run
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.imported import Imported, read_imported

ELSEWHERE = "not known to cxrkit: the predictions were imported"


def import_of(run: Run) -> Imported | None:
    """Return the run's import.json; None where it is not an import, or the file cannot be read."""
    if not run.imported:
        return None
    try:
        return read_imported(RunFolder(run.folder).imported)
    except UserError:
        return None


def split_of_import(run: Run) -> str:
    """Return which images an import was tested on, and what is known of those that it was trained and validated on."""
    test, origin = run.test, run.origin
    tested = counted(test.images, "test image")
    if not test.complete:
        tested = f"{test.images:,} of {counted(test.subset_images, 'test image')}"
    parts = [f"split {origin.split}", tested]
    if origin.basis.training == "unknown" or not origin.train_images:
        parts.append("what it was trained on is not known")
    else:
        apart = "none of them of a test patient (their list was checked)"
        apart = apart if test.leakage_checked else "whether any is of a test patient is not checked"
        parts.append(f"trained on {counted(origin.train_images, 'image')} as declared, {apart}")
    return "; ".join([*parts, _validation(run)])


def _validation(run: Run) -> str:
    """Return what is known of the images that it was validated on: those that predictions were imported of."""
    val = run.scores.subsets.get("val")
    if val is None:
        return "validation images not known"
    return f"predictions of {counted(val.images, 'validation image')} imported, too"


def input_of_import(run: Run) -> str:
    """Return the input's size, where it was declared."""
    size = run.scores.input_size
    return f"{size} x {size} pixels (declared)" if size else "not known"


def test_of_import(run: Run) -> str:
    """Return what was done with the file's numbers."""
    about = import_of(run)
    logits = "; they were logits, and their sigmoid is the score" if about is not None and about.logits else ""
    return f"scores as imported{logits}; evaluator {run.scores.evaluator}"
