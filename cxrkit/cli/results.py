"""Commands from a trained network to scores."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cxrkit.cli.app import app, console, show


class SubsetName(StrEnum):
    """Subsets that can be predicted."""

    val = "val"
    test = "test"


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Run folder, RUNS/MODEL/SPLIT.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint.", show_default="the run's best")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Prepared folder.", show_default="the run's")] = None,
    subset: Annotated[list[SubsetName] | None, typer.Option(help="val, test.", show_default="both")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32, bf16, fp16, tf32.", show_default="the run's")] = None,
    loader: Annotated[str, typer.Option(help="opencv, dali, auto.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Loader threads.", show_default="one per core")] = None,
) -> None:
    """Write a run's scores for the validation and test images."""
    from cxrkit import pipeline
    from cxrkit.base.contracts import EVALUATED
    from cxrkit.runs.folder import RunFolder

    subsets: Any = tuple(item.value for item in subset) if subset else EVALUATED
    pipeline.predict(
        RunFolder(run), console, checkpoint=checkpoint, data=data, device=device, precision=precision, loader=loader,
        threads=threads, subsets=subsets,
    )  # fmt: skip


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder, RUNS/MODEL/SPLIT.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Prepared folder, or a table of labels.", show_default="the run's"),
    ] = None,
    replicates: Annotated[
        int | None, typer.Option(min=1, help="Bootstrap replicates of the intervals.", show_default="1000")
    ] = None,
    evaluator: Annotated[
        str | None, typer.Option(help="Evaluator, or several: auc,package.module:function.", show_default="the run's")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Option of an evaluator, as name=value; may be repeated.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Show the predictions against other labels: google2019, nih-2017. Writes nothing."),
    ] = None,
    raw: Annotated[Path | None, typer.Option("--raw", help="Folder with the other labels, or their file.")] = None,
    on: Annotated[
        Path | None,
        typer.Option(
            "--on",
            help="Prepared folder of another hospital's data set, untested on the real ones: ask the network about "
            "its images, and compare.",
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="With --on: test or all of its images.", show_default="test where it has one")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --on: write the tables, .md, .csv, .html, ...")] = None,
) -> None:
    """Compute a run's AUCs and their patient-level intervals from its predictions, or what other evaluators find.

    Evaluators: auc, average-precision, calibration, thresholds (Youden's, from val), subgroups, net-benefit; mae for
    ages. What they find takes the place of the run's scores: auc,calibration keeps the AUCs beside the calibration.
    """
    from cxrkit import pipeline
    from cxrkit.runs.folder import RunFolder

    if on is not None:
        elsewhere = pipeline.evaluate_elsewhere(
            RunFolder(run), on, console, data=data, part=part, replicates=replicates
        )
        show(elsewhere, out)
        return
    if labels is not None:
        _against_other_labels(run, labels, raw, data)
        return
    pipeline.evaluate(
        RunFolder(run), data, console, replicates=replicates, evaluator=evaluator, options=tuple(option or ())
    )


def _against_other_labels(run: Path, labels: str, raw: Path | None, data: Path | None) -> None:
    from cxrkit import report as reports
    from cxrkit.base.errors import UserError
    from cxrkit.report.other_labels.label_sources import label_sources_of

    if raw is None:
        raise UserError("--labels: no folder is named that has the other labels", remedy="name it with --raw")
    console.print(reports.to_rich(label_sources_of(run, [name.strip() for name in labels.split(",")], raw, data)))
