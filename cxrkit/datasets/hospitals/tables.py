"""Find and read a published table: CSV, as it is, gzipped or alone in a zip. Cells stay text, nothing is guessed."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cxrkit.base.errors import UserError, shown
from cxrkit.base.files import decoded
from cxrkit.sources.archives import ZIP_ERRORS
from cxrkit.sources.streams import ZIP_STARTS

LINE = "(row)"  # the column that counts the rows of data from 1; no published table has one of this name
_GZIP = b"\x1f\x8b"
_MOST_BYTES = 1 << 30  # unpacked; the largest, PadChest's, has about 100 MB
_SHOWN = 60  # characters of a cell in a message


@dataclass(frozen=True)
class Table:
    """A published table, with the file that messages name."""

    path: Path
    """The file."""

    remedy: str
    """What to do where it is not what was expected, one imperative clause."""

    frame: pl.DataFrame
    """The columns that were asked for, as text without blanks around it, null where empty; and LINE, UInt32."""

    def refuse(self, column: str, right: pl.Expr, expected: str) -> None:
        """Raise the UserError for the first row of which `right` is not true, with what was `expected` there."""
        wrong = self.frame.filter(~right.fill_null(False))
        if wrong.is_empty():
            return
        value = wrong[column][0]
        found = "nothing" if value is None else repr(value[:_SHOWN])
        more = f" ({wrong.height - 1:,} more such rows)" if wrong.height > 1 else ""
        raise UserError(
            f"{self.path}: row {wrong[LINE][0]}, column {column!r}: found {found}, expected {expected}{more}",
            remedy=f"correct the row, or {self.remedy}",
        )


def find(raw: Path, names: Sequence[str], what: str, remedy: str) -> Path:
    """Return the first of `names` in the raw folder; as itself or gzipped, in it or one folder below.

    what: "CheXpert's table of labels", for the UserError where there is none, which names what is there instead.
    """
    if not raw.is_dir():
        raise UserError(f"{raw}: there is no such folder", remedy="name the folder of the download by --raw")
    found = optional(raw, names)
    if found:
        return found
    there = sorted(path.name for path in raw.iterdir() if path.suffix.lower() in (".csv", ".gz", ".zip"))
    near = [name for name in names if difflib.get_close_matches(name, there, n=1)]
    look_alike = difflib.get_close_matches((near or list(names))[0], there, n=1)
    said = f"; {look_alike[0]} looks like it" if look_alike else f"; found {', '.join(there[:5])}" if there else ""
    raise UserError(f"{raw}: no {' or '.join(names)} here, {what}{shown(said)}", remedy=remedy)


def optional(raw: Path, names: Sequence[str]) -> Path | None:
    """Return what `find` does, or None where there is none."""
    folders = [raw, *sorted(path for path in raw.iterdir() if path.is_dir())]
    spelled = [spelling for name in names for spelling in (name, f"{name}.gz", f"{name}.zip")]
    return next((path for folder in folders for name in spelled if (path := folder / name).is_file()), None)


def read(path: Path, wanted: Iterable[str], remedy: str, *, perhaps: Iterable[str] = ()) -> Table:
    """Return the columns `wanted` of a CSV, and those of `perhaps` that it has.

    remedy: for what is wrong with it. Raises UserError for a file that is no CSV, has no rows, or lacks a column: the
    message has the columns that were found, and those of a near name.
    """
    data = _unpacked(path, remedy)
    columns = _header(path, data, remedy)
    wanted = list(wanted)
    if absent := [name for name in wanted if name not in columns]:
        near = {name: difflib.get_close_matches(name, columns, n=1) for name in absent}
        meant = "".join(f"; {found[0]!r} is near to {name!r}" for name, found in near.items() if found)
        raise UserError(
            f"{path}: no column {' and '.join(map(repr, absent))}{shown(meant)}; found "
            f"{shown(', '.join(filter(None, columns))[:300])}",
            remedy=remedy,
        )
    kept = [name for name in columns if name in {*wanted, *perhaps}]
    try:
        frame = pl.read_csv(data, columns=kept, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"{path}: cannot be read as a CSV file ({shown((str(error).splitlines() or [''])[0])})", remedy=remedy
        ) from None
    frame = frame.with_columns(pl.all().str.strip_chars().replace("", None)).with_row_index(LINE, 1)
    if frame.is_empty():
        raise UserError(f"{path}: has no rows", remedy=remedy)
    return Table(path, remedy, frame)


def _header(path: Path, data: bytes, remedy: str) -> list[str]:
    first = data[: data.find(b"\n")] if b"\n" in data else data
    try:
        names = next(csv.reader(io.StringIO(first.decode().strip())), [])
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path}: does not begin as a CSV file", remedy=remedy) from None
    return [name.strip() for name in names]


def _unpacked(path: Path, remedy: str) -> bytes:
    """Return the table's text as UTF-8."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if data.startswith(_GZIP):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(_MOST_BYTES + 1)
        elif data.startswith(ZIP_STARTS):
            data = _unzipped(data)
        if len(data) > _MOST_BYTES:
            raise UserError(f"{path}: has more than {_MOST_BYTES:,} bytes, no published table has", remedy=remedy)
        return data if data.isascii() else decoded(data).encode()
    except UserError:
        raise
    except ZIP_ERRORS as error:
        raise UserError(f"{path}: cannot be unpacked ({shown(error)})", remedy=remedy) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})", remedy=remedy) from None
    except ValueError as error:
        raise UserError(f"{path}: is {error}", remedy=remedy) from None


def _unzipped(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [info for info in archive.infolist() if not info.is_dir() and "__MACOSX" not in info.filename]
        if len(names) != 1:
            raise zipfile.BadZipFile(f"{len(names)} files in it, expected one")
        with archive.open(names[0]) as file:
            return file.read(_MOST_BYTES + 1)
