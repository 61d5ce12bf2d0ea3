"""Read the tables of ChestX-ray14: the data entry CSV, the two official lists and the box list.

Nothing is repaired by guessing. A value that cannot be right is a UserError with its file, line and column.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from cxrkit.base.contracts import BOX_SCHEMA, IMAGE_SIZE, LABELS, NO_FINDING, RECORD_SCHEMA
from cxrkit.base.errors import UserError, shown
from cxrkit.base.words import count, few
from cxrkit.datasets.nih.text import DOWNLOAD, LINE, fetch_into, find_table, holds_any, read_csv, read_text

ENTRY_FILES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")  # the first that exists is read
LIST_FILES = {"train_val": "train_val_list.txt", "test": "test_list.txt"}
_LIST_SPELLINGS = {  # beside a resized copy the lists carry NIH's name
    subset: (name, name.replace(".txt", "_NIH.txt")) for subset, name in LIST_FILES.items()
}
BOX_FILE = "BBox_List_2017.csv"
LABEL_SPELLINGS = {"Infiltrate": "Infiltration"}  # as it stands in the file -> as everywhere else

_SHOWN = 60  # characters of a cell in a message
# What we call a column -> what NIH has called it.
_ENTRY_COLUMNS = {
    "image_id": ("Image Index",),
    "findings": ("Finding Labels",),
    "follow_up": ("Follow-up #",),
    "patient_id": ("Patient ID",),
    "age_years": ("Patient Age",),
    "sex": ("Patient Gender", "Patient Sex"),
    "view": ("View Position",),
}
_VALUES = {  # what a whole cell must look like, and how to say so
    "image_id": (r"[A-Za-z0-9_.-]+\.png", "a file name like 00000001_000.png"),
    "findings": (r".+", "at least one label"),
    "follow_up": (r"[0-9]{1,9}", "a whole number"),
    "patient_id": (r"[0-9]{1,9}", "a whole number"),
    # Early copies write the age as DICOM does (value representation AS): 058Y, 013M, 004D.
    "age_years": (r"[0-9]{1,3}[YMWD]?", "a whole number of years"),
    "sex": (r"[MF]", "M or F"),
    "view": (r"PA|AP", "PA or AP"),
}
_PER_YEAR = {"M": 12, "W": 52, "D": 365}
_BOX_NUMBER = (
    r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?",
    f"a number of pixels within the {IMAGE_SIZE} x {IMAGE_SIZE} image",
)


def entries_path(raw: Path) -> Path:
    """Return the data entry CSV in `raw`: v2020 if there is a choice."""
    if path := find_table(raw, ENTRY_FILES):
        return path
    raise UserError(f"{raw}: no {' or '.join(ENTRY_FILES)} here", remedy=_where_the_table_is(raw))


def _where_the_table_is(raw: Path) -> str:
    """Return the remedy for a raw folder without a data entry CSV: it may be a level down or up, or still in a zip."""
    for path in sorted(raw.iterdir()):
        if path.is_dir() and any((path / name).is_file() for name in ENTRY_FILES):
            return f"name the folder that has it: --raw {_quoted(path)}"
        if path.suffix.lower() == ".zip" and path.is_file() and holds_any(path, ENTRY_FILES):
            tables = f"unzip -j {_quoted(path)} '*.csv' '*.txt' -d {_quoted(raw)}"
            return f"unpack the tables, the images need not be: {tables}"
    above = raw.parent if raw.name else raw.absolute().parent
    if any((above / name).is_file() for name in ENTRY_FILES):
        return f"they are in {shown(above)}: --raw {_quoted(above)}"
    here = f"put NIH's {ENTRY_FILES[0]} into this folder ({fetch_into(raw, tables=True)})"
    return f"{here}, or name the folder that has it by --raw"


def _quoted(path: Path) -> str:
    return shlex.quote(shown(path))


def read_entries(path: Path) -> pl.DataFrame:
    """Return the data entry CSV as RECORD_SCHEMA without `official`, sorted by image_id.

    Patient and follow-up come from their columns, never from the file name. Ages stay as they are, 414 included.
    """
    table = read_csv(path)
    spellings = {ours: _spelling(path, table, theirs) for ours, theirs in _ENTRY_COLUMNS.items()}
    table = table.select(LINE, **{ours: pl.col(theirs) for ours, theirs in spellings.items()})
    if not _all_plain(table):
        table = table.with_columns(pl.col(*_VALUES).str.strip_chars())
        for ours, (pattern, expected) in _VALUES.items():
            _refuse_cells(path, table, ours, spellings[ours], pattern, expected)
    if repeats := _repeats(table, "image_id", LINE):
        raise UserError(f"{path}: rows given twice: {repeats}", remedy=f"delete one of each, or {DOWNLOAD}")
    entries = (
        # NIH numbers its patients, so 007 and 7 would be one; elsewhere ids are text (contracts.RECORD_SCHEMA).
        table.with_columns(_years(table["age_years"]), pl.col("patient_id").cast(pl.Int32).cast(pl.String))
        .join(_label_columns(path, table, spellings["findings"]), on="findings", how="left", maintain_order="left")
        .select(pl.col(name).cast(dtype) for name, dtype in RECORD_SCHEMA.items() if name != "official")
    )
    return entries if _ascends(entries["image_id"]) else entries.sort("image_id")


def _all_plain(table: pl.DataFrame) -> bool:
    """Whether every cell is as it must be, with no space around it: then nothing is to be stripped or refused."""
    patterns = {ours: pattern for ours, (pattern, _) in _VALUES.items()} | {"findings": "[!-~]([ -~]*[!-~])?"}
    fits = (pl.col(ours).str.contains(f"^(?:{pattern})$").fill_null(False).all() for ours, pattern in patterns.items())
    return all(table.select(fits).row(0))


def _years(ages: pl.Series) -> pl.Series:
    """Return ages in whole years: 58, 058Y, 013M, 004D."""
    years = ages.cast(pl.Int32, strict=False)
    if not years.null_count():  # all of them plain numbers, as in NIH's newer table
        return years
    unit = ages.str.extract(r"(\D)").replace_strict(_PER_YEAR, default=1, return_dtype=pl.Int32)
    return ages.str.extract(r"(\d+)").cast(pl.Int32) // unit


def _ascends(names: pl.Series) -> bool:
    """Whether the names are in order and all different, as in NIH's own table."""
    return bool((names > names.shift(1)).all())


