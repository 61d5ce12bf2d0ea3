"""Records -> Markdown: a document per record, and the performance section of the README.

python benchmarks/tables.py --readme README.md           write the section between its two markers
python benchmarks/tables.py --readme README.md --check   exit 1 when it is not up to date
python benchmarks/tables.py --compare OLD.json NEW.json  two records of one part side by side, with their ratios
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
from cxrkit.base.files import write_text

RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- performance:begin -->", "<!-- performance:end -->"
TITLES = {
    "load": "Loading on a CPU",
    "prepare": "Preparing",
    "train": "Training step on a CPU",
    "evaluate": "Evaluation",
    "scale": "How it grows",
    "gpu": "GPU",
}
# What the README leaves to the full documents: the targets say as much.
LEFT_OUT = {
    "prepare": ("source", "single"),
    "scale": ("prepare", "load", "opening"),
    "gpu": ("environment", "decoding", "training in fp16", "change", "upload", "batches"),
}
# Figures that have a column of their own, and its head.
COLUMNS = {"tree peak MB": "peak MB, all processes", "worst dB": "the worst", "GB/s": "GB/s", "peak GB": "peak GB"}
BUSY = 0.1  # cores that others used, from which on it is said


def document(found: Record) -> str:
    """Return the whole record as Markdown: what was measured where, every row, every target."""
    lines = [f"# {TITLES[found.part]}", "", f"{conditions(found)}", ""]
    for group in _groups(found):
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


def _groups(found: Record) -> list[str]:
    return list(dict.fromkeys(entry.group for entry in found.entries))


def section(records: Sequence[Record]) -> str:
    """Return the README's performance section: per part, its main tables and the targets."""
    by_part = {found.part: found for found in records}
    lines: list[str] = []
    for part, title in TITLES.items():
        found = by_part.get(part)
        lines += [f"### {title}", ""]
        if found is None:
            command = "gpu.py" if part == "gpu" else f"run.py --only {part}"
            lines += [f"Not yet measured; `python benchmarks/{command}` does.", ""]
            continue
        lines += [conditions(found), ""]
        if part == "load":
            lines += [*load_table(found), ""]
        else:
            for group in _groups(found):
                if not group.startswith(LEFT_OUT.get(part, "-")):
                    lines += [f"{group[:1].upper()}{group[1:]}:", "", *entry_table(found, group), ""]
        lines += [*target_table(found.targets), ""] if found.targets else []
        lines += [f"{remark}\n" for remark in found.remarks]
        lines += [f"All of it: [benchmarks/results/{part}.md](benchmarks/results/{part}.md)", ""]
    return "\n".join(lines).rstrip() + "\n"


def load_table(found: Record) -> list[str]:
    """Return one table of all loaders: images/s per output size, and then what an image costs in CPU time."""
    groups = [group for group in _groups(found) if group.startswith("to ")]
    names = dict.fromkeys(entry.name for entry in found.entries if entry.group in groups)
    costs = [f"CPU ms, {group}" for group in groups if any(CPU in one.figures for one in found.entries)]
    heads = [*groups, *costs]
    lines = [f"| images/s | {' | '.join(heads)} | note |", f"| --- |{' ---: |' * len(heads)} --- |"]
    for name in names:
        rows = [next(e for e in found.entries if (e.group, e.name) == (group, name)) for group in groups]
        cells = [values(row)[0] for row in rows] + ([figure(row, CPU) for row in rows] if costs else [])
        lines.append(f"| {name} | {' | '.join(cells)} | {rows[0].note} |")
    return lines


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
    for group in dict.fromkeys([*_groups(old), *_groups(new)]):
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


def read_results(folder: Path = RESULTS) -> list[Record]:
    """Return the committed records, in the order of their file names."""
    return [record.read(path) for path in sorted(folder.glob("*.json"))]


def replaced(readme: str, text: str, name: str = "README.md") -> str:
    """Return `readme` with `text` between the markers. Raises UserError where they are not both there once."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise UserError(
            f"{name}: expected {BEGIN} and {END}, once each, in this order", remedy="put them where the section goes"
        )
    return f"{before}{BEGIN}\n{text}{END}{after}"


def main(given: Sequence[str] | None = None) -> int:
    """Write or check the section, or compare two records; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"), help="two records of one part")
    options = parser.parse_args(given)
    if (options.readme is None) == (options.compare is None):
        parser.error("name a --readme, or two records to --compare")
    if options.compare:
        print(comparison(*map(record.read, options.compare)), end="")
        return 0
    found = options.readme.read_text(encoding="utf-8")
    wanted = replaced(found, section(read_results(options.results)), options.readme.name)
    if options.check:
        if found != wanted:
            print(f"{options.readme}: the performance section is not that of the records; run benchmarks/tables.py")
        return int(found != wanted)
    write_text(options.readme, wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
