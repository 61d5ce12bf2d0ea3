"""Read a table or a list as text, in whatever way a spreadsheet, a browser or a mirror has saved it again.

UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one; any line ends; commas, semicolons or tabs; quoted
cells; as it is, gzipped, or alone in a zip. Anything else is a UserError that names the file.
"""

from __future__ import annotations

import io
import shlex
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import polars as pl

from cxrkit.base.errors import UserError, shown
from cxrkit.base.files import decoded
from cxrkit.sources.archives import ZIP_ERRORS
from cxrkit.sources.streams import ZIP_STARTS

LINE = "(line)"  # no column of a CSV is called so
PAGE = "https://nihcc.app.box.com/v/ChestXray-NIHCC"  # as the manifest has it
DOWNLOAD = f"download the file again from NIH (delete it, then cxrkit download --tables; or {PAGE})"


def fetch_into(folder: Path, *, tables: bool = False) -> str:
    """Return how to get what is missing in `folder`: by our own command, or from NIH's page."""
    return f"`cxrkit download --to {shlex.quote(shown(folder))}{' --tables' if tables else ''}` fetches from {PAGE}"


_MOST_BYTES = 64 << 20  # unpacked; NIH's largest table has 8 MB
_MOST_COLUMNS = 1000
_SEPARATORS = ",;\t"
_GZIP = b"\x1f\x8b"


def find_table(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Return the first of `names` that is in `folder`, as it is or as NAME.gz or NAME.zip; None where there is none.

    Raises UserError where a folder has one of the names.
    """
    for name in names:
        for path in (folder / name, folder / f"{name}.gz", folder / f"{name}.zip"):
            if path.is_file():
                return path
        if (folder / name).is_dir():
            raise UserError(
                f"{folder / name}: is a folder, expected a file",
                remedy=f"move the file out of it, and rename or delete the folder; or {DOWNLOAD}",
            )
    return None


def holds_any(path: Path, names: tuple[str, ...]) -> bool:
    """Whether a zip holds a file of one of these names, in whatever folder."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name in names for name in archive.namelist())
    except (*ZIP_ERRORS, OSError):
        return False


def read_text(path: Path) -> str:
    """Return the file's text. Raises UserError where it is none."""
    return _decoded(path, _unpacked(path))


def _decoded(path: Path, data: bytes) -> str:
    try:
        return decoded(data)
    except ValueError as error:
        raise UserError(f"{path}: is {error}", remedy=f"save it as UTF-8, or {DOWNLOAD}") from None


def read_csv(path: Path) -> pl.DataFrame:
    """Return a CSV's cells as text, null where empty, with the line (from 1) that each row is on; no blank lines.

    Cells beyond the header's are left out. Raises UserError where it is no CSV, or has no rows.
    """
    data = _unpacked(path)
    if not data.isascii() or b"\0" in data:  # NIH's own tables are plain, and need no copies
        data = _decoded(path, data).encode()
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")  # as a Mac's spreadsheet of old ends its lines
    header = (data[: data.find(b"\n")] if b"\n" in data else data).decode()
    separator = max(_SEPARATORS, key=header.count)  # the first of them where there is none at all
    if header.count(separator) >= _MOST_COLUMNS:
        raise UserError(f"{path}: has {header.count(separator) + 1:,} columns, no table of NIH's has", remedy=DOWNLOAD)
    try:
        table = pl.read_csv(
            data,
            separator=separator,
            infer_schema=False,
            truncate_ragged_lines=True,
            row_index_name=LINE,
            row_index_offset=2,
        )
    except pl.exceptions.PolarsError as error:
        reason = shown((str(error).splitlines() or [""])[0])
        raise UserError(f"{path}: cannot be read as a CSV file ({reason})", remedy=DOWNLOAD) from None
    table.columns = [LINE, *_names(table.columns[1:])]
    if table[table.columns[1]].null_count():
        table = table.filter(~pl.all_horizontal(pl.all().exclude(LINE).is_null()))
    if table.is_empty():
        raise UserError(f"{path}: has no rows", remedy=DOWNLOAD)
    return table


def _names(columns: list[str]) -> list[str]:
    names: list[str] = []
    for place, name in enumerate(column.strip() for column in columns):
        # Ours begin with a bracket, so that none of theirs is the same. polars takes `^...$` and `*` for patterns, and
        # adds `_duplicated_`.
        theirs = name and name[0] not in "(^*" and name not in names and "_duplicated_" not in name
        names.append(name if theirs else f"(column {place + 1})")
    return names


def _unpacked(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if data.startswith(_GZIP):
            data = _gunzipped(data)
        elif data.startswith(ZIP_STARTS):
            data = _unzipped(data)
    except ZIP_ERRORS as error:
        raise UserError(f"{path}: cannot be unpacked ({shown(error)})", remedy=DOWNLOAD) from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error})", remedy="get read access to the raw folder"
        ) from None
    if len(data) > _MOST_BYTES:
        raise UserError(f"{path}: has more than {_MOST_BYTES:,} bytes, no table of NIH's has", remedy=DOWNLOAD)
    return data


def _gunzipped(data: bytes) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    unpacked = inflate.decompress(data, _MOST_BYTES + 1)
    if not inflate.eof and len(unpacked) <= _MOST_BYTES:
        raise EOFError("the gzip stream ends too early")
    return unpacked


def _unzipped(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [info for info in archive.infolist() if not info.is_dir() and "__MACOSX" not in info.filename]
        if len(names) != 1:
            raise zipfile.BadZipFile(f"{len(names)} files in it, expected one")
        with archive.open(names[0]) as file:
            return file.read(_MOST_BYTES + 1)
