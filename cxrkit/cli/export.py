"""`cxrkit export`: a trained network for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cxrkit.base.words import count
from cxrkit.cli.app import RunArgument, app, errors, network_of, print_as_it_is


class NetworkFormat(StrEnum):
    """Formats of a network."""

    onnx = "onnx"
    pt2 = "pt2"
    safetensors = "safetensors"
    torchscript = "torchscript"


@app.command()
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="File to write; what the network eats goes beside it, as OUT.json.")],
    format: Annotated[
        NetworkFormat | None,
        typer.Option(
            help="onnx; pt2, by torch.export: PyTorch's successor of torchscript, which is refused; safetensors, "
            "the weights alone.",
            show_default="by the ending of --out",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Prepared folder.", show_default="the run's")] = None,
) -> None:
    """Write a run's best network for other programs, with its preprocessing, checked on real images first.

    In fp32, whatever it was trained in, for any number of images at a time.
    """
    from cxrkit.export.exporting import export as write
    from cxrkit.export.exporting import format_of

    kind = format_of(out, format.value if format else None)  # a wrong ending is heard before the work
    made = write(network_of(run), out, kind, data, console=errors)
    images = count(made.images, "real image")
    print_as_it_is(f"written: {made.path}, which takes {' and '.join(made.inputs)}: see {made.description}")
    print_as_it_is(f"checked: on {images} no score differs from torch's by more than {made.difference:.1g}")
