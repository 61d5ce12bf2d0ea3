"""`cxrkit explain` and `cxrkit localise`: where a network looks, and whether that is where the finding is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrkit.cli.app import app, console

Method = Annotated[
    str,
    typer.Option(
        help="cam, grad-cam, grad-cam++, hires-cam, layer-cam, xgrad-cam.",
        show_default="auto: cam where the network has maps, else grad-cam",
    ),
]
RunArgument = Annotated[Path, typer.Argument(help="Run folder, RUNS/MODEL/SPLIT.")]
DataOption = Annotated[Path | None, typer.Option("--data", help="Prepared folder.", show_default="the run's")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]


@app.command()
def localise(
    run: RunArgument,
    data: DataOption = None,
    method: Method = "auto",
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Also write the report to this file.", show_default="none")
    ] = None,
) -> None:
    """Hold a network's maps against the boxes of its test images: Wang 2017's protocol, pointing game, two controls."""
    from cxrkit import report as reports
    from cxrkit.explain.localisation import localisation
    from cxrkit.explain.localising import localise as find
    from cxrkit.runs.folder import RunFolder

    if out is not None:
        reports.format_of(out)  # a wrong ending should be heard before the work
    report = localisation(find(RunFolder(run), data, method=method, device=device, console=console))
    console.print(reports.to_rich(report))
    if out is not None:
        reports.write(report, out, reports.format_of(out))
        console.print(f"written: {out}", highlight=False, markup=False)
