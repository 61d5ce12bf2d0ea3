"""Weights of others: what people save around them is taken off, and what does not fit is told by name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cxrkit import models
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.models import fitting
from cxrkit.models.backbones import build as build_backbone

State = dict[str, torch.Tensor]


def states_of(name: str, channels: int = 3, size: int = 64) -> State:
    torch.manual_seed(5)
    return {
        key: value.clone()
        for key, value in build_backbone(name, channels=channels, input_size=size).net.state_dict().items()
    }


def old_names(state: State) -> State:
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", key): value for key, value in state.items()}


WRAPPED: dict[str, Callable[[State], object]] = {
    "plain": lambda state: state,
    "parallel": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
    "lightning": lambda state: {"state_dict": {f"model.backbone.{key}": value for key, value in state.items()}},
    "masked autoencoder": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 800},
    "self-distilled": lambda state: {"teacher": {f"module.backbone.{key}": value for key, value in state.items()}},
    "old names": old_names,
    "with a head": lambda state: (
        state | {"classifier.weight": torch.zeros(14, 1024), "classifier.bias": torch.zeros(14)}
    ),
    "old names, parallel, with a head": lambda state: {
        "state_dict": {
            f"module.{key}": value
            for key, value in (old_names(state) | {"classifier.0.weight": torch.zeros(14, 1024)}).items()
        }
    },
}


@pytest.mark.parametrize("how", WRAPPED)
def test_densenets_of_anyone_are_read(how: str, tmp_path: Path) -> None:
    state = states_of("torchvision:densenet121")
    torch.save(WRAPPED[how](state), tmp_path / "w.pth")
    model = models.build("torchvision:densenet121", options={"channels": 3}, weights=tmp_path / "w.pth")
    for key, value in model.backbone.net.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert model.initial_weights.sha256 == file_digest(tmp_path / "w.pth")
    assert model.initial_weights.known == "declared"


def test_kernels_for_three_channels_answer_a_gray_image_alike(tmp_path: Path) -> None:
    state = states_of("torchvision:resnet18")
    save_file(state, tmp_path / "w.safetensors")
    colour = models.build("torchvision:resnet18", options={"channels": 3}, weights=tmp_path / "w.safetensors").eval()
    gray = models.build("torchvision:resnet18", options={"channels": 1}, weights=tmp_path / "w.safetensors").eval()
    image = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            gray.features(image), colour.features(image.repeat(1, 3, 1, 1)), rtol=1e-3, atol=1e-4
        )


def test_positions_of_another_input_size_are_resampled(tmp_path: Path) -> None:
    save_file(states_of("timm:vit_tiny_patch16_224", size=64), tmp_path / "w.safetensors")
    model = models.build(
        "timm:vit_tiny_patch16_224", options={"input_size": 96, "channels": 3}, weights=tmp_path / "w.safetensors"
    )
    assert model.backbone.net.pos_embed.shape[1] == 1 + 6 * 6


def test_a_masked_autoencoders_decoder_is_left_out(tmp_path: Path) -> None:
    state = states_of("timm:vit_tiny_patch16_224")
    more = {"mask_token": torch.zeros(1, 1, 8), "decoder_blocks.0.norm1.weight": torch.ones(8)}
    torch.save({"model": state | more}, tmp_path / "w.pth")
    options = {"input_size": 64, "channels": 3}
    model = models.build("timm:vit_tiny_patch16_224", options=options, weights=tmp_path / "w.pth")
    assert torch.equal(model.backbone.net.blocks[0].norm1.weight, state["blocks.0.norm1.weight"])


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    state = states_of("torchvision:resnet18")
    del state["layer4.1.conv2.weight"]
    state["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    state["layer9.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        models.build("torchvision:resnet18", options={"channels": 3}, weights=tmp_path / "w.pth")
    assert re.search(r"98 of 100 tensors of torchvision:resnet18 are in it", str(caught.value))
    assert "no layer4.1.conv2.weight; layer1.0.conv1.weight is (1, 2, 3, 3), expected (64, 64, 3, 3)" in str(
        caught.value
    )
    assert "unexpected layer9.weight" in str(caught.value)


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    torch.save(states_of("torchvision:densenet121"), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"0 of \d+ tensors of torchvision:resnet18 are in it"):
        models.build("torchvision:resnet18", weights=tmp_path / "w.pth")


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds more than tensors"):
        models.build("torchvision:resnet18", weights=tmp_path / "w.pth")


def test_weights_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real download code, towards an address where nobody answers."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(UserError, match="the weights of torchvision:resnet18 could not be downloaded") as caught:
        models.build("torchvision:resnet18", options={"pretrained": True})
    assert "--weights FILE" in str(caught.value)
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"half a file")
    with pytest.raises(UserError, match="its SHA-256 does not begin with f37072fd"):
        fitting.download("torchvision:resnet18")
    with pytest.raises(UserError, match="publishes whole pickled networks"):
        fitting.download("xrv:densenet121-res224-nih")
