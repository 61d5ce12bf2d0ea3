"""Commands from a trained network to tables."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cxrkit.cli.app import Runs, app, console


class ReportFormat(StrEnum):
    """Formats of `cxrkit report`."""

    md = "md"
    csv = "csv"
    latex = "latex"


class EpochChoice(StrEnum):
    """Which epoch of each run `cxrkit report` shows."""

    own = "own"
    common = "common"


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
) -> None:
    """Compute a run's AUCs and their patient-level intervals from its predictions, or what other evaluators find.

    Evaluators: auc, average-precision, calibration, thresholds (Youden's, from val), subgroups, net-benefit; mae for
    ages.
    """
    from cxrkit import pipeline
    from cxrkit.runs.folder import RunFolder

    pipeline.evaluate(
        RunFolder(run), data, console, replicates=replicates, evaluator=evaluator, options=tuple(option or ())
    )


@app.command()
def report(
    official_split: Annotated[
        bool, typer.Option("--official-split", help="Table 5: the official split, beside published results.")
    ] = False,
    probes: Annotated[bool, typer.Option("--probes", help="Section 3: age, sex and view from image features.")] = False,
    runs: Runs = Path("runs"),
    epoch: Annotated[
        EpochChoice,
        typer.Option(help="own: each run's best epoch; common: one for all runs of a column, as the paper chose."),
    ] = EpochChoice.own,
    out: Annotated[Path | None, typer.Option(help="Also write the table to this file.")] = None,
    format: Annotated[
        ReportFormat | None, typer.Option(help="Format of --out, or of what is printed.", show_default="by its ending")
    ] = None,
) -> None:
    """Print the paper's tables with your runs in them: Table 5, the probes of section 3, or Table 3."""
    from cxrkit import report as reports
    from cxrkit.base.errors import UserError

    if official_split and probes:
        raise UserError("--official-split and --probes are two reports", remedy="ask for one after the other")
    if probes and epoch is EpochChoice.common:
        raise UserError(
            "--epoch common: --probes shows each probe at its own best epoch",
            remedy="leave out --epoch",
        )
    which: Any = epoch.value
    if probes:
        table = reports.probes(runs)
    else:
        table = (reports.official if official_split else reports.resampled)(runs, epoch=which)
    if out is None and format is not None:
        sys.stdout.write(reports.render(table, format.value))
        return
    console.print(reports.to_rich(table))
    if out is not None:
        reports.write(table, out, format.value if format else reports.format_of(out))
        console.print(f"written: {out}", highlight=False, markup=False)
