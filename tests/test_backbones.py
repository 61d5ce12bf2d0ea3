"""Networks of others as backbones, and what is put together from them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cxrkit import models
from cxrkit.base.contracts import Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY8, CHESTXRAY14
from cxrkit.models import backbones, composed

# The smallest of each family, and two sizes of the input that it can be built for.
TIMM = {
    "resnet10t": (64, 96),
    "convnext_atto": (64, 96),
    "convnextv2_atto": (64, 96),
    "efficientnet_lite0": (64, 96),
    "mobilenetv3_small_050": (64, 96),
    "regnety_002": (64, 96),
    "densenet121": (64, 96),
    "ghostnet_050": (64, 96),
    "repvgg_a0": (64, 96),
    "mambaout_femto": (64, 96),
    "vit_tiny_patch16_224": (64, 96),
    "deit_tiny_patch16_224": (64, 96),
    "eva02_tiny_patch14_224": (70, 98),
    "swin_tiny_patch4_window7_224": (64, 96),
    "pvt_v2_b0": (64, 96),
    "levit_128s": (64, 128),
    "xcit_nano_12_p16_224": (64, 96),
    "tiny_vit_5m_224": (64, 96),
    "coatnet_nano_rw_224": (64, 96),
    "edgenext_xx_small": (64, 96),
    "fastvit_t8": (64, 96),
}
TORCHVISION = [
    "resnet18",
    "densenet121",
    "vgg11_bn",
    "convnext_tiny",
    "efficientnet_b0",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "swin_t",
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def outputs_of(model: torch.nn.Module, size: int, images: int = 2) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(images, model.spec.channels, size, size, generator=generator)
    return model(image, torch.rand(images, 3, generator=generator))


@pytest.mark.parametrize("name", TIMM)
def test_timm_networks_learn_at_two_sizes(name: str) -> None:
    for size in TIMM[name]:
        model = models.build(f"timm:{name}", options={"input_size": size, "meta": True})
        outputs = outputs_of(model, size)
        assert outputs.logits.shape == (2, len(CHESTXRAY14))
        outputs.logits.square().mean().backward()
        first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
        assert first.weight.shape[1] == 1
        assert first.weight.grad is not None
        assert first.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "name", ["torchvision:resnet18", "timm:swin_tiny_patch4_window7_224", "timm:vit_tiny_patch16_224"]
)
def test_every_network_has_label_maps(name: str) -> None:
    options = {"input_size": 64, "head": "maps", "pooling": "lse", "pooling_options": {"r": 5.0}, "transition": 16}
    model = models.build(name, labels=CHESTXRAY8, options=options)
    outputs = outputs_of(model, 64)
    assert outputs.maps is not None
    assert outputs.maps.shape[:2] == (2, len(CHESTXRAY8))
    r_BLN = 5.0 * outputs.maps.flatten(2)
    expected = (r_BLN.exp().mean(dim=2).log()) / 5.0
    torch.testing.assert_close(outputs.logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_features_are_those_of_its_own_forward_pass(name: str) -> None:
    """With its head taken out, torchvision's network puts out what it pools."""
    torch.manual_seed(0)
    found = backbones.build(f"torchvision:{name}", channels=3, input_size=64).eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        theirs = found.net(image)
        if name == "vgg11_bn":  # its head takes all 7 x 7 places
            theirs = theirs.reshape(2, 512, 7, 7).mean(dim=(2, 3))
        torch.testing.assert_close(found(image), theirs.flatten(1), rtol=1e-4, atol=1e-5)
        assert found.maps(image).shape[1] == found.channels


def test_dense_and_maps_are_the_same_function_under_the_average() -> None:
    on_maps = models.build("torchvision:resnet18", options={"head": "maps", "pooling": "average", "meta": True}).eval()
    dense = models.build("torchvision:resnet18", options={"meta": True}).eval()
    dense.load_state_dict(on_maps.state_dict())
    with torch.no_grad():
        one, other = outputs_of(on_maps, 64), outputs_of(dense, 64)
    torch.testing.assert_close(one.logits, other.logits, rtol=1e-4, atol=1e-5)
    assert other.maps is None


