"""Networks: the paper's layout, ImageNet weights, input normalisation, models of one's own."""

# ruff: noqa: TID253 - these tests are about torch modules

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cxrkit.errors import UserError
from cxrkit.models import ModelSpec, build, build_network, grammar, parse, prepare_input, spec, weights
from cxrkit.models.catalog import catalog, cost
from cxrkit.models.resnet import ResNet

SPECS = grammar.SPECS
WITH_IMAGE = [name for name, model_spec in SPECS.items() if model_spec.blocks]


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
    for part, module in net.named_modules():
        module.register_forward_hook(lambda _m, _i, out, part=part: shapes.update({part: tuple(out.shape[1:])}))
    size = net.spec.input_size
    with torch.no_grad():
        net(torch.empty(1, net.spec.channels, size, size, device="meta"), torch.empty(1, 3, device="meta"))
    return shapes


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
            torch.empty(1, 3, device="meta"),
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
        logits = net(image, young)
        moved = (net(image, old) - logits).abs().max().item()
    assert logits.shape == (2, 15)
    assert (moved > 0) == net.spec.meta
    if net.spec.blocks:
        assert net.features(image).shape == (2, net.spec.features) == (2, 512)


def test_meta_joins_behind_the_pooled_features():
    net = build("resnet14-small-meta").eval()
    image, meta = normalised(net.spec), torch.rand(2, 3, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = torch.cat([net.features(image), meta], dim=1) @ net.fc.weight.T + net.fc.bias
        torch.testing.assert_close(net(image, meta), expected)


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
            net(prepare_input(image, net.spec), torch.zeros(16, 3)), target
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


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
        assert torch.equal(net(image, meta), again(image, meta))


# ImageNet weights


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """Return torchvision's resnet50 with random weights and random batch statistics (so that they matter)."""
    from torchvision.models import resnet50

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = resnet50(weights=None)
        for bn in net.modules():
            if isinstance(bn, nn.BatchNorm2d):
                nn.init.uniform_(bn.weight, 0.5, 1)
                nn.init.normal_(bn.bias, std=0.1)
                nn.init.normal_(bn.running_mean, std=0.1)
                nn.init.uniform_(bn.running_var, 0.5, 1.5)
    return net.eval()


@pytest.fixture(scope="module")
def weight_files(reference, tmp_path_factory) -> dict[str, Path]:
    """Return the reference's weights as people have them."""
    folder = tmp_path_factory.mktemp("weights")
    state = reference.state_dict()
    files = {name: folder / f"{name}.pth" for name in ("plain", "wrapped", "old")}
    torch.save(state, files["plain"])
    torch.save(
        {"epoch": 90, "state_dict": {f"module.{name}": value for name, value in state.items()}}, files["wrapped"]
    )
    torch.save({name: v for name, v in state.items() if "num_batches" not in name}, files["old"])
    files["safetensors"] = folder / "resnet50.safetensors"
    save_file(state, files["safetensors"])
    return files


def test_parameters_number_as_in_torchvisions_with_15_outputs(reference):
    backbone = sum(parameter.numel() for name, parameter in reference.named_parameters() if not name.startswith("fc."))
    assert cost(parse("resnet50-ft"))[0] == backbone + 2048 * 15 + 15 == 23_538_767


def torchvision_features(reference: nn.Module, image: torch.Tensor) -> torch.Tensor:
    body = nn.Sequential(*[child for name, child in reference.named_children() if name != "fc"])
    with torch.no_grad():
        return body(image).flatten(1)


@pytest.mark.parametrize("kind", ["wrapped", "old", "safetensors"])
def test_weights_are_read_as_people_have_them(kind, reference, weight_files):
    net = ResNet(parse("resnet50-ft"))
    weights.load(net, weight_files[kind])
    state = reference.state_dict()
    assert all(
        torch.equal(value, state[name])
        for name, value in net.state_dict().items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    )


@pytest.mark.parametrize(("name", "kind"), [("resnet50-ft", "plain"), ("resnet50-ots-meta", "safetensors")])
def test_features_equal_torchvisions(name, kind, reference, weight_files):
    net = build(name, weights=weight_files[kind]).eval()
    image = normalised(net.spec, size=96)
    with torch.no_grad():
        found = net.features(image)
    expected = torchvision_features(reference, image)
    assert expected.std() > 0.01  # features that say something
    assert (found - expected).abs().max().item() <= 1e-5
    assert net.fc.out_features == 15


def test_features_differ_when_the_stride_is_in_the_first_1x1(reference, weight_files):
    # The check above can fail: the paper's own stride placement, with the same weights, gives other features.
    from dataclasses import replace

    net = ResNet(replace(parse("resnet50-ft"), stride_in_3x3=False)).eval()
    weights.load(net, weight_files["plain"])
    image = normalised(net.spec, size=96)
    with torch.no_grad():
        assert (net.features(image) - torchvision_features(reference, image)).abs().max() > 1e-3


def test_off_the_shelf_keeps_its_backbone_in_training(weight_files):
    net = build("resnet50-ots-meta", weights=weight_files["plain"])
    assert net.training
    net.eval().train()
    assert [name for name, parameter in net.named_parameters() if parameter.requires_grad] == ["fc.weight", "fc.bias"]
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.Adam((p for p in net.parameters() if p.requires_grad), lr=0.001)
    net(normalised(net.spec, size=32), torch.rand(2, 3)).sum().backward()
    optimizer.step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_fine_tuning_learns_everything():
    net = build("resnet50-ft", pretrained=False)
    net(normalised(net.spec, size=32), torch.zeros(2, 3)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert all(m.training for m in net.modules())
    assert int(net.bn1.num_batches_tracked) == 1


def test_pretrained_false_needs_no_weights(monkeypatch):
    monkeypatch.setattr(weights, "download", lambda: pytest.fail("asked for weights"))
    assert build("resnet50-ots", pretrained=False).spec.pretrained


def test_weights_come_from_torchvisions_cache_checked(reference, tmp_path, monkeypatch):
    # A cached file of the right name is loaded through torchvision's own code, so nothing is downloaded.
    from torchvision.models import ResNet50_Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = Path(ResNet50_Weights.IMAGENET1K_V1.url).name
    assert name in weights.USE_A_FILE
    cached = tmp_path / "hub" / "checkpoints" / name
    cached.parent.mkdir(parents=True)
    torch.save(reference.state_dict(), cached)
    net = build("resnet50-ft")
    assert torch.equal(net.conv1.weight, reference.conv1.weight)


@pytest.mark.parametrize(
    "error", [OSError("<urlopen error no network>"), RuntimeError('invalid hash value (expected "0676ba61")')]
)
def test_a_failed_download_names_the_other_way(error, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing cached

    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    with pytest.raises(
        UserError, match=r"torchvision's resnet50 \(IMAGENET1K_V1\): .*could not be downloaded"
    ) as caught:
        build("resnet50-ft")
    assert "remedy: name a file with --weights FILE" in str(caught.value)
    assert str(error) in str(caught.value)


class Evil:
    """Pickles as code that makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    torch.save({"conv1.weight": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth: holds more than tensors \(\w+\.mkdir\), which is never run"):
        weights.read(tmp_path / "evil.pth")
    torch.save(nn.Linear(1, 1), tmp_path / "whole.pth")
    with pytest.raises(UserError, match=r"holds more than tensors \(torch\.nn\.modules\.linear\.Linear\)") as caught:
        weights.read(tmp_path / "whole.pth")
    assert "remedy: where it was made, save only the tensors" in str(caught.value)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"conv1.weight": Evil(tmp_path / "ran")}))
    with pytest.raises(UserError, match=r"plain\.pth: is not a torch weights file"):
        weights.read(tmp_path / "plain.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_weights(suffix, weight_files, tmp_path):
    whole = weight_files["plain" if suffix == ".pth" else "safetensors"].read_bytes()
    for label, content in (("empty", b""), ("text", b"404 not found\n"), ("cut", whole[: len(whole) // 2])):
        file = tmp_path / (label + suffix)
        file.write_bytes(content)
        with pytest.raises(UserError, match=f"{file.name}: is not a .* file, or is damaged") as caught:
            weights.read(file)
        assert "remedy: download or copy it again" in str(caught.value)


def test_weights_that_are_not_there_or_no_state_dict(tmp_path):
    with pytest.raises(UserError, match=r"none\.pth: there is no such weights file"):
        build("resnet50-ft", weights=tmp_path / "none.pth")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: expected a state dict .* found a dict with other things"):
        weights.read(tmp_path / "other.pth")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth: expected a state dict .* found a list"):
        weights.read(tmp_path / "list.pth")


def test_weights_that_do_not_fit_are_named(reference, tmp_path):
    state = dict(reference.state_dict())
    del state["layer1.0.conv1.weight"], state["bn1.bias"]
    state["layer9.weight"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=r"odd\.pth: the weights do not fit resnet50-ft: ") as caught:
        build("resnet50-ft", weights=tmp_path / "odd.pth")
    text = str(caught.value)
    assert "no bn1.bias; no layer1.0.conv1.weight; unexpected layer9.weight; and 1 more" in text
    state = dict(reference.state_dict())
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / "gray.pth")
    with pytest.raises(UserError, match=r"conv1\.weight is \(64, 1, 7, 7\), expected \(64, 3, 7, 7\)"):
        build("resnet50-ft", weights=tmp_path / "gray.pth")


def test_weights_for_a_network_from_scratch_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"--weights .*x\.pth: resnet50-large does not start from ImageNet weights"
    ) as caught:
        build("resnet50-large", weights=tmp_path / "x.pth")
    assert "resnet50-ft" in str(caught.value)


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
from cxrkit.models import ModelSpec


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.spec = ModelSpec("tiny", input_size=64, resize=72, learning_rate=0.002)
        self.dense = nn.Linear(1, 15)

    def forward(self, image_BCHW, meta_B3):
        return self.dense(image_BCHW.mean((2, 3)))


def tiny():
    return Tiny()


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
    assert net(normalised(net.spec), torch.zeros(2, 3)).shape == (2, 15)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("no_spec", r"expected a torch\.nn\.Module with an attribute `spec` .*, found one whose spec is a NoneType"),
        ("no_model", r"expected a torch\.nn\.Module with an attribute `spec` .*, found 3"),
        ("two_means", "its spec has 1 channels, but 2 values in mean and 1 in std"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_an_own_model_that_is_none(own, function, text):
    with pytest.raises(UserError, match=text):
        build(f"{own}:{function}")


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
