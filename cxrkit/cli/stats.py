"""`cxrkit stats`: what a data set counts to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrkit.cli.app import DatasetName, app, show


@app.command()
def stats(
    data: Annotated[
        Path | None, typer.Option("--data", help="Prepared folder.", show_default="data/shards, without --raw")
    ] = None,
    raw: Annotated[
        Path | None, typer.Option("--raw", help="Raw folder, or NIH's CSV alone.", show_default="none")
    ] = None,
    dataset: DatasetName = "nih-chestxray14",
    fold: Annotated[
        str | None,
        typer.Option(help="Split whose subsets are shown: official, 1 to 5, or a table.", show_default="official"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write it to this file: .md, .csv, .tex, .json, .html.")] = None,
) -> None:
    """Count images, patients, labels, ages: the paper's Table 2 and Figure 3, and the subsets of a split."""
    from cxrkit import report as reports
    from cxrkit.imports import cohort
    from cxrkit.report.data.data_statistics import data_statistics

    if out is not None:
        reports.format_of(out)  # a wrong ending should be heard before the work
    if raw is None and data is None:
        data = Path("data/shards")
    report = data_statistics(cohort.read(raw, data, dataset), fold)
    show(report, out)