def test_maps_are_the_dense_layer_at_every_place() -> None:
    model = models.build("torchvision:resnet18").eval()
    assert isinstance(model, composed.Composed)
    with torch.no_grad():
        image = torch.randn(2, 1, 96, 96)
        maps = model.label_maps(model.feature_maps(image))
        torch.testing.assert_close(maps.mean(dim=(2, 3)), model(image, torch.zeros(2, 3)).logits, rtol=1e-4, atol=1e-5)


def test_depth_and_width_of_a_backbone_can_be_chosen() -> None:
    small = {"growth_rate": 4, "block_config": [1, 1, 2, 2]}
    model = models.build("timm:densenet121", options={"backbone_options": small, "input_size": 64})
    assert sum(isinstance(module, torch.nn.Conv2d) for module in model.modules()) == 1 + 2 * 6 + 3
    assert outputs_of(model, 64).logits.shape == (2, len(CHESTXRAY14))
    within = models.build("li2018", options={"backbone": "timm:densenet121", "backbone_options": small, "places": 4})
    assert within.backbone.channels == model.backbone.channels == 14
    narrow = models.build("torchvision:resnet50", options={"backbone_options": {"width_per_group": 16}})
    assert narrow.backbone.net.layer1[0].conv2.out_channels == 16


def test_a_frozen_backbone_stays_as_it_is() -> None:
    model = models.build("torchvision:resnet18", options={"frozen_backbone": True, "transition": 8}).train()
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {"fc.weight", "fc.bias"}
    before = model.backbone.net.bn1.running_mean.clone()
    outputs_of(model, 64)
    assert torch.equal(model.backbone.net.bn1.running_mean, before)


def test_initial_parameters_follow_from_the_seed() -> None:
    one, again, other = (models.build("timm:convnext_atto", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.fc.weight, again.fc.weight)
    assert not torch.equal(one.fc.weight, other.fc.weight)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm:convnext_atoo", {}, "unknown timm network 'convnext_atoo'\n  remedy: did you mean convnext_atto"),
        ("torchvision:resnet19", {}, "unknown torchvision network 'resnet19'"),
        ("torchvision:squeezenet1_0", {}, "its map of features is not known here"),
        ("torchvision:resnet18", {"poolin": "lse"}, "unknown option 'poolin'\n  remedy: did you mean pooling"),
        ("torchvision:resnet18", {"pooling": "lsee"}, "unknown pooling 'lsee'\n  remedy: did you mean lse"),
        ("torchvision:resnet18", {"pooling": "lse", "pooling_options": {"q": 1}}, "pooling 'lse': unknown option 'q'"),
        ("torchvision:resnet18", {"head": "mapss"}, "head='mapss': there is no such head"),
        ("torchvision:resnet18", {"dropout": 1.0}, "dropout=1.0: expected 0 to below 1"),
        ("torchvision:resnet18", {"drop_path": 0.1}, "takes no drop_path"),
        ("timm:resnet50", {"backbone_options": {"layerz": [1]}}, "with {'layerz': (1,)}: timm cannot build it"),
        ("torchvision:densenet121", {"backbone_options": {"growth_rate": 8}}, "torchvision cannot build it"),
        ("xrv:densenet121-res224-nih", {"backbone_options": {"growth_rat": 8}}, "xrv cannot build it"),
        ("torchvision:resnet18", {"backbone": "timm:resnet10t"}, "its name says what its backbone is"),
        ("xrv:resnet50-res512-all", {}, "of torchxrayvision the densenet121 networks are known here"),
        ("xrv:densenet121-res224-nih", {"channels": 3}, "takes 1 channel, not 3"),
    ],
)
def test_what_cannot_be(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        models.build(name, options=options)
    assert message in str(caught.value)
