"""Read a list of images, or several in one file, in whatever form somebody keeps them.

    lines     one name a line, also with labels behind it: 00000001_000.png 0 1 0 ...
    a table   CSV or parquet with a column of images; with a column subset, split, set or fold it is several lists
    JSON      {"train": [...], ...}, or one array; an item is a name, or an array or object that holds one

As they are or compressed (gz, bz2, xz, zip). Names may have folders before them and any ending behind.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import polars as pl

from cxrkit.base.errors import UserError, shown
from cxrkit.base.files import decoded
from cxrkit.datasets.image_names import image_column_rank, plain
from cxrkit.sources.archives import ZIP_ERRORS
from cxrkit.sources.streams import ZIP_STARTS

SUBSET_COLUMNS = ("subset", "split", "set", "fold", "partition", "phase", "setid")
_ENDINGS = (".txt", ".csv", ".tsv", ".json", ".lst", ".parquet", ".gz", ".bz2", ".xz", ".zip")
_MOST_BYTES = 256 << 20  # unpacked; the names of all images with labels behind them take 6 MB
_MOST_SUBSETS = 50
_REMEDY = 'give one image name a line, a table with a column of them, or JSON: {"train": ["00000001_000.png", ...]}'


@dataclass(frozen=True)
class NamedList:
    """One list of images as somebody wrote it."""

    name: str
    """Of the subset, or of the file where that holds one list alone."""

    path: Path
    """The file it stands in."""

    names: pl.Series
    """As they stand there (String), in their order, repeated ones too."""


def read_lists(path: Path) -> list[NamedList]:
    """Return the lists in a file, each with at least one name. Raises UserError where there is none."""
    content = unpacked(path)
    if path.suffix.lower() == ".parquet" or content.startswith(b"PAR1"):
        found = _from_table(path, read_parquet(path, content))
    else:
        text = text_of(path, content)
        found = _from_json(path, text) if text.lstrip()[:1] in ("{", "[") else _from_text(path, text)
    found = [item for item in found if len(item.names)]
    if not found:
        raise UserError(f"{path}: holds no image name", remedy=_REMEDY)
    if len(found) > _MOST_SUBSETS:
        raise UserError(f"{path}: {len(found):,} subsets, expected at most {_MOST_SUBSETS}", remedy=_REMEDY)
    return found


def read_all(paths: list[Path]) -> list[NamedList]:
    """Return the lists of several files, with names that tell them apart as shortly as they can."""
    found = [read_lists(path) for path in paths]
    alone = _without_common_words([_stem(path) for path in paths])
    several = sum(map(len, found)) > 1 and len(paths) > 1
    named = []
    for lists, word in zip(found, alone, strict=True):
        for item in lists:
            if len(lists) == 1 and several:
                item = replace(item, name=word)
            elif several:
                item = replace(item, name=f"{word} {item.name}")
            named.append(item)
    return named


def unpacked(path: Path) -> bytes:
    """Return a file's bytes, unpacked where its first bytes say that it is compressed. Raises UserError."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            file.seek(0)
            with _opened(file, start) as stream:
                content: bytes = stream.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file", remedy="name a file that is there") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, expected a file", remedy="name the file in it") from None
    except ZIP_ERRORS as error:
        raise UserError(f"{path}: cannot be unpacked ({shown(error)})", remedy="get the file again") from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be read ({reason})", remedy="name a file that you may read") from None
    if len(content) > _MOST_BYTES:
        raise UserError(
            f"{path}: has more than {_MOST_BYTES >> 20} MiB unpacked", remedy="name a list or a table, not the images"
        )
    return content


def _opened(file: IO[bytes], start: bytes) -> Any:
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(file)
    if start.startswith(b"BZh"):
        return bz2.open(file)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(file)
    if not start.startswith(ZIP_STARTS):
        return file
    archive = zipfile.ZipFile(file)
    if any(name.endswith(".npy") for name in archive.namelist()):  # an .npz is a zip, too
        file.seek(0)
        return file
    names = [info for info in archive.infolist() if not info.is_dir() and "__MACOSX" not in info.filename]
    if len(names) != 1:
        raise zipfile.BadZipFile(f"{len(names)} files in it, expected one")
    return archive.open(names[0])


def text_of(path: Path, content: bytes) -> str:
    """Return the bytes as text. Raises UserError."""
    try:
        return decoded(content)
    except ValueError as error:
        raise UserError(f"{path}: is {error}", remedy="save it as UTF-8 text") from None


