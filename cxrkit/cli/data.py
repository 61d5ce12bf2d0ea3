"""Commands from the raw download to prepared shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrkit.base.errors import UserError
from cxrkit.base.progress import waiting
from cxrkit.cli.app import Data, DatasetName, Raw, app, console, print_as_it_is


@app.command()
def prepare(
    raw: Raw = Path("data/raw"),
    data: Data = Path("data/shards"),
    dataset: DatasetName = "nih-chestxray14",
    levels: Annotated[
        str | None, typer.Option(help="Side lengths to store, in pixels, descending.", show_default="1024,512,256")
    ] = None,
    codec: Annotated[str, typer.Option(help="jpeg, raw (fastest on a CPU), or lossless: zstd, htj2k, png.")] = "jpeg",
    quality: Annotated[int, typer.Option(help="JPEG quality, 1 to 100.")] = 95,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Prepare the images that are there.")] = False,
    skip_damaged: Annotated[bool, typer.Option("--skip-damaged", help="Leave damaged images out, and say so.")] = False,
    limit: Annotated[int | None, typer.Option(help="Prepare only the first N images.")] = None,
    reread: Annotated[
        bool, typer.Option("--reread", help="Read all images again, and make anew those whose bytes have changed.")
    ] = False,
    tables_only: Annotated[
        bool, typer.Option("--tables-only", help="No image, the CSV and lists alone: enough for mlp-meta.")
    ] = False,
    resized: Annotated[
        bool, typer.Option("--resized", help="Accept images of another size; levels: that size, and halves of it.")
    ] = False,
    label_policy: Annotated[
        str | None,
        typer.Option(help="How doubtful labels are read: uncertain=positive,blank=unknown.", show_default="data set's"),
    ] = None,
    no_tiles: Annotated[
        bool, typer.Option("--no-tiles", help="JPEGs without restart markers, for decoders that cannot take them.")
    ] = False,
) -> None:
    """Turn the download into HDF5 shards, once. A killed run goes on where it was.

    Data sets: nih-chestxray14, nih-chestxray8, synthetic; and, untested on the real sets, chexpert, mimic-cxr-jpg,
    padchest, vindr-cxr, whose films of any proportions are fitted into a square.
    """
    from cxrkit.prepare.start import start_workers

    with start_workers(data, workers, needed=not tables_only) as pool:  # they load while this process does
        from cxrkit.prepare.stage import PrepareConfig, parse_levels, prepare_raw

        config = PrepareConfig(
            raw=raw,
            data=data,
            dataset=dataset,
            levels=None if levels is None else parse_levels(levels),
            codec=codec,
            quality=quality,
            workers=workers,
            allow_missing=allow_missing,
            skip_damaged=skip_damaged,
            limit=limit,
            reread=reread,
            resized=resized,
            tables_only=tables_only,
            tiles=not no_tiles,
            policy=label_policy or "",
        )
        summary = prepare_raw(config, console=console, workers=pool)
    print_as_it_is(summary.text())


@app.command()
def verify(
    data: Data = Path("data/shards"),
    deep: Annotated[bool, typer.Option("--deep", help="Decode every image too, not only its checksum.")] = False,
    source: Annotated[
        bool, typer.Option("--source", help="Read the files in --raw instead: are they those that were prepared?")
    ] = False,
    raw: Raw = Path("data/raw"),
    dataset: DatasetName = "nih-chestxray14",
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core")] = None,
) -> None:
    """Read a prepared folder again, every byte, against its checksums."""
    from cxrkit.prepare import verify as check
    from cxrkit.prepare.records import read_records

    if source:
        if deep:
            raise UserError("--deep and --source: one reads the shards, the other their sources", remedy="choose one")
        with waiting(f"reading the tables and names in {raw}", console):
            records = read_records(dataset, raw, allow_missing=True)
        report = check.verify_sources(data, raw, records, workers=workers, console=console)
    else:
        report = check.verify(data, deep=deep, workers=workers, console=console)
    report.raise_if_damaged()
    print_as_it_is(report.text())
