"""`cxrkit explain` and `cxrkit localise`: where a network looks, and whether that is where the finding is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrkit.base.words import count as counted
from cxrkit.cli.app import RunArgument, app, console, errors, network_of, print_as_it_is, show
from cxrkit.cli.report import ReportFormat

Method = Annotated[
    str,
    typer.Option(
        help="cam, grad-cam, grad-cam++, hires-cam, layer-cam, xgrad-cam.",
        show_default="auto: cam where the network has maps, else grad-cam",
    ),
]
DataOption = Annotated[Path | None, typer.Option("--data", help="Prepared folder.", show_default="the run's")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]


@app.command()
def explain(
    run: RunArgument,
    pathology: Annotated[
        list[str] | None, typer.Option(help="Finding; may be given again.", show_default="all that fit")
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="Image, by its name; may be given again.", show_default="by score")
    ] = None,
    top: Annotated[int, typer.Option(help="Images of each finding, those with the highest scores.")] = 3,
    boxes: Annotated[bool, typer.Option("--boxes", help="Only images with a box of the finding.")] = False,
    method: Method = "auto",
    data: DataOption = None,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder of the pictures.", show_default="RUN/explained")] = None,
) -> None:
    """Show where a network looks: films with the map of a finding over them, as PNG and as one page."""
    found = network_of(run)  # first: what follows imports PyTorch
    from cxrkit.explain.choosing import Wanted
    from cxrkit.explain.explaining import explain as make

    wanted = Wanted(tuple(pathology or ()), tuple(image or ()), top, boxes)
    folder = out or found.path / "explained"
    made = make(found, wanted, folder, data, method=method, device=device, console=console)
    print_as_it_is(f"{counted(made.panels, 'panel')} of {made.method}: {made.page}")


@app.command()
def localise(
    run: RunArgument,
    data: DataOption = None,
    method: Method = "auto",
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Also write the report to this file.", show_default="none")] = None,
    format: Annotated[
        ReportFormat | None, typer.Option(help="Format of --out, or of what is printed.", show_default="by its ending")
    ] = None,
) -> None:
    """Hold a network's maps against the boxes of its test images: Wang 2017's protocol, pointing game, two controls."""
    from cxrkit import report as reports

    kind = format.value if format else None
    if out is not None:
        kind = kind or reports.format_of(out)  # a wrong ending should be heard before the work
    named = network_of(run)
    from cxrkit.explain.localisation import keep, localisation
    from cxrkit.explain.localising import localise as find

    found = find(named, data, method=method, device=device, console=errors)
    report = localisation(found)
    show(report, out, kind)
    kept = keep(found, report)
    if kind is None or out is not None:  # what is printed in a format is that alone
        print_as_it_is(f"kept for `cxrkit report --all`: {kept}")
