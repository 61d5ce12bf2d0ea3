"""A handful of 1024 x 1024 PNGs and their records, for tests that need pixels but no data set."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from cxrkit.contracts import LABELS, PIXEL_SCHEMA, RECORD_SCHEMA, Records


def picture(seed: int) -> np.ndarray:
    """Return a smooth, slightly noisy (1024, 1024) uint8 image."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 230, (8, 8), dtype=np.uint8)
    image = cv2.resize(coarse, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (300 + 20 * seed, 500), 120, 255 - 5 * seed, 9)
    noise = rng.integers(0, 4, (1024, 1024), dtype=np.uint8)
    return cv2.add(image, noise)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def image_id(number: int) -> str:
    return f"{number // 3 + 1:08d}_{number % 3:03d}.png"


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / image_id(number)).write_bytes(png(picture(number)))


def write_archive(path: Path, images: Path, order: list[str] | None = None, mode: str = "w:gz") -> None:
    """Pack the PNGs of `images`, by default in an order that is not sorted, with what else NIH's archives hold."""
    names = order or sorted((file.name for file in images.glob("*.png")), key=lambda name: name[::-1])
    with tarfile.open(path, mode) as tar:
        folder = tarfile.TarInfo("images")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in names:
            data = (images / name).read_bytes()
            info = tarfile.TarInfo(f"images/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def records(raw: Path, count: int, *, archive: Path | None = None, absent: int = 0) -> Records:
    """Return the records of `count` images in raw/images (or in `archive`), and of `absent` more that are not there."""
    total = count + absent
    ids = [image_id(number) for number in range(total)]
    there = [number < count for number in range(total)]
    columns: dict[str, list[object]] = {
        "image_id": list(ids),
        "patient_id": [str(number // 3 + 1) for number in range(total)],
        "follow_up": [number % 3 for number in range(total)],
        "age_years": [30 + number for number in range(total)],
        "sex": ["MF"[number % 2] for number in range(total)],
        "view": ["PA" if number % 3 else "AP" for number in range(total)],
        **{label: [(number + place) % 5 == 0 for number in range(total)] for place, label in enumerate(LABELS)},
        "official": [None if number % 7 == 0 else "train_val" for number in range(total)],
        "path": [
            str(archive or raw / "images" / name) if here else None for name, here in zip(ids, there, strict=True)
        ],
        "member": [f"images/{name}" if archive and here else None for name, here in zip(ids, there, strict=True)],
    }
    frame = pl.DataFrame(columns, schema={**RECORD_SCHEMA, **PIXEL_SCHEMA})
    return Records("tiny", frame.sort("image_id"), "unknown")
