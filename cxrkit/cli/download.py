"""The command that gets the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrkit.cli.app import app, console, print_as_it_is


@app.command()
def download(
    to: Annotated[Path, typer.Option("--to", help="Folder for the download.")] = Path("data/raw"),
    only: Annotated[
        str | None, typer.Option(help="Archives to fetch: images_001,images_002,...", show_default="all twelve")
    ] = None,
    tables: Annotated[bool, typer.Option("--tables", help="Only the CSV, the lists and the boxes: 11 MB.")] = False,
    mirror: Annotated[
        str | None, typer.Option("--from", help="Web address of a copy with NIH's file names.", show_default="NIH")
    ] = None,
    at_once: Annotated[int, typer.Option(help="Files at a time.")] = 4,
) -> None:
    """Download ChestX-ray14 from NIH: 45 GB, checked. Run it again and it goes on where it was."""
    from cxrkit.download.downloading import DownloadRequest
    from cxrkit.download.downloading import download as fetch

    summary = fetch(DownloadRequest(to, only, tables, mirror, at_once), console=console)
    summary.raise_if_failed()
    print_as_it_is(summary.text())
