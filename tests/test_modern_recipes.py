"""Recipes of today's systems: complete, refused without their weights, and filled from their authors' files.

Networks are those of the recipes with few channels and layers, at the smallest input; everything else is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_modern import MODERN, UNTESTED, small
from typer.testing import CliRunner

from cxrkit import losses, models, recipes
from cxrkit.base.contracts import Batch
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.cli.app import app
from cxrkit.recipes import catalog
from cxrkit.runs.config import TrainConfig, settings
from cxrkit.runs.sections import OptimizerSettings
from cxrkit.trainers import masking, optimizers

State = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_decoder(state: State, prefix: str = "") -> State:
    return {f"{prefix}{name}": value for name, value in state.items()} | {
        "decoder_pos_embed": torch.zeros(1, 5, 8),
        "decoder_blocks.0.norm1.weight": torch.ones(8),
        "decoder_pred.bias": torch.zeros(8),
        "mask_token": torch.zeros(1, 1, 8),
    }


def before_pooling(state: State) -> State:
    """A masked autoencoder normalises its tokens, and knows of no pooling."""
    return {name.replace("fc_norm.", "norm."): value for name, value in state.items()}


def masked_autoencoder(state: State) -> object:
    return {"model": with_decoder(before_pooling(state)), "epoch": 800}


def segmentation_models(state: State) -> object:
    encoder = {f"model.encoder.{name}": value for name, value in state.items()}
    return {"state_dict": encoder | {"model.decoder.blocks.0.weight": torch.zeros(3)}}


def eva(state: State) -> object:
    """EVA's own names of SwiGLU and of the norms inside, its rotary tables, and what masked images are guessed with."""
    names = {"fc1_g": "w1", "fc1_x": "w2", "fc2": "w3", "mlp.norm": "mlp.ffn_ln", "attn.norm": "attn.inner_attn_ln"}
    if not any("fc1_g" in name for name in state):
        names = {"fc1": "w12", "fc2": "w3"}
    found = {}
    for name, value in before_pooling(state).items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        if ".attn.q_proj.bias" in name or ".attn.v_proj.bias" in name:
            name = name.replace("q_proj.bias", "q_bias").replace("v_proj.bias", "v_bias")
        found[name] = value
    more = {"rope.freqs_cos": torch.ones(4, 6), "blocks.0.attn.rope.freqs_sin": torch.ones(4, 6)}
    more |= {"mask_token": torch.zeros(1, 1, 24), "lm_head.weight": torch.zeros(5, 24), "lm_head.bias": torch.zeros(5)}
    return {"module": found | more}


def simmim(state: State) -> object:
    """Swin of before 2023: what halves the resolution stands at the end of a stage."""
    found = {}
    for name, value in state.items():
        stage = name.split(".")[1]
        if "downsample" in name:
            name = name.replace(f"layers.{stage}.", f"layers.{int(stage) - 1}.")
        found[f"encoder.{name}"] = value
    return {"model": found | {"encoder.mask_token": torch.zeros(1, 1, 8), "decoder.0.weight": torch.zeros(4, 4, 1, 1)}}


def joint_embedding(state: State) -> object:
    parallel = {f"module.{name}": value for name, value in state.items()}
    worse = {name: torch.zeros_like(value) for name, value in parallel.items()}
    return {"encoder": worse, "predictor": {"module.mask_token": torch.zeros(1)}, "target_encoder": parallel}


def dinov2(state: State) -> object:
    return state | {"mask_token": torch.zeros(1, 24)}


LAYOUTS: dict[str, Callable[[State], object]] = {
    "medical-mae-densenet121": segmentation_models,
    "medical-mae-vit-s": masked_autoencoder,
    "medical-mae-vit-b": masked_autoencoder,
    "eva-x-ti": eva,
    "eva-x-s": eva,
    "eva-x-b": eva,
    "jliang-swin-b": simmim,
    "chexworld": joint_embedding,
    "rad-dino": dinov2,
}


def test_every_system_has_its_layout() -> None:
    assert {*LAYOUTS, "strong-cnn"} == set(MODERN)


