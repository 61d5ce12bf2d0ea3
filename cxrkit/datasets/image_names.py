"""What other people call an image, and which image of the data set it is: with a path or without, with any ending."""

from __future__ import annotations

import re

import polars as pl

# What the column of images is called elsewhere, without case, spaces and signs; the likelier first.
IMAGE_COLUMNS = (
    "imageindex", "imageid", "imagename", "imagefile", "imagefilename", "imagepath", "filename", "filepath", "file",
    "image", "images", "imagenames", "imageids", "imagepaths", "filenames", "filepaths", "paths", "files", "names",
    "ids", "imgname", "imgid", "imgpath", "imgfile", "img", "imgs", "path", "name", "id", "index", "key", "keys",
    "sample", "samples", "",
)  # fmt: skip
_NIH_NAME = r"^0*([1-9][0-9]{0,7})_[0-9]{3}$"
_ENDING = r"\.[A-Za-z][A-Za-z0-9]{1,5}(\.gz)?$"


def plain(name: str) -> str:
    """Return a column's or label's name without case, spaces and signs: "Image Index" is "imageindex"."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def image_column_rank(name: str) -> int | None:
    """Return how usual a name is for the column of images, 0 being the most usual; None where it is not."""
    if re.fullmatch(r"(Unnamed: \d+|\(column \d+\)|index|column_\d+)?", name):  # an index that was written beside
        return len(IMAGE_COLUMNS)
    return IMAGE_COLUMNS.index(plain(name)) if plain(name) in IMAGE_COLUMNS else None


def stems(names: pl.Series) -> pl.Series:
    """Return names without folders and without the ending of an image file."""
    bare = names.str.strip_chars(" \t\r\n\"'").str.replace_all(r"\\", "/").str.split("/").list.last()
    return bare.str.replace(_ENDING, "")


def match(names: pl.Series, image_ids: pl.Series) -> pl.Series:
    """Return the image_id of each name, null where the data set has no such image.

    image_ids: all of the data set, each once. A name is the same with or without folders and ending, unless two images
    differ in these alone: then it must be whole.
    """
    known = pl.DataFrame({"exact": image_ids, "stem": stems(image_ids)})
    loose = known.filter(~known["stem"].is_duplicated()).select("stem", by_stem="exact")
    asked = pl.DataFrame({"name": names.str.strip_chars(), "stem": stems(names)})
    found = asked.join(
        known.select("exact", name="exact"), on="name", how="left", maintain_order="left", validate="m:1"
    ).join(loose, on="stem", how="left", maintain_order="left", validate="m:1")
    return found.select(image_id=pl.coalesce("exact", "by_stem")).to_series()


def patient_in_name(names: pl.Series) -> pl.Series:
    """Return the patient that a name in NIH's way says, "96" for 00000096_001.png; null for other names."""
    return stems(names).str.extract(_NIH_NAME, 1)
