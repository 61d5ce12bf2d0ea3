"""`cxrkit audit`: what a trained network reads beside the findings."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cxrkit.audit.request import BORDER, PERMUTATIONS, AuditRequest
from cxrkit.cli.app import RunArgument, app, errors, network_of, show
from cxrkit.cli.explain import DataOption, Device
from cxrkit.cli.report import ReportFormat


class FittedOn(StrEnum):
    """Whose images the probes are fitted on."""

    val = "val"
    train = "train"


@app.command()
def audit(
    run: RunArgument,
    drains: Annotated[
        Path | None,
        typer.Option(help="List of films with and without a chest drain, as NEATX's CSV.", show_default="none"),
    ] = None,
    border: Annotated[float, typer.Option(help="Border of the film that is masked, as a share of its side.")] = BORDER,
    permutations: Annotated[int, typer.Option(help="Times that age, sex and view are permuted.")] = PERMUTATIONS,
    fit: Annotated[FittedOn, typer.Option(help="Images that the probes are fitted on.")] = FittedOn.val,
    data: DataOption = None,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Also write the report to this file.", show_default="none")] = None,
    format: Annotated[
        ReportFormat | None, typer.Option(help="Format of --out, or of what is printed.", show_default="by its ending")
    ] = None,
) -> None:
    """Look for shortcuts: age, sex and view in the features, metadata permuted, the film's border, chest drains."""
    from cxrkit import report as reports

    kind = format.value if format else None
    if out is not None:
        kind = kind or reports.format_of(out)  # a wrong ending should be heard before the work
    subset: Any = fit.value
    folder = network_of(run)
    from cxrkit.audit.auditing import audit as make

    request = AuditRequest(folder.path, data, drains, border, permutations, subset, device)
    show(make(request, errors), out, kind)
