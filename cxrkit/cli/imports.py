"""`cxrkit import`: predictions of any model, from any framework."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cxrkit.base.progress import working
from cxrkit.cli.app import DatasetName, Runs, app, console
from cxrkit.cli.results import SubsetName


@app.command("import")
def import_predictions(
    file: Annotated[Path, typer.Argument(help="Predictions: .csv, .csv.gz, .parquet or .npz.")],
    name: Annotated[str, typer.Option(help="Name of the run.")],
    split: Annotated[
        str, typer.Option(help="official, resample-1 to -5, or a file that lists the test images.")
    ] = "official",
    raw: Annotated[
        Path | None, typer.Option("--raw", help="Folder with NIH's CSV, or the CSV alone.", show_default="none")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Prepared folder, in place of --raw.", show_default="none")
    ] = None,
    dataset: DatasetName = "nih-chestxray14",
    columns: Annotated[
        str | None,
        typer.Option(help="What the columns of scores are called: 'prob_{label}'.", show_default="their labels"),
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="The scores are outputs before the sigmoid.")] = False,
    val: Annotated[
        Path | None,
        typer.Option(help="Predictions of the validation images: thresholds need them.", show_default="none"),
    ] = None,
    trained_on: Annotated[
        Path | None, typer.Option(help="List of the images that the model was trained on.", show_default="unknown")
    ] = None,
    about: Annotated[
        Path | None, typer.Option(help="TOML: model, input_size, pretraining, pretrained, ...", show_default="none")
    ] = None,
    subset: Annotated[
        list[SubsetName] | None,
        typer.Option(help="test, val; the one that an import of this name lacks is added.", show_default="test"),
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Make a run of predictions that were made elsewhere; `report` and `evaluate` treat it like any other."""
    with working("loading"):
        from cxrkit import pipeline
        from cxrkit.imports.request import ImportRequest

    subsets: Any = tuple(dict.fromkeys(item.value for item in subset)) if subset else ()
    request = ImportRequest(
        file=file,
        name=name,
        split=split,
        raw=raw,
        data=data,
        dataset=dataset,
        columns=columns,
        logits=logits,
        trained_on=trained_on,
        about=about,
        val=val,
        subsets=subsets,
        runs=runs,
    )
    pipeline.import_predictions(request, console)
