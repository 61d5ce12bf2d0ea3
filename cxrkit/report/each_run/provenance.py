"""Where each number comes from: what a run was trained on, how that is known, and with which versions on which machine.

All of it is read from the run folders; what a folder does not say is "-".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxrkit.base.errors import UserError
from cxrkit.base.origin import Known
from cxrkit.report.document.tables import EMPTY, Cell, Column, Report, Row, Table
from cxrkit.report.evidence.run_names import run_names
from cxrkit.report.evidence.runs import Run
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.imported import Imported, read_imported

DIGITS = 12  # of a digest are shown: enough to tell any two apart
_SHOWN_ALIKE = ("torch", "numpy")  # packages in the table; provenance.json has all
_KNOWN: dict[Known, str] = {
    "checked": "",
    "declared": "declared",
    "unknown": "not known",
    "unused": "not looked at",
}


def provenance(runs: Sequence[Run]) -> Report:
    """Return what the runs were made of: their recipes, their data, their files and machines. Reads small files."""
    called = run_names(runs)
    names = [called[run.folder] for run in runs]
    tables = (_recipes(names, runs), _data(names, runs), _files(names, runs))
    return Report("Provenance", tables, (), key="provenance")


def _recipes(names: Sequence[str], runs: Sequence[Run]) -> Table:
    columns = (
        Column("recipe", ("Recipe",), left=True),
        Column("changes", ("Changed in it",), left=True),
        Column("seed", ("Seed",)),
        Column("epoch", ("Epoch",)),
        Column("input", ("Input", "in pixels")),
        Column("pretraining", ("Pretraining",), left=True),
        Column("evaluator", ("Evaluator",), left=True),
    )
    rows = tuple(Row("", name, _recipe_cells(run)) for name, run in zip(names, runs, strict=True))
    notes = ("Seed: of initialisation, order and augmentation. Epoch: how many the network that predicted had seen",)
    imports_alone = all(run.imported for run in runs)
    title = "What was declared of each network" if imports_alone else "How each network was trained"
    return Table(title, "Run", columns, rows, notes, "recipes")


def _recipe_cells(run: Run) -> tuple[Cell, ...]:
    scores, origin = run.scores, run.origin
    imported, before, looks = run.imported, origin.pretraining, origin.basis.pixels != "unused"
    weights = f", from weights {origin.initial_weights[:DIGITS]}" if origin.initial_weights else ""
    return (
        Cell("imported, trained elsewhere" if imported else scores.recipe),
        Cell(", ".join(scores.changes)) if scores.changes else EMPTY,
        EMPTY if imported else Cell(f"{scores.seed}", {"seed": scores.seed}),
        EMPTY if imported else Cell(f"{scores.epoch:,}", {"epoch": scores.epoch}),
        Cell(f"{scores.input_size:,}", {"input_size": scores.input_size}) if scores.input_size and looks else EMPTY,
        Cell(_with_basis(f"{'-' if before in ('', 'unknown') else before}{weights}", origin.basis.pretraining)),
        Cell(scores.evaluator),
    )


def _data(names: Sequence[str], runs: Sequence[Run]) -> Table:
    columns = (
        Column("dataset", ("Data set",), left=True),
        Column("labels", ("Labels",), left=True),
        Column("pixels", ("Pixels",), left=True),
        Column("split", ("Split",), left=True),
        Column("training", ("Training", "images"), ("train_images",)),
        Column("test", ("Test", "images"), ("images",)),
        Column("patients", ("Test", "patients"), ("patients",)),
        Column(
            "leakage",
            ("Patients kept", "apart"),
        ),
    )
    rows = tuple(Row("", name, _data_cells(run)) for name, run in zip(names, runs, strict=True))
    notes = (
        f"The first {DIGITS} digits of each SHA-256: of the labels of all images, of the box list where boxes were "
        "learned from, of the source files as they were read, of the assignment of images to subsets",
        "What is not marked was read by cxrkit from the thing itself; declared: somebody says so, and it is not "
        "checked",
        "Patients kept apart: whether the test images and their patients were compared with the training images, and "
        "no patient is in both",
    )
    return Table("What each number was made of", "Run", columns, rows, notes, "origins")


def _data_cells(run: Run) -> tuple[Cell, ...]:
    origin, test, basis = run.origin, run.test, run.origin.basis
    side = f"from {origin.image_side:,} pixels, " if origin.image_side else ""
    of = "" if origin.complete or not origin.train_images else f" of {origin.train_subset_images:,}"
    boxes = f", boxes{_digest(origin.boxes_digest)}" if origin.boxes_digest else ""
    tested = "" if test.complete else f" of {test.subset_images:,}"
    return (
        Cell(origin.dataset),
        Cell(_with_basis(f"{origin.label_set}, release {origin.label_release}{_digest(origin.labels_digest)}{boxes}",
                         basis.labels)),
        Cell(_with_basis(f"{side}{_digest(origin.pixels_digest, '')}".strip(", ") or "-", basis.pixels)),
        Cell(_with_basis(f"{origin.split}{_digest(origin.split_digest)}", basis.split)),
        Cell(_with_basis(f"{origin.train_images:,}{of}" if origin.train_images else "-", basis.training),
             {"train_images": origin.train_images or None}),
        Cell(f"{test.images:,}{tested}", {"images": test.images}),
        Cell(f"{test.patients:,}", {"patients": test.patients}),
        Cell("checked" if test.leakage_checked else "not checked"),
    )  # fmt: skip


def _with_basis(text: str, how: Known) -> str:
    """Return a text with how it is known, where that is not by looking."""
    words = _KNOWN[how]
    if text == "-" and words:
        return words
    return f"{text} ({words})" if words else text


def _digest(digest: str, before: str = ", ") -> str:
    return f"{before}{digest[:DIGITS]}" if digest else ""


def _files(names: Sequence[str], runs: Sequence[Run]) -> Table:
    columns = (
        Column("checkpoint", ("Checkpoint",), left=True),
        Column("predictions", ("Predictions",), left=True),
        Column("versions", ("Versions",), left=True),
        Column("machine", ("Machine",), left=True),
        Column("code", ("Code",), left=True),
        Column("begun", ("Begun",), left=True),
    )
    rows = tuple(Row("", name, _file_cells(run)) for name, run in zip(names, runs, strict=True))
    notes = (
        f"The first {DIGITS} digits of each file's SHA-256; code: the commit of a checkout, none for an installed "
        "package; times are UTC",
    )
    return Table("Files, versions and machines", "Run", columns, rows, notes, "machines")


def _file_cells(run: Run) -> tuple[Cell, ...]:
    folder = RunFolder(run.folder)
    predictions = _digest(run.test.predictions_sha256, "")
    imported = _imported(folder)
    if imported is not None:
        about = imported.about
        said = "; ".join(text for text in (about.framework, about.source, about.note) if text)
        made = f"cxrkit {imported.cxrkit_version} (import)"
        cells = (
            "-",
            f"{predictions}, from {Path(imported.file).name}{_digest(imported.sha256)}",
            made,
            said or "-",
            "-",
            "-",
        )
        return tuple(map(Cell, cells))
    said_of = kept_provenance(folder)
    checkpoint = _digest(run.scores.checkpoint_sha256, "") or "-"
    begun = str(said_of.get("time", "-")).replace("T", " ").partition("+")[0]
    return tuple(map(Cell, (checkpoint, predictions, _versions(said_of), _machine(said_of), _code(said_of), begun)))


def _imported(folder: RunFolder) -> Imported | None:
    try:
        return read_imported(folder.imported)
    except UserError:
        return None


def kept_provenance(folder: RunFolder) -> Mapping[str, Any]:
    """Return provenance.json, or nothing where there is none that can be read: a report goes on without it."""
    try:
        found = json.loads(folder.provenance.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _versions(said: Mapping[str, Any]) -> str:
    packages = said.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    known = {"cxrkit": said.get("cxrkit"), "Python": said.get("python")}
    known |= {name: packages.get(name) for name in _SHOWN_ALIKE}
    return ", ".join(f"{name} {version}" for name, version in known.items() if version) or "-"


def _machine(said: Mapping[str, Any]) -> str:
    precision = f"{said.get('precision') or ''}"
    processes = said.get("processes")
    several = f"{processes} processes" if isinstance(processes, int) and processes > 1 else ""
    parts = (said.get("processor"), said.get("device"), precision, several)
    return ", ".join(str(part) for part in parts if part) or "-"


def _code(said: Mapping[str, Any]) -> str:
    commit, _, changed = str(said.get("git") or "").partition("+")
    return f"{commit[:DIGITS]}{' with changes' if changed else ''}" if commit else "-"