def add_official_split(raw: Path, csv: Path, entries: pl.DataFrame) -> pl.DataFrame:
    """Return `entries` with the column `official` from the two lists in `raw`.

    Raises UserError unless every image is in exactly one list, every listed image is in `entries`, and no patient is
    in both lists.
    """
    lists = pl.concat(_read_list(raw, subset) for subset in LIST_FILES)
    frame = entries.join(lists, on="image_id", how="left", maintain_order="left")
    # As many rows as there were, each with a list, and no name in the lists besides: each is in one list, once.
    if not (len(lists) == len(frame) == len(entries)) or frame["official"].null_count():
        _refuse_lists(raw, csv, entries, lists)
    shared = frame.group_by("patient_id").agg(pl.col("official").n_unique()).filter(pl.col("official") > 1)
    if shared.height:
        raise UserError(
            f"{raw}: {count(shared.height, 'patient')} with images in both {' and '.join(LIST_FILES.values())}: "
            f"{few(str(patient) for patient in shared['patient_id'].sort())}",
            remedy="scores on such a split are not to be trusted; download the two lists again from NIH",
        )
    return frame


def _refuse_lists(raw: Path, csv: Path, entries: pl.DataFrame, lists: pl.DataFrame) -> None:
    """Raise the UserError for lists that do not have each of the entries in one of them."""
    both = " and ".join(LIST_FILES.values())
    if twice := lists.filter(pl.col("image_id").is_duplicated())["image_id"].unique().to_list():
        raise UserError(
            f"{raw}: {count(len(twice), 'image')} in both {both}: {few(twice)}",
            remedy="an image is either for training or for testing; download the two lists again from NIH",
        )
    if strangers := lists.join(entries, on="image_id", how="anti")["image_id"].to_list():
        raise UserError(
            f"{raw}: {count(len(strangers), 'image')} of the official lists in no row of {csv.name}: {few(strangers)}",
            remedy="use the complete CSV, or take the same images out of the lists",
        )
    frame = entries.join(lists, on="image_id", how="left")
    if homeless := frame.filter(pl.col("official").is_null())["image_id"].to_list():
        raise UserError(
            f"{raw}: {count(len(homeless), 'image')} of {csv.name} in neither {both.replace(' and ', ' nor ')}: "
            f"{few(homeless)}",
            remedy="download the two lists again from NIH, or take the same images out of the CSV",
        )


