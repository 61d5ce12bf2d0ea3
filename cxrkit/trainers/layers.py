"""Which layer of a network a parameter belongs to, for learning rates that fall from the head to the first layer.

Of timm's networks a layer is what timm takes for one (`group_matcher`): a block. Of ours and of torchvision's it is a
stage: the stem, then each of conv2_x to conv5_x, each dense block with the transition behind it, and so on. What is
neither stem nor stage belongs to the stage before it, and all that stands behind the backbone to the head.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from cxrkit.base.errors import UserError

# The first one that a parameter's name begins with says its stage.
_STAGES = (
    r"layer(\d+)\.",  # ResNet, ResNeXt
    r"features\.(?:denseblock|transition)(\d+)\.",
    r"trunk_output\.block(\d+)\.",  # RegNet
    r"features\.(\d+)\.",  # what else torchvision has: ConvNeXt, EfficientNet, MobileNet, VGG, Swin
)
_HEADS = ("fc", "classifier", "head", "heads")
_BACKBONE = "backbone.net."


def layers(model: Any, name: str) -> dict[str, int]:
    """Return the layer of every parameter of `model`, called `name`: 0 for the stem, the highest for the head.

    Raises UserError for a network whose layers are not known.
    """
    found = of_backbone(model)
    if not found:
        raise UserError(
            f"--set optimizer.layer_decay: the layers of model {name!r} are not known",
            remedy="leave it at 1, or choose a ResNet, or a network of torchvision: or timm:",
        )
    head = max(found.values()) + 1
    return {path: found.get(path, head) for path, _ in model.named_parameters()}


def of_backbone(model: Any) -> dict[str, int]:
    """Return the layer of every parameter of the network's backbone; nothing where the layers are not known."""
    net, prefix = getattr(getattr(model, "backbone", None), "net", None), _BACKBONE
    if net is None:
        net, prefix = model, ""
    if hasattr(net, "group_matcher"):
        from timm.models import group_parameters

        found = group_parameters(net, net.group_matcher(coarse=False), reverse=True)
        # What normalises pooled features learns as the head does, as in BEiT's and MAE's fine-tuning.
        found = {path: layer for path, layer in found.items() if not path.startswith("fc_norm.")}
    else:
        names = (path for path, _ in net.named_parameters())
        found = stages(path for path in names if prefix or path.partition(".")[0] not in _HEADS)
    return {f"{prefix}{path}": layer for path, layer in found.items()}


def stages(names: Iterable[str]) -> dict[str, int]:
    """Return the stage of every parameter by its name; nothing where no name says a stage.

    names: of a backbone's parameters, in the order in which an image passes them.
    """
    found: dict[str, int] = {}
    numbers: dict[str | None, int] = {}
    stage: str | None = None  # the stem
    for name in names:
        said = (match[1] for pattern in _STAGES if (match := re.match(pattern, name)))
        stage = next(said, stage)
        found[name] = numbers.setdefault(stage, len(numbers))
    return found if numbers.keys() - {None} else {}


def without_decay(model: Any) -> set[str]:
    """Return the parameters that a network's authors exempt from weight decay, beside those of one dimension (timm)."""
    net = getattr(getattr(model, "backbone", None), "net", None)
    exempt: set[str] = getattr(net, "no_weight_decay", set)()
    return {f"{_BACKBONE}{path}" for path in exempt}
