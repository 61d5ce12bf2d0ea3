"""What all parts share: the settings of a run, its images, and a race between contenders."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import record
from benchmarks.contender import Contender
from benchmarks.material import Material, gather
from benchmarks.quiet import OTHERS, Quiet, used_by_tree
from benchmarks.record import Entry, Record, Target
from benchmarks.stopwatch import ContenderFailed, Lap, interleave

OURS = ("cxrkit", "opencv-python-headless", "nvidia-dali-cuda130")


@dataclass(frozen=True)
class Row:
    """A contender in a race. target, python, packages: as Contender takes them.

    job: its keyword arguments, or a function that makes them, whose ContenderFailed says why the row cannot be had.
    """

    name: str
    target: str
    job: Mapping[str, Any] | Callable[[], Mapping[str, Any]]
    python: str = sys.executable
    packages: tuple[str, ...] = OURS
    note: str = ""


@dataclass(frozen=True)
class Session:
    """One run of the benchmark.

    work: a scratch folder. raw: real images, or None to draw some. images: in the cohort. runs: laps that count, after
    one that does not. seconds: the least a lap takes. cores: that this process and its children may use. peers: the
    interpreter that the peers are installed in. quiet: repeats runs that others on the machine have disturbed.
    """

    work: Path
    raw: Path | None
    images: int
    runs: int
    seconds: float
    cores: int
    quick: bool = False
    peers: str = sys.executable
    quiet: Quiet = field(default_factory=lambda: Quiet(0.0))
    say: Callable[[str], None] = print

    @cached_property
    def material(self) -> Material:
        """The images, gathered when first asked for."""
        return gather(self.work / f"material-{self.images}", self.raw, self.images)

    def race(
        self,
        group: str,
        rows: Sequence[Row],
        *,
        unit: str = "images/s",
        value: Callable[[Lap], float] = lambda lap: lap.images_per_second,
        after_lap: Callable[[str, Contender], None] | None = None,
    ) -> list[Entry]:
        """Run the rows interleaved and return their entries, in order; those that failed say why."""
        self.say(f"\n{group}")
        contenders: dict[str, Contender] = {}
        reasons: dict[str, str] = {}
        with ExitStack() as stack:
            for row in rows:
                try:
                    job = row.job() if callable(row.job) else row.job
                    contenders[row.name] = Contender(row.target, job, python=row.python, packages=row.packages)
                    stack.callback(contenders[row.name].close)
                except ContenderFailed as failure:
                    reasons[row.name] = str(failure)
                    self.say(f"  {row.name}: not available ({failure})")
            timed = {name: partial(self._lap, name, one, reasons, after_lap) for name, one in contenders.items()}
            laps = interleave(
                timed, self.runs, on_lap=lambda name, turn, lap: self._report(name, turn, value(lap), unit)
            )
        entries = []
        for row in rows:
            if row.name not in laps:
                entries.append(Entry(group, row.name, unit, note=row.note, unavailable=reasons[row.name]))
                continue
            taken, contender = laps[row.name], contenders[row.name]
            figures: dict[str, Any] = {key: [round(lap.figures[key], 6) for lap in taken] for key in taken[0].figures}
            figures |= {f"{key} MB": round(size, 1) for key, size in contender.memory_mb.items()}
            values = tuple(round(value(lap), 4) for lap in taken)
            entries.append(Entry(group, row.name, unit, values, row.note, figures, contender.versions))
        return entries

    def _lap(
        self,
        name: str,
        contender: Contender,
        reasons: dict[str, str],
        after_lap: Callable[[str, Contender], None] | None,
    ) -> Lap:
        try:
            lap = self.quiet.lap(partial(contender.lap, self.seconds), partial(used_by_tree, contender.process_id))
        except ContenderFailed as failure:
            reasons[name] = str(failure)
            self.say(f"  {name}: failed ({failure})")
            raise
        if after_lap:
            after_lap(name, contender)
        return lap

    def _report(self, name: str, turn: int, value: float, unit: str) -> None:
        self.say(f"  {'warm-up' if turn == 0 else f'run {turn}':8} {name:44} {value:10,.1f} {unit}")


@dataclass
class Part:
    """Collects what one part measures into its record; begins by stamping the machine."""

    name: str
    session: Session
    entries: list[Entry] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        quick = " --quick" if self.session.quick else ""
        self.machine = record.machine(f"benchmarks/run.py --only {self.name}{quick}")

    def target(self, what: str, limit: float, value: float | None, *, at_least: bool = True, unit: str = "x") -> None:
        """Note a target and what was reached."""
        self.targets.append(Target(what, limit, None if value is None else round(value, 4), at_least, unit))

    def ratio(self, group: str, ours: str, theirs: str) -> float | None:
        """Return the ratio of the medians of two rows."""
        return record.ratio(self.entries, group, ours, theirs)

    def record(self, **settings: Any) -> Record:
        """Return the finished record; settings are added to those of the session."""
        session = self.session
        asked = {
            "runs": session.runs,
            "least_seconds_per_run": session.seconds,
            "cores": session.cores,
            "quick": session.quick,
        }
        disturbed = [others for entry in self.entries for others in entry.figures.get(OTHERS, [])]
        asked["others_cores_mean"] = round(fmean(disturbed), 3) if disturbed else 0.0
        machine = self.machine | {"load_average_after": record.load_average()}
        return Record(
            self.name, asked | settings, machine, tuple(self.entries), tuple(self.targets), tuple(self.remarks)
        )


def milliseconds(lap: Lap) -> float:
    """Return the milliseconds an image took."""
    return 1000 * lap.seconds / lap.images


def material_settings(session: Session) -> dict[str, Any]:
    """Return what a record says about the images."""
    material = session.material
    return {"images": material.images, "different_images": material.distinct, "origin": material.origin}
