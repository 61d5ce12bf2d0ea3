"""Images to try the package on: `python -m cxrkit_shapes.toy DIR` writes 96 of them, discs and bars on noise."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

PATIENTS, SIDE = 48, 128  # two images each; pixels along each side


def write(folder: Path) -> None:
    """Write images/*.png and table.csv, the same every time."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    lines = ["image_id,patient_id,age_years,Disc,Bar,Empty"]
    for number in range(2 * PATIENTS):
        disc, bar = (int(word) for word in generator.random(2) < 0.4)
        image = generator.normal(100, 12, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)
        x, y = (int(place) for place in generator.integers(30, SIDE - 30, 2))
        if disc:
            cv2.circle(image, (x, y), 14, 190, -1)
        if bar:
            cv2.rectangle(image, (x - 26, y + 18), (x + 26, y + 24), 20, -1)
        name = f"{number // 2:04d}_{number % 2}.png"
        cv2.imwrite(str(images / name), image)
        unsure = number % 10 == 0  # of some images nobody has said whether there is a bar
        empty = "" if unsure else int(not disc and not bar)
        lines.append(f"{name},p{number // 2:04d},{generator.integers(20, 90)},{disc},{'' if unsure else bar},{empty}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m cxrkit_shapes.toy DIR")
    write(Path(sys.argv[1]))
