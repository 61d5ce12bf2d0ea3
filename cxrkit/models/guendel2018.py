"""Guendel et al. 2018, "Learning to recognize abnormalities in chest X-rays with location-aware dense networks".

arXiv 1803.04565. Two 3 x 3 convolutions of stride 2 with 3 filters take an image of 1024 x 1024 to the 256 x 256 that
DenseNet-121 is given, and beside the findings the network says where they are: nine outputs, learned on PLCO's images
alone, whose reports have them. Read for this toolkit: abstract and introduction; the two convolutions, the nine
outputs and the weights of the loss are as we remember them.

The convolutions have no activation behind them and begin as means of 3 x 3 pixels, each of its own channel (our
choice): the network starts as DenseNet-121 on the image at a quarter of its resolution, as ImageNet's weights know it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cxrkit.base.contracts import Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.models import backbones
from cxrkit.models.backbones import Backbone
from cxrkit.models.grammar import ModelSpec
from cxrkit.models.precision import in_float32
from cxrkit.models.specs import image_spec

FILTERS = 3
LOCATIONS = "locations"


class Guendel2018(nn.Module):
    """Two convolutions that shrink the image, a backbone, a dense layer; a second one for locations where wanted."""

    def __init__(self, spec: ModelSpec, backbone: Backbone, labels: int, locations: int) -> None:
        super().__init__()
        self.spec, self.backbone = spec, backbone
        self.shrink = nn.Sequential(_mean(spec.channels), _mean(FILTERS))
        self.fc = nn.Linear(backbone.features, labels)
        self.locations = nn.Linear(backbone.features, locations) if locations else None

    def feature_maps(self, image_BCHW: Tensor) -> Tensor:
        """Return the backbone's last map, (B, C, h, w), of a normalised image."""
        return self.backbone.maps(self.shrink(image_BCHW))

    def features(self, image_BCHW: Tensor) -> Tensor:
        """Return the pooled features, (B, F)."""
        return self.backbone(self.shrink(image_BCHW))  # type: ignore[no-any-return]

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        """Return logits of the labels, and those of the locations, (B, locations), in `extra`."""
        pooled = self.features(image_BCHW)
        extra = {} if self.locations is None else {LOCATIONS: in_float32(self.locations, pooled)}
        return Outputs(in_float32(self.fc, pooled), extra=extra)


def _mean(channels: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution of stride 2 that begins as the mean over its pixels; channels are used in turn."""
    made = nn.Conv2d(channels, FILTERS, 3, 2, padding=1)
    with torch.no_grad():
        made.weight.zero_()
        made.bias.zero_()  # type: ignore[union-attr]
        for filter in range(FILTERS):
            made.weight[filter, filter % channels] = 1 / 9
    return made


def build(
    labels: LabelSet,
    *,
    backbone: str = "torchvision:densenet121",
    backbone_options: Mapping[str, Any] | None = None,
    locations: int = 0,
    input_size: int = 1024,
    resize: int | None = None,
    channels: int = 3,
    pretrained: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Guendel2018:
    """Return the network with fresh parameters; weights of the backbone are loaded afterwards where `pretrained`.

    backbone, backbone_options: see backbones.py. locations: outputs for where a finding is, for a loss of one's own
    that masks what is not known of an image; 0, the default: none, since ChestX-ray14 says nothing of it. Raises
    UserError for what cannot be built.
    """
    if locations < 0:
        raise UserError(f"model 'guendel2018': locations={locations}", remedy="give how many outputs, or 0")
    made = backbones.build(backbone, channels=FILTERS, input_size=-(-input_size // 4), options=backbone_options)
    spec = image_spec(
        "guendel2018",
        input_size=input_size,
        resize=resize,
        channels=channels,
        pretrained=pretrained,
        mean=mean,
        std=std,
    )
    return Guendel2018(spec, made, len(labels), locations)
