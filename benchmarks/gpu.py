"""The GPU path on any CUDA machine: rows in processes of their own, and a record that is whole after each of them.

python benchmarks/gpu.py --list                parts, rows, and how long they should take
python benchmarks/gpu.py --part 1              one part, eight minutes at most; to publish: --out benchmarks/results
python benchmarks/gpu.py                       whatever the record has not got yet; ended at any time, it goes on there
python benchmarks/gpu.py --device cpu --tiny   does every row work? not a measurement

A row that crashes or hangs is in the record with its reason and is not tried again, unless with --again failed.
"""

# ruff: noqa: E402 - the imports follow the line that lets this run as a script

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from benchmarks import gpu_targets, isolated, record, tables
from benchmarks.gpu_rows import KINDS, LARGE, SMALL, Row, Sizes, parts, rows
from benchmarks.material import Material, gather
from benchmarks.record import Entry, Record
from benchmarks.run import real_images
from benchmarks.stopwatch import ContenderFailed, Lap
from cxrkit.base.errors import UserError
from cxrkit.base.files import write_text

CASES = "benchmarks.gpu_cases"
EPOCH_IMAGES = 16_384  # in an epoch at least: its end must not weigh more than in a real training
LEAST_LIMIT, LIMIT_TIMES = 150.0, 4.0  # seconds that a row may take, and times what it should
HANGING = 3  # rows in turn that take too long, after which the GPU is taken for lost
INTERRUPTED = "the benchmark itself ended while this row ran"
SAME = ("gpu", "processor", "cores")  # what makes two stamps those of one machine, beside the packages
GRACE = 30.0  # seconds that a row may take beyond what is left
# Compiling takes minutes on a CPU, and has tests of its own; threads that wait for each other take longer than one.
TINY = {"TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}


class Bench:
    """Runs rows and keeps their record, which is valid JSON at every moment."""

    def __init__(self, options: argparse.Namespace, material: Material) -> None:
        self.options, self.material = options, material
        self.began = time.monotonic()
        self.path: Path = options.out / "gpu.json"
        self.plan: list[Row] = rows(Sizes(options.device, options.tiny, options.threads))
        self.entries: dict[tuple[str, str], Entry] = {}
        self.machine: dict[str, Any] = {}
        self.settings = {
            "runs": options.runs, "least_seconds_per_run": options.seconds, "quick": options.tiny,
            "images": material.images, "different_images": material.distinct, "origin": material.origin,
            "batch": {str(size): [LARGE[size], SMALL[size]] for size in LARGE},
            "cores": len(os.sched_getaffinity(0)),
        }  # fmt: skip

    def begin(self) -> None:
        """Look at the machine and take up the record that there is of it.

        Raises ContenderFailed where there is no such device, UserError where the record is another machine's.
        """
        first = self.plan[0]
        self.machine = record.machine("benchmarks/gpu.py" + (" --tiny" if self.options.tiny else ""))
        (done,) = self._done(first)
        if gpu := done.facts.get("gpu"):
            self.machine["gpu"] = gpu
        if self.path.exists():
            old = record.read(self.path)
            if differences := self._differences(old):
                if self.options.again != "all":
                    raise UserError(
                        f"{self.path}: was measured with another {', '.join(differences)}",
                        remedy="name another folder with --out, or begin it anew with --again",
                    )
            else:
                self.entries = {(entry.group, entry.name): entry for entry in old.entries}
        libraries = " ".join(f"{name} {version}" for name, version in done.facts.get("libraries", {}).items())
        said = {key: value for key, value in done.facts.items() if key not in ("gpu", "libraries")}
        said |= {"driver": gpu["driver"]} if gpu else {}
        note = "; ".join([*(f"{key} {value}" for key, value in said.items()), libraries])
        self._keep(first, replace(self._entry(first, [done]), note=note))

    def run(self, chosen: Sequence[Row]) -> list[Row]:
        """Measure those of `chosen` that are to be measured, until the time is over; return those that are left."""
        hanging = 0
        todo = [row for row in chosen if self._is_to_do(row)]
        for position, row in enumerate(todo):
            left = self._left()
            if left <= 0 or (row.seconds > left and not self.options.tiny):
                self._say(f"{self.options.limit:.0f} s are over: {len(todo) - position} rows are left")
                return todo[position:]
            entry = self._measure(row)
            hanging = hanging + 1 if "took longer" in entry.unavailable else 0
            if hanging == HANGING:
                self._say(f"{HANGING} rows in turn took too long: is the GPU well?")
                return todo[position + 1 :]
        return []

    def _is_to_do(self, row: Row) -> bool:
        known = self.entries.get(row.key)
        if row.kind == "environment":
            return False
        return known is None or self.options.again == "all" or (not known.values and self.options.again == "failed")

    def _measure(self, row: Row) -> Entry:
        began = time.monotonic()
        before = self.entries.get(row.key)
        # In case that not only the row ends: it must not be the first thing that is tried again.
        self._keep(row, Entry(row.group, row.name, row.unit, note=row.note, unavailable=INTERRUPTED))
        try:
            entry = self._entry(row, self._done(row))
        except Exception as error:  # also of what goes wrong here, as the row's images are made
            said = str(error) if isinstance(error, ContenderFailed | UserError) else f"{type(error).__name__}: {error}"
            reason = " ".join(said.split())[:300]
            entry = Entry(row.group, row.name, row.unit, note=row.note, unavailable=reason)
        except BaseException:  # ended by the user: as if it had not begun
            self._restore(row, before)
            raise
        self._keep(row, entry)
        shown = f"{tables.number(entry.spread.median)} {row.unit}" if entry.values else f"FAILED: {entry.unavailable}"
        self._say(f"{time.monotonic() - began:5.1f} s  {row.group}: {row.name}: {shown}")
        return entry

    def _done(self, row: Row) -> list[isolated.Done]:
        tiny = self.options.tiny
        work = isolated.Work(
            target=row.case if ":" in row.case else f"{CASES}:{row.case}",
            job={**row.job, **self._data(row)},
            runs=1 if row.once else self.options.runs,
            warm_up=0 if row.once or tiny else 1,
            seconds=self.options.seconds if row.least is None else row.least,
            environment=TINY if tiny else {},
        )
        limit = self.options.patience or max(LEAST_LIMIT, LIMIT_TIMES * row.seconds)
        return isolated.measure(work, min(limit, max(self._left(), row.seconds) + GRACE), row.at_once)

    def _left(self) -> float:
        """Return the seconds that are left of --limit."""
        return float(self.options.limit) - (time.monotonic() - self.began)

    def _data(self, row: Row) -> Mapping[str, str]:
        if not row.codec:
            return {}
        times = -(-EPOCH_IMAGES // self.material.images) if row.long and not self.options.tiny else 1
        return {"data": str(self.material.many_times(row.codec, times))}

    def _entry(self, row: Row, done: Sequence[isolated.Done]) -> Entry:
        turns = list(zip(*(one.laps for one in done), strict=True))
        figures: dict[str, Any] = {
            key: [round(fmean(lap.figures[key] for lap in turn), 6) for turn in turns] for key in turns[0][0].figures
        }
        figures["start s"] = round(max(one.build_seconds for one in done), 2)
        if done[0].before:
            figures["warm-up"] = round(sum(_value(row, one.before[0]) for one in done), 4)
        if row.at_once > 1:
            figures["each"] = [[round(_value(row, lap), 2) for lap in turn] for turn in turns]
        values = tuple(round(sum(_value(row, lap) for lap in turn), 4) for turn in turns)
        return Entry(row.group, row.name, row.unit, values, row.note, figures)

    def _restore(self, row: Row, before: Entry | None) -> None:
        if before is None:
            del self.entries[row.key]
            self._write()
        else:
            self._keep(row, before)

    def _keep(self, row: Row, entry: Entry) -> None:
        self.entries[row.key] = entry
        self._write()

    def _write(self) -> None:
        order = {row.key: position for position, row in enumerate(self.plan)}
        groups = list(dict.fromkeys(row.group for row in self.plan))
        entries = sorted(
            (entry for entry in self.entries.values() if (entry.group, entry.name) in order),
            key=lambda entry: (groups.index(entry.group), order[entry.group, entry.name]),
        )
        machine = self.machine | {"load_average_after": record.load_average()}
        targets, remarks = gpu_targets.targets(entries), gpu_targets.remarks(entries)
        found = Record("gpu", self.settings, machine, tuple(entries), tuple(targets), tuple(remarks))
        record.write(found, self.path)
        write_text(self.path.with_suffix(".md"), tables.document(found))

    def _differences(self, old: Record) -> list[str]:
        machine = [key for key in SAME if old.machine.get(key) != self.machine.get(key)]
        before, now = old.machine.get("packages", {}), self.machine.get("packages", {})
        # DALI may come later than what needs no DALI, as where parcels must be small.
        machine += sorted(name for name in before.keys() & now.keys() if before[name] != now[name])
        return machine + [key for key in self.settings if old.settings.get(key) != self.settings[key]]

    def _say(self, text: str) -> None:
        print(text, flush=True)


def _value(row: Row, lap: Lap) -> float:
    if row.figure:
        return lap.figures[row.figure]
    return lap.seconds / lap.passes if row.unit == "s" else lap.images_per_second


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu for a trial (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="few small images, nothing compiled: does it work at all?")
    parser.add_argument("--list", action="store_true", help="show parts and rows, and measure nothing")
    parser.add_argument("--part", type=int, help="measure one part; without, all of them")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which no row is begun")
    parser.add_argument("--only", default="", help=f"kinds of rows: {','.join(KINDS)}")
    parser.add_argument("--rows", default="", help="only rows with this text in 'TABLE: LINE'")
    parser.add_argument(
        "--again", nargs="?", const="all", choices=("all", "failed"),
        help="measure rows that the record has, too: all, or those that failed",
    )  # fmt: skip
    parser.add_argument(
        "--patience", type=float, help="seconds that a row may take (default: four times the usual, or 150)"
    )
    parser.add_argument("--raw", type=Path, help="real images (default: CXRKIT_NIH, or the sample beside the checkout)")
    parser.add_argument("--synthetic", action="store_true", help="draw images even where there are real ones")
    parser.add_argument("--images", type=int, default=2048, help="images in the cohort (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="loader threads (default: one per core)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="least duration of a run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", help="folder of gpu.json and gpu.md")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "gpu-work", help="images; kept for the next part")
    options = parser.parse_args(given)
    if options.tiny:
        options.images, options.runs, options.seconds = min(options.images, 24), 1, 0.0
    options.only = [kind for kind in options.only.split(",") if kind]
    if unknown := set(options.only) - set(KINDS):
        parser.error(f"--only {','.join(sorted(unknown))}: unknown; there are {', '.join(KINDS)}")
    cut = parts(rows(Sizes(options.device, options.tiny, options.threads)))
    if options.part is not None and not 1 <= options.part <= len(cut):
        parser.error(f"--part {options.part}: there are parts 1 to {len(cut)}")
    return options


def choose(options: argparse.Namespace) -> list[tuple[int, Row]]:
    """Return the rows asked for, each with the number of its part."""
    cut = parts(rows(Sizes(options.device, options.tiny, options.threads)))
    return [
        (number, row)
        for number, part in enumerate(cut, 1)
        for row in part
        if options.part in (None, number)
        and (not options.only or row.kind in options.only)
        and options.rows.lower() in f"{row.group}: {row.name}".lower()
    ]


def main(given: Sequence[str] | None = None) -> None:
    """Measure the rows asked for that the record has not got."""
    options = arguments(given)
    chosen = choose(options)
    if options.list:
        for number, row in chosen:
            print(f"part {number}  {row.seconds:3.0f} s  {row.group}: {row.name}")
        print(f"{len(chosen)} rows, {sum(row.seconds for _, row in chosen) / 60:.0f} minutes")
        return
    began = time.monotonic()
    raw = real_images(options)
    work = options.work / f"{'drawn' if raw is None else 'real'}-{options.images}"
    bench = Bench(options, gather(work, raw, options.images))
    bench.began = began
    try:
        bench.begin()
    except (ContenderFailed, UserError) as failure:
        sys.exit(f"benchmarks/gpu.py: {failure}")
    bench.run([row for _, row in chosen])
    print(f"\nrecord and tables: {options.out}")


if __name__ == "__main__":
    # A time limit from outside ends a run with this signal: the row under way then is as if it had not begun.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
