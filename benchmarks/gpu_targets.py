"""What the rows of gpu.py should reach, and what they say about the paper's grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks import record
from benchmarks.gpu_rows import (
    DALI,
    FIXED,
    LARGE,
    MODELS,
    MODES,
    RESIDENT,
    SMALL,
    evaluation_name,
    several_name,
    training_group,
    training_name,
)
from benchmarks.record import Entry, Target, median_of

# Images/s to reach on an H200 with the large batches, and on an H100 with the paper's.
LOAD = {224: 6000, 448: 3000}
TRAIN = {(224, LARGE[224]): 4000, (448, LARGE[448]): 2000, (224, SMALL[224]): 3000, (448, SMALL[448]): 1400}
HEADLINE = 0.97
DECIBELS = 45.0
# Table 3 of the paper: 40 runs. Images trained on, by size, and validated: in the same proportion.
TRAINED = {224: 47.0e6, 448: 23.5e6}
VALIDATED = 13.5e6
HOURS = 7.0


def targets(entries: Sequence[Entry]) -> list[Target]:
    """Return the targets for what was tried."""
    groups = {entry.group for entry in entries}
    found: list[Target] = []
    for size, least in LOAD.items():
        if f"loading alone, to {size}" in groups:
            best = _best(entries, f"loading alone, to {size}")
            found.append(Target(f"loading alone, to {size}, the fastest", least, best, unit="images/s"))
    for size in MODELS:
        for group in (name for name in dict.fromkeys(e.group for e in entries) if f"{MODELS[size]} at {size}," in name):
            found += _waiting(entries, group)
    for (size, batch), least in TRAIN.items():
        trained = [training_group(size, batch, precision) for precision in ("bf16", "fp16")]
        names = [training_name(mode, source) for mode in MODES for source in (DALI, RESIDENT)]
        if any(entry.group in trained and entry.name in names for entry in entries):
            rates = [rate for group in trained if (rate := _best(entries, group, names)) is not None]
            what = f"training {MODELS[size]} at {size}, batch {batch}, with a real loader, the fastest"
            found.append(Target(what, least, max(rates, default=None), unit="images/s"))
    return found + _pixels(entries) + _grid(entries)


def _waiting(entries: Sequence[Entry], group: str) -> list[Target]:
    """Return real loaders against one fixed batch: 1 means that training never waits for its images."""
    found = []
    for mode in MODES:
        for source in (DALI, RESIDENT):
            fixed, real = training_name(mode, FIXED), training_name(mode, source)
            if (ratio := record.ratio(entries, group, real, fixed)) is not None:
                found.append(Target(f"{group}, {mode}: {source} / {FIXED}", HEADLINE, round(ratio, 4)))
    return found


def _pixels(entries: Sequence[Entry]) -> list[Target]:
    found = []
    worst = {
        f"{entry.group}: {entry.name}": worst
        for entry in entries
        if entry.group.startswith("fidelity") and (worst := median_of(entry, "worst dB")) is not None
    }
    if worst:
        where = min(worst, key=worst.__getitem__)
        found.append(Target(f"the worst image of all, {where}", DECIBELS, round(worst[where], 2), unit="dB"))
    changed = [entry for entry in entries if entry.unit == "batches" and entry.values]
    if changed:
        most = max(entry.spread.largest for entry in changed)
        found.append(Target("batches changed by a busy GPU", 0, most, at_least=False, unit=""))
    return found


def _grid(entries: Sequence[Entry]) -> list[Target]:
    hours = grid_hours(entries)
    if not hours:
        return []
    best = min(hours, key=hours.__getitem__)
    return [Target(f"the 40 runs of Table 3, {best}", HOURS, round(hours[best], 2), at_least=False, unit="h")]


def grid_hours(entries: Sequence[Entry]) -> dict[str, float]:
    """Return how long the 40 runs of Table 3 take by the rates measured, for each way of running them."""
    validating = {
        size: _best(entries, "evaluation", [evaluation_name(size, source) for source in (DALI, RESIDENT)])
        for size in MODELS
    }
    ways: dict[str, dict[int, float | None]] = {}
    for mode in MODES:
        names = [training_name(mode, source) for source in (DALI, RESIDENT)]
        ways[f"one at a time, {mode}"] = {
            size: _best(entries, training_group(size, SMALL[size], "bf16"), names) for size in MODELS
        }
        for count in (2, 3):
            ways[f"{count} at once, {mode}"] = {
                size: _best(entries, "several trainings at once", [several_name(size, count, mode)]) for size in MODELS
            }
    hours = {}
    for way, training in ways.items():
        seconds = 0.0
        for size, images in TRAINED.items():
            rate, checked = training[size], validating[size]
            if rate is None or checked is None:
                break
            seconds += images / rate + VALIDATED * images / sum(TRAINED.values()) / checked
        else:
            hours[way] = seconds / 3600
    return hours


def remarks(entries: Sequence[Entry]) -> list[str]:
    """Return what the rates say about the paper's grid."""
    hours = grid_hours(entries)
    if not hours:
        return []
    each = "; ".join(f"{way} {value:.1f} h" for way, value in sorted(hours.items(), key=lambda item: item[1]))
    return [
        "The 40 runs of Table 3 take, by these rates, on this one GPU (47 M images through ResNet-50 and 23.5 M "
        f"through -large at batch 16 and 8 in bf16, 13.5 M validated one run at a time): {each}. Runs at once were "
        "measured on a fixed batch each."
    ]


def _best(entries: Iterable[Entry], group: str, names: Iterable[str] | None = None) -> float | None:
    wanted = None if names is None else set(names)
    medians = [
        entry.spread.median
        for entry in entries
        if entry.group == group and entry.values and (wanted is None or entry.name in wanted)
    ]
    return max(medians, default=None)
