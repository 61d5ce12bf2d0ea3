"""The images that all contenders work on: one raw folder in NIH's layout, and what is made of it once.

A benchmark wants more images than a small sample has, so the sample is repeated under further names (links, with
patients of their own) until there are enough. The first copy comes first, so a contender that is given the first N
images works on N different ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.contender import Contender
from cxrkit.base.contracts import LABELS, Records
from cxrkit.base.errors import UserError
from cxrkit.datasets.nih import chestxray14 as nih_chestxray14
from cxrkit.datasets.nih.tables import entries_path
from cxrkit.datasets.phantom import cohort as synthetic
from cxrkit.prepare.stage import PrepareConfig, prepare
from cxrkit.shards.index import DESCRIPTION, Listed, read_description, read_index, read_listed, write_generation

COPY_STEP = 100_000  # added to the patient ids of each further copy; NIH's end at 30,805
DRAWN = 250  # different images of a synthetic cohort
JPEG_SIDE, JPEG_QUALITY = 512, 95
LEVELS = (1024, 512, 256)  # those that `cxrkit prepare` writes unless told otherwise


@dataclass(frozen=True)
class Material:
    """What contenders read, below `work`; anything not there yet is made when asked for.

    raw: the cohort. origin: "real" or "synthetic". images: their number, of which `distinct` are different.
    """

    work: Path
    raw: Path
    origin: str
    images: int
    distinct: int

    @cached_property
    def records(self) -> Records:
        """The cohort's records."""
        return nih_chestxray14.read(self.raw)

    @cached_property
    def pngs(self) -> Path:
        """The folder of the cohort's PNGs."""
        return self.raw / "images"

    @cached_property
    def labels(self) -> Path:
        """A .npy file, (images, 15) float32, in the order of the sorted file names."""
        path = self.work / "labels.npy"
        np.save(path, np.ascontiguousarray(self.records.frame.select(LABELS).to_numpy(), dtype=np.float32))
        return path

    @cached_property
    def jpegs(self) -> Path:
        """A folder of the same images as 512-pixel gray JPEGs of our own levels' quality."""
        import cv2

        folder = self.work / "jpeg512"
        if not folder.is_dir():
            folder.mkdir(parents=True)
            for path in sorted(self.pngs.iterdir()):
                image = cv2.imread(str(path.resolve()), cv2.IMREAD_GRAYSCALE)
                assert image is not None, f"{path} is not an image"
                small = cv2.resize(image, (JPEG_SIDE, JPEG_SIDE), interpolation=cv2.INTER_AREA)
                cv2.imwrite(str(folder / f"{path.stem}.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return folder

    def prepared(self, codec: str, levels: tuple[int, ...] = LEVELS) -> Path:
        """Return the cohort prepared by cxrkit, with these levels."""
        folder = self.work / f"prepared-{codec}-{'-'.join(map(str, levels))}"
        if not (folder / "dataset.json").exists():
            prepare(PrepareConfig(raw=self.raw, data=folder, codec=codec, levels=levels), self.records)
        return folder

    def many_times(self, codec: str, times: int) -> Path:
        """Return the prepared cohort with every image listed `times` times, for long epochs; no pixel is copied."""
        source, folder = self.prepared(codec), self.work / f"prepared-{codec}-{times}-times"
        if times == 1 or (folder / DESCRIPTION).exists():
            return folder if times > 1 else source
        folder.mkdir(parents=True, exist_ok=True)
        about = read_description(source)
        for shard in about.shards:
            (folder / shard.file).symlink_to((source / shard.file).resolve())

        def repeated(frame: pl.DataFrame) -> pl.DataFrame:
            numbered = [frame.with_columns(image_id=pl.format("{}-{}", pl.lit(n), "image_id")) for n in range(times)]
            return pl.concat(numbered).sort("image_id")

        listed = read_listed(source, about).with_columns(path=pl.lit("here"), member=None)
        records = Records(about.dataset, repeated(listed), about.label_release)
        shards = [replace(shard, images=times * shard.images) for shard in about.shards]
        write_generation(folder, Listed.of(records), about.settings, repeated(read_index(source, about)), shards)
        return folder

    def by_peer(self, target: str, name: str, python: str, **job: Any) -> Path:
        """Return the file or folder `name` as a peer's own writer makes it. Raises ContenderFailed when it cannot."""
        path = self.work / name
        if not path.exists():
            writer = Contender(target, {"out": str(path), **job}, python=python)
            try:
                writer.lap(0.0)
            finally:
                writer.close()
        return path


def gather(work: Path, raw: Path | None, images: int) -> Material:
    """Return a cohort of `images` from the real ones in `raw`, or from drawn ones where `raw` is None."""
    cohort = work / "cohort"
    if raw is not None:
        distinct = link_cohort(raw, nih_chestxray14.read(raw, allow_missing=True), cohort, images)
        return Material(work, cohort, "real", images, distinct)
    drawn = work / "drawn"
    synthetic.generate(drawn, min(images, DRAWN))
    distinct = link_cohort(drawn, synthetic.read(drawn), cohort, images)
    return Material(work, cohort, "synthetic", images, distinct)


def link_cohort(raw: Path, records: Records, cohort: Path, images: int) -> int:
    """Lay out `images` links to the loose PNGs of `raw`; return how many different ones there are."""
    paths = {
        row["image_id"]: (row["path"], row["official"])
        for row in records.frame.select("image_id", "path", "official", "member").to_dicts()
        if row["path"] and not row["member"]
    }
    if not paths:
        raise UserError(f"{raw}: holds no extracted PNG", remedy="name a folder with extracted images, see --raw")
    names = sorted(paths)
    distinct = min(images, len(names))
    chosen = [names[position * len(names) // distinct] for position in range(distinct)]
    header, *lines = entries_path(raw).read_text(encoding="utf-8-sig").splitlines()
    line_of = {line.partition(",")[0]: line.split(",") for line in lines}
    (cohort / "images").mkdir(parents=True, exist_ok=True)
    table, lists = [header], {"train_val": [""], "test": [""]}
    for number in range(images):
        old = chosen[number % distinct]
        path, subset = paths[old]
        fields = list(line_of[old])
        fields[3] = str(int(fields[3]) + number // distinct * COPY_STEP)
        fields[0] = f"{int(fields[3]):08d}_{old[9:]}"
        table.append(",".join(fields))
        lists[subset].append(fields[0])
        link = cohort / "images" / fields[0]
        if not link.exists():
            link.symlink_to(Path(path).resolve())
    (cohort / entries_path(raw).name).write_text("\n".join(table) + "\n")
    for subset, members in lists.items():
        (cohort / f"{subset}_list.txt").write_text("\n".join(members[1:]) + "\n")
    return distinct