def read_parquet(path: Path, content: bytes) -> pl.DataFrame:
    """Return a parquet file as it is, but categories as text. Raises UserError."""
    try:
        return pl.read_parquet(io.BytesIO(content)).with_columns(
            pl.selectors.by_dtype(pl.Categorical, pl.Enum).cast(pl.String)
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable parquet file ({reason})", remedy="write it again") from None


def read_csv(path: Path, text: str) -> pl.DataFrame:
    """Return a CSV's cells as text, null where empty; commas, semicolons or tabs. Raises UserError."""
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)  # the comma where there is none at all
    try:
        return pl.read_csv(text.encode(), separator=separator, infer_schema=False, truncate_ragged_lines=True)
    except pl.exceptions.PolarsError as error:
        reason = shown((str(error).splitlines() or [""])[0])
        raise UserError(f"{path}: cannot be read as a CSV file ({reason})", remedy="write it again as CSV") from None


def _from_text(path: Path, text: str) -> list[NamedList]:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines and _is_header(lines[0]):
        return _from_table(path, read_csv(path, "\n".join(lines)))
    words = pl.Series("names", lines, dtype=pl.String).str.split_exact(" ", 1).struct.field("field_0")
    names = words.str.replace(r"[,;\t].*$", "").str.strip_chars("\"' ")
    return [NamedList(_stem(path), path, names.filter(names != ""))]


def _is_header(line: str) -> bool:
    """Whether a first line names columns, one of them that of the images: an image is not called `image`."""
    separator = max(",;\t", key=line.count)
    cells = [cell.strip().strip("\"'") for cell in line.split(separator)]
    return any(plain(cell) and image_column_rank(cell) is not None for cell in cells)


def _from_table(path: Path, table: pl.DataFrame) -> list[NamedList]:
    ranks = {name: image_column_rank(name) for name in table.columns}
    texts = [name for name, rank in ranks.items() if rank is not None and table[name].dtype == pl.String]
    if not texts:
        found = shown(", ".join(table.columns)[:200])
        raise UserError(f"{path}: no column of images; found {found}", remedy="name the column image_id")
    images = min(texts, key=lambda name: ranks[name] or 0)
    subset = next((name for wanted in SUBSET_COLUMNS for name in table.columns if plain(name) == wanted), None)
    rows = table.filter(pl.col(images).is_not_null())
    if subset is None:
        return [NamedList(_stem(path), path, rows[images])]
    parts = rows.with_columns(pl.col(subset).cast(pl.String).fill_null("(none)"))
    grouped = parts.partition_by(subset, maintain_order=True, as_dict=True)
    return [NamedList(str(value), path, part[images]) for (value,), part in grouped.items()]


def _from_json(path: Path, text: str) -> list[NamedList]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({str(error)[:200]})", remedy=_REMEDY) from None
    parts = value if isinstance(value, dict) else {_stem(path): value}
    if len(parts) == 1 and isinstance(inner := next(iter(parts.values())), dict):
        parts = inner  # {"splits": {"train": [...], ...}}
    found = []
    for name, items in parts.items():
        if not isinstance(items, list):
            continue  # a title, a seed, ...
        names = [_name_in(path, str(name), item) for item in items]
        found.append(NamedList(str(name), path, pl.Series("names", names, dtype=pl.String)))
    return found


def _name_in(path: Path, subset: str, item: Any) -> str:
    """Return the image name in an item: it itself, the first text of an array, or the image column of an object."""
    name = item
    if isinstance(item, list):
        name = next((part for part in item if isinstance(part, str)), None)
    elif isinstance(item, dict):
        ranked = {key: rank for key in item if (rank := image_column_rank(key)) is not None}
        name = item[min(ranked, key=ranked.__getitem__)] if ranked else None
    if not isinstance(name, str):
        raise UserError(f"{path}: an item of {subset!r} holds no image name: {item!r:.60}", remedy=_REMEDY)
    return name


def _stem(path: Path) -> str:
    name = path.name
    while (ending := Path(name).suffix.lower()) in _ENDINGS:
        name = name[: -len(ending)]
    return name


def _without_common_words(names: list[str]) -> list[str]:
    """Return names without the words that all of them begin or end with: x_train_y, x_test_y are train and test."""
    if len(names) < 2:
        return names
    words = [name.replace("-", "_").split("_") for name in names]
    while all(len(item) > 1 for item in words) and len({item[0] for item in words}) == 1:
        words = [item[1:] for item in words]
    while all(len(item) > 1 for item in words) and len({item[-1] for item in words}) == 1:
        words = [item[:-1] for item in words]
    short = ["_".join(item) for item in words]
    return short if len(set(short)) == len(names) else names
