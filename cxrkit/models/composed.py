"""A network put together from parts: a backbone of anyone, a transition, a head, a pooling.

    head "dense": the pooled features, with age, sex and view where `meta` says so, go through one dense layer
    head "maps": a 1 x 1 convolution gives a map for each label, and the pooling acts on these

With the average as pooling the two are the same function without metadata; with any other they are not (Wang et al.
2017 pool features, Yao et al. 2018 and Li et al. 2018 pool maps of labels).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cxrkit.base import registry
from cxrkit.base.contracts import Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.models import backbones
from cxrkit.models.backbones import Backbone
from cxrkit.models.grammar import IMAGENET_MEAN, IMAGENET_STD, NIH_MEAN, NIH_STD, ModelSpec
from cxrkit.models.places import dense_at_every_place
from cxrkit.models.precision import in_float32

META_FEATURES = 3  # age, sex, view position
OWN = "own"  # the pooling of the backbone's authors


class Parts:
    """What a composed network is made of beside its backbone; checked."""

    def __init__(
        self,
        labels: LabelSet,
        head: str,
        pooling: str,
        pooling_options: Mapping[str, Any],
        transition: int,
        dropout: float,
        head_std: float = 0.0,
    ) -> None:
        """Take the options of `build`. Raises UserError for those that cannot be."""
        if head not in ("dense", "maps"):
            raise UserError(f"model option head={head!r}: there is no such head", remedy="choose dense or maps")
        if not 0 <= dropout < 1:
            raise UserError(f"model option dropout={dropout}: expected 0 to below 1", remedy="0 is the default")
        if transition < 0:
            raise UserError(f"model option transition={transition}: expected channels", remedy="0: no transition")
        if not 0 <= head_std <= 10:
            raise UserError(f"model option head_std={head_std}: expected 0 to 10", remedy="0: torch's own")
        self.labels, self.head, self.transition, self.dropout = labels, head, transition, dropout
        self.head_std = head_std
        self.pooling, self.pooling_options = pooling, dict(pooling_options)
        self.build_pooling()  # what cannot be is told before a backbone is built

    def build_pooling(self) -> nn.Module:
        """Return the pooling; its authors' own, where there is none to take, is the average."""
        name = "average" if self.pooling == OWN else self.pooling
        made = registry.construct("pooling", name, registry.load("pooling", name), self.labels, self.pooling_options)
        if not isinstance(made, nn.Module):
            raise UserError(f"pooling {name!r}: expected a torch.nn.Module, found {made!r}", remedy="return a module")
        return made


class Composed(nn.Module):
    """A backbone with a transition, a head and a pooling."""

    def __init__(self, spec: ModelSpec, backbone: Backbone, parts: Parts) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = backbone
        self.transition, width = _transition(backbone.channels, parts.transition)
        pools_own = parts.pooling == OWN and parts.transition == 0
        features = backbone.features if pools_own and parts.head == "dense" else width
        self.pooling: nn.Module | None = None if pools_own and parts.head == "dense" else parts.build_pooling()
        self.dropout = nn.Dropout(parts.dropout)
        self.on_maps = parts.head == "maps"
        # Drawn last: a network and its counterpart with metadata start from the same convolutions.
        self.fc = nn.Linear(features + META_FEATURES * spec.meta, len(parts.labels))
        self.width = features
        if parts.head_std:
            nn.init.trunc_normal_(self.fc.weight, std=parts.head_std)
            nn.init.zeros_(self.fc.bias)
        self.weights_of = ""  # whose file its backbone is to be filled from
        if spec.frozen_backbone:
            self.requires_grad_(False)
            self.fc.requires_grad_(True)

    def features(self, image_BCHW: Tensor) -> Tensor:
        """Return the pooled image features, (B, F), of a normalised image."""
        if self.pooling is None:
            return self.backbone(image_BCHW)  # type: ignore[no-any-return]
        x = self.feature_maps(image_BCHW)
        return x.mean(dim=(2, 3)) if self.on_maps else self.pooling(x)

    def feature_maps(self, image_BCHW: Tensor) -> Tensor:
        """Return the map that the head works on, (B, C, h, w)."""
        return self.transition(self.backbone.maps(image_BCHW))  # type: ignore[no-any-return]

    @property
    def has_label_maps(self) -> bool:
        """Whether its features are a pooled map: `label_maps` of `feature_maps` then says where it looks."""
        return self.pooling is not None or self.backbone.pools_average

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        """Return logits, and the labels' maps where the head has them; `meta_B3` is used only with spec.meta."""
        meta = (meta_B3 - self.spec.meta_centre) * self.spec.meta_gain if self.spec.meta else None
        if self.on_maps:
            maps = self.label_maps(self.dropout(self.feature_maps(image_BCHW)), meta)
            assert self.pooling is not None, "maps are pooled"
            return Outputs(in_float32(self.pooling, maps), maps)
        pooled = self.dropout(self.features(image_BCHW))
        if meta is not None:
            pooled = torch.cat([pooled, meta.to(pooled.dtype)], dim=1)
        return Outputs(in_float32(self.fc, pooled))

    def label_maps(self, x_BCHW: Tensor, meta_B3: Tensor | None = None) -> Tensor:
        """Return (B, L, h, w) float32: the dense layer at every place, which are class activation maps (CAM)."""
        return dense_at_every_place(self.fc, x_BCHW, meta_B3)

    def train(self, mode: bool = True) -> Composed:
        """Switch to training mode, except for what is frozen."""
        super().train(mode)
        if self.spec.frozen_backbone:
            self.backbone.eval()
            self.transition.eval()
        return self


