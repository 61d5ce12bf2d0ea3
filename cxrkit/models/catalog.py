"""What `cxrkit models` lists: every name of the grammar with its size, cost and training settings.

Sizes and costs follow from the spec by arithmetic, so the list is there at once, without torch; the tests compare each
figure with the network that is really built.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, TypedDict

from cxrkit.base import labels as label_sets
from cxrkit.base import registry
from cxrkit.base.labels import CHESTXRAY14, LabelSet
from cxrkit.models.grammar import ALIASES, MLP_HIDDEN, SPECS, ModelSpec
from cxrkit.models.layers import layers

if TYPE_CHECKING:
    from rich.table import Table


class CatalogEntry(TypedDict):
    """One model. Other systems and an installed package's are listed by name only: their figures are None."""

    name: str
    """Canonical, as --model takes it."""

    aliases: list[str]
    """Other names of the same model."""

    parameters: int | None
    """How many numbers the network has, for ChestX-ray14's labels."""

    trainable: int | None
    """How many of them learn: fewer for -ots."""

    macs: int | None
    """Multiply-accumulates of one image's forward pass; many papers call these FLOPs."""

    flops: int | None
    """Two for each multiply-accumulate."""

    input_size: int | None
    """Pixels along each side of the input."""

    channels: int | None
    """Input channels."""

    meta: bool | None
    """Whether age, sex and view position are used."""

    learning_rate: float | None
    """Adam's, by default."""

    batch_size: int | None
    """Images of a step, by default."""

    source: str
    """Whose design it is, as ModelSpec.source; "others" for a system that the paper compares with, "installed" for an
    installed package's."""


def catalog() -> list[CatalogEntry]:
    """Return an entry for each model: the grammar's in its order, other systems, then those of installed packages."""
    installed = [name for name in registry.names("model") if name not in SPECS]
    return [*(_row(spec) for spec in SPECS.values()), *(_installed(name) for name in installed)]


def table() -> Table:
    """Return the catalogue for a terminal, as `cxrkit models` prints it; it fits 80 columns."""
    from rich.table import Table

    caption = (
        "GMACs: billion multiply-accumulates of one image's forward pass at the input size; GFLOPs are twice as many. "
        "Learning rate and batch size are defaults. -ots learns its dense layer only; -age, -gender and -vp are one on "
        "the features of another run (--from RUN). "
        f"Short names: {', '.join(f'{alias} = {name}' for alias, name in ALIASES.items() if '-' not in alias)}, "
        "with -meta likewise. Your own model: package.module:function."
    )
    shown = Table(
        title="Models", caption=caption, caption_justify="left", box=None, collapse_padding=True, pad_edge=False
    )
    shown.add_column("name", no_wrap=True)
    for heading in ("params M", "GMACs", "GFLOPs", "input", "ch.", "lr", "batch"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("source", no_wrap=True)
    for row in catalog():
        shown.add_row(row["name"], *_cells(row), row["source"])
    return shown


def _cells(row: CatalogEntry) -> list[str]:
    """Return a row's figures as text, in the table's order; dashes where they are not known."""
    if row["parameters"] is None or row["macs"] is None or row["flops"] is None:
        return ["-"] * 7
    return [
        f"{row['parameters'] / 1e6:.2f}",
        f"{row['macs'] / 1e9:.2f}",
        f"{row['flops'] / 1e9:.2f}",
        f"{row['input_size']}",
        f"{row['channels']}",
        f"{row['learning_rate']}",
        f"{row['batch_size']}",
    ]


def cost(spec: ModelSpec, labels: LabelSet = CHESTXRAY14) -> tuple[int, int, int]:
    """Return the parameters, the trainable ones, and the multiply-accumulates of one image's forward pass.

    Multiply-accumulates are those of convolutions and dense layers; normalisation, activations and pooling are not
    counted, as is usual. Meant for the grammar's specs, also at another input size.
    """
    dense_layers = list(_dense_layers(spec, len(label_sets.get(spec.probe) if spec.probe else labels)))
    dense = sum(before * after for before, after in dense_layers)
    biases = sum(after for _, after in dense_layers)
    parameters, macs = dense + biases, dense
    for layer in layers(spec):
        parameters += layer.parameters
        macs += layer.macs
    return parameters, dense + biases if spec.frozen_backbone else parameters, macs


def _dense_layers(spec: ModelSpec, outputs: int) -> Iterator[tuple[int, int]]:
    """Yield (inputs, outputs) of each dense layer."""
    hidden = [] if spec.blocks or spec.probe else MLP_HIDDEN
    widths = [spec.features_in or spec.features + 3 * spec.meta, *hidden, outputs]
    yield from pairwise(widths)


def _row(spec: ModelSpec) -> CatalogEntry:
    parameters, trainable, macs = cost(spec)
    return CatalogEntry(
        name=spec.name,
        aliases=[alias for alias, name in ALIASES.items() if name == spec.name],
        parameters=parameters,
        trainable=trainable,
        macs=macs,
        flops=2 * macs,
        input_size=spec.input_size,
        channels=spec.channels,
        meta=spec.meta,
        learning_rate=spec.learning_rate,
        batch_size=spec.batch_size,
        source=spec.source,
    )


def _installed(name: str) -> CatalogEntry:
    return CatalogEntry(
        name=name,
        aliases=[],
        parameters=None,
        trainable=None,
        macs=None,
        flops=None,
        input_size=None,
        channels=None,
        meta=None,
        learning_rate=None,
        batch_size=None,
        source="others" if name in registry.BUILT_IN["model"] else "installed",
    )
