"""Preparing: from PNGs to what a loader reads. Ours writes three levels, the peers one."""

from __future__ import annotations

import tarfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.record import Record
from benchmarks.session import Part, Row, Session, material_settings, milliseconds

ARCHIVES = 4
CXRKIT = "cxrkit, 1024 + 512 + 256 px JPEG"
CXRKIT_ONE = "cxrkit, 512 px JPEG alone"
FFCV = "FFCV DatasetWriter, 512 px JPEG"
PILLOW = "Pillow + multiprocessing, 512 px JPEG files"
FOLDER, ARCHIVE, UNLISTED = "extracted PNGs", "tar.gz, members known", "tar.gz, listed first"
LEVELS, THREE = (1024, 512, 256), "1024 + 512 + 256 px"
FLOORS = "single steps, one image on one core"
OURS_PREPARE = "benchmarks.ours:prepare"


def measure(session: Session) -> Record:
    """Return the record of this part."""
    part = Part("prepare", session)
    material, cores = session.material, session.cores
    out = session.work / "written"
    out.mkdir(parents=True, exist_ok=True)
    ours = {"raw": str(material.raw), "out": str(out / "cxrkit"), "workers": cores}
    pngs = {"folder": str(material.pngs), "workers": cores}

    def ffcv() -> dict[str, Any]:
        return pngs | {"labels": str(material.labels), "out": str(out / "ffcv.beton"), "mode": "jpg"}

    part.entries += session.race(
        "writing",
        [
            Row(CXRKIT, OURS_PREPARE, ours, note="three levels, checksums, synced to disk"),
            Row(CXRKIT_ONE, OURS_PREPARE, ours | {"out": str(out / "one"), "levels": [512]}, note="one level, as they"),
            Row(FFCV, "benchmarks.peers.ffcv_files:write", ffcv, session.peers, ("ffcv",), "one level"),
            Row(PILLOW, "benchmarks.peers.pillow_writer:write", pngs | {"out": str(out / "pillow")}, note="one level",
                packages=("pillow",)),
        ],
    )  # fmt: skip
    part.target("cxrkit against FFCV's writer", 2.0, part.ratio("writing", CXRKIT, FFCV))
    part.target("cxrkit against Pillow + multiprocessing", 3.0, part.ratio("writing", CXRKIT, PILLOW))
    mine = part.entries[0]
    shares = mine.figures.get("decoding share")
    part.target("share of busy time spent decoding PNGs", 0.6, shares and sorted(shares)[len(shares) // 2], unit="")
    _floors(part)
    _archives(part, ours, out)
    part.remarks.append(
        "NIH's own archives are recognised by name, number and size, so they need no listing; others are read twice."
    )
    return part.record(**material_settings(session))


def _floors(part: Part) -> None:
    """Race the steps that cannot be left out, and say what they leave possible."""
    session = part.session
    pngs = {"folder": str(session.material.pngs)}
    decoders = [
        Row(
            f"decode a PNG, {library}", "benchmarks.floors:decode_png", pngs | {"library": library}, packages=(package,)
        )
        for library, package in (("kornia-rs", "kornia-rs"), ("OpenCV", "opencv-python-headless"), ("Pillow", "pillow"))
    ]
    encoders = [
        Row(f"scale and encode {name}", "benchmarks.floors:encode_levels", pngs | {"levels": levels})
        for name, levels in ((THREE, LEVELS), ("512 px", (512,)))
    ]
    part.entries += session.race(FLOORS, [*decoders, *encoders], unit="ms", value=milliseconds)
    medians = {entry.name: entry.spread.median for entry in part.entries if entry.group == FLOORS and entry.values}
    decode, encode = medians.get("decode a PNG, kornia-rs"), medians.get(f"scale and encode {THREE}")
    theirs = next((entry.spread.median for entry in part.entries if entry.name == FFCV and entry.values), None)
    if decode and encode and theirs:
        bound = 1000 * session.cores / (decode + encode)
        part.remarks.append(
            f"The limit: decoding a PNG ({decode:.1f} ms) and encoding three levels ({encode:.1f} ms) leave at most "
            f"{bound:.0f} images/s on {session.cores} cores, {bound / theirs:.1f} times FFCV's writer, were all else "
            f"free; and decoding is then {decode / (decode + encode):.0%} of the busy time."
        )


def _archives(part: Part, ours: dict[str, Any], out: Path) -> None:
    """Race extracted files against archives, the records read beforehand."""
    session = part.session
    packed = partial(pack, session.material.raw, session.work / "packed")
    part.entries += session.race(
        "source",
        [
            Row(FOLDER, OURS_PREPARE, ours | {"out": str(out / "folder"), "listed": True}),
            Row(
                ARCHIVE,
                OURS_PREPARE,
                lambda: ours | {"raw": str(packed()), "out": str(out / "archive"), "listed": True},
            ),
            Row(UNLISTED, OURS_PREPARE, lambda: ours | {"raw": str(packed()), "out": str(out / "unlisted")}),
        ],
    )
    part.target("time from tar.gz against extracted files", 1.3, part.ratio("source", FOLDER, ARCHIVE), at_least=False)


def pack(raw: Path, packed: Path, kind: str = "tar.gz", images: int | None = None) -> Path:
    """Return a raw folder with the first `images` of `raw`, by name, in a few tar.gz or zip; made once.

    tar.gz as in NIH's download, zip as in the copies of others. Its tables list these images alone.
    """
    if packed.is_dir():
        return packed
    part = packed.with_name(f"{packed.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    paths = sorted((raw / "images").iterdir())[:images]
    names = {path.name for path in paths}
    for table in (*raw.glob("*.csv"), *raw.glob("*.txt")):
        lines = table.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        header, rows = (lines[:1], lines[1:]) if table.suffix == ".csv" else ([], lines)
        kept = [row for row in rows if row.partition(",")[0].strip() in names]
        (part / table.name).write_text("".join(header + kept))
    share = -(-len(paths) // ARCHIVES)
    for number in range(ARCHIVES):
        mine = paths[number * share : (number + 1) * share]
        (_pack_zip if kind == "zip" else _pack_tar)(part / f"images_{number + 1:03d}.{kind}", mine)
    part.rename(packed)
    return packed


def _pack_tar(archive: Path, paths: list[Path]) -> None:
    with tarfile.open(archive, "w:gz", compresslevel=6, dereference=True) as tar:
        for path in paths:
            tar.add(path, f"images/{path.name}")


def _pack_zip(archive: Path, paths: list[Path]) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
        for path in paths:
            file.write(path, f"images/{path.name}")
