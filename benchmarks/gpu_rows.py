"""The rows of gpu.py: what is measured, in which order, and how long it should take.

The order decides what a short loan of a GPU brings: what everything else depends on first, the same for the loaders
that need DALI next, then the rest of the grid, and at the very end what may end a process or upset the GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cxrkit.models import compute

MODELS = {224: "resnet50", 448: "resnet50-large"}
LARGE, SMALL = {224: 256, 448: 128}, {224: 16, 448: 8}
MODES = ("eager", "compiled", "graph")
FIXED, DALI, RESIDENT = "one fixed batch", "DALI", "on the device (--cache gpu)"
BACKENDS = {FIXED: None, DALI: "dali", RESIDENT: "resident"}
PART_SECONDS = 480.0
KINDS = ("environment", "decode", "load", "fidelity", "race", "train", "several", "evaluate", "start")

# Turns: rows go by them.
ENVIRONMENT, FIRST, SECOND, WITH_DALI, TOGETHER, MANY, REST, UNUSUAL, REGION = range(9)
# By arithmetic, before anything was measured on a GPU: images/s on an H100 in bf16, compiled and as a graph.
ESTIMATES = {
    (224, 16, "eager"): "700",
    (224, 16, "compiled"): "1,900",
    (224, 16, "graph"): "3,000 to 3,600",
    (448, 8, "eager"): "350",
    (448, 8, "compiled"): "950",
    (448, 8, "graph"): "1,400 to 1,700",
    (224, 256, "compiled"): "4,000 to 4,800",
}


@dataclass(frozen=True)
class Row:
    """One line of the record."""

    kind: str
    """One of KINDS."""

    group: str
    """The table."""

    name: str
    """The line."""

    case: str
    """The function in gpu_cases."""

    job: Mapping[str, Any]
    """Its keyword arguments; `data` is added from `codec`."""

    turn: int
    """When it runs: rows of a lower turn come first."""

    seconds: float
    """How long it should take on an H100, its start included."""

    codec: str = ""
    """Of the prepared images that it reads; "" for none."""

    long: bool = False
    """Whether an epoch of them has to be a long one."""

    unit: str = "images/s"
    """Of its values."""

    figure: str = ""
    """Which figure of its passes its values are; "" for images/s, or seconds a pass where that is the unit."""

    once: bool = False
    """Whether one run says it all."""

    at_once: int = 1
    """Processes that do the same at the same time; the values are the sum of their rates."""

    note: str = ""
    """What a reader must know."""

    least: float | None = field(default=None)
    """The least that a run takes; None: what was asked for."""

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it in a record."""
        return self.group, self.name


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    device: str
    """cuda, cuda:1 or cpu."""

    tiny: bool
    """Few images and steps: does it work at all?"""

    threads: int | None
    """Of the loaders; None: all cores."""

    def side(self, size: int) -> int:
        """Return the output size that stands for `size`: a seventh of it in a tiny run."""
        return size // 7 if self.tiny else size

    def batch(self, batch: int) -> int:
        """Return the batch size that stands for `batch`."""
        return min(batch, 4) if self.tiny else batch

    def model(self, size: int) -> str:
        """Return the network that stands for the one of `size`: the smallest in a tiny run."""
        return "resnet14-small" if self.tiny else MODELS[size]

    @property
    def steps(self) -> int:
        """Training steps in a pass."""
        return 1 if self.tiny else 100


def rows(sizes: Sizes) -> list[Row]:
    """Return all rows in the order in which they run."""
    found = [
        Row("environment", "environment", "what there is", "environment", {"device": sizes.device}, ENVIRONMENT, 8,
            unit="GB free", figure="free GB", once=True),
        *_fidelity(sizes), *_races(sizes), *_loading(sizes), *_training(sizes), *_evaluation(sizes), *_starts(sizes),
        *_decoding(sizes), *_several(sizes),
    ]  # fmt: skip
    return sorted(found, key=lambda row: row.turn)


def parts(of: list[Row], seconds: float = PART_SECONDS) -> list[list[Row]]:
    """Return the rows cut into parts that should take `seconds` at most each; regions have a part of their own."""
    cut: list[list[Row]] = [[]]
    for row in of:
        full = sum(one.seconds for one in cut[-1]) + row.seconds > seconds
        if cut[-1] and (full or (row.turn == REGION) != (cut[-1][-1].turn == REGION)):
            cut.append([])
        cut[-1].append(row)
    return cut


def engines(hardware: float) -> str:
    """Return how a share of JPEGs for the decoding engines is named in a row."""
    return f"hw_decoder_load {hardware:g}"


def training_group(size: int, batch: int, precision: str) -> str:
    """Return the name of a training table."""
    return f"training in {precision}, {MODELS[size]} at {size}, batch {batch}"


def training_name(mode: str, source: str) -> str:
    """Return the name of a line in it."""
    return f"{mode}, {source}"


