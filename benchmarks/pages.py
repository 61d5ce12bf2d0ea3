"""The records of the benchmarks in the pages that people read: docs/performance.md, and a summary in the README.

python benchmarks/pages.py           write both between their two markers
python benchmarks/pages.py --check   exit 1 when one of them is not up to date
"""

# ruff: noqa: E402 - the imports follow the line that lets this run as a script

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from benchmarks import record
from benchmarks.quiet import CPU
from benchmarks.record import Entry, Record
from benchmarks.tables import RESULTS, TITLES, conditions, entry_table, figure, groups_of, target_table, values
from cxrkit.base.errors import UserError
from cxrkit.base.files import write_text

BEGIN, END = "<!-- performance:begin -->", "<!-- performance:end -->"
COMMANDS = {"gpu": "gpu.py"}
# What the page leaves to the full documents: the targets say as much.
LEFT_OUT = {
    "prepare": ("source", "single"),
    "scale": ("prepare", "load", "opening"),
    "gpu": ("environment", "decoding", "training in fp16", "change", "upload", "batches"),
}
# The rows of the README: of the loaders those that people use most, and ours.
LOADERS = {
    "cxrkit, raw levels": "cxrkit, raw",
    "cxrkit, jpeg levels": "cxrkit, JPEG",
    "FFCV, 512 px raw": "FFCV, 512 px raw",
    "Grain, threads, OpenCV, 512 px JPEG": "Grain, 512 px JPEG, no rotation",
    "SPDL, whole batches, OpenCV, 512 px JPEG, rotated": "SPDL, 512 px JPEG, not antialiased",
    "torchvision v2 + DataLoader, 512 px JPEG": "torchvision v2, 512 px JPEG",
    "torchvision v2 + DataLoader, PNG": "torchvision v2, PNG",
    "torchxrayvision NIH_Dataset, PNG": "torchxrayvision, PNG",
}
STAGES = (
    ("prepare", "writing", "cxrkit, 1024 + 512 + 256 px JPEG", "prepare, three levels"),
    ("prepare", "writing", "FFCV DatasetWriter, 512 px JPEG", "FFCV's writer, one level of 512 px"),
    ("train", "ResNet-50 at 224, with the loader", "the default with the real loader", "train ResNet-50 at 224, bf16"),
    ("train", "ResNet-50 at 224, one fixed batch", "fp32", "the same in plain fp32, no loader"),
    ("evaluate", "15 AUCs, 25,596 images", "cxrkit, 1,000 replicates", "1,000 bootstrap replicates of 15 AUCs"),
    ("evaluate", "15 AUCs, 25,596 images", "scikit-learn, 1,000 replicates (projected)", "the same by scikit-learn"),
)


def section(records: Sequence[Record]) -> str:
    """Return the section of docs/performance.md: per part, its main tables and the targets."""
    by_part = {found.part: found for found in records}
    lines: list[str] = []
    for part, title in TITLES.items():
        found = by_part.get(part)
        lines += [f"## {title}", ""]
        if found is None:
            lines += [f"Not yet measured; `python benchmarks/{COMMANDS.get(part, f'run.py --only {part}')}` does.", ""]
            continue
        lines += [conditions(found), ""]
        if part == "load":
            lines += [*load_table(found), ""]
        else:
            for group in groups_of(found):
                if not group.startswith(LEFT_OUT.get(part, "-")):
                    lines += [f"{group[:1].upper()}{group[1:]}:", "", *entry_table(found, group), ""]
        lines += [*target_table(found.targets), ""] if found.targets else []
        lines += [f"{remark}\n" for remark in found.remarks]
        lines += [f"All of it: [benchmarks/results/{part}.md](../benchmarks/results/{part}.md)", ""]
    return "\n".join(lines).rstrip() + "\n"


def load_table(found: Record) -> list[str]:
    """Return one table of all loaders: images/s per output size, and then what an image costs in CPU time."""
    groups = [group for group in groups_of(found) if group.startswith("to ")]
    names = dict.fromkeys(entry.name for entry in found.entries if entry.group in groups)
    costs = [f"CPU ms, {group}" for group in groups if any(CPU in one.figures for one in found.entries)]
    heads = [*groups, *costs]
    lines = [f"| images/s | {' | '.join(heads)} | note |", f"| --- |{' ---: |' * len(heads)} --- |"]
    for name in names:
        rows = [next(e for e in found.entries if (e.group, e.name) == (group, name)) for group in groups]
        cells = [values(row)[0] for row in rows] + ([figure(row, CPU) for row in rows] if costs else [])
        lines.append(f"| {name} | {' | '.join(cells)} | {rows[0].note} |")
    return lines


def summary(records: Sequence[Record]) -> str:
    """Return the README's two small tables: loaders side by side, and what the other stages take."""
    by_part = {found.part: found for found in records}
    lines: list[str] = []
    if load := by_part.get("load"):
        groups = [group for group in groups_of(load) if group.startswith("to ")]
        lines += [f"Loading and augmenting, {conditions(load)}", ""]
        lines += [f"| images/s | {' | '.join(groups)} |", f"| --- |{' ---: |' * len(groups)}"]
        for name, shown in LOADERS.items():
            rows = [entry for group in groups if (entry := _entry(load, group, name))]
            lines += [f"| {shown} | {' | '.join(values(row)[0] for row in rows)} |"] * (len(rows) == len(groups))
        lines.append("")
    stages = [(shown, _entry(by_part[part], group, name)) for part, group, name, shown in STAGES if part in by_part]
    if any(entry for _, entry in stages):
        lines += ["| other stages | | |", "| --- | ---: | --- |"]
        lines += [f"| {shown} | {values(entry)[0]} | {entry.unit} |" for shown, entry in stages if entry]
    return "\n".join(lines).rstrip() + "\n"


def _entry(found: Record, group: str, name: str) -> Entry | None:
    return next((one for one in found.entries if (one.group.lower(), one.name) == (group.lower(), name)), None)


def replaced(page: str, text: str, name: str = "README.md") -> str:
    """Return `page` with `text` between the markers. Raises UserError where they are not both there once."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or page.count(BEGIN) != 1 or page.count(END) != 1:
        raise UserError(
            f"{name}: expected {BEGIN} and {END}, once each, in this order", remedy="put them where the section goes"
        )
    return f"{before}{BEGIN}\n{text}{END}{after}"


PAGES: dict[str, Callable[[Sequence[Record]], str]] = {"README.md": summary, "docs/performance.md": section}


def read_results(folder: Path = RESULTS) -> list[Record]:
    """Return the committed records, in the order of their file names."""
    return [record.read(path) for path in sorted(folder.glob("*.json"))]


def main(given: Sequence[str] | None = None) -> int:
    """Write or check the two pages; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="where the pages lie")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    options = parser.parse_args(given)
    records, stale = read_results(options.results), False
    for name, made in PAGES.items():
        found = (options.root / name).read_text(encoding="utf-8")
        wanted = replaced(found, made(records), name)
        stale |= found != wanted
        if options.check and found != wanted:
            print(f"{name}: the performance section is not that of the records; run benchmarks/pages.py")
        elif found != wanted:
            write_text(options.root / name, wanted)
    return int(stale and options.check)


if __name__ == "__main__":
    sys.exit(main())
