"""Table 1 of Baltruschat et al. 2019: the ResNet-50 as printed, and the paper's networks as this toolkit builds them.

What is built comes from `models.layers`, by arithmetic from each network's spec; tests compare it with the networks
that are really built.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.base.words import count as counted
from cxrkit.models import ModelSpec, parse
from cxrkit.models.catalog import cost
from cxrkit.models.layers import Convolution, Layer, layers
from cxrkit.report.document.tables import EMPTY, Cell, Column, Report, Row, Table
from cxrkit.report.literature.paper_tables import PublishedLayer, table1
from cxrkit.report.literature.published import of_the_paper

_BESIDE = ("resnet50-ots", "resnet50-ft", "resnet50-1channel")  # at the printed table's input size
_NETWORKS = (
    "resnet50-ft",
    "resnet50-1channel",
    "resnet50-large",
    "resnet38-large-meta",
    "resnet50-large-meta",
    "resnet101-large-meta",
)
_AS_PRINTED = "as printed"


def architecture() -> Report:
    """Return Table 1 beside what is built, and the sizes of the paper's other networks."""
    return Report(
        "Networks of the paper, as built",
        (_layers_table(), _networks_table()),
        ("`cxrkit models` lists every network, with its cost and training settings",),
        key="table1",
    )


def _layers_table() -> Table:
    paper = table1()
    built = {name: _by_name(parse(name)) for name in _BESIDE}
    rows = []
    for row in paper.layers:
        cells = [Cell(f"{row.output}", {"side": row.output}), Cell(_printed(row))]
        cells += [_beside(row, layer_of.get(row.name), parse(name)) for name, layer_of in built.items()]
        rows.append(Row(row.name, row.name, tuple(cells)))
    columns = (
        Column("paper: output side", ("paper:", "Output"), ("side",)),
        Column("paper: original", ("paper: original 50-layer",), left=True),
        *(Column(name, (name,), own=True, left=True) for name in _BESIDE),
    )
    notes = (
        f"Paper's columns: {paper.citation}, as printed there, for an input of {paper.input_size} px: kernel and "
        "channels of each convolution of a block; stride 1 where none is said",
        f"{_AS_PRINTED}: what is built has the same convolutions, strides, blocks and output; all of them learn, but "
        "of -ots the dense layer alone, and batch normalisation keeps ImageNet's statistics there",
        "Not printed, but built: batch normalisation behind each convolution, and a 1x1 convolution around the first "
        "block of conv2_x and around conv3_0, conv4_0 and conv5_0",
        "-ots and -ft have the stride of conv3_0, conv4_0 and conv5_0 in the 3x3 convolution, as the network had whose "
        "ImageNet weights they start from; networks from scratch have it where the paper prints it",
        "The sigmoid is part of the loss; predictions are probabilities",
    )
    return Table(f"Layers ({of_the_paper('Table 1')})", "Layer", columns, tuple(rows), notes, "table1")


def _by_name(spec: ModelSpec) -> dict[str, Layer]:
    return {layer.name: layer for layer in layers(spec)}


def _printed(row: PublishedLayer) -> str:
    if not row.convolutions:
        return row.text
    block = ", ".join(_convolution(*convolution) for convolution in row.convolutions)
    return f"{block}; {_blocks(row.blocks)}"


def _convolution(kernel: int, channels: int, stride: int) -> str:
    return f"{kernel}x{kernel} {channels}" + f" stride {stride}" * (stride > 1)


def _blocks(count: int) -> str:
    return counted(count, "block")


