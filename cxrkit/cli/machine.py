"""Commands that need no data: phantoms, the demo, a look at the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrkit.base.progress import waiting
from cxrkit.base.words import count
from cxrkit.cli.app import Data, Runs, app, console, print_as_it_is


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    images: Annotated[int, typer.Option(help="Number of images.")] = 1200,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds draw equal cohorts.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core")] = None,
    layout: Annotated[
        str, typer.Option(help="nih, or another hospital's: chexpert, mimic-cxr-jpg, padchest, vindr-cxr.")
    ] = "nih",
) -> None:
    """Draw a phantom cohort in NIH's own layout and quirks, or in another data set's: data to try everything on."""
    from cxrkit.base.progress import progress_bar
    from cxrkit.datasets.phantom import layouts
    from cxrkit.datasets.phantom.cohort import generate

    if layout != "nih":
        with progress_bar("synth", images, console=console) as bar:
            layouts.generate(out, layout, images, seed, workers=workers, progress=bar.advance)
        console.print(
            f"{images:,} images in {out}. Next: cxrkit prepare --dataset {layout} --raw {out}", highlight=False
        )
        return
    with progress_bar("synth", images, console=console) as bar:
        generate(out, images, seed, workers=workers, progress=bar.advance)
    print_as_it_is(f"{count(images, 'image')} in {out}\nNext: cxrkit prepare --dataset synthetic --raw {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo"),
) -> None:
    """Run the whole toolkit on a phantom cohort: about five minutes on two cores, no download."""
    from cxrkit import demo as demonstration

    demonstration.run(out, console)


@app.command()
def doctor(
    raw: Annotated[Path | None, typer.Option("--raw", help="Also check a folder with the download.")] = None,
    data: Data = Path("data/shards"),
    runs: Runs = Path("runs"),
    measure: Annotated[
        bool, typer.Option("--time", help="Take some training steps, to know how long a training takes here.")
    ] = False,
) -> None:
    """Check this machine and, with --raw, a download; every finding comes with its remedy."""
    from cxrkit import doctor as check

    problem, found = False, check.examine(raw, data, runs, measure=measure, console=console)
    while True:
        with waiting("looking", None if measure else console):  # a measurement has a bar of its own
            finding = next(found, None)
        if finding is None:
            break
        console.print(finding, soft_wrap=True)  # a long name is not cut
        problem |= finding.state == "problem"
    if problem:
        raise typer.Exit(2)
