"""Loading: shuffled, augmented batches as tensors, ours and the peers', from the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.contender import Contender
from benchmarks.material import LEVELS
from benchmarks.quiet import CPU
from benchmarks.record import Entry, Record, median_of
from benchmarks.session import OURS, Part, Row, Session, material_settings, milliseconds

BATCH = 64
SIZES = (224, 448)
SMALL = (512, 256)  # the levels of the rows "512 at most"
EPOCHS = 10
SECONDS = 0.8  # of a lap: there are many rows, and all of them together should take no longer than six minutes
FLOORS = "single steps, one image on one core"
OURS_LOAD = "benchmarks.ours:load"
RAW, JPEG, DALI = "cxrkit, raw levels", "cxrkit, jpeg levels", "cxrkit, jpeg levels, DALI"
RAW_SMALL, JPEG_SMALL = f"{RAW}, 512 at most", f"{JPEG}, 512 at most"
PNGS, JPEGS = "torchvision v2 + DataLoader, PNG", "torchvision v2 + DataLoader, 512 px JPEG"
FFCV_RAW, FFCV_JPEG = "FFCV, 512 px raw", "FFCV, 512 px JPEG"
DALI_PEER = "DALI on the CPU, 512 px JPEG, separate operators"
SPDL, SPDL_ROTATED = "SPDL, whole batches, OpenCV, 512 px JPEG", "SPDL, whole batches, OpenCV, 512 px JPEG, rotated"
GRAIN, LITDATA = "Grain, threads, OpenCV, 512 px JPEG", "LitData + torchvision tensors, 512 px JPEG"
TENSORS = "torchvision decode_jpeg + v2 on tensors, 512 px JPEG"
WEBDATASET = "webdataset + torchvision v2, 512 px JPEG"
# The peers that decode a JPEG for every crop: what ours from jpeg levels is held against.
JPEG_PEERS = (JPEGS, FFCV_JPEG, DALI_PEER, WEBDATASET, SPDL, SPDL_ROTATED, GRAIN, LITDATA, TENSORS)
_TORCH = ("torch", "torchvision")
_NO_ROTATION = "crop and flip, no rotation"
_NO_ANTIALIASING = "no antialiasing"


def measure(session: Session) -> Record:
    """Return the record of this part."""
    session = replace(session, seconds=min(session.seconds, SECONDS))
    part = Part("load", session)
    for size in SIZES:
        part.entries += session.race(group(size), [*_our_rows(session, size), *_peer_rows(session, size)])
        _targets(part, size)
    _floors(part)
    _threads(part)
    for codec in ("raw", "jpeg"):
        _memory(part, codec)
    part.remarks += [
        "Every batch holds uint8 images and 15 labels, shuffled. FFCV, LitData and webdataset files, JPEGs and levels "
        "are all of quality 95. CPU ms an image: user and system time of all processes of a contender.",
        "The peers read 512 pixels and most do not rotate. Ours rotates, antialiases, and reads 1024-pixel levels "
        "where a crop needs them; with 512 at most (`--levels 512,256`) it costs 2.4 dB at 448, against a "
        "supersampled reference. FFCV has no gray images.",
    ]
    return part.record(batch=BATCH, **material_settings(session))


def group(size: int) -> str:
    """Return the name of the table for an output size."""
    return f"to {size}"


def _our_rows(session: Session, size: int) -> list[Row]:
    def job(codec: str, backend: str, levels: tuple[int, ...], limit: int | None = None) -> dict[str, Any]:
        data = session.material.prepared(codec, levels)
        common = {"backend": backend, "size": size, "batch": BATCH, "threads": session.cores}
        return common | {"data": str(data), "limit": limit}

    def row(name: str, codec: str, levels: tuple[int, ...], note: str = "") -> Row:
        return Row(name, OURS_LOAD, partial(job, codec, "opencv", levels), note=note)

    return [
        row(RAW, "raw", LEVELS),
        row(RAW_SMALL, "raw", SMALL, "--levels 512,256"),
        row(JPEG, "jpeg", LEVELS),
        row(JPEG_SMALL, "jpeg", SMALL, "--levels 512,256"),
        Row(
            DALI,
            OURS_LOAD,
            partial(job, "jpeg", "dali", LEVELS, _fewer(session, 3)),
            note="the GPU path's code, on the CPU",
        ),
    ]


def _fewer(session: Session, times: int) -> int:
    """Return how many images a slow contender gets, so that its pass takes no longer than others'.

    Whole batches, as many for every worker, where there are enough: no core waits at the end.
    """
    images, whole = session.images // times, BATCH * session.cores
    return max(1, images // whole * whole or images)


def _peer_rows(session: Session, size: int) -> list[Row]:
    material = session.material
    common = {"size": size, "batch": BATCH, "workers": session.cores}
    some, few = _fewer(session, 2), _fewer(session, 7)

    def files(**more: Any) -> dict[str, Any]:
        return common | {"folder": str(material.jpegs), "labels": str(material.labels)} | more

    def dali() -> dict[str, Any]:
        job = files(threads=session.cores, limit=some)
        del job["workers"]
        return job

    def written(target: str, name: str, **job: Any) -> str:
        job |= {"labels": str(material.labels)}
        return str(material.by_peer(f"benchmarks.peers.{target}", name, session.peers, **job))

    def ffcv(mode: str) -> dict[str, Any]:
        source = {"folder": str(material.pngs), "mode": mode, "workers": session.cores}
        return common | {"file": written("ffcv_files:write", f"{mode}.beton", **source)}

    def tars() -> dict[str, Any]:
        return common | {
            "folder": written("webdataset_tars:write", "tars", folder=str(material.jpegs), shards=8, limit=some)
        }

    def chunks() -> dict[str, Any]:
        source = {"folder": str(material.jpegs), "workers": session.cores}
        return common | {"folder": written("litdata_chunks:write", "litdata", **source)}

    def xrayvision() -> dict[str, Any]:
        table = next(iter(material.raw.glob("Data_Entry*.csv")))
        return common | {"images": str(material.pngs), "table": str(table), "limit": few}

    def peer(name: str, target: str, job: Callable[[], Mapping[str, Any]], package: str, note: str) -> Row:
        return Row(name, f"benchmarks.peers.{target}", job, session.peers, (package, *_TORCH), note)

    def ours(name: str, target: str, job: Callable[[], Mapping[str, Any]], note: str = "") -> Row:
        return Row(name, f"benchmarks.peers.{target}", job, packages=(*OURS, *_TORCH), note=note)

    plain = f"{_NO_ROTATION}, {_NO_ANTIALIASING}"
    return [
        ours(PNGS, "torchvision_files:load", partial(files, folder=str(material.pngs), limit=few * 2)),
        ours(JPEGS, "torchvision_files:load", files),
        ours(TENSORS, "torchvision_tensors:load", files, _NO_ROTATION),
        peer(SPDL, "spdl_batches:load", files, "spdl", plain),
        peer(SPDL_ROTATED, "spdl_batches:load", partial(files, rotate=True), "spdl", _NO_ANTIALIASING),
        peer(GRAIN, "grain_threads:load", files, "grain", plain),
        peer(LITDATA, "litdata_chunks:load", chunks, "litdata", _NO_ROTATION),
        peer(FFCV_JPEG, "ffcv_files:load", partial(ffcv, "jpg"), "ffcv", f"RGB, {_NO_ROTATION}"),
        peer(FFCV_RAW, "ffcv_files:load", partial(ffcv, "raw"), "ffcv", f"RGB, {_NO_ROTATION}"),
        ours(DALI_PEER, "dali_operators:load", dali),
        peer(WEBDATASET, "webdataset_tars:load", tars, "webdataset", ""),
        peer(
            "MONAI CacheDataset, 512 px JPEG",
            "monai_cache:load",
            partial(files, limit=some),
            "monai",
            f"decoded once, kept in memory; {_NO_ANTIALIASING}",
        ),
        peer("torchxrayvision NIH_Dataset, PNG", "xrayvision:load", xrayvision, "torchxrayvision", "float32"),
    ]


def _targets(part: Part, size: int) -> None:
    name = group(size)
    part.target(f"raw levels against FFCV raw, {name}", 2.0 if size == 224 else 3.0, part.ratio(name, RAW, FFCV_RAW))
    part.target(f"raw levels against torchvision on PNGs, {name}", 30.0, part.ratio(name, RAW, PNGS))
    limit = 2.0 if size == 224 else 1.0
    part.target(f"jpeg levels against FFCV's 512 px JPEG, {name}", limit, part.ratio(name, JPEG, FFCV_JPEG))
    if size == 448:
        costs = {one.name: cost for one in part.entries if one.group == name and (cost := median_of(one, CPU))}
        best = min((peer for peer in JPEG_PEERS if peer in costs), key=costs.__getitem__, default=None)
        for ours, most in ((JPEG, 1.0), (JPEG_SMALL, 0.7)):
            what = f"{ours.removeprefix('cxrkit, ')}: CPU against the cheapest peer that reads JPEG, {name}"
            reached = costs[ours] / costs[best] if best and ours in costs else None
            part.target(f"{what} ({best})" if best else what, most, reached, at_least=False)


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
