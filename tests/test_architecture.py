"""Table 1: what is said of each layer is true of the network that is really built, and differs where it says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cxrkit import report as reports
from cxrkit.models import build_network, parse
from cxrkit.models.grammar import SPECS
from cxrkit.models.layers import Layer, layers
from cxrkit.models.resnet import Bottleneck
from cxrkit.report.data.architecture import architecture
from cxrkit.report.document.tables import Table
from cxrkit.report.literature.paper_tables import table1

RESNETS = [name for name, spec in SPECS.items() if spec.blocks and not spec.meta]  # -meta has the same layers


def parts_of(net: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the modules of a real network by the names of Table 1."""
    stages = {f"conv{number}": list(getattr(net, f"layer{number - 1}")) for number in (2, 3, 4, 5)}
    found: dict[str, list[nn.Module]] = {
        "conv1": [net.conv1, net.bn1], "pooling1": [net.maxpool], "conv2_x": stages["conv2"]
    }  # fmt: skip
    if net.spec.extra_pool:
        found["pooling after conv2_x"] = [net.pool2]
    for name in ("conv3", "conv4", "conv5"):
        first, *rest = stages[name]
        found |= {f"{name}_0": [first]} | ({f"{name}_x": rest} if rest else {})
    return found | {"pooling2": [net.avgpool]}


def looked_at(name: str) -> tuple[dict[str, list[nn.Module]], dict[nn.Module, tuple[int, ...]]]:
    """Return the parts of a network, and the shape that each of its modules puts out."""
    with torch.device("meta"):
        net = build_network(parse(name)).eval()
    shapes: dict[nn.Module, tuple[int, ...]] = {}
    for module in net.modules():
        module.register_forward_hook(lambda module, _, out: shapes.update({module: getattr(out, "shape", ())}))
    size = net.spec.input_size
    with torch.no_grad():
        net(torch.empty(1, net.spec.channels, size, size, device="meta"), torch.empty(1, 3, device="meta"))
    return parts_of(net), shapes


@pytest.mark.parametrize("name", RESNETS)
def test_every_layer_is_that_of_the_real_network(name: str) -> None:
    parts, shapes = looked_at(name)
    said = {layer.name: layer for layer in layers(parse(name))}
    assert list(said) == list(parts)
    for key, modules in parts.items():
        layer = said[key]
        assert shapes[modules[0] if key == "conv1" else modules[-1]][-1] == layer.size, key
        assert sum(p.numel() for module in modules for p in module.parameters()) == layer.parameters, key
        assert layer.blocks == sum(isinstance(module, Bottleneck) for module in modules), key
        assert convolutions_of(modules, shapes) == said_of(layer), key


def convolutions_of(modules: list[nn.Module], shapes: dict[nn.Module, tuple[int, ...]]) -> list[tuple[int, ...]]:
    return [
        (part.kernel_size[0], part.in_channels, part.out_channels, part.stride[0], shapes[part][-1])
        for module in modules
        for part in module.modules()
        if isinstance(part, nn.Conv2d)
    ]


def said_of(layer: Layer) -> list[tuple[int, ...]]:
    return [(item.kernel, item.channels_in, item.channels, item.stride, item.size) for item in layer.convolutions]


def test_the_perceptron_and_the_probes_have_no_such_layers() -> None:
    without = {name for name, spec in SPECS.items() if not list(layers(spec))}
    assert without == {"mlp-meta", "resnet50-large-age", "resnet50-large-gender", "resnet50-large-vp"}


def test_a_network_and_its_meta_counterpart_have_the_same_layers() -> None:
    for name in RESNETS:
        assert list(layers(parse(name))) == list(layers(parse(f"{name}-meta")))


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    return {table.key: table for table in architecture().tables}


def test_what_is_built_is_the_printed_network_but_for_the_stride_of_the_imagenet_networks(tables) -> None:
    table = tables["table1"]
    rows = {
        row.heading: dict(zip((c.name for c in table.columns), (c.text for c in row.cells), strict=True))
        for row in table.rows
    }
    assert list(rows) == [layer.name for layer in table1().layers]
    for layer in table1().layers[1:-2]:
        assert rows[layer.name]["resnet50-1channel"] == "as printed"
    strided = {"conv3_0", "conv4_0", "conv5_0"}
    for network in ("resnet50-ots", "resnet50-ft"):
        others = {name for name, row in rows.items() if not row[network].startswith("as printed")}
        assert others == strided | {"dense", "loss"}
    assert rows["conv3_0"]["resnet50-ft"] == "1x1 128, 3x3 128 stride 2, 1x1 512; 1 block"
    assert rows["conv3_0"]["paper: original"] == "1x1 128 stride 2, 3x3 128, 1x1 512; 1 block"
    assert rows["conv1"]["resnet50-ft"] == "as printed, on 3 channels"
    assert rows["dense"]["resnet50-ots"] == "15, dense, learns alone"


def test_depths_parameters_and_cost_are_those_of_the_networks(tables) -> None:
    table = tables["table1-networks"]
    rows = {row.heading: [cell.text for cell in row.cells] for row in table.rows}
    names = [column.name for column in table.columns]
    assert rows["layers"] == ["50", "50", "50", "38", "50", "101"]
    for name, text in zip(names, rows["parameters, M"], strict=True):
        with torch.device("meta"):
            net = build_network(parse(name))
        assert text == f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f}"
    assert rows["pooling after conv2_x"][names.index("resnet50-1channel")] == "-"
    assert rows["conv4_x"][names.index("resnet101-large-meta")] == "14 (22)"
    assert rows["features"][-1] == "2,048 + 3"


def test_every_format_takes_the_report() -> None:
    for name in ("md", "csv", "latex"):
        assert "table1" in architecture().key
        assert reports.render(architecture(), name)


def test_a_networks_name_is_not_broken() -> None:
    heads = [column.heading for table in architecture().tables for column in table.columns if column.own]
    assert ("resnet50-ft",) in heads
    assert all(len(heading) == 1 for heading in heads)
