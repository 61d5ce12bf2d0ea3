"""`cxrkit report`: the paper's tables with one's own runs in them, one by one or all of them in a folder."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxrkit.cli.app import Runs, app, console, print_as_it_is

if TYPE_CHECKING:
    from cxrkit.report.request import ReportRequest


class ReportFormat(StrEnum):
    """Formats of `cxrkit report`."""

    md = "md"
    csv = "csv"
    latex = "latex"
    json = "json"
    html = "html"


class EpochChoice(StrEnum):
    """Which epoch of each run `cxrkit report` shows."""

    own = "own"
    common = "common"


@app.command()
def report(
    official_split: Annotated[
        bool, typer.Option("--official-split", help="Table 5: the official split, beside published results.")
    ] = False,
    probes: Annotated[bool, typer.Option("--probes", help="Section 3: age, sex and view from image features.")] = False,
    table: Annotated[
        str | None,
        typer.Option(
            help="1 to 5: a table of Baltruschat et al. 2019; paper: one for yours, AUC [95 % CI].", show_default="3"
        ),
    ] = None,
    figure: Annotated[int | None, typer.Option(help="A figure of Baltruschat et al. 2019, 3 or 5.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that the runs allow, into the folder --out.")] = False,
    runs: Runs = Path("runs"),
    only: Annotated[
        list[str] | None, typer.Option(help="Runs that are wanted: a pattern of NAME or NAME/SPLIT. Repeatable.")
    ] = None,
    hide: Annotated[list[str] | None, typer.Option(help="Runs that are not wanted, likewise.")] = None,
    apart: Annotated[bool, typer.Option("--apart", help="Show the numbers of runs that do not compare, too.")] = False,
    epoch: Annotated[
        EpochChoice,
        typer.Option(help="own: each run's best epoch; common: one for all runs of a column, as the paper chose."),
    ] = EpochChoice.own,
    also: Annotated[
        str | None,
        typer.Option(help="Published results beside Table 5: KEY,... of `cxrkit literature`, primary, top10, all."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="The same predictions against other labels: google2019, nih-2017. Needs --raw."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Prepared folder, or a table of labels.", show_default="each run's"),
    ] = None,
    raw: Annotated[
        Path | None, typer.Option("--raw", help="Folder with NIH's tables: for Table 2 and --labels.")
    ] = None,
    standards: Annotated[
        Path | None,
        typer.Option(help="Write what journals and hubs ask for into this folder: CLAIM, model card, Croissant, ..."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write it to this file; with --all, to this folder.")] = None,
    format: Annotated[
        ReportFormat | None, typer.Option(help="Format of --out, or of what is printed.", show_default="by its ending")
    ] = None,
) -> None:
    """Print your runs in the tables of "the paper", Baltruschat et al. 2019, or write all of them.

    Alone: its Table 3, the resampling folds. With --all come the table for a paper of your own, comparisons,
    calibration, subgroups, figures and references.bib, too.
    """
    from cxrkit.report import request as requests

    flags = {"--official-split": official_split, "--probes": probes, "--labels": bool(labels), "--all": everything}
    document = requests.document_of(flags, table, figure)
    which: Any = epoch.value
    request = requests.ReportRequest(
        runs, document, tuple(only or ()), tuple(hide or ()), which, apart,
        _names(also), _names(labels), data, raw,
    )  # fmt: skip
    if standards is not None:
        _write_standards(request, standards)
        if not (any(flags.values()) or table or figure or out):
            return
    if everything:
        _write_all(request, out, format)
    else:
        _show(request, out, format, drawing=figure is not None)


def _names(joined: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in joined.split(",")) if joined else ()


def _write_standards(request: ReportRequest, out: Path) -> None:
    from cxrkit.report.evidence.runs import find_runs
    from cxrkit.standards import write_standards

    wanted = {run.folder for run in find_runs(request.runs, request.only, request.hide).runs}
    written = write_standards(
        request.runs, out, data=request.data, chosen=lambda run: run.folder in wanted, console=console
    )
    print_as_it_is(written.text())


def _show(request: ReportRequest, out: Path | None, format: ReportFormat | None, *, drawing: bool) -> None:
    from cxrkit import report as reports
    from cxrkit.base.progress import working
    from cxrkit.report.request import answer

    written_as = ""
    if out is not None:  # a wrong ending is heard first
        written_as = format.value if format else reports.format_of(out, choosable=True, folders=not out.suffix)
    with working("building the report"):
        document = answer(request)
    if out is None and format is not None:
        sys.stdout.write(reports.render(document, format.value))
        return
    console.print(reports.to_rich(document))
    if drawing and written_as != "html":
        print_as_it_is("A terminal shows no figure: --out FILE.html draws it, --all --out DIR as SVG and PDF, too")
    if out is not None:
        reports.write(document, out, written_as)
        print_as_it_is(f"written: {out}")


def _write_all(request: ReportRequest, out: Path | None, format: ReportFormat | None) -> None:
    from cxrkit.base.errors import UserError
    from cxrkit.report.request import write_all

    if out is None:
        raise UserError("--all writes many files, and no folder is named for them", remedy="name one with --out DIR")
    if format is not None:
        raise UserError("--all writes every format", remedy="leave out --format")
    written = write_all(request, out, console)
    for line in written.left_out:
        print_as_it_is(f"left out: {line}")
    print_as_it_is(f"written: {written.page or out}, {len(written.files):,} files")