def _beside(row: PublishedLayer, layer: Layer | None, spec: ModelSpec) -> Cell:
    """Return what is built in the place of a printed layer."""
    if row.name == "dense":
        return Cell(f"{len(CHESTXRAY14)}, dense" + ", learns alone" * spec.frozen_backbone)
    if row.name == "loss":
        return Cell(f"{len(CHESTXRAY14)}, sigmoid, BCE")
    assert layer is not None, "every other row of Table 1 is a layer of each ResNet"
    if not layer.blocks:
        # One convolution, or a pooling: grammar.py has no other ones than the printed.
        channels = f", on {counted(spec.channels, 'channel')}" * (row.name == "conv1")
        return Cell(f"{_AS_PRINTED}{channels}" if layer.size == row.output else f"output {layer.size}")
    block = [(item.kernel, item.channels, item.stride) for item in _first_block(layer)]
    found = (tuple(block), layer.blocks, layer.size)
    if found == (row.convolutions, row.blocks, row.output):
        return Cell(_AS_PRINTED)
    return Cell(f"{', '.join(_convolution(*item) for item in block)}; {_blocks(layer.blocks)}")


def _first_block(layer: Layer) -> Iterable[Convolution]:
    return [item for item in layer.convolutions if not item.shortcut][:3]


def _networks_table() -> Table:
    specs = [parse(name) for name in _NETWORKS]
    built = [_by_name(spec) for spec in specs]
    names = list(dict.fromkeys(name for row in table1().layers for name in _after(row.name)))
    rows = [_row("input", [Cell(f"{spec.input_size} px, {spec.channels} ch.") for spec in specs])]
    for name in names:
        if any(name in layer_of for layer_of in built):
            rows.append(_row(name, [_size(layer_of.get(name)) for layer_of in built]))
    features = [f"{spec.features:,}" + " + 3" * spec.meta for spec in specs]
    rows.append(_row("features", [Cell(text) for text in features]))
    rows += _totals(specs)
    columns = tuple(Column(spec.name, (spec.name,), ("side", "blocks", "millions"), own=True) for spec in specs)
    notes = (
        "Side of each layer's output in pixels, and in brackets its bottleneck blocks; features: the pooled ones, and "
        "the three of age, sex and view",
        "Layers: convolutions and the dense layer, without those around blocks, as a ResNet's name counts them",
        "Multiply-accumulates are of one image's forward pass; many papers call them FLOPs, which are twice as many",
        "-large: a max-pool of 3x3 and stride 2 follows conv2_x, which keeps the later layers as they are; section 2.2 "
        'puts it "after the first bottleneck block", Figure 2 "after the first three ResBlocks"',
        'ResNet-38 and -101: section 2.2 counts conv3_x and conv4_x without their first, striding block; its "conv_3 '
        'blocks from 5 to 22" are those of conv4_x',
        "Section 2.3 speaks of 2024 features, a misprint for the 2048 of Table 1",
    )
    return Table(f"{of_the_paper('Networks')}, as built", "Layer", columns, tuple(rows), notes, "table1-networks")


def _after(name: str) -> tuple[str, ...]:
    return (name, f"pooling after {name}") if name == "conv2_x" else (name,)


def _row(name: str, cells: Sequence[Cell], *, rule: bool = False) -> Row:
    return Row(name, name, tuple(cells), rule)


def _size(layer: Layer | None) -> Cell:
    if layer is None:
        return EMPTY
    text = f"{layer.size}" + f" ({layer.blocks})" * bool(layer.blocks)
    return Cell(text, {"side": layer.size, "blocks": layer.blocks})


def _totals(specs: Sequence[ModelSpec]) -> list[Row]:
    """Return the rows of depth, parameters and cost."""
    depths = [
        sum(not item.shortcut for layer in layers(spec) for item in layer.convolutions) + 1  # and the dense layer
        for spec in specs
    ]
    costs = [cost(spec) for spec in specs]
    return [
        _row("layers", [Cell(f"{depth}") for depth in depths], rule=True),
        _row("parameters, M", [_millions(found[0]) for found in costs]),
        _row("GMACs an image", [Cell(f"{found[2] / 1e9:.2f}", {"millions": found[2] / 1e6}) for found in costs]),
    ]


def _millions(number: int) -> Cell:
    return Cell(f"{number / 1e6:.2f}", {"millions": number / 1e6})
