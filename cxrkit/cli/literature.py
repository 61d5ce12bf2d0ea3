"""`cxrkit literature`: published results on ChestX-ray14, and what is known of each."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cxrkit.base.progress import working
from cxrkit.cli.app import app, console, show
from cxrkit.cli.help import Commands, Group

literature_app = Commands(cls=Group, name="literature", help="List and show published results on ChestX-ray14.")
app.add_typer(literature_app)


class SplitKind(StrEnum):
    """What results were measured on."""

    all = "all"
    official = "official"
    patient_wise = "patient-wise"
    image_wise = "image-wise"
    unknown = "unknown"
    chestmnist = "chestmnist"


class Sort(StrEnum):
    """Orders of the results."""

    mean = "mean"
    year = "year"
    key = "key"
    input = "input"


SplitOption = Annotated[SplitKind, typer.Option(help="Only results on such a split.")]
SortOption = Annotated[Sort, typer.Option(help="Highest mean, latest year or largest input first, or by key.")]
OutOption = Annotated[
    Path | None, typer.Option(help="Also write it to this file: .md, .csv, .tex, .json, .html.", show_default="none")
]


@literature_app.callback(invoke_without_command=True)
def list_literature(
    context: typer.Context,
    split: SplitOption = SplitKind.all,
    sort: SortOption = Sort.mean,
    out: OutOption = None,
) -> None:
    """List the published results; those on the official split that compare with each other come first."""
    if context.invoked_subcommand is None:
        _list(split, sort, out)


def _list(split: SplitKind, sort: Sort, out: Path | None) -> None:
    with working("reading the published results"):
        from cxrkit import report as reports
        from cxrkit.report.literature.listing import literature_report

        if out is not None:
            reports.format_of(out)  # a wrong ending should be heard before the work
        found = literature_report(split.value, sort.value)
    show(found, out)


@literature_app.command("list")
def list_by_its_name(split: SplitOption = SplitKind.all, sort: SortOption = Sort.mean, out: OutOption = None) -> None:
    """List the published results, as `cxrkit literature` does."""
    _list(split, sort, out)


@literature_app.command("show")
def show_result(
    key: Annotated[str, typer.Argument(help="A result from `cxrkit literature`.")],
) -> None:
    """Show one published result: its numbers, where they were read, and what must be known of them."""
    from cxrkit import report as reports
    from cxrkit.report.literature import works
    from cxrkit.report.literature.listing import work_report

    console.print(reports.to_rich(work_report(works.get(key))))
