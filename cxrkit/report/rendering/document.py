"""A report as JSON, and back: the whole document, with the plain numbers behind each cell and each figure.

docs/report-format.md describes the file, `report.schema.json` checks it. JSON has no NaN: what is not there is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from cxrkit import __version__
from cxrkit.base import typed
from cxrkit.base.errors import UserError
from cxrkit.base.files import read_json
from cxrkit.report.document.figures import Bars, Figure, Grid, Line, Mark, Numbers, Panel, Ranges
from cxrkit.report.document.tables import Report

SCHEMA = "cxrkit-report"
SCHEMA_VERSION = 1
_MARKS: dict[str, type[Mark]] = {"line": Line, "bars": Bars, "ranges": Ranges, "grid": Grid}
_KINDS = {kind: name for name, kind in _MARKS.items()}
_WITH_GAPS = {Numbers: tuple[float | None, ...], tuple[Numbers, ...]: tuple[tuple[float | None, ...], ...]}
_REMEDY = "write it again with `cxrkit report --out FILE.json`"


def as_json(report: Report, figures: str = "") -> str:
    """Return the report as strict JSON, indented. figures: unused; their numbers are in the document."""
    head = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "cxrkit": __version__}
    return json.dumps(head | _plain(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return dataclasses as objects, tuples as lists, and numbers that are not finite as null."""
    if hasattr(value, "__dataclass_fields__"):
        kind = {"kind": _KINDS[type(value)]} if type(value) in _KINDS else {}
        return kind | {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)  # NumPy's own, too
    return number if math.isfinite(number) else None


def read_report_json(path: Path) -> Report:
    """Return the report in a file that `as_json` wrote. Raises UserError when it is missing, or is something else."""
    value = read_json(path, "the report", _REMEDY)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise UserError(f'{path}: no report of cxrkit (no "schema": "{SCHEMA}")', remedy=_REMEDY)
    if value.get("schema_version") != SCHEMA_VERSION:
        found = typed.describe(value.get("schema_version"))
        raise UserError(
            f"{path}: a report of schema version {found}; this cxrkit reads version {SCHEMA_VERSION}", remedy=_REMEDY
        )
    try:
        return _report(value)
    except typed.FieldError as error:
        raise UserError(f"{path}: {error}", remedy=_REMEDY) from None


def _report(value: dict[str, Any]) -> Report:
    figures = _parts(value, "figures", "")
    report: Report = typed.build(Report, value | {"figures": []})
    for table in report.tables:
        for row in table.rows:
            if len(row.cells) != len(table.columns):
                raise typed.FieldError(
                    f"row {row.heading!r} of table {table.title!r} has {len(row.cells)} cells for "
                    f"{len(table.columns)} columns"
                )
    return replace(report, figures=tuple(_figure(item, where) for where, item in figures))


def _figure(value: dict[str, Any], where: str) -> Figure:
    panels = _parts(value, "panels", f"{where}.")
    figure: Figure = typed.build(Figure, value | {"panels": []}, where)
    return replace(figure, panels=tuple(_panel(item, where) for where, item in panels))


def _panel(value: dict[str, Any], where: str) -> Panel:
    marks = _parts(value, "marks", f"{where}.")
    panel: Panel = typed.build(Panel, value | {"marks": []}, where)
    return replace(panel, marks=tuple(_mark(item, where) for where, item in marks))


def _mark(value: dict[str, Any], where: str) -> Mark:
    kind: Any = _MARKS.get(str(value.get("kind")))
    if kind is None:
        raise typed.FieldError(f"{where}.kind is {value.get('kind')!r}, expected one of {', '.join(_MARKS)}")
    found = {}
    for name, hint in get_type_hints(kind).items():
        if name in value:
            at = f"{where}.{name}"
            found[name] = _gaps(typed.build(_WITH_GAPS.get(hint, hint), value[name], at), hint)
    try:
        mark: Mark = kind(**found)
    except TypeError:
        lacking = [item.name for item in fields(kind) if item.default is MISSING and item.name not in found]
        raise typed.FieldError(f"{where}.{lacking[0]} is missing") from None
    return mark


def _gaps(value: Any, hint: Any) -> Any:
    """Return numbers with NaN where the file has null."""
    if hint == Numbers:
        return tuple(math.nan if item is None else item for item in value)
    return tuple(_gaps(item, Numbers) for item in value) if hint == tuple[Numbers, ...] else value


def _parts(value: dict[str, Any], name: str, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the objects of a list, each with its place in the file."""
    items = typed.build(list[dict[str, Any]], value.get(name, []), f"{where}{name}")
    return [(f"{where}{name}[{number}]", item) for number, item in enumerate(items)]
