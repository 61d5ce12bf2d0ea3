"""Records -> Markdown: a document per record; pages.py puts their tables into the README and docs/performance.md.

python benchmarks/tables.py --compare OLD.json NEW.json   two records of one part side by side, with their ratios
"""

# ruff: noqa: E402 - the imports follow the line that lets this run as a script

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from benchmarks import record
from benchmarks.quiet import CPU
from benchmarks.record import Entry, Record, Target, median_of
from cxrkit.base.errors import UserError

RESULTS = ROOT / "benchmarks" / "results"
TITLES = {
    "load": "Loading on a CPU",
    "prepare": "Preparing",
    "train": "Training step on a CPU",
    "evaluate": "Evaluation",
    "scale": "How it grows",
    "gpu": "GPU",
}
# Figures that have a column of their own, and its head.
COLUMNS = {"tree peak MB": "peak MB, all processes", "worst dB": "the worst", "GB/s": "GB/s", "peak GB": "peak GB"}
BUSY = 0.1  # cores that others used, from which on it is said


def document(found: Record) -> str:
    """Return the whole record as Markdown: what was measured where, every row, every target."""
    lines = [f"# {TITLES[found.part]}", "", f"{conditions(found)}", ""]
    for group in groups_of(found):
        lines += [f"## {group[:1].upper()}{group[1:]}", "", *entry_table(found, group), ""]
    if found.targets:
        lines += ["## Targets", "", *target_table(found.targets), ""]
    lines += [f"{remark}\n" for remark in found.remarks]
    packages = {**found.machine["packages"]}
    for entry in found.entries:
        packages |= {name: version for name, version in entry.versions.items() if name != "python"}
    versions = ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))
    lines += [f"Python {found.machine['python']}, {versions}.", ""]
    return "\n".join(lines)


def conditions(found: Record) -> str:
    """Return one paragraph: machine, date, images, runs, and a warning where others were using the machine."""
    machine, settings = found.machine, found.settings
    where = [machine["gpu"]["name"]] if machine.get("gpu") else []
    where += [
        f"{settings.get('cores', machine['cores'])} cores of {machine['processor']}",
        f"{machine['memory_gb']} GB",
    ]
    parts = [f"{', '.join(where)}; {machine['time'][:10]}."]
    if "images" in settings and "origin" in settings:
        different = settings["different_images"]
        repeated = "" if different == settings["images"] else f" ({different:,} different ones, repeated)"
        parts.append(f"{settings['images']:,} {settings['origin']} 1024 x 1024 PNGs{repeated}.")
    turns = "Each row ran in a process of its own" if found.part == "gpu" else "Contenders took turns"
    parts.append(f"{turns}; median and quartiles of {settings['runs']} runs after a warm-up.")
    others = settings.get("others_cores_mean", 0.0)
    if others > BUSY:
        parts.append(f"The machine was in use: others took {others:.1f} cores on average during the runs.")
    if settings.get("quick"):
        parts.append("**A quick trial, not a measurement.**")
    return " ".join(parts)


def entry_table(found: Record, group: str) -> list[str]:
    """Return the table of one group; columns for CPU, memory and notes only where there is something in them."""
    entries = [entry for entry in found.entries if entry.group == group]
    more: dict[str, list[str]] = {}
    if entries[0].unit == "images/s" and any(CPU in entry.figures for entry in entries):
        more[f"{CPU} |"] = [figure(entry, CPU) for entry in entries]
    for name, head in COLUMNS.items():
        if any(name in entry.figures for entry in entries):
            more[f"{head} |"] = [figure(entry, name) for entry in entries]
    if any(entry.note for entry in entries):
        more["note |"] = [entry.note for entry in entries]
    heads = "".join(f" {head}" for head in more)
    rules = "".join(" --- |" if head == "note |" else " ---: |" for head in more)
    lines = [f"| | {entries[0].unit} | quartiles |{heads}", f"| --- | ---: | ---: |{rules}"]
    for position, entry in enumerate(entries):
        middle, spread = values(entry)
        cells = "".join(f" {column[position]} |" for column in more.values())
        lines.append(f"| {entry.name} | {middle} | {spread} |{cells}")
    return lines


