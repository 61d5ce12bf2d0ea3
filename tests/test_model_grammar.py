"""Model names: what each stands for, the catalogue's figures, and that asking costs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrkit.base.errors import UserError
from cxrkit.models.catalog import catalog, cost, table
from cxrkit.models.grammar import ALIASES, IMAGENET_MEAN, SPECS, parse


def test_the_names_are_those_of_the_paper_and_our_small_one():
    assert sorted(SPECS) == sorted(
        [
            *(
                f"resnet{depth}-{kind}{meta}"
                for depth in (38, 50, 101)
                for kind in ("1channel", "large")
                for meta in ("", "-meta")
            ),
            *(f"resnet50-{kind}{meta}" for kind in ("ots", "ft") for meta in ("", "-meta")),
            *("mlp-meta", "resnet14-small", "resnet14-small-meta"),
            *("resnet50-large-age", "resnet50-large-gender", "resnet50-large-vp"),
        ]
    )
    assert all(name == spec.name for name, spec in SPECS.items())
    assert [name for name, spec in SPECS.items() if spec.source == "ours"] == ["resnet14-small", "resnet14-small-meta"]


@pytest.mark.parametrize(
    ("name", "input_size", "resize", "channels", "learning_rate", "batch_size"),
    [  # sections 2.2 and 3 of the paper
        ("resnet50-1channel", 224, 256, 1, 0.01, 16),
        ("resnet50-large-meta", 448, 480, 1, 0.01, 8),
        ("resnet101-large", 448, 480, 1, 0.01, 8),
        ("resnet50-ft", 224, 256, 3, 0.001, 16),
        ("resnet50-ots-meta", 224, 256, 3, 0.001, 16),
    ],
)
def test_the_papers_settings(name, input_size, resize, channels, learning_rate, batch_size):
    spec = parse(name)
    found = (spec.input_size, spec.resize, spec.channels, spec.learning_rate, spec.batch_size)
    assert found == (input_size, resize, channels, learning_rate, batch_size)


def test_blocks_give_the_depth_in_the_name():
    for depth in (38, 50, 101):
        # three convolutions a block, conv1 and the dense layer
        assert 3 * sum(parse(f"resnet{depth}").blocks) + 2 == depth
    assert 3 * sum(parse("resnet14-small").blocks) + 2 == 14


def test_the_stages_are_those_of_section_2_2():
    assert [parse(f"resnet{depth}").blocks for depth in (38, 50, 101)] == [(2, 3, 4, 3), (3, 4, 6, 3), (3, 4, 23, 3)]


def test_flags_follow_the_name():
    for name, spec in SPECS.items():
        assert spec.meta == name.endswith("-meta")
        assert spec.extra_pool == ("-large" in name and not spec.probe)
        assert bool(spec.probe) == bool(spec.features_in) == name.endswith(("-age", "-gender", "-vp"))
        assert spec.frozen_backbone == ("-ots" in name)
        assert spec.pretrained == spec.stride_in_3x3 == (spec.mean == IMAGENET_MEAN) == (spec.channels == 3)
        assert len(spec.mean) == len(spec.std) == spec.channels
        assert spec.resize >= spec.input_size


def test_a_bare_resnet_is_the_one_channel_network():
    assert parse("resnet50") is parse("resnet50-1channel")
    assert parse("resnet101-meta").name == "resnet101-1channel-meta"
    row = next(row for row in catalog() if row["name"] == "resnet38-1channel-meta")
    assert row["aliases"] == ["resnet38-meta"]
    assert len(ALIASES) == 6


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet50-larg-meta", "did you mean resnet50-large-meta or "),
        ("resnet38-ft", "resnet38"),
        ("ResNet-50-large", "resnet50-large"),
        ("vit", "known: resnet38-1channel, "),
        ("", "known: "),
    ],
)
def test_an_unknown_name_gets_a_suggestion(name, hint):
    with pytest.raises(UserError, match=f"unknown model '{name}'") as caught:
        parse(name)
    assert hint in str(caught.value)
    assert "package.module:function" in str(caught.value)


@given(st.text(max_size=30).filter(lambda name: name not in {**SPECS, **ALIASES}))
def test_any_other_text_is_a_user_error(name):
    with pytest.raises(UserError, match="unknown model") as caught:
        parse(name)
    assert repr(name) in str(caught.value)


def test_another_input_size_keeps_the_crop_ratio():
    assert (parse("resnet50").at(112).input_size, parse("resnet50").at(112).resize) == (112, 128)
    assert parse("resnet50-large").at(448) == parse("resnet50-large")
    with pytest.raises(UserError, match="input size 31: resnet50-1channel needs at least 32 pixels"):
        parse("resnet50").at(31)


def test_costs_agree_with_the_literature():
    # He et al. 2016, Table 1: 3.8 billion multiply-adds for ResNet-50 at 224; torchvision's page gives 4.09 for its own
    # stride placement.
    known = [row for row in catalog() if row["name"] in SPECS]
    macs = {row["name"]: row["macs"] / 1e9 for row in known}
    assert macs["resnet50-ft"] == pytest.approx(4.09, abs=0.005)
    assert macs["resnet50-1channel"] == pytest.approx(3.8, abs=0.05)
    assert all(row["flops"] == 2 * row["macs"] for row in known)
    others = {row["name"]: row["source"] for row in catalog() if row["macs"] is None}
    assert others["yao2018"] == "others"


def test_the_printed_table_lists_every_model():
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    Console(file=out, width=80).print(table())
    rows = {line.split()[0]: line.split()[1:] for line in out.getvalue().splitlines() if line.strip()}
    assert rows["resnet50-1channel"] == ["23.53", "3.78", "7.55", "224", "1", "0.01", "16", "paper"]
    assert rows["resnet50-large-meta"] == ["23.53", "5.90", "11.80", "448", "1", "0.01", "8", "paper"]
    assert rows["resnet14-small"][-1] == "ours"
    assert set(SPECS) <= set(rows)
    assert "resnet50 = resnet50-1channel" in " ".join(out.getvalue().split())


def test_off_the_shelf_learns_the_dense_layer_only():
    assert cost(parse("resnet50-ots"))[1] == 2048 * 15 + 15
    assert cost(parse("resnet50-ots-meta"))[1] == 2051 * 15 + 15


def test_the_catalogue_and_the_grammar_need_no_heavy_import():
    code = (
        "import sys; from cxrkit.models import parse; from cxrkit.models.catalog import catalog;"
        "catalog(); parse('resnet50');"
        "print([m for m in ('torch', 'torchvision', 'numpy', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
