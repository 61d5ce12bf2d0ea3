"""Li et al. 2018, "Thoracic disease identification and localization with limited supervision" (arXiv 1711.06373).

Each of P x P places says how probable each finding is there; an image has a finding where any place has it (noisy-or,
pooling.py), and of a boxed image the places themselves are learned (losses/boxes.py). From two reimplementations that
quote the paper:

    ResNet-50 without its pooling and dense layer, 512 x 512 -> 16 x 16 x 2048 -> P x P by max-pooling or bilinear
    interpolation -> 3 x 3 convolution to 512, batch normalisation, ReLU -> 1 x 1 convolution, maps of P x P
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, interpolate

from cxrkit.base.contracts import Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.models import backbones
from cxrkit.models.backbones import Backbone
from cxrkit.models.dense_blocks import convolution
from cxrkit.models.grammar import ModelSpec
from cxrkit.models.pooling import NoisyOr
from cxrkit.models.precision import in_float32
from cxrkit.models.specs import image_spec


class Li2018(nn.Module):
    """A backbone, its map brought to P x P places, and what each place says of each label."""

    def __init__(
        self, spec: ModelSpec, backbone: Backbone, places: int, width: int, labels: int, floor: float, prior: float
    ) -> None:
        super().__init__()
        self.spec, self.backbone, self.places = spec, backbone, places
        self.recognition = nn.Sequential(
            convolution(backbone.channels, width, 3), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.out = nn.Conv2d(width, labels, 1)
        self.pooling = NoisyOr(floor)
        nn.init.constant_(self.out.bias, self.pooling.logit_for(prior, places**2))  # type: ignore[arg-type]

    def feature_maps(self, image_BCHW: Tensor) -> Tensor:
        """Return (B, width, P, P)."""
        return self.recognition(to_places(self.backbone.maps(image_BCHW), self.places))  # type: ignore[no-any-return]

    def features(self, image_BCHW: Tensor) -> Tensor:
        """Return the averaged feature maps, (B, width)."""
        return self.feature_maps(image_BCHW).mean(dim=(2, 3))

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        """Return the logit of each finding anywhere, and that of each place, (B, L, P, P)."""
        maps_BLPP = in_float32(self.out, self.feature_maps(image_BCHW))
        return Outputs(in_float32(self.pooling, maps_BLPP), maps_BLPP)


def to_places(x_BCHW: Tensor, places: int) -> Tensor:
    """Return (B, C, places, places): max-pooled where that is fewer than there are, else bilinearly interpolated."""
    if x_BCHW.shape[2] >= places:
        return adaptive_max_pool2d(x_BCHW, places) if x_BCHW.shape[2] > places else x_BCHW
    return interpolate(x_BCHW, size=(places, places), mode="bilinear", align_corners=False)


def build(
    labels: LabelSet,
    *,
    backbone: str = "torchvision:resnet50",
    backbone_options: Mapping[str, Any] | None = None,
    places: int = 16,
    width: int = 512,
    floor: float = 0.98,
    prior: float = 0.05,
    input_size: int = 512,
    resize: int | None = None,
    channels: int | None = None,
    pretrained: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Li2018:
    """Return the network with fresh parameters; weights of the backbone are loaded afterwards where `pretrained`.

    backbone, backbone_options: see backbones.py. places: P, along each side; the paper has 12, 16 and 20. floor: of the
    noisy-or. prior: the probability of a finding that an untrained network says of an image, our choice: about the
    share of images that have a label of ChestX-ray14. With biases of 0 all places together would say 0.92 (0.99^256 is
    the rest), and a training would begin by unlearning that. Few places cannot say so much: they begin at half of what
    they can. channels: by default 3 with ImageNet weights, else 1.
    Raises UserError for what cannot be built.
    """
    if places < 1 or not 0 <= floor < 1 or not 0 < prior < 1:
        raise UserError(
            f"model 'li2018': places={places}, floor={floor}, prior={prior}",
            remedy="give at least 1 place, a floor of 0 to below 1, and a prior between 0 and 1",
        )
    channels = channels or (3 if pretrained else 1)
    made = backbones.build(backbone, channels=channels, input_size=input_size, options=backbone_options)
    spec = image_spec(
        "li2018",
        input_size=input_size,
        resize=resize,
        channels=channels,
        pretrained=pretrained,
        learning_rate=0.0001,
        batch_size=32,
        mean=mean,
        std=std,
    )
    return Li2018(spec, made, places, width, len(labels), floor, prior)
