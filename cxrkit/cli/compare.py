"""`cxrkit compare`: whether runs differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrkit.cli.app import Runs, app, show
from cxrkit.cli.report import ReportFormat


@app.command()
def compare(
    run: Annotated[
        list[str],
        typer.Argument(help="RUNS/NAME/SPLIT, RUNS/NAME with its folds and seeds, or a name below --runs."),
    ],
    runs: Runs = Path("runs"),
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Prepared folder, or a table of labels.", show_default="each run's"),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Show this label beside the average; may be repeated.", show_default="all")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the comparison to this file.")] = None,
    format: Annotated[
        ReportFormat | None, typer.Option(help="Format of --out, or of what is printed.", show_default="by its ending")
    ] = None,
) -> None:
    """Say whether runs differ: each AUC and the average, with intervals and p-values over patients."""
    from cxrkit import report as reports
    from cxrkit.base.progress import working
    from cxrkit.report.comparing.compare import compare
    from cxrkit.report.comparing.contenders import named
    from cxrkit.report.evidence.opened import Opened

    kind = format.value if format else None
    if out is not None:
        kind = kind or reports.format_of(out, choosable=True)  # a wrong ending is heard before the work
    with working("comparing"):
        found = compare(named(run, runs), Opened(data), only=label or ())
    show(found, out, kind)
