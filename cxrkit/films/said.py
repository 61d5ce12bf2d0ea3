"""Age, sex and view of each film: by a table, by flags, by the file's header, in this order. Nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cxrkit.base.errors import UserError
from cxrkit.base.files import decoded
from cxrkit.sources.dicom import Header

OLDEST = 120  # years that anybody may be said to be
# Columns of a table, by what they hold: cxrkit's own names, and NIH's.
_COLUMNS = {
    "image": ("image", "image_id", "file", "filename", "Image Index"),
    "age_years": ("age_years", "age", "Patient Age", "PatientAge"),
    "sex": ("sex", "Patient Sex", "Patient Gender", "PatientSex"),
    "view": ("view", "View Position", "ViewPosition"),
}
_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
_WORDS = {"age_years": "age", "sex": "sex", "view": "view"}


@dataclass(frozen=True)
class Said:
    """What is known of one film; None: not known."""

    age_years: int | None = None
    """Whole years."""

    sex: str | None = None
    """M or F."""

    view: str | None = None
    """AP or PA."""

    notes: tuple[str, ...] = ()
    """Where two sources contradict each other."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The words for what is not known."""
        return tuple(word for name, word in _WORDS.items() if getattr(self, name) is None)


def by_flags(age: int | None, sex: str | None, view: str | None) -> Said:
    """Return what --age, --sex and --view say of all films. Raises UserError for what cannot be."""
    if age is not None and not 0 <= age <= OLDEST:
        raise UserError(f"--age {age}: not an age", remedy=f"give whole years, 0 to {OLDEST}")
    if sex is not None and sex.lower() not in _SEXES:
        raise UserError(f"--sex {sex}: unknown", remedy="give M or F; leave it out where it is not known")
    if view is not None and view.upper() not in ("AP", "PA"):
        raise UserError(f"--view {view}: not a frontal view", remedy="give AP or PA; leave it out where not known")
    return Said(age, None if sex is None else _SEXES[sex.lower()], None if view is None else view.upper())


def read_table(path: Path) -> dict[str, Said]:
    """Return what a CSV says of each film, by its name or the last part of it.

    Columns: image, and any of age_years, sex and view, by these or NIH's names; empty cells say nothing. Raises
    UserError for a table that cannot be read, a film listed twice, and a cell that is none of these.
    """
    remedy = "give a CSV with the columns image, age_years, sex (M, F) and view (AP, PA)"
    try:
        frame = pl.read_csv(decoded(path.read_bytes()).encode(), infer_schema=False)
    except FileNotFoundError:
        raise UserError(f"--table {path}: there is no such file", remedy=remedy) from None
    except OSError as error:
        raise UserError(f"--table {path}: cannot be read ({error.strerror})", remedy=remedy) from None
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise UserError(f"--table {path}: not a readable table ({str(error).splitlines()[0]})", remedy=remedy) from None
    columns = {what: next((name for name in names if name in frame.columns), "") for what, names in _COLUMNS.items()}
    if not columns["image"] or not any(columns[what] for what in _WORDS):
        found = ", ".join(frame.columns)[:200]
        raise UserError(f"--table {path}: needs image and age_years, sex or view; found {found}", remedy=remedy)
    table: dict[str, Said] = {}
    for number, row in enumerate(frame.iter_rows(named=True), 2):
        name = (row[columns["image"]] or "").strip()
        if name in table:
            raise UserError(f"--table {path}: {name} is listed twice", remedy="list every film once")
        cells = {what: (row[columns[what]] or "").strip() if columns[what] else "" for what in _WORDS}
        try:
            table[name] = _row(cells)
        except UserError as error:
            what = error.what.removeprefix("--")
            raise UserError(f"--table {path}, line {number}: {what}", remedy=error.remedy) from None
    return table


def _row(cells: Mapping[str, str]) -> Said:
    age = cells["age_years"]
    try:
        years = None if not age else int(float(age))
    except (ValueError, OverflowError):
        raise UserError(f"--age {age!r}: not a number", remedy=f"give whole years, 0 to {OLDEST}") from None
    return by_flags(years, cells["sex"] or None, cells["view"] or None)


def settle(name: str, header: Header, flags: Said, table: Mapping[str, Said]) -> Said:
    """Return what is known of a film: the table's word counts before the flags', and both before the header's."""
    row = table.get(name) or table.get(Path(name).name) or Said()
    values: dict[str, Any] = {}
    notes = []
    for field, word in _WORDS.items():
        sources = [(where, getattr(item, field)) for where, item in (
            ("the table", row), (f"--{word}", flags), ("the header", header)
        ) if getattr(item, field) is not None]  # fmt: skip
        values[field] = sources[0][1] if sources else None
        notes += [
            f"{word} {value} by {where} is not used: {sources[0][0]} says {sources[0][1]}"
            for where, value in sources[1:]
            if value != sources[0][1]
        ]
    return Said(**values, notes=tuple(notes))


def require_all(films: Sequence[tuple[str, Said]], model: str) -> None:
    """Raise a UserError where a network that is told age, sex and view is not told them of each film."""
    without = [(name, known.missing) for name, known in films if known.missing]
    if not without:
        return
    name, missing = without[0]
    flags = ", ".join(f"--{word}" for word in dict.fromkeys(word for _, words in without for word in words))
    raise UserError(
        f"{name}: {_and(missing)} not known, and {model} is told age, sex and view"
        f" ({len(without):,} of {len(films):,} films)",
        remedy=f"give {flags} for all films, or --table with a row for each; or ask a run of a network without -meta",
    )


def _and(words: Sequence[str]) -> str:
    joined = f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
    return f"{joined} {'are' if len(words) > 1 else 'is'}"