def _loader_job(sizes: Sizes, backend: str, size: int, batch: int, **options: Any) -> dict[str, Any]:
    return {
        "backend": backend,
        "size": sizes.side(size),
        "batch": sizes.batch(batch),
        "threads": sizes.threads,
        "device": sizes.device,
        "options": options,
    }


def _fidelity(sizes: Sizes) -> Iterator[Row]:
    for size in MODELS:

        def row(name: str, codec: str, backend: str, turn: int, size: int = size, **options: Any) -> Row:
            job = _loader_job(sizes, backend, size, 32, **options)
            del job["threads"]
            group = f"fidelity against OpenCV, to {size}"
            return Row("fidelity", group, name, "fidelity", job, turn, 8, codec, unit="dB", figure="mean dB", once=True)

        yield row("raw levels, on the device", "raw", "resident", FIRST)
        yield row("raw levels, DALI", "raw", "dali", WITH_DALI)
        for hardware in (0.0, 1.0):
            yield row(f"jpeg levels, DALI, {engines(hardware)}", "jpeg", "dali", WITH_DALI, hw_decoder_load=hardware)
            yield row(
                f"jpeg levels, DALI, whole files, {engines(hardware)}", "jpeg", "dali", WITH_DALI,
                hw_decoder_load=hardware, tiles=False,
            )  # fmt: skip
        yield row(f"jpeg levels, DALI, {engines(0.8)}", "jpeg", "dali", REST, hw_decoder_load=0.8)
        yield row("png levels, DALI", "png", "dali", UNUSUAL)
        yield row("htj2k levels, DALI", "htj2k", "dali", UNUSUAL)
        for hardware in (0.0, 1.0):
            yield row(
                f"jpeg levels, DALI, region, {engines(hardware)}", "jpeg", "dali", REGION,
                hw_decoder_load=hardware, tiles=False, region=True,
            )  # fmt: skip


def _races(sizes: Sizes) -> Iterator[Row]:
    for hardware in (1.0, 0.0):
        job = _loader_job(sizes, "dali", 224, 16, hw_decoder_load=hardware)
        job = {key: job[key] for key in ("size", "batch", "device", "options")} | {"rounds": 1 if sizes.tiny else 3}
        yield Row(
            "race", "batches that change when the GPU is kept busy", f"jpeg levels, DALI, {engines(hardware)}", "race",
            job, WITH_DALI, 25, "jpeg", unit="batches", figure="changed", once=True,
        )  # fmt: skip


def _loading(sizes: Sizes) -> Iterator[Row]:
    for size in MODELS:

        def row(name: str, codec: str, backend: str, turn: int, batch: int, size: int = size, **options: Any) -> Row:
            job = _loader_job(sizes, backend, size, batch, **options)
            name = f"{name}, batch {batch}"
            return Row("load", f"loading alone, to {size}", name, "loading", job, turn, 22, codec, long=True)

        large, small = LARGE[size], SMALL[size]
        yield row(f"raw levels, {RESIDENT}", "raw", "resident", FIRST, large)
        yield row("raw levels, OpenCV threads", "raw", "opencv", FIRST, large)
        yield row("jpeg levels, OpenCV threads", "jpeg", "opencv", FIRST, large)
        yield row(f"raw levels, {RESIDENT}", "raw", "resident", SECOND, small)
        yield row("raw levels, OpenCV threads", "raw", "opencv", REST, small)
        yield row("jpeg levels, DALI", "jpeg", "dali", WITH_DALI, large)
        yield row(f"jpeg levels, DALI, {engines(0.0)}", "jpeg", "dali", WITH_DALI, large, hw_decoder_load=0.0)
        yield row("jpeg levels, DALI, whole files", "jpeg", "dali", WITH_DALI, large, tiles=False)
        yield row("jpeg levels, DALI", "jpeg", "dali", WITH_DALI, small)
        yield row("raw levels, DALI", "raw", "dali", WITH_DALI, large)
        yield row(f"jpeg levels, DALI, {engines(0.8)}", "jpeg", "dali", REST, large, hw_decoder_load=0.8)
        yield row("htj2k levels, DALI", "htj2k", "dali", UNUSUAL, large)
        yield row("jpeg levels, DALI, region", "jpeg", "dali", REGION, large, tiles=False, region=True)


def _training(sizes: Sizes) -> Iterator[Row]:
    for batches, size, precision, mode, source in itertools.product(
        (SMALL, LARGE), MODELS, ("bf16", "fp16"), MODES, BACKENDS
    ):
        batch = batches[size]
        turn = {FIXED: FIRST, RESIDENT: SECOND, DALI: WITH_DALI}[source] if batches is SMALL else MANY
        if precision == "fp16" or (mode == "eager" and source is not FIXED):
            turn = REST
        estimate = ESTIMATES.get((size, batch, mode)) if precision == "bf16" and source is FIXED else None
        yield Row(
            "train", training_group(size, batch, precision), training_name(mode, source), "training",
            _training_job(sizes, size, batch, precision, mode, source), turn,
            (20 if batches is SMALL else 45) + (0 if mode == "eager" else 15),
            "" if source is FIXED else "jpeg" if source is DALI else "raw", long=True,
            note=f"estimate for an H100: {estimate}" if estimate else "",
        )  # fmt: skip


