"""Loading: shuffled, augmented batches as tensors, ours and the peers', from the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from benchmarks.contender import Contender
from benchmarks.record import Entry, Record
from benchmarks.session import OURS, Part, Row, Session, material_settings, milliseconds

BATCH = 64
SIZES = (224, 448)
EPOCHS = 10
FLOORS = "single steps, one image on one core"
OURS_LOAD = "benchmarks.ours:load"
RAW, JPEG, DALI = "cxrkit, raw levels", "cxrkit, jpeg levels", "cxrkit, jpeg levels, DALI"
PNGS, JPEGS = "torchvision v2 + DataLoader, PNG", "torchvision v2 + DataLoader, 512 px JPEG"
FFCV_RAW, FFCV_JPEG = "FFCV, 512 px raw", "FFCV, 512 px JPEG"
_TORCH = ("torch", "torchvision")


def measure(session: Session) -> Record:
    """Return the record of this part."""
    part = Part("load", session)
    for size in SIZES:
        part.entries += session.race(group(size), [*_our_rows(session, size), *_peer_rows(session, size)])
        _targets(part, size)
    _floors(part)
    _threads(part)
    for codec in ("raw", "jpeg"):
        _memory(part, codec)
    part.remarks.append(
        "Every batch holds uint8 images and 15 labels, shuffled. FFCV and webdataset files, JPEGs and levels are all "
        "of quality 95. FFCV has no gray images and no rotation; ours reads 1024-pixel levels where a crop needs them."
    )
    return part.record(batch=BATCH, **material_settings(session))


def group(size: int) -> str:
    """Return the name of the table for an output size."""
    return f"to {size}"


def _our_rows(session: Session, size: int) -> list[Row]:
    def job(codec: str, backend: str, threads: int) -> dict[str, Any]:
        data = session.material.prepared(codec)
        return {"data": str(data), "backend": backend, "size": size, "batch": BATCH, "threads": threads}

    return [
        Row(RAW, OURS_LOAD, partial(job, "raw", "opencv", session.cores)),
        Row(JPEG, OURS_LOAD, partial(job, "jpeg", "opencv", session.cores)),
        Row(DALI, OURS_LOAD, partial(job, "jpeg", "dali", session.cores), note="the GPU path's code, on the CPU"),
    ]


def _peer_rows(session: Session, size: int) -> list[Row]:
    material = session.material
    common = {"size": size, "batch": BATCH, "workers": session.cores}
    few = max(1, session.images // 8)  # the slow ones get fewer images, so that a pass takes no longer than others

    def files(**more: Any) -> dict[str, Any]:
        return common | {"folder": str(material.jpegs), "labels": str(material.labels)} | more

    def dali() -> dict[str, Any]:
        job = files(threads=session.cores)
        del job["workers"]
        return job

    def ffcv(mode: str) -> dict[str, Any]:
        file = material.by_peer(
            "benchmarks.peers.ffcv_files:write", f"{mode}.beton", session.peers,
            folder=str(material.pngs), labels=str(material.labels), mode=mode, workers=session.cores,
        )  # fmt: skip
        return common | {"file": str(file)}

    def tars() -> dict[str, Any]:
        folder = material.by_peer(
            "benchmarks.peers.webdataset_tars:write", "tars", session.peers,
            folder=str(material.jpegs), labels=str(material.labels), shards=8,
        )  # fmt: skip
        return common | {"folder": str(folder)}

    def xrayvision() -> dict[str, Any]:
        table = next(iter(material.raw.glob("Data_Entry*.csv")))
        return common | {"images": str(material.pngs), "table": str(table), "limit": few}

    def peer(name: str, target: str, job: Callable[[], Mapping[str, Any]], package: str, note: str) -> Row:
        return Row(name, f"benchmarks.peers.{target}", job, session.peers, (package, *_TORCH), note)

    pngs = files(folder=str(material.pngs), limit=few * 2)
    no_rotation = "RGB, crop and flip, no rotation"
    return [
        Row(PNGS, "benchmarks.peers.torchvision_files:load", pngs, packages=_TORCH),
        Row(JPEGS, "benchmarks.peers.torchvision_files:load", files(), packages=_TORCH),
        peer(FFCV_JPEG, "ffcv_files:load", partial(ffcv, "jpg"), "ffcv", no_rotation),
        peer(FFCV_RAW, "ffcv_files:load", partial(ffcv, "raw"), "ffcv", no_rotation),
        Row(
            "DALI on the CPU, 512 px JPEG, separate operators",
            "benchmarks.peers.dali_operators:load",
            dali,
            packages=OURS,
        ),
        peer("webdataset + torchvision v2, 512 px JPEG", "webdataset_tars:load", tars, "webdataset", ""),
        peer("MONAI CacheDataset, 512 px JPEG", "monai_cache:load", files, "monai", "decoded once, kept in memory"),
        peer("torchxrayvision NIH_Dataset, PNG", "xrayvision:load", xrayvision, "torchxrayvision", "float32"),
    ]


def _targets(part: Part, size: int) -> None:
    name = group(size)
    part.target(f"raw levels against FFCV raw, {name}", 2.0, part.ratio(name, RAW, FFCV_RAW))
    part.target(f"raw levels against torchvision on PNGs, {name}", 30.0, part.ratio(name, RAW, PNGS))
    limit = 2.0 if size == 224 else 1.0
    part.target(f"jpeg levels against FFCV's 512 px JPEG, {name}", limit, part.ratio(name, JPEG, FFCV_JPEG))


def _floors(part: Part) -> None:
    """Race the steps that a CPU loader cannot leave out, and say what they leave possible."""
    session = part.session
    rows = []
    for size in SIZES:
        raw = {"data": str(session.material.prepared("raw")), "size": size}
        jpeg = {"data": str(session.material.prepared("jpeg")), "size": size}
        rows += [
            Row(f"sample a raw level, to {size}", "benchmarks.floors:warp", raw | {"blur": False}),
            Row(f"blur and sample a raw level, to {size}", "benchmarks.floors:warp", raw | {"blur": True}),
            Row(f"decode the jpeg level, to {size}", "benchmarks.floors:decode_levels", jpeg),
        ]
    part.entries += session.race(FLOORS, rows, unit="ms", value=milliseconds)
    pngs = {entry.group: entry.spread.median for entry in part.entries if entry.name == PNGS and entry.values}
    for size in SIZES:
        sampling = next(
            (e for e in part.entries if e.name == f"blur and sample a raw level, to {size}" and e.values), None
        )
        if sampling and group(size) in pngs:
            cost = sampling.spread.median
            bound = 1000 * session.cores / cost
            times = bound / pngs[group(size)]
            part.remarks.append(
                f"The limit {group(size)}: blurring and sampling alone ({cost:.2f} ms an image) leave at most "
                f"{bound:,.0f} images/s on {session.cores} cores, {times:.0f} times torchvision on PNGs."
            )


def _threads(part: Part) -> None:
    """Throughput against the number of threads."""
    session = part.session
    if session.cores < 2:
        part.remarks.append("One core: throughput against threads was not measured.")
        return
    counts = [1, 2] if session.cores == 2 else [1, 2, session.cores]
    name = "throughput against threads, to 224"
    rows = [
        Row(
            f"{codec} levels, {count} thread{'s' if count > 1 else ''}",
            OURS_LOAD,
            {
                "data": str(session.material.prepared(codec)),
                "backend": "opencv",
                "size": 224,
                "batch": BATCH,
                "threads": count,
            },
        )
        for codec in ("raw", "jpeg")
        for count in counts
    ]
    part.entries += session.race(name, rows)
    for codec in ("raw", "jpeg"):
        grown = part.ratio(name, f"{codec} levels, 2 threads", f"{codec} levels, 1 thread")
        part.target(f"{codec} levels, 2 threads against 1", 1.5, grown)


def _memory(part: Part, codec: str) -> None:
    """Private memory after each of ten epochs; mapped shards are not counted, the system may drop them at any time."""
    data = part.session.material.prepared(codec)
    job = {"data": str(data), "backend": "opencv", "size": 224, "batch": BATCH, "threads": part.session.cores}
    loader = Contender(OURS_LOAD, job)
    sizes, resident = [], []
    try:
        for _ in range(EPOCHS):
            loader.lap(0.0)
            sizes.append(loader.memory_mb["private"])
            resident.append(loader.memory_mb["resident"])
    finally:
        loader.close()
    name = f"memory after each of {EPOCHS} epochs, to 224"
    figures = {"resident MB, mapped shards included": resident}
    part.entries.append(Entry(name, f"{codec} levels", "MB", tuple(sizes), figures=figures))
    part.target(
        f"{codec} levels: memory after epoch {EPOCHS} against epoch 2", 1.05, sizes[-1] / sizes[1], at_least=False
    )
