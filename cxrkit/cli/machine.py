"""Commands that need no data: phantoms, the demo, a look at the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrkit.cli.app import Data, app, console


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
    console.print(f"{images:,} images in {out}. Next: cxrkit prepare --dataset synthetic --raw {out}", highlight=False)


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
) -> None:
    """Check this machine and, with --raw, a download; every finding comes with its remedy."""
    from cxrkit import doctor as check

    findings = check.examine(raw, data)
    console.print(check.to_rich(findings))
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(2)
