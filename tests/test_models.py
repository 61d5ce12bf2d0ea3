"""Networks: the paper's layout, initialisation, input normalisation, models of one's own."""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cxrkit.base.errors import UserError
from cxrkit.base.labels import ADJUDICATED, CHESTXRAY8, LABEL_SETS
from cxrkit.models import InitialWeights, ModelSpec, build, build_network, grammar, parse, prepare_input, spec
from cxrkit.models.catalog import catalog, cost

SPECS = grammar.SPECS


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build_network(parse(name))


def normalised(model_spec: ModelSpec, size: int = 64, batch: int = 2) -> torch.Tensor:
    image = torch.randint(0, 256, (batch, 1, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return prepare_input(image, model_spec)


# Layout


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Return each module's output shape for one image at the model's own size."""
    net = on_meta(name).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for part, module in net.named_children():
        module.register_forward_hook(lambda _m, _i, out, part=part: shapes.update({part: tuple(out.shape[1:])}))
        for number, block in module.named_children():
            name = f"{part}.{number}"
            block.register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    size = net.spec.input_size
    with torch.no_grad():
        outputs = net(torch.empty(1, net.spec.channels, size, size, device="meta"), torch.empty(1, 3, device="meta"))
    return shapes | {"": tuple(outputs.logits.shape[1:])}


@pytest.mark.parametrize("name", ["resnet38", "resnet50", "resnet101", "resnet50-ots", "resnet50-ft-meta"])
def test_output_sizes_are_those_of_table_1(name):
    shapes = shapes_of(name)
    assert shapes["conv1"] == (64, 112, 112)
    assert shapes["maxpool"] == (64, 56, 56)
    assert shapes["layer1"] == (256, 56, 56)
    assert shapes["layer2.0"] == shapes["layer2"] == (512, 28, 28)
    assert shapes["layer3.0"] == shapes["layer3"] == (1024, 14, 14)
    assert shapes["layer4.0"] == shapes["layer4"] == (2048, 7, 7)
    assert shapes["avgpool"] == (2048, 1, 1)
    assert shapes[""] == (15,)


@pytest.mark.parametrize("depth", [38, 50, 101])
def test_large_doubles_the_input_and_pools_once_more_after_conv2(depth):
    small, large = shapes_of(f"resnet{depth}"), shapes_of(f"resnet{depth}-large-meta")
    assert large["conv1"] == (64, 224, 224)
    assert large["maxpool"] == (64, 112, 112)
    assert large["layer1"] == (256, 112, 112)
    assert large["pool2"] == (256, 56, 56)
    for part in ("layer2", "layer3", "layer4"):
        assert large[part] == small[part]


def test_from_scratch_strides_in_the_first_1x1_and_imagenet_networks_in_the_3x3():
    strides = {
        name: [
            (block.conv1.stride[0], block.conv2.stride[0], block.conv3.stride[0])
            for stage in (net.layer1, net.layer2, net.layer3, net.layer4)
            for block in stage
        ]
        for name in ("resnet50", "resnet50-ft")
        for net in [on_meta(name)]
    }
    firsts = (3, 7, 13)  # conv3_0, conv4_0, conv5_0
    assert strides["resnet50"] == [(2, 1, 1) if block in firsts else (1, 1, 1) for block in range(16)]
    assert strides["resnet50-ft"] == [(1, 2, 1) if block in firsts else (1, 1, 1) for block in range(16)]


@pytest.mark.parametrize("name", SPECS)
def test_the_catalogues_figures_are_those_of_the_network(name):
    net = on_meta(name).eval()
    size = net.spec.input_size
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(
            torch.empty(1, net.spec.channels, size, size, device="meta"),
            torch.empty(1, net.spec.features_in or 3, device="meta"),
        )
    parameters = sum(parameter.numel() for parameter in net.parameters())
    trainable = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    assert cost(net.spec) == (parameters, trainable, counter.get_total_flops() // 2)


def test_costs_hold_at_odd_input_sizes():
    for name in ("resnet38-large", "resnet50-ft"):
        net = on_meta(name).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(torch.empty(1, net.spec.channels, 75, 75, device="meta"), torch.empty(1, 3, device="meta"))
        assert cost(net.spec.at(75))[2] * 2 == counter.get_total_flops()


def test_parameter_counts():
    golden = {  # torchvision's resnet50 with 15 outputs: 23,538,767; one input channel saves 2 * 64 * 7 * 7
        "resnet38-large-meta": 20_947_708,
        "resnet50-1channel": 23_532_495,
        "resnet50-large-meta": 23_532_540,
        "resnet101-large-meta": 42_524_668,
        "resnet50-ft": 23_538_767,
        "mlp-meta": 5_391,
        "resnet14-small-meta": 512_556,
    }
    assert {name: cost(parse(name))[0] for name in golden} == golden


@pytest.mark.parametrize("name", ["resnet14-small", "resnet14-small-meta", "mlp-meta"])
def test_logits_shape_and_use_of_meta(name):
    net = build(name).eval()
    image = normalised(net.spec)
    young, old = torch.zeros(2, 3), torch.ones(2, 3)
    with torch.no_grad():
        logits = net(image, young).logits
        moved = (net(image, old).logits - logits).abs().max().item()
    assert logits.shape == (2, 15)
    assert (moved > 0) == net.spec.meta
    if net.spec.blocks:
        assert net.features(image).shape == (2, net.spec.features) == (2, 512)


def test_meta_joins_behind_the_pooled_features():
    net = build("resnet14-small-meta").eval()
    image, meta = normalised(net.spec), torch.rand(2, 3, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = torch.cat([net.features(image), 8 * (meta - 0.5)], dim=1) @ net.fc.weight.T + net.fc.bias
        torch.testing.assert_close(net(image, meta).logits, expected)


def test_the_papers_networks_take_metadata_as_it_is():
    net = build("resnet38-1channel-meta").eval()
    image, meta = torch.zeros(1, 1, 32, 32), torch.tensor([[0.3, 1.0, 0.0]])
    with torch.no_grad():
        expected = torch.cat([net.features(image), meta], dim=1) @ net.fc.weight.T + net.fc.bias
        torch.testing.assert_close(net(image, meta).logits, expected)


@pytest.mark.parametrize("name", ["resnet14-small-meta", "mlp-meta"])
def test_logits_are_float32_under_autocast(name):
    """Bfloat16 logits around -6 have steps of 1/32: scores would tie."""
    net = build(name).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(torch.randn(64, 1, 32, 32).clamp(-1, 1), torch.rand(64, 3)).logits
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


def test_the_small_network_learns():
    # Learns which half of the picture is bright: a network with a broken path stays at the prior's 0.69.
    generator = torch.Generator().manual_seed(0)
    side = torch.randint(0, 2, (16,), generator=generator)
    image = torch.randint(0, 100, (16, 1, 32, 32), generator=generator, dtype=torch.uint8)
    for row, half in enumerate(side):
        image[row, :, :, 16 * half : 16 * half + 16] += 100
    net = build("resnet14-small")
    optimizer = torch.optim.Adam(net.parameters(), lr=net.spec.learning_rate)
    target = side[:, None].float().expand(16, 15)
    for _ in range(15):
        loss = nn.functional.binary_cross_entropy_with_logits(
            net(prepare_input(image, net.spec), torch.zeros(16, 3)).logits, target
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


# Label sets


@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=LABEL_SETS)
@pytest.mark.parametrize("name", ["resnet14-small", "resnet14-small-meta", "mlp-meta"])
def test_a_network_has_one_output_for_each_label(name, labels):
    net = build(name, labels=labels).eval()
    assert net(normalised(net.spec, size=32), torch.zeros(2, 3)).logits.shape == (2, len(labels))
    assert cost(net.spec, labels)[0] == sum(parameter.numel() for parameter in net.parameters())


def test_a_pretrained_backbone_takes_any_label_set():
    with torch.device("meta"):
        assert build_network(parse("resnet50-ft"), ADJUDICATED).fc.out_features == 4


# Options


def test_options_stand_in_for_the_names_own_values():
    assert spec("resnet50", options={}) is parse("resnet50")
    changed = spec("resnet50-large", options={"input_size": 224, "extra_pool": False, "mean": [0.4], "std": [0.3]})
    assert changed == replace(
        parse("resnet50-large"), input_size=224, resize=240, extra_pool=False, mean=(0.4,), std=(0.3,)
    )
    assert spec("resnet50", options={"input_size": 224, "resize": 224}).resize == 224
    net = build("resnet14-small", options={"width": 8, "blocks": [1, 2, 1, 1], "stride_in_3x3": True, "meta_gain": 2})
    assert net.spec.features == net.fc.in_features == 256
    assert len(net.layer2) == 2
    assert net.spec.stride_in_3x3
    assert isinstance(net.spec.meta_gain, float)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("resnet50", {"widht": 8}, "model 'resnet50-1channel': unknown option 'widht'\n  remedy: did you mean width"),
        ("resnet50", {"learning_rate": 0.1}, "unknown option 'learning_rate'"),
        ("resnet50", {"name": "other"}, "unknown option 'name'"),
        ("mlp-meta", {"width": 8}, "unknown option 'width'"),
        ("resnet50", {"width": "8"}, "width = '8' is not a whole number\n  remedy: correct the value"),
        ("resnet50", {"width": True}, "width = True is not a whole number"),
        ("resnet50", {"width": 0}, "width = 0 is not a whole number from 1 to 1024"),
        ("resnet50", {"width": 10**400}, "is not a whole number from 1 to 1024"),
        ("resnet50", {"meta_gain": float("nan")}, "meta_gain = nan is not a number from"),
        ("resnet50", {"extra_pool": 1}, "extra_pool = 1 is not true or false"),
        ("resnet50", {"blocks": [1, 2, 3]}, "blocks = .1, 2, 3. is not a list of four, for conv2_x to conv5_x"),
        ("resnet50", {"blocks": 4}, "blocks = 4 is not a list"),
        ("resnet50", {"blocks": [1, 0, 1, 1]}, "blocks = 0 is not a whole number from 1 to 200"),
        ("resnet50", {"input_size": 16}, "input_size = 16 is not a whole number from 32"),
        ("resnet50", {"resize": 200}, "resize = 200 is below input_size = 224"),
        ("resnet50", {"channels": 3}, "it has 3 channels, but 1 values in mean and 1 in std"),
        ("resnet50", {"std": [0.0]}, r"std = \(0.0,\) is not above 0"),
    ],
)
def test_options_that_cannot_be(name, options, text):
    for ask in (spec, build):
        with pytest.raises(UserError, match=text):
            ask(name, options=options)


ANY_VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers(-2, 5), max_size=5)
)


@given(option=st.sampled_from([*(f.name for f in fields(ModelSpec)), "odd", ""]), value=ANY_VALUE)
@settings(max_examples=300, deadline=None)
def test_whatever_is_given_is_refused_or_a_spec(option, value):
    with suppress(UserError):
        found = spec("resnet14-small", options={option: value})
        assert asdict(found)[option] == (tuple(value) if isinstance(value, list) else value)
        assert found.resize >= found.input_size >= 32


# Initialisation


def test_he_initialisation():
    net = build("resnet38-1channel")
    for name, parameter in net.named_parameters():
        if parameter.dim() == 4:
            outgoing = parameter.shape[0] * parameter.shape[2] * parameter.shape[3]
            tolerance = 5 / (2 * parameter.numel()) ** 0.5  # five standard errors
            assert parameter.std().item() == pytest.approx((2 / outgoing) ** 0.5, rel=tolerance), name
    assert all(
        bool((bn.weight == 1).all() and (bn.bias == 0).all()) for bn in net.modules() if isinstance(bn, nn.BatchNorm2d)
    )


def test_a_seed_fixes_the_parameters_and_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second, other = (build("resnet14-small", seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_meta_and_its_counterpart_start_from_the_same_backbone():
    plain, meta = build("resnet14-small").state_dict(), build("resnet14-small-meta").state_dict()
    assert all(torch.equal(plain[name], meta[name]) for name in plain if not name.startswith("fc."))


def test_a_state_dict_goes_round(tmp_path):
    net = build("resnet14-small-meta", seed=3).eval()
    save_file(net.state_dict(), tmp_path / "last.safetensors")
    from safetensors.torch import load_file

    again = build("resnet14-small-meta", seed=4).eval()
    again.load_state_dict(load_file(tmp_path / "last.safetensors"))
    image, meta = normalised(net.spec), torch.rand(2, 3)
    with torch.no_grad():
        assert torch.equal(net(image, meta).logits, again(image, meta).logits)


# Input


def test_one_channel_input_is_normalised():
    model_spec = parse("resnet50-large")
    image = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    expected = (image.double() / 255 - model_spec.mean[0]) / model_spec.std[0]
    found = prepare_input(image, model_spec)
    assert found.dtype == torch.float32
    assert found.shape == (1, 1, 16, 16)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def test_three_channel_input_equals_torchvisions_normalize():
    from torchvision.transforms.v2 import functional as F

    model_spec = parse("resnet50-ft")
    image = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    before = image.clone()
    expected = F.normalize(
        F.to_dtype(image.expand(-1, 3, -1, -1), torch.float32, scale=True), model_spec.mean, model_spec.std
    )
    found = prepare_input(image, model_spec)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(image, before)
    assert prepare_input(image, model_spec, torch.bfloat16).dtype == torch.bfloat16


def test_input_traces_into_one_graph():
    # The compiler's front end, without its slow back end: a graph break would raise.
    image = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    for name in ("resnet50", "resnet50-ft"):
        model_spec = parse(name)
        traced = torch.compile(lambda x, s=model_spec: prepare_input(x, s), backend="eager", fullgraph=True)
        assert torch.equal(traced(image), prepare_input(image, model_spec))


def test_the_documented_mean_and_std_are_those_of_the_real_images(nih_raw):
    import cv2

    files = sorted((nih_raw / "images").glob("*.png"))[::3]
    pixels = [
        cv2.resize(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), (256, 256), interpolation=cv2.INTER_AREA)
        for file in files
    ]
    scaled = np.stack(pixels) / 255
    # Every third of them, in patient order: brightness falls from 0.57 to 0.46 along it. Standard error 0.01.
    assert scaled.mean() == pytest.approx(grammar.NIH_MEAN[0], abs=0.04)
    assert scaled.std() == pytest.approx(grammar.NIH_STD[0], abs=0.03)


# Models of one's own

OWN = """
from torch import nn
from cxrkit.base.contracts import Outputs
from cxrkit.models import InitialWeights, ModelSpec


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.spec = ModelSpec("tiny", input_size=64, resize=72, learning_rate=0.002)
        self.dense = nn.Linear(1, 15)

    def forward(self, image_BCHW, meta_B3):
        return Outputs(self.dense(image_BCHW.mean((2, 3))))


def tiny():
    return Tiny()


def sized(labels, *, size=64):
    model = Tiny()
    model.dense = nn.Linear(1, len(labels))
    model.spec = ModelSpec("sized", input_size=size, resize=size)
    return model


def warm():
    model = Tiny()
    model.initial_weights = InitialWeights("ab" * 32, "another hospital")
    return model


number = 7


def text_size():
    model = Tiny()
    model.spec = ModelSpec("tiny", input_size="64")
    return model


def one_mean():
    model = Tiny()
    model.spec = ModelSpec("tiny", mean=0.5)
    return model


def no_spec():
    return nn.Linear(1, 15)


def no_model():
    return 3


def two_means():
    model = Tiny()
    model.spec = ModelSpec("tiny", mean=(0.5, 0.5))
    return model
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> str:
    """Return the name of a user's module, importable only in this test."""
    name = "own_models_" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_an_own_model_is_built_seeded_and_renamed(own):
    net = build(f"{own}:tiny", seed=5)
    assert net.spec == ModelSpec(f"{own}:tiny", input_size=64, resize=72, learning_rate=0.002, source="own")
    assert spec(f"{own}:tiny") == net.spec
    assert torch.equal(net.dense.weight, build(f"{own}:tiny", seed=5).dense.weight)
    assert net(normalised(net.spec), torch.zeros(2, 3)).logits.shape == (2, 15)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("no_spec", r"expected a torch\.nn\.Module with an attribute `spec` .*, found one whose spec is a NoneType"),
        ("no_model", r"expected a torch\.nn\.Module with an attribute `spec` .*, found 3"),
        ("two_means", "it has 1 channels, but 2 values in mean and 1 in std"),
        ("text_size", "input_size = '64' is not a whole number of at least 1"),
        ("one_mean", "mean = 0.5 is not a tuple of numbers, one for each channel"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_an_own_model_that_is_none(own, function, text):
    with pytest.raises(UserError, match=text):
        build(f"{own}:{function}")


def test_an_own_model_takes_labels_and_options(own):
    net = build(f"{own}:sized", labels=CHESTXRAY8, options={"size": 96})
    assert net.dense.out_features == 8
    assert spec(f"{own}:sized", labels=CHESTXRAY8, options={"size": 96}).input_size == 96
    with pytest.raises(UserError, match="unknown option 'siez'\n  remedy: did you mean size"):
        build(f"{own}:sized", options={"siez": 96})
    with pytest.raises(UserError, match="unknown option 'size'\n  remedy: leave it out"):
        build(f"{own}:tiny", options={"size": 96})
    with pytest.raises(UserError, match="expected a function that builds a model, found 7"):
        build(f"{own}:number")


def test_what_an_own_model_started_from(own):
    assert build(f"{own}:tiny").initial_weights == InitialWeights("", "not said")
    assert build(f"{own}:warm").initial_weights == InitialWeights("ab" * 32, "another hospital")


def test_an_installed_packages_model(own, tmp_path):
    # A real distribution's metadata, on the path that the fixture made importable.
    info = tmp_path / "clinic-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clinic\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[cxrkit.models]\nclinic-net = {own}:tiny\n")
    assert build("clinic-net").spec.name == "clinic-net"
    assert [(row["name"], row["parameters"]) for row in catalog() if row["source"] == "installed"] == [
        ("clinic-net", None)
    ]
    with pytest.raises(UserError, match="did you mean clinic-net"):
        build("clinic-nets")


def test_spec_of_the_grammar_builds_nothing():
    assert spec("resnet101") is SPECS["resnet101-1channel"]
    with pytest.raises(UserError, match="unknown model 'resnet101-larg'"):
        build("resnet101-larg")