@pytest.mark.parametrize("name", MODERN)
def test_a_network_is_filled_from_its_authors_file_and_learns(name: str, tmp_path: Path) -> None:
    config = recipes.load(name)
    if config.model.name.startswith("timm:"):
        pytest.importorskip("timm")
    options = small(config)
    model = models.build(config.model.name, options=options, pretrained=False, seed=1)
    if name in LAYOUTS:
        state = {key: value.clone() for key, value in model.backbone.net.state_dict().items()}
        torch.save(LAYOUTS[name](state), tmp_path / "theirs.pth")
        model = models.build(config.model.name, options=options, weights=tmp_path / "theirs.pth", seed=2)
        for key, value in model.backbone.net.state_dict().items():
            assert torch.equal(value, state[key]), key
        assert model.initial_weights.declared == config.model.options["weights_of"]
    if "head_std" in options:
        assert 0 < model.fc.weight.std() < 3e-5
        assert not model.fc.bias.any()
    learn(model, config)


def learn(model: Any, config: TrainConfig) -> None:
    """One step of the recipe's own loss and optimizer: everything but the masked label moves."""
    images, size = 4, model.spec.input_size
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(images, model.spec.channels, size, size, generator=generator)
    target = (torch.rand(images, 15, generator=generator) > 0.5).float()
    batch = Batch(image[:, :1].byte(), target, torch.zeros(images, 3), torch.arange(images))
    optimizer = optimizers.build(config.optimizer, model, config.model.name, rate_on_device=False)
    loss = masking.masked(losses.build(config.loss.name), CHESTXRAY14, config.loss.masked, "cpu")
    found = loss(model.train()(image, batch.meta), batch)
    found.backward()
    assert found.isfinite()
    without = [path for path, parameter in model.named_parameters() if parameter.grad is None]
    assert not without
    optimizer.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", LAYOUTS)
def test_without_its_weights_a_system_is_refused(name: str) -> None:
    config = recipes.load(name)
    with pytest.raises(UserError, match=r"and no file is given[^\0]*--weights FILE") as caught:
        models.build(config.model.name, options=small(config))
    assert config.model.options["weights_of"] in str(caught.value)
    model = models.build(config.model.name, options=small(config) | {"weights_of": ""})
    assert model.initial_weights.pretraining == "none"


@pytest.mark.parametrize("name", MODERN)
def test_a_recipe_says_what_decides_its_numbers(name: str) -> None:
    text, config = recipes.text(name), recipes.load(name)
    for item in settings():
        optional = item.field.metadata["flag"] is None or item.field.metadata.get("extra")
        if item.field.metadata["decides"] and item.kind is not dict and item.section != "run" and not optional:
            assert f"\n{item.key} = " in text.partition(f"[{item.section}]")[2].partition("\n[")[0], item.path
    assert f"cxrkit train --recipe {name} " in text
    assert config.loss.masked == ("No Finding",)


def test_they_are_listed_with_their_mark() -> None:
    shown = CliRunner().invoke(app, ["recipes"], env={"COLUMNS": "80"}).output
    abouts = [catalog.load(name).about for name in MODERN]
    assert all(UNTESTED in about.cost for about in abouts)
    assert shown.count(UNTESTED) >= len({about.source for about in abouts})  # once for all of a source


def test_an_option_that_timm_does_not_know_is_told() -> None:
    pytest.importorskip("timm")
    with pytest.raises(UserError, match="timm cannot build it"):
        models.build("timm:vit_tiny_patch16_224", options={"backbone_options": {"dept": 2}})
    with pytest.raises(UserError, match=r"torchvision:resnet18' with \{'depth': 2\}: torchvision cannot build it"):
        models.build("torchvision:resnet18", options={"backbone_options": {"depth": 2}})
    with pytest.raises(
        UserError, match=r"backbone_options is '\{depth=', expected a table\n  remedy: write it as --set"
    ):
        models.build("timm:vit_tiny_patch16_224", options={"backbone_options": "{depth="})
    with pytest.raises(UserError, match="head_std=-1"):
        models.build("torchvision:resnet18", options={"head_std": -1.0})


def test_layers_of_a_small_recipe_learn_at_falling_rates() -> None:
    pytest.importorskip("timm")
    config = recipes.load("eva-x-ti")
    model = models.build(config.model.name, options=small(config), pretrained=False)
    settings_ = OptimizerSettings(lr=1.0, layer_decay=0.55, name="adamw")
    found = optimizers.groups(settings_, model, config.model.name)
    assert sorted({group[optimizers.SCALE] for group in found}) == pytest.approx(
        [0.55**depth for depth in (3, 2, 1, 0)]
    )