def read_boxes(raw: Path, csv: Path, entries: pl.DataFrame) -> pl.DataFrame | None:
    """Return BBox_List_2017.csv as BOX_SCHEMA, sorted, or None where there is none. Pixels of the 1024 image."""
    path = find_table(raw, (BOX_FILE,))
    if path is None:
        return None
    table = read_csv(path)
    image, label = (_spelling(path, table, (name,)) for name in ("Image Index", "Finding Label"))
    # `Bbox [x,y,w,h]` was split at its commas; the three columns after the first go by their place.
    start = table.columns.index(_spelling(path, table, ("Bbox [x", "Bbox [x,y,w,h]")))
    sides = table.columns[start : start + 4]
    if len(sides) < 4:
        raise UserError(
            f"{path}: a box needs four columns, x, y, w and h; found {shown(', '.join(sides)[:300])}", remedy=DOWNLOAD
        )
    theirs = dict(zip(BOX_SCHEMA, (image, label, *sides), strict=True))
    table = table.select(LINE, **{ours: pl.col(name).str.strip_chars() for ours, name in theirs.items()})
    _refuse_cells(path, table, "image_id", image, *_VALUES["image_id"])
    for ours in ("x", "y", "width", "height"):
        _refuse_cells(path, table, ours, theirs[ours], *_BOX_NUMBER)
    table = table.with_columns(pl.col("label").replace(LABEL_SPELLINGS))
    _refuse_labels(path, table, "label", label)
    boxes = table.with_columns(pl.col(name).cast(dtype) for name, dtype in BOX_SCHEMA.items())
    for start_at, extent in (("x", "width"), ("y", "height")):
        inside = (pl.col(extent) > 0) & (pl.col(start_at) + pl.col(extent) <= IMAGE_SIZE)
        _refuse(path, table.filter(~boxes.select(inside).to_series()), extent, theirs[extent], _BOX_NUMBER[1])
    if strangers := boxes.join(entries, on="image_id", how="anti")["image_id"].to_list():
        raise UserError(
            f"{path}: {count(len(strangers), 'box')} of images in no row of {csv.name}: {few(strangers)}",
            remedy="use the complete CSV, or take these boxes out of the list",
        )
    return boxes.select(*BOX_SCHEMA).sort(*BOX_SCHEMA)


def _spelling(path: Path, table: pl.DataFrame, theirs: Iterable[str]) -> str:
    """Return the one of the names `theirs` that `table` has."""
    theirs = list(theirs)
    for name in theirs:
        if name in table.columns:
            return name
    found = ", ".join(name for name in table.columns if not name.startswith("("))  # nameless ones, and LINE
    raise UserError(f"{path}: column {theirs[0]!r} is missing; found {shown(found[:300])}", remedy=DOWNLOAD)


def _refuse_cells(path: Path, table: pl.DataFrame, ours: str, theirs: str, pattern: str, expected: str) -> None:
    """Raise a UserError for the first cell that `pattern` does not match as a whole."""
    matches = pl.col(ours).str.contains(f"^(?:{pattern})$").fill_null(False)
    _refuse(path, table.filter(~matches), ours, theirs, expected)


