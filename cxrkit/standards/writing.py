"""Every document of every evaluated run, and of every prepared folder that they used, into one folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest, read_json, replacing, write_json, write_text
from cxrkit.base.progress import progress_bar
from cxrkit.base.words import count as counted
from cxrkit.report.evidence.runs import Run, find_runs
from cxrkit.report.rendering.formats import render
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.opening import evaluated_with
from cxrkit.shards.index import Description, read_description, read_listed
from cxrkit.standards.claim import claim_report
from cxrkit.standards.claim_docx import docx_bytes
from cxrkit.standards.croissant import SPLITS_FILE, croissant, make_splits, splits_table
from cxrkit.standards.every_eval_ever import every_eval_ever
from cxrkit.standards.facts import read_facts
from cxrkit.standards.hub import results_file
from cxrkit.standards.model_card import model_card

CROISSANT = "croissant.json"
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class WrittenStandards:
    """What was written, and what was not."""

    out: Path
    """The folder of all documents."""

    files: tuple[Path, ...]
    """The documents, folder by folder."""

    runs: int
    """How many runs they are of."""

    folders: int
    """How many prepared folders they are of."""

    notes: tuple[str, ...]
    """What could not be written, and why."""

    def text(self) -> str:
        """Return the closing lines for a terminal."""
        of = counted(self.runs, "run")
        data = f" and {counted(self.folders, 'prepared folder')}" if self.folders else ""
        lines = [f"{len(self.files):,} documents of {of}{data} in {self.out}"]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, '  what only you know is marked "author": search for it before you hand anything in'])


def write_standards(
    runs: Path,
    out: Path,
    *,
    data: Path | None = None,
    chosen: Callable[[Run], bool] = lambda _: True,
    checksums: bool = True,
    now: datetime | None = None,
    console: Console | None = None,
) -> WrittenStandards:
    """Write the documents of every evaluated run in `runs`, and of the prepared folders behind them, into `out`.

    OUT/NAME-SPLIT holds claim.md, claim.tex, claim.docx, model-card.md, evaluation-results.yaml and
    every-eval-ever.json; OUT/DATASET holds croissant.json and splits.parquet. These files are replaced; others stay.

    data: the prepared folder, if it is not where the runs were evaluated with. chosen: which runs. checksums: read
    every shard for its SHA-256; those that an earlier croissant.json in `out` names are believed, since a shard never
    changes under its name. now: the time that documents carry. Raises UserError where there is no run, or `out` cannot
    be written.
    """
    found = [run for run in find_runs(runs).runs if chosen(run)]
    if not found:
        raise UserError(f"{runs}: no run is chosen", remedy="choose at least one evaluated run")
    names = _folder_names(
        [f"{run.name}-{run.split}" + f"-seed-{run.scores.seed}" * bool(run.scores.seed) for run in found]
    )
    files: list[Path] = []
    notes: list[str] = []
    for run, name in zip(found, names, strict=True):
        files += _write_run(run, out / name, data, now, notes)
    folders = _prepared_folders(found, data)
    data_names = _folder_names([about.dataset for about in folders.values()], taken=names)
    for (folder, about), name in zip(folders.items(), data_names, strict=True):
        files += _write_folder(folder, about, out / name, checksums, console, notes)
    return WrittenStandards(out, tuple(files), len(found), len(folders), tuple(dict.fromkeys(notes)))


def _folder_names(wanted: list[str], taken: list[str] | None = None) -> list[str]:
    """Return names of folders, each once whatever the case: letters, digits, dots and dashes."""
    used = {name.lower() for name in taken or []}
    names = []
    for text in wanted:
        plain = _SAFE.sub("-", text).strip(".-")[:100] or "run"
        name, number = plain, 2
        while name.lower() in used:
            name, number = f"{plain}-{number}", number + 1
        used.add(name.lower())
        names.append(name)
    return names


def _write_run(run: Run, folder: Path, data: Path | None, now: datetime | None, notes: list[str]) -> list[Path]:
    facts = read_facts(run, data)
    claim = claim_report(facts)
    texts = {
        "claim.md": render(claim, "md"),
        "claim.tex": render(claim, "latex"),
        "model-card.md": model_card(facts),
        "evaluation-results.yaml": results_file(facts),
        "every-eval-ever.json": json.dumps(every_eval_ever(facts, now), indent=2, allow_nan=False) + "\n",
    }
    written = []
    for name, text in texts.items():
        write_text(folder / name, text)
        written.append(folder / name)
    try:
        content = docx_bytes(claim)
    except UserError as error:
        notes.append(f"no claim.docx: {error.what} ({error.remedy})")
        return written
    _write_bytes(folder / "claim.docx", content)
    return [*written, folder / "claim.docx"]


def _write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(content)


def _prepared_folders(runs: list[Run], data: Path | None) -> dict[Path, Description]:
    """Return the prepared folders behind the runs that are still there, sorted; two that hold the same count once."""
    found: dict[tuple[str, str, str], tuple[Path, Description]] = {}
    for run in runs:
        try:
            folder = evaluated_with(RunFolder(run.folder), data)[0]
            about = read_description(folder) if folder.is_dir() else None
        except UserError:
            continue
        if about is not None:
            found.setdefault((about.records.sha256, about.index.sha256, about.settings_digest), (folder, about))
    return dict(sorted(found.values(), key=lambda item: str(item[0])))


def _write_folder(
    folder: Path, about: Description, out: Path, checksums: bool, console: Console | None, notes: list[str]
) -> list[Path]:
    if about.shards and not checksums:
        notes.append(f"no {CROISSANT} of {folder}: it needs the checksums of the shards")
        return []
    try:
        records = read_listed(folder, about)
        shards = _shard_digests(folder, about, _known(out / CROISSANT), console)
    except (UserError, OSError) as error:
        what = error.what if isinstance(error, UserError) else f"{error.filename}: {error.strerror}"
        notes.append(f"no {CROISSANT} of {folder}: {what}")
        return []
    splits = make_splits(records)
    table = splits_table(splits)
    _write_bytes(out / SPLITS_FILE, table)
    document = croissant(folder, about, splits, hashlib.sha256(table).hexdigest(), shards)
    write_json(out / CROISSANT, document)
    return [out / CROISSANT, out / SPLITS_FILE]


def _known(path: Path) -> dict[tuple[str, str], str]:
    """Return the SHA-256 of the shards in an earlier document, by name and size; nothing where there is none."""
    try:
        document: Any = read_json(path, "earlier metadata", "")
        files = [(item["name"], item.get("contentSize", ""), item["sha256"]) for item in document["distribution"]]
    except (UserError, KeyError, TypeError, AttributeError):
        return {}
    return {(f"{name}", f"{size}"): f"{sha256}" for name, size, sha256 in files if size}


def _shard_digests(
    folder: Path, about: Description, known: dict[tuple[str, str], str], console: Console | None
) -> dict[str, str]:
    found = {}
    with progress_bar("checksums", len(about.shards), console=console, unit="shards") as bar:
        for shard in about.shards:
            found[shard.file] = known.get((shard.file, f"{shard.bytes} B")) or file_digest(folder / shard.file)
            bar.advance()
    return found