def _transition(channels: int, width: int) -> tuple[nn.Module, int]:
    """Return a 1 x 1 convolution with normalisation and ReLU to `width` channels, and how many come out of it."""
    if not width:
        return nn.Identity(), channels
    convolution = nn.Conv2d(channels, width, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)), width


def _pixel_statistics(backbone: Backbone, name: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of the pixels that a network's own weights were trained with, or ChestX-ray14's."""
    if name.startswith("xrv:"):  # its pixels go from -1024 to 1024
        return (0.5,), (1 / 2048,)
    if channels != len(IMAGENET_MEAN):
        return NIH_MEAN * channels, NIH_STD * channels
    about = getattr(backbone.net, "pretrained_cfg", None) or {}
    return tuple(about.get("mean", IMAGENET_MEAN)), tuple(about.get("std", IMAGENET_STD))


def build(
    labels: LabelSet,
    *,
    backbone: str = "torchvision:resnet50",
    backbone_options: Mapping[str, Any] | None = None,
    input_size: int = 224,
    resize: int | None = None,
    channels: int | None = None,
    meta: bool = False,
    meta_centre: float = 0.0,
    meta_gain: float = 1.0,
    pretrained: bool = False,
    frozen_backbone: bool = False,
    head: Literal["dense", "maps"] = "dense",
    pooling: str = OWN,
    pooling_options: Mapping[str, Any] | None = None,
    transition: int = 0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    head_std: float = 0.0,
    weights_of: str = "",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    label_set: str = "",
) -> Composed:
    """Return a network with fresh parameters; its spec says what it takes. Weights are loaded afterwards.

    backbone, backbone_options: see backbones.py. channels: of the image, by default 3 with ImageNet weights
    (`pretrained`), else 1. transition: channels of a 1 x 1 convolution behind the backbone; 0: none. pooling: "own" for
    the backbone's own, or a registered one, with its options. head_std: the dense layer's weights are drawn with this
    deviation, its bias is 0; 0: as torch does it. weights_of: what --weights must be given, in words; without a file
    the network is refused. mean, std: by default what the network's weights were trained with for 3 channels, and
    ChestX-ray14's for 1. label_set: the one that the network is for; "": any.
    Raises UserError for what cannot be built.
    """
    if label_set not in ("", labels.name):
        raise UserError(
            f"model option label_set={label_set!r}: the prepared folder has the labels of {labels.name}",
            remedy=f"name with --data a folder that was prepared with the labels of {label_set}",
        )
    parts = Parts(labels, head, pooling, pooling_options or {}, transition, dropout, head_std)
    channels = channels or (3 if pretrained and not backbone.startswith("xrv:") else 1)
    made = backbones.build(
        backbone, channels=channels, input_size=input_size, drop_path=drop_path, options=backbone_options
    )
    usual_mean, usual_std = _pixel_statistics(made, backbone, channels)
    spec = ModelSpec(
        name=backbone,
        input_size=input_size,
        resize=resize or round(input_size * 256 / 224),
        channels=channels,
        meta=meta,
        meta_centre=meta_centre,
        meta_gain=meta_gain,
        pretrained=pretrained,
        frozen_backbone=frozen_backbone,
        learning_rate=0.001 if pretrained else 0.01,
        mean=tuple(mean or usual_mean),
        std=tuple(std or usual_std),
        blocks=(),
        width=0,
        source="own",
    )
    built = Composed(spec, made, parts)
    built.weights_of = weights_of
    return built
