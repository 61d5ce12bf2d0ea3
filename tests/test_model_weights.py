"""ImageNet weights: equal to torchvision's network, from a cache or a file; what is refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cxrkit.base.errors import UserError
from cxrkit.base.pretraining import IMAGENET, NOTHING, Pretraining
from cxrkit.models import InitialWeights, ModelSpec, build, parse, prepare_input, weights
from cxrkit.models.catalog import cost
from cxrkit.models.resnet import ResNet


def normalised(model_spec: ModelSpec, size: int = 64, batch: int = 2) -> torch.Tensor:
    image = torch.randint(0, 256, (batch, 1, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return prepare_input(image, model_spec)


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
    net = ResNet(parse("resnet50-ft"), 15)
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
    net = ResNet(replace(parse("resnet50-ft"), stride_in_3x3=False), 15).eval()
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
    net(normalised(net.spec, size=32), torch.rand(2, 3)).logits.sum().backward()
    optimizer.step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_fine_tuning_learns_everything():
    net = build("resnet50-ft", pretrained=False)
    net(normalised(net.spec, size=32), torch.zeros(2, 3)).logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert all(m.training for m in net.modules())
    assert int(net.bn1.num_batches_tracked) == 1


def test_pretrained_false_needs_no_weights(monkeypatch):
    monkeypatch.setattr(weights, "download", lambda: pytest.fail("asked for weights"))
    assert build("resnet50-ots", pretrained=False).spec.pretrained


def put_into_cache(state: dict[str, torch.Tensor], home: Path, name: str | None = None) -> Path:
    """Save `state` where torch keeps its downloads, by default under a name that tells its digest as theirs do."""
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / "saved.pth")
    digest = hashlib.sha256((folder / "saved.pth").read_bytes()).hexdigest()
    return (folder / "saved.pth").rename(folder / (name or f"resnet50-{digest[:8]}.pth"))


def test_weights_come_from_torchs_cache_and_have_an_identity(reference, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = put_into_cache(reference.state_dict(), tmp_path)
    digest = hashlib.sha256(cached.read_bytes()).hexdigest()
    monkeypatch.setattr(weights, "FILE_NAME", cached.name)
    monkeypatch.setattr(weights, "FILE_SHA256", digest)
    net = build("resnet50-ft")
    assert torch.equal(net.conv1.weight, reference.conv1.weight)
    assert net.initial_weights == InitialWeights(digest, "torchvision's resnet50 (IMAGENET1K_V1)")


def test_the_file_name_is_that_of_torchvisions_weights():
    from torchvision.models import ResNet50_Weights

    assert Path(ResNet50_Weights.IMAGENET1K_V1.url).name == weights.FILE_NAME
    # torchvision puts the digest's first digits into the name.
    assert weights.FILE_NAME.removesuffix(".pth").partition("-")[2] == weights.FILE_SHA256[:8]
    assert len(weights.FILE_SHA256) == 64


def test_a_cached_file_that_is_not_what_its_name_says_is_refused(reference, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    put_into_cache(reference.state_dict(), tmp_path, weights.FILE_NAME)
    with pytest.raises(
        UserError,
        match=r"resnet50-0676ba61\.pth: the SHA-256 of .* is 0676ba61b6795bbe\w{48}, that of this file \w{64}",
    ) as caught:
        build("resnet50-ft")
    assert "remedy: delete it, so that it is downloaded again" in str(caught.value)


def test_what_a_network_started_from(weight_files):
    given = build("resnet50-ots", weights=weight_files["wrapped"]).initial_weights
    digest = hashlib.sha256(weight_files["wrapped"].read_bytes()).hexdigest()
    assert given == InitialWeights(digest, str(weight_files["wrapped"]))
    assert build("resnet14-small").initial_weights == InitialWeights("", "scratch")
    assert build("resnet50-ft", pretrained=False).initial_weights == InitialWeights("", "not said")


def test_what_is_declared_of_a_weights_file_is_kept(weight_files, tmp_path):
    copy = Path(shutil.copy(weight_files["wrapped"], tmp_path / "mae.pth"))
    (tmp_path / "mae.pth.toml").write_text(
        'pretraining = "MAE on ChestX-ray14"\npretrained = { seen = "images", this_data_set = "images" }\n'
    )
    found = build("resnet50-ots", weights=copy).initial_weights
    assert (found.pretraining, found.known) == ("MAE on ChestX-ray14", "declared")
    assert found.pretrained == Pretraining("images", "images")
    (tmp_path / "mae.pth.toml").unlink()
    assert build("resnet50-ots", weights=copy).initial_weights.pretrained == IMAGENET


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
    text = str(caught.value)
    assert "remedy: name a file with --weights FILE (.pth or .safetensors): resnet50-0676ba61.pth (102,530,333" in text
    assert "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a" in text
    assert "https://download.pytorch.org/models/resnet50-0676ba61.pth could not be downloaded" in text
    assert str(error) in text


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


def test_only_weights_that_are_known_by_their_digest_are_checked() -> None:
    for found, expected in (
        (weights.SCRATCH, ("none", "checked")),
        (weights.NOT_SAID, ("unknown", "unknown")),
        (weights.InitialWeights(weights.FILE_SHA256, "a.pth"), ("ImageNet", "checked")),
        (weights.InitialWeights(weights.FILE_SHA256[:8] + "0" * 56, "a.pth"), ("ImageNet", "declared")),
        (weights.InitialWeights("1" * 64, "RUN", "nih resample-1"), ("nih resample-1", "checked")),
        (weights.InitialWeights("0" * 64, "a.pth"), ("ImageNet", "declared")),
    ):
        assert (found.pretraining, found.known) == expected
    for found, saw in (
        (weights.SCRATCH, NOTHING),
        (weights.NOT_SAID, Pretraining()),
        (weights.InitialWeights(weights.FILE_SHA256, "a.pth", declared="x", saw=Pretraining("images")), IMAGENET),
        (weights.InitialWeights("0" * 64, "a.pth"), IMAGENET),
        (weights.InitialWeights("0" * 64, "a.pth", declared="x", saw=Pretraining("images")), Pretraining("images")),
        (weights.InitialWeights("1" * 64, "RUN", "nih official", saw=Pretraining("labels", "labels", "none")),
         Pretraining("labels", "labels", "none")),
    ):  # fmt: skip
        assert found.pretrained == saw