def values(entry: Entry) -> tuple[str, str]:
    """Return the cells of an entry's median and quartiles, or why there are none."""
    if not entry.values:
        return f"not available: {entry.unavailable.replace('|', '/')}", ""
    spread = entry.spread
    return number(spread.median), f"{number(spread.low)} to {number(spread.high)}"


def figure(entry: Entry, name: str) -> str:
    """Return the cell of a figure's median, empty where the entry has not got it."""
    middle = median_of(entry, name)
    return "" if middle is None else number(middle)


def target_table(targets: Iterable[Target]) -> list[str]:
    """Return the table of targets and what was reached."""
    lines = ["| | target | reached | |", "| --- | ---: | ---: | --- |"]
    for target in targets:
        unit = {"x": "x", "": ""}.get(target.unit, f" {target.unit}")
        sign = "at least" if target.at_least else "at most"
        reached = "not measured" if target.value is None else f"{number(target.value)}{unit}"
        verdict = {True: "met", False: "**missed**", None: ""}[target.met]
        lines.append(f"| {target.what} | {sign} {number(target.limit)}{unit} | {reached} | {verdict} |")
    return lines


def number(value: float) -> str:
    """Return `value` with three digits that matter, or all of a large one's whole digits."""
    if value == 0:
        return "0"
    if abs(value) < 0.01:
        return f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.0e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def groups_of(found: Record) -> list[str]:
    """Return the groups of a record's entries, in their order."""
    return list(dict.fromkeys(entry.group for entry in found.entries))


def comparison(old: Record, new: Record) -> str:
    """Return two records of one part side by side: medians and their ratios, of the CPU time too where both have it.

    Raises UserError for records of different parts.
    """
    if old.part != new.part:
        raise UserError(
            f"--compare: a record of the part {old.part} and one of {new.part}", remedy="name two of the same part"
        )
    lines = [f"# {TITLES[new.part]}: before and after"]
    lines += ["", f"Before: {conditions(old)}", "", f"After: {conditions(new)}"]
    if old.machine.get("gpu") != new.machine.get("gpu") or old.machine["processor"] != new.machine["processor"]:
        lines += ["", "**Two machines: the ratios say nothing about the code.**"]
    for group in dict.fromkeys([*groups_of(old), *groups_of(new)]):
        pairs = {name: (_found(old, group, name), _found(new, group, name)) for name in _names(group, old, new)}
        there = [one for pair in pairs.values() for one in pair if one]
        unit = there[0].unit
        with_cpu = unit == "images/s" and any(CPU in one.figures for one in there)
        heads = [f"{unit}, before", "after", "ratio", *([f"{CPU}, before", "after", "ratio"] if with_cpu else [])]
        lines += ["", f"## {group[:1].upper()}{group[1:]}", ""]
        lines += [f"| | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
        for name, pair in pairs.items():
            cells = _side_by_side(*(one.spread.median if one and one.values else None for one in pair))
            if with_cpu:
                cells += _side_by_side(*(median_of(one, CPU) if one else None for one in pair))
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _found(of: Record, group: str, name: str) -> Entry | None:
    return next((one for one in of.entries if (one.group, one.name) == (group, name)), None)


def _names(group: str, *records: Record) -> list[str]:
    return list(dict.fromkeys(one.name for each in records for one in each.entries if one.group == group))


def _side_by_side(before: float | None, after: float | None) -> list[str]:
    """Return the cells of two values and of the second over the first; a dash where there is none."""
    cells = ["-" if value is None else number(value) for value in (before, after)]
    return [*cells, f"{after / before:.2f}" if before and after is not None else "-"]


def main(given: Sequence[str] | None = None) -> int:
    """Compare two records; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", type=Path, nargs=2, required=True, metavar=("OLD", "NEW"), help="of one part")
    options = parser.parse_args(given)
    print(comparison(*map(record.read, options.compare)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
