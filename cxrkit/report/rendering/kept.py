"""Documents that another command has finished, kept in a run folder until a report shows them with its own."""

from __future__ import annotations

import json
from pathlib import Path

from cxrkit.base.files import write_text
from cxrkit.report.document.tables import Report
from cxrkit.report.rendering.document import as_json, read_report_json
from cxrkit.runs.folder import RunFolder

MADE_OF = "made_of"  # beside the document in its file: the SHA-256 of the checkpoint that it is of


def keep_document(run: RunFolder, report: Report, checkpoint_sha256: str) -> Path:
    """Write a finished document into the run's derived/, by its key, and return the file. Raises UserError."""
    path = _place(run, report.key)
    value = {MADE_OF: checkpoint_sha256} | json.loads(as_json(report))
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    return path


def kept_document(run: RunFolder, key: str, checkpoint_sha256: str) -> Report | None:
    """Return the document that was kept under a key; None where there is none, or it is of another checkpoint.

    Raises UserError where the file cannot be read.
    """
    path = _place(run, key)
    if not path.exists():
        return None
    report = read_report_json(path)
    made_of = json.loads(path.read_text(encoding="utf-8")).get(MADE_OF)
    return report if made_of == checkpoint_sha256 else None


def is_kept(run: RunFolder, key: str) -> bool:
    """Whether there is a document of that key, of whatever checkpoint."""
    return _place(run, key).exists()


def _place(run: RunFolder, key: str) -> Path:
    return run.derived(key).with_suffix(".json")
