"""A raw folder: what preparing it would say, what is peculiar about its images, tables and archives."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import polars as pl

from cxrkit.base.contracts import IMAGE_SIZE, Records
from cxrkit.base.errors import UserError
from cxrkit.base.words import count
from cxrkit.datasets.nih.text import PAGE
from cxrkit.doctor.findings import Finding
from cxrkit.prepare.config import MIN_LEVEL

_LOOKED_AT = 12  # images


def look(raw: Path) -> Generator[Finding, None, Records | None]:
    """Say of a download what preparing it would say, for it is read by the same reader; return its records."""
    from cxrkit.datasets.nih import chestxray14 as nih_chestxray14
    from cxrkit.datasets.phantom import cohort as synthetic

    is_synthetic = (raw / synthetic.MARKER).is_file()
    try:
        records: Records = (synthetic if is_synthetic else nih_chestxray14).read(raw, allow_missing=True)
    except UserError as error:
        yield Finding("download", "problem", str(error).partition("\n  remedy: ")[0], error.remedy)
        return None
    at_hand = records.frame.height - records.missing
    found = f"{at_hand:,} of {records.frame.height:,} images, labels {records.label_release}"
    if records.missing:
        remedy = nih_chestxray14.missing_images(raw, records).remedy
        yield Finding("download", "note" if at_hand else "problem", found, remedy)
    else:
        yield Finding("download", "ok", found)
    for note in records.notes:
        yield Finding("download", "problem" if note.serious else "note", note.found, note.remedy)
    yield from _images(records)
    yield from pixels(records)
    if is_synthetic:
        yield Finding("labels", "note", "a synthetic cohort, not ChestX-ray14", "prepare it with --dataset synthetic")
        return records
    yield from _labels(records)
    yield from archives(raw)
    return records


def _images(records: Records) -> Iterator[Finding]:
    """Say what is peculiar about the images at hand: they are not NIH's own files then."""
    found = f"resized copies, {records.side} px: not the {IMAGE_SIZE} px of the published images"
    if records.side < MIN_LEVEL:
        yield Finding("images", "problem", found, "download NIH's own images, or a larger copy")
    elif records.side != IMAGE_SIZE:
        yield Finding("images", "note", found, "prepare them with --resized, or download NIH's own images")
    files = records.frame.select(file=pl.coalesce("member", "path"))["file"].drop_nulls()
    jpegs = int(files.str.to_lowercase().str.contains(r"\.jpe?g$").sum())
    if jpegs:
        found = f"{jpegs:,} are JPEGs: recompressed, not the published PNGs"
        yield Finding(
            "images", "note", found, "results on them are not those of ChestX-ray14; download NIH's own images"
        )


def pixels(records: Records) -> Iterator[Finding]:
    """Decode a few of the images that lie there as files, to see whether they are whole, 8 bits deep, and gray."""
    from cxrkit.sources.pixels import DamagedImage, read_image

    files = records.frame.filter(pl.col("path").is_not_null() & pl.col("member").is_null())["path"].sort()
    chosen = files.gather_every(max(1, len(files) // _LOOKED_AT)).head(_LOOKED_AT).to_list()
    converted: list[str] = []
    for path in chosen:
        try:
            kind = read_image(Path(path).read_bytes(), records.side).converted
        except (DamagedImage, OSError) as error:
            remedy = f"download it again ({PAGE}); `prepare` names all such images, --skip-damaged leaves them out"
            yield Finding("pixels", "problem", f"{path}: {error}", remedy)
            return
        converted += [kind] if kind else []
    if not chosen:
        return
    looked = f"{count(len(chosen), 'image')} looked at: {records.side} x {records.side}, 8 bits"
    if not converted:
        yield Finding("pixels", "ok", f"{looked}, gray")
    elif set(converted) == {"RGBA"} and len(converted) < len(chosen):
        yield Finding("pixels", "ok", f"{looked}, gray; {len(converted)} RGBA, as about 1 in 200 of NIH's")
    else:
        kinds = ", ".join(sorted(set(converted)))
        remedy = "they are converted to gray; NIH's own PNGs are gray already"
        yield Finding("pixels", "note", f"{looked}; {len(converted)} of them {kinds}", remedy)


def _labels(records: Records) -> Iterator[Finding]:
    from cxrkit.datasets.nih import chestxray14 as nih_chestxray14

    differing = nih_chestxray14.check_counts(records)
    if differing:
        more = f", and {len(differing) - 1} more differences; the first: {differing[1]}" if len(differing) > 1 else ""
        remedy = "expected for a CSV that was cut or changed on purpose; otherwise download it and the lists again"
        yield Finding("labels", "note", f"{differing[0]}{more}", remedy)
    else:
        yield Finding("labels", "ok", "all counts of images, patients, labels and boxes are the published ones")


def archives(raw: Path) -> Iterator[Finding]:
    """Compare the sizes of archives called like NIH's with NIH's; their pixels are checked when they are prepared."""
    from cxrkit.datasets.nih.archives import archive_facts, archive_number
    from cxrkit.datasets.nih.folders import look_into

    expected = {fact.number: fact.bytes for fact in archive_facts()}
    for archive in look_into(raw).archives:
        size = archive.stat().st_size
        wanted = expected.get(archive_number(archive.name), size)
        if size != wanted:
            found = f"{archive.relative_to(raw)}: {size:,} bytes, NIH's has {wanted:,}"
            yield Finding(
                "archive",
                "note",
                found,
                "download it again (delete it, then `cxrkit download`), unless you packed it yourself",
            )
