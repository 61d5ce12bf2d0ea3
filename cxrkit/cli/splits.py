"""`cxrkit splits`: which splits are known, what they are, and what somebody's own list shares with them."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cxrkit.base.progress import working
from cxrkit.cli.app import DatasetName, app, console, print_as_it_is, show
from cxrkit.cli.help import Commands, Group

splits_app = Commands(cls=Group, name="splits", help="List, show, export and audit splits.", no_args_is_help=True)
app.add_typer(splits_app)

SplitName = Annotated[str, typer.Argument(help="official, 1 to 5, or a name from `cxrkit splits list`.")]
OwnRaw = Annotated[Path | None, typer.Option("--raw", help="Raw folder of another data set.", show_default="none")]
OwnData = Annotated[
    Path | None, typer.Option("--data", help="Prepared folder of another data set.", show_default="none")
]
Out = Annotated[Path | None, typer.Option(help="Write to this file instead.", show_default="print")]


class SubsetName(StrEnum):
    """Subsets that can be exported alone."""

    train = "train"
    val = "val"
    test = "test"


@splits_app.command("list")
def list_splits() -> None:
    """List the splits that are known: our six, and those of other groups."""
    from cxrkit.report import to_rich
    from cxrkit.report.data.split_audit import known_report

    console.print(to_rich(known_report()))


@splits_app.command("show")
def show_split(name: SplitName) -> None:
    """Show one split: its images, patients, digests and source."""
    from cxrkit.datasets import known_splits
    from cxrkit.report import to_rich
    from cxrkit.report.data.split_audit import split_report

    console.print(to_rich(split_report(known_splits.get(name))))


@splits_app.command("export")
def export_split(
    name: Annotated[str, typer.Argument(help="official, or 1 to 5.")],
    out: Annotated[
        Path | None,
        typer.Option(help="A .csv, .parquet, .json or .txt file.", show_default="print as CSV"),
    ] = None,
    subset: Annotated[SubsetName | None, typer.Option(help="This subset alone.", show_default="all")] = None,
    raw: OwnRaw = None,
    data: OwnData = None,
    dataset: DatasetName = "nih-chestxray14",
) -> None:
    """Write a split as a table of image_id and subset, which `--fold FILE` takes; or one subset as a plain list."""
    from cxrkit.datasets import export
    from cxrkit.datasets.export import split_named
    from cxrkit.imports.cohort import records_of

    split = split_named(name, records_of(raw, data, dataset))
    if out is None:
        sys.stdout.write(export.text(split, "csv" if subset is None else "txt", subset))
        return
    export.write(split, out, subset)
    print_as_it_is(f"written: {out}")


@splits_app.command("audit")
def audit_split(
    files: Annotated[list[Path], typer.Argument(help="Lists of images: text, CSV, JSON, parquet; also packed.")],
    raw: OwnRaw = None,
    data: OwnData = None,
    dataset: DatasetName = "nih-chestxray14",
    out: Annotated[Path | None, typer.Option(help="Also write it to this file: .md, .csv, .tex, .json, .html.")] = None,
) -> None:
    """Say which known split a list of images is, and what it shares with the official test set and our six splits."""
    with working("auditing the lists"):
        from cxrkit import report as reports
        from cxrkit.datasets.audit import audit
        from cxrkit.datasets.export import splits_of
        from cxrkit.datasets.lists import read_all
        from cxrkit.imports.cohort import records_of
        from cxrkit.report.data.split_audit import audit_report

        if out is not None:
            reports.format_of(out)  # a wrong ending should be heard before the work
        records = records_of(raw, data, dataset)
        report = audit_report(audit(read_all(files), records, splits_of(records)))
    show(report, out)