def _refuse(path: Path, wrong: pl.DataFrame, ours: str, theirs: str, expected: str) -> None:
    if wrong.is_empty():
        return
    line, value = wrong.row(0, named=True)[LINE], wrong[ours][0]
    found = "nothing" if value is None else repr(value[:_SHOWN])
    more = f" ({wrong.height - 1:,} more such lines)" if wrong.height > 1 else ""
    raise UserError(
        f"{path}: line {line}, column {theirs!r}: found {found}, expected {expected}{more}",
        remedy=f"correct the line, or {DOWNLOAD}",
    )


def _refuse_labels(path: Path, table: pl.DataFrame, ours: str, theirs: str) -> None:
    wrong = table.filter(~pl.col(ours).is_in(LABELS).fill_null(False))
    if not wrong.is_empty():
        near = difflib.get_close_matches(str(wrong[ours][0])[:_SHOWN], LABELS, n=1)
        _refuse(path, wrong, ours, theirs, f"{near[0]!r}?" if near else f"one of {', '.join(LABELS)}")


def _label_columns(path: Path, table: pl.DataFrame, theirs: str) -> pl.DataFrame:
    """Return one row per distinct `findings` with a boolean column per label.

    There are 836 distinct ones in 112,120 rows, so it pays to take each apart once.
    """
    distinct = table.group_by("findings", maintain_order=True).agg(pl.col(LINE).first())
    taken_apart = distinct.with_columns(
        label=pl.col("findings").str.split("|").list.eval(pl.element().str.strip_chars().replace(LABEL_SPELLINGS))
    )
    _refuse_labels(path, taken_apart.explode("label"), "label", theirs)
    contradiction = pl.col("label").list.contains(NO_FINDING) & (pl.col("label").list.n_unique() > 1)
    _refuse(path, taken_apart.filter(contradiction), "findings", theirs, f"{NO_FINDING!r} alone or not at all")
    return taken_apart.select("findings", **{label: pl.col("label").list.contains(label) for label in LABELS})


def _repeats(table: pl.DataFrame, column: str, line: str) -> str:
    """Return "00000001_000.png (lines 2, 7)" and so on for the values of `column` that occur more than once."""
    if _ascends(table[column]):
        return ""
    again = table.filter(pl.col(column).is_duplicated())
    if again.is_empty():
        return ""
    lines = again.group_by(column).agg(pl.col(line).cast(pl.String))
    return few(f"{value} (lines {', '.join(on)})" for value, on in lines.iter_rows())


def _read_list(raw: Path, subset: str) -> pl.DataFrame:
    """Return one official list: image_id, official. The last line needs no newline, and CRLF is fine."""
    path = find_table(raw, _LIST_SPELLINGS[subset])
    if path is None:
        absent = [names[0] for names in _LIST_SPELLINGS.values() if find_table(raw, names) is None]
        raise UserError(
            f"{raw}: no {' and no '.join(absent)} here, so the official split is not known",
            remedy=f"put {' and '.join(LIST_FILES.values())} from NIH's download page into this folder: "
            f"{fetch_into(raw, tables=True)}",
        )
    text = read_text(path)
    pattern, expected = _VALUES["image_id"]
    names = pl.Series("image_id", [text]).str.split("\n").explode().str.strip_chars()
    names = names.filter(names != "")
    # Nearly always; what ends its lines in another way, and anything that is wrong, is looked at line by line.
    if names.str.contains(f"^(?:{pattern})$").all() and names.n_unique() == len(names):
        return names.to_frame().with_columns(official=pl.lit(subset))
    names = pl.Series("image_id", [line.strip() for line in text.splitlines()], dtype=pl.String)
    table = names.to_frame().with_row_index(LINE, offset=1)
    table = table.filter(pl.col("image_id") != "")
    wrong = table.filter(~pl.col("image_id").str.contains(f"^(?:{pattern})$"))
    if not wrong.is_empty():
        line, found = wrong.row(0)
        raise UserError(f"{path}: line {line}: found {found[:_SHOWN]!r}, expected {expected}", remedy=DOWNLOAD)
    if repeats := _repeats(table, "image_id", LINE):
        raise UserError(f"{path}: names given twice: {repeats}", remedy=f"delete one of each, or {DOWNLOAD}")
    return table.select("image_id", official=pl.lit(subset))
