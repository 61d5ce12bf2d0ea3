"""The training step on a CPU: precision and memory layout on one fixed batch, then with the real loader."""

from __future__ import annotations

from typing import Any

from benchmarks.record import Record
from benchmarks.session import Part, Row, Session, material_settings
from cxrkit.models.compute import choose_precision

MODEL, SIZE, BATCH, STEPS = "resnet50", 224, 16, 2
GROUP = "ResNet-50 at 224, one fixed batch"
REAL_GROUP = "ResNet-50 at 224, with the loader"
FIXED, REAL = "the default on one fixed batch", "the default with the real loader"
TARGET = "benchmarks.steps:train"
TORCH = ("torch",)


def measure(session: Session) -> Record:
    """Return the record of this part."""
    part = Part("train", session)
    default = choose_precision("auto", "cpu")
    job: dict[str, Any] = {"model": MODEL, "size": SIZE, "batch": 4 if session.quick else BATCH, "steps": STEPS}
    rows = [
        Row(row_name(precision, last), TARGET, job | {"precision": precision, "channels_last": last}, packages=TORCH)
        for precision in ("fp32", "bf16")
        for last in (False, True)
    ]
    part.entries += session.race(GROUP, rows)
    chosen = row_name(default, True)
    medians = [entry.spread.median for entry in part.entries if entry.values]
    found = next((entry.spread.median for entry in part.entries if entry.name == chosen and entry.values), None)
    part.target(f"the default ({chosen}) against the fastest", 0.95, found and found / max(medians))
    part.target(f"the default ({chosen}) against plain fp32", 1.0, part.ratio(GROUP, chosen, row_name("fp32", False)))
    job["precision"] = default
    data = str(session.material.prepared("jpeg"))
    part.entries += session.race(
        REAL_GROUP,
        [
            Row(FIXED, TARGET, job, packages=TORCH),
            Row(REAL, TARGET, job | {"data": data, "threads": session.cores}, packages=TORCH, note="jpeg levels"),
        ],
    )
    part.target("training with the real loader against one fixed batch", 0.95, part.ratio(REAL_GROUP, REAL, FIXED))
    part.remarks.append("On a CPU the loader's threads and the training step share the cores.")
    return part.record(batch=job["batch"], model=MODEL, default_precision=default, **material_settings(session))


def row_name(precision: str, channels_last: bool) -> str:
    """Return the row of a precision and layout."""
    return f"{precision}, channels_last" if channels_last else precision