def _training_job(sizes: Sizes, size: int, batch: int, precision: str, mode: str, source: str) -> dict[str, Any]:
    return {
        "model": sizes.model(size),
        "size": sizes.side(size),
        "batch": sizes.batch(batch),
        "precision": precision,
        "mode": mode,
        "device": sizes.device,
        "steps": sizes.steps,
        "backend": BACKENDS[source],
        "threads": sizes.threads,
    }


def _several(sizes: Sizes) -> Iterator[Row]:
    """Trainings that share the GPU, at the paper's batch sizes."""
    for size, count, mode in itertools.product(MODELS, (2, 3), ("compiled", "graph")):
        batch = SMALL[size]
        yield Row(
            "several", "several trainings at once", several_name(size, count, mode), "training",
            _training_job(sizes, size, batch, "bf16", mode, FIXED), TOGETHER, 45, at_once=count,
            note="the sum of their rates, each on one fixed batch",
        )  # fmt: skip


def several_name(size: int, count: int, mode: str) -> str:
    """Return the name of a line of the table."""
    return f"{count} x {MODELS[size]} at {size}, batch {SMALL[size]}, bf16, {mode}"


def _evaluation(sizes: Sizes) -> Iterator[Row]:
    for size, backend, codec, turn in (
        (224, "resident", "raw", SECOND),
        (448, "resident", "raw", SECOND),
        (224, "dali", "jpeg", MANY),
        (448, "dali", "jpeg", MANY),
    ):
        batch = compute.batch_size(sizes.device, size)
        job = {key: value for key, value in _loader_job(sizes, backend, size, batch).items() if key != "options"}
        job |= {"model": sizes.model(size), "precision": "bf16"}
        source = DALI if backend == "dali" else RESIDENT
        yield Row(
            "evaluate", "evaluation", evaluation_name(size, source), "evaluation", job, turn, 40, codec, long=True
        )


def evaluation_name(size: int, source: str) -> str:
    """Return the name of a line of the table."""
    return f"{MODELS[size]} at {size}, bf16, {source}"


def _starts(sizes: Sizes) -> Iterator[Row]:
    """Make rows of the first batch, the change of epoch, the upload."""
    for name, backend, codec, turn in (
        (f"raw levels, {RESIDENT}", "resident", "raw", SECOND),
        ("raw levels, OpenCV threads", "opencv", "raw", SECOND),
        ("jpeg levels, DALI", "dali", "jpeg", WITH_DALI),
    ):
        job = _loader_job(sizes, backend, 224, 256)
        yield Row(
            "start",
            "time to the first batch, to 224",
            name,
            "first_batch",
            job,
            turn,
            15,
            codec,
            unit="s",
            least=0.0,
        )
        yield Row(
            "start", "change of epoch, to 224", name, "change_of_epoch", job, turn, 15, codec, unit="ms",
            figure="change ms", least=0.0,
        )  # fmt: skip
    for codec, turn in (("raw", SECOND), ("jpeg", SECOND)):
        job = _loader_job(sizes, "resident", 448, 128)
        del job["options"], job["backend"]
        yield Row(
            "start", "upload of --cache gpu, for 448", f"{codec} levels", "upload", job, turn, 20, codec, least=0.0
        )


def _decoding(sizes: Sizes) -> Iterator[Row]:
    shared = {"device": sizes.device, "batch": sizes.batch(256)}
    for codec, level, hardware in itertools.product(("jpeg", "htj2k"), (0, 1), (1.0, 0.0, 0.8)):
        if codec == "htj2k" and hardware != 0.0:
            continue
        turn = UNUSUAL if codec == "htj2k" else MANY if hardware in (0.0, 1.0) else REST
        unit = f", {engines(hardware)}" if codec == "jpeg" else ""
        yield Row(
            "decode", "decoding alone, whole levels", f"{codec} {1024 >> level}{unit}", "decode",
            shared | {"level": level, "hardware": hardware}, turn, 18, codec,
        )  # fmt: skip
    for hardware, joined in itertools.product((0.0, 1.0), (False, True)):
        what = "the tiles of the window, joined" if joined else "whole levels"
        yield Row(
            "decode", "decoding alone, what crops to 448 need", f"{what}, {engines(hardware)}", "decode_windows",
            shared | {"size": sizes.side(448), "hardware": hardware, "joined": joined}, MANY, 18, "jpeg",
        )  # fmt: skip
