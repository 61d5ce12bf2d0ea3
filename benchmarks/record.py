"""What a benchmark leaves behind: one JSON file per part, with the machine, the versions and every single value."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.stopwatch import Spread
from cxrkit.base import provenance
from cxrkit.base.errors import UserError
from cxrkit.base.files import read_json, write_json

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One measured thing, or one that could not be measured.

    group: the table it belongs to ("to 224"); entries of a group were interleaved and can be compared. name: the row.
    unit: of `values`, one per run, in the order taken. note: what a reader must know to compare it fairly.
    figures: further numbers, by name. versions: of its own packages. unavailable: why there are no values.
    """

    group: str
    name: str
    unit: str
    values: tuple[float, ...] = ()
    note: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    unavailable: str = ""

    @property
    def spread(self) -> Spread:
        """Median and spread of the values. There must be some."""
        return Spread.of(self.values)


@dataclass(frozen=True)
class Target:
    """What should be reached: `value` (None: not measured) at least, or else at most, `limit`."""

    what: str
    limit: float
    value: float | None
    at_least: bool = True
    unit: str = "x"

    @property
    def met(self) -> bool | None:
        """Whether it is reached; None where it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(frozen=True)
class Record:
    """One part of the benchmark on one machine. machine: provenance, load averages; settings: what was asked for."""

    part: str
    settings: dict[str, Any]
    machine: dict[str, Any]
    entries: tuple[Entry, ...]
    targets: tuple[Target, ...] = ()
    remarks: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    def entry(self, group: str, name: str) -> Entry | None:
        """Return the entry of that group and name, None where there is none with values."""
        return next((one for one in self.entries if (one.group, one.name) == (group, name) and one.values), None)


def median_of(entry: Entry, figure: str) -> float | None:
    """Return a figure, the median of one that has a value per run; None where the entry has not got it."""
    found = entry.figures.get(figure)
    if not isinstance(found, (list, tuple)):
        return found
    return statistics.median(found) if found else None


def ratio(entries: Sequence[Entry], group: str, ours: str, theirs: str) -> float | None:
    """Return the ratio of two medians of a group, None where either was not measured."""
    found = {entry.name: entry for entry in entries if entry.group == group and entry.values}
    if ours not in found or theirs not in found:
        return None
    return found[ours].spread.median / found[theirs].spread.median


def machine(command: str) -> dict[str, Any]:
    """Return the hardware, versions, git state and time, and how busy the machine is before the measurement.

    command: what was run, without paths.
    """
    stamp = provenance.collect() | {"command": command}
    stamp["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    stamp["load_average_before"] = load_average()
    return stamp


def load_average() -> list[float]:
    """Return the system's load over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def write(record: Record, path: Path) -> None:
    """Write `record` as JSON, atomically."""
    write_json(path, asdict(record))


def read(path: Path) -> Record:
    """Return the record in `path`. Raises UserError for anything that is not one of this version."""
    remedy = "measure again with benchmarks/run.py"
    raw = read_json(path, "the benchmark record", remedy)
    if not isinstance(raw, Mapping) or raw.get("format_version") != FORMAT_VERSION:
        found = raw.get("format_version") if isinstance(raw, Mapping) else type(raw).__name__
        raise UserError(f"{path}: not a benchmark record of version {FORMAT_VERSION} (found {found})", remedy=remedy)
    try:
        entries = tuple(Entry(**entry | {"values": tuple(entry["values"])}) for entry in raw["entries"])
        targets = tuple(Target(**target) for target in raw["targets"])
        return Record(**{**raw, "entries": entries, "targets": targets, "remarks": tuple(raw["remarks"])})
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: a damaged benchmark record ({error})", remedy=remedy) from None
