"""Commands from a trained network to scores."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxrkit.base.errors import UserError
from cxrkit.base.words import count as counted
from cxrkit.cli.app import RunArgument, app, console, errors, network_of, print_as_it_is, run_folder, show
from cxrkit.runs.sections import VIEWS

if TYPE_CHECKING:
    from cxrkit.runs.folder import RunFolder

_OWN: dict[str, Any] = {"rich_help_panel": "Films of your own"}


class SubsetName(StrEnum):
    """Subsets that can be predicted."""

    val = "val"
    test = "test"


ViewsName = StrEnum("ViewsName", {name: name for name in VIEWS})  # type: ignore[misc]


@app.command()
def predict(
    run: RunArgument,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint.", show_default="the run's best")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Prepared folder.", show_default="the run's")] = None,
    subset: Annotated[list[SubsetName] | None, typer.Option(help="val, test.", show_default="both")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32, bf16, fp16, tf32.", show_default="the run's")] = None,
    loader: Annotated[str, typer.Option(help="opencv, dali, auto.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Loader threads.", show_default="one per core")] = None,
    views: Annotated[
        ViewsName | None,
        typer.Option(help="How each image is looked at: none, flip, ten-crop.", show_default="the run's"),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Films of your own: PNG, JPEG, TIFF, DICOM, or a folder. Again for more.", **_OWN),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the films' scores to this CSV.", **_OWN)] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Draw what the network looks at, as PNG, into OUT-maps; without --out into maps.", **_OWN
        ),
    ] = False,
    age: Annotated[
        int | None, typer.Option(help="Years of age of all films.", show_default="the header's", **_OWN)
    ] = None,
    sex: Annotated[str | None, typer.Option(help="M, F.", show_default="the header's", **_OWN)] = None,
    view: Annotated[str | None, typer.Option(help="AP, PA.", show_default="the header's", **_OWN)] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV with image and age_years, sex, view, film by film.", **_OWN)
    ] = None,
) -> None:
    """Write a run's scores for the validation and test images; or show them for films of your own (--images).

    Films are decoded as those of the data set were. The scores are research output, not for clinical use. Films that
    cannot be read are named, the others scored; the exit code is then 1.
    """
    own = {"--out": out, "--explain": explain or None, "--age": age, "--sex": sex, "--view": view, "--table": table}
    if images:
        _refuse(
            {"--subset": subset, "--loader": None if loader == "auto" else loader, "--views": views},
            "of the data set, not of --images",
        )
        computing = {"checkpoint": checkpoint, "data": data, "device": device, "precision": precision}
        _predict_films(network_of(run), images, own, computing | {"threads": threads})
        return
    _refuse(own, "for films of your own, and --images names none")
    from cxrkit import pipeline
    from cxrkit.base.contracts import EVALUATED

    folder = network_of(run)
    subsets: Any = tuple(item.value for item in subset) if subset else EVALUATED
    pipeline.predict(
        folder, console, checkpoint=checkpoint, data=data, device=device, precision=precision, loader=loader,
        threads=threads, subsets=subsets, views=views.value if views else None,
    )  # fmt: skip
    print_as_it_is(f"written: {' and '.join(str(folder.predictions(name)) for name in subsets)}")
    print_as_it_is(f"next: cxrkit evaluate {folder.path}")


def _refuse(given: Mapping[str, Any], why: str) -> None:
    if wrong := [flag for flag, value in given.items() if value is not None]:
        raise UserError(f"{', '.join(wrong)}: {why}", remedy="leave it out, or give what it belongs to")


def _predict_films(run: RunFolder, images: list[Path], own: Mapping[str, Any], computing: Mapping[str, Any]) -> None:
    """Show the scores of films; exits with 1 where some could not be read."""
    from cxrkit.films import said
    from cxrkit.films.predicting import Wanted, predict_films

    out: Path | None = own["--out"]
    folder = None
    if own["--explain"]:
        folder = Path("maps") if out is None else out.with_name(f"{out.stem}-maps")
    flags = said.by_flags(own["--age"], own["--sex"], own["--view"])
    wanted = Wanted(tuple(images), flags, own["--table"], out, folder)
    asked = predict_films(run, wanted, console=errors, **computing)
    show(asked.report)
    if out is not None:
        print_as_it_is(f"written: {out}")
    if folder is not None:
        print_as_it_is(f"{counted(asked.maps, 'map')} in {folder}")
    if asked.failed:
        count = len(asked.failed)
        errors.print(f"{count:,} of {count + asked.films:,} films could not be read: exit code 1", highlight=False)
        raise typer.Exit(1)


@app.command()
def evaluate(
    run: RunArgument,
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
    ages. What others found in the same predictions stays beside what is found now. cxrkit's own bring the AUCs where
    there are none; an evaluator of your own does so only where both are named: auc,mine:brier.
    """
    from cxrkit import pipeline

    folder = run_folder(run)
    if on is not None:
        elsewhere = pipeline.evaluate_elsewhere(folder, on, console, data=data, part=part, replicates=replicates)
        show(elsewhere, out)
        return
    if labels is not None:
        _against_other_labels(folder.path, labels, raw, data)
        return
    pipeline.evaluate(folder, data, console, replicates=replicates, evaluator=evaluator, options=tuple(option or ()))


def _against_other_labels(run: Path, labels: str, raw: Path | None, data: Path | None) -> None:
    from cxrkit import report as reports
    from cxrkit.base.errors import UserError
    from cxrkit.report.other_labels.label_sources import label_sources_of

    if raw is None:
        raise UserError("--labels: no folder is named that has the other labels", remedy="name it with --raw")
    console.print(reports.to_rich(label_sources_of(run, [name.strip() for name in labels.split(",")], raw, data)))
