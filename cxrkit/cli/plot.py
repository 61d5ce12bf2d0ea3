"""`cxrkit plot`: how trainings went, as curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from cxrkit.cli.app import app, console, print_as_it_is

if TYPE_CHECKING:
    from cxrkit.report.document.figures import Figure


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, folders of runs, or names of either below runs.")],
    out: Annotated[
        Path | None, typer.Option(help="Picture, by its ending: .png, .svg, .pdf, .html.", show_default="the terminal")
    ] = None,
) -> None:
    """Show losses, AUC, learning rate and speed of trainings, epoch by epoch; also of one that is running."""
    from cxrkit.report.each_run.trainings import training_figure, trainings_in
    from cxrkit.report.rendering.plain_curves import PlainCurves
    from cxrkit.runs.search import RUNS

    # A run's name below the runs folder; what is a folder here is meant as it is.
    folders = [RUNS / run if not run.is_dir() and (RUNS / run).is_dir() else run for run in runs]
    figure = training_figure(trainings_in(folders))
    if out is None:
        console.print(PlainCurves(figure))
        return
    _write(figure, out)
    print_as_it_is(f"written: {out}")


def _write(figure: Figure, out: Path) -> None:
    from cxrkit import report as reports
    from cxrkit.base.errors import UserError
    from cxrkit.base.files import replacing
    from cxrkit.report.document.tables import Report
    from cxrkit.report.rendering.drawing import Format, draw

    pictures = get_args(Format)
    ending: Any = out.suffix.removeprefix(".").lower()
    if ending == "html":
        reports.write(Report(figure.title, (), figures=(figure,), key="training"), out, "html")
        return
    if ending not in pictures:
        known = ", ".join(f".{name}" for name in (*pictures, "html"))
        raise UserError(f"--out {out}: the ending {out.suffix!r} names no picture", remedy=f"end it in {known}")
    content = draw(figure, ending)
    with replacing(out) as part:
        part.write_bytes(content)
