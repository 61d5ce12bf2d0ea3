"""From an image to a map for each label: class activation maps, Grad-CAM, and methods of the library grad-cam.

A method maps a normalised image (B, C, H, W), the metadata (B, 3) and the numbers of K labels to float32 maps
(B, K, h, w): the higher, the more a place speaks for the label. Only the order of the places within one map means
something; sizes differ from method to method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from cxrkit.base.errors import UserError
from cxrkit.base.registry import unknown

AUTO, CAM, GRAD_CAM = "auto", "cam", "grad-cam"
# Of the library grad-cam (https://github.com/jacobgil/pytorch-grad-cam): the class that each name stands for.
LIBRARY = {
    "grad-cam++": "GradCAMPlusPlus",
    "hires-cam": "HiResCAM",
    "layer-cam": "LayerCAM",
    "xgrad-cam": "XGradCAM",
}
METHODS = (AUTO, CAM, GRAD_CAM, *LIBRARY)

Compute = Callable[[Tensor, Tensor, Sequence[int]], Tensor]


@dataclass(frozen=True)
class Layer:
    """The last layer of a network whose output has places."""

    module: nn.Module
    """That puts it out."""

    as_map: Callable[[Tensor], Tensor]
    """From what it puts out, or its gradient, to (B, C, h, w)."""

    words: str
    """What it is."""


@dataclass(frozen=True)
class Attribution:
    """A method, settled for one network."""

    name: str
    """cam, grad-cam, ...; never auto."""

    words: str
    """What it shows, for captions and notes."""

    compute: Compute
    """(image_BCHW, meta_B3, K labels) -> (B, K, h, w)."""


def choose(model: nn.Module, method: str, image_BCHW: Tensor, meta_B3: Tensor) -> Attribution:
    """Return the method `method` for `model`, which is in evaluation mode; auto is cam where it can be, else grad-cam.

    image, meta: an example of what the network eats. Raises UserError for an unknown method, for cam where the network
    has no maps, where there is no map of features to be found, and where the library is missing.
    """
    if method not in METHODS:
        raise unknown("--method", method, METHODS, own="")
    if method in (AUTO, CAM):
        with torch.inference_mode():
            has_maps = model(image_BCHW, meta_B3).maps is not None
        if has_maps:
            return Attribution(CAM, "the network's own score maps", lambda *given: _own_maps(model, *given))
        if getattr(model, "has_label_maps", False):
            words = "class activation maps (the dense layer at every place)"
            return Attribution(CAM, words, lambda *given: _class_activation(model, *given))
        if method == CAM:
            raise UserError(
                f"--method cam: {_name(model)} makes no map that its dense layer could be asked at",
                remedy="choose --method grad-cam, or leave it out",
            )
    layer = last_layer(model, image_BCHW, meta_B3)
    if method in LIBRARY:
        return _of_library(method, model, layer)
    return Attribution(GRAD_CAM, f"Grad-CAM on {layer.words}", lambda *given: grad_cam(model, layer, *given))


def _own_maps(model: nn.Module, image_BCHW: Tensor, meta_B3: Tensor, labels: Sequence[int]) -> Tensor:
    with torch.inference_mode():
        maps: Tensor = model(image_BCHW, meta_B3).maps
    return maps[:, list(labels)].float()


def _class_activation(model: Any, image_BCHW: Tensor, meta_B3: Tensor, labels: Sequence[int]) -> Tensor:
    """Return the dense layer at every place (models/places.py); what metadata adds is the same everywhere, left out.

    Also where the features are not averaged: Wang et al. 2017 weigh the maps before log-sum-exp pooling alike.
    """
    with torch.inference_mode():
        maps: Tensor = model.label_maps(model.feature_maps(image_BCHW))
    return maps[:, list(labels)]


def grad_cam(model: nn.Module, layer: Layer, image_BCHW: Tensor, meta_B3: Tensor, labels: Sequence[int]) -> Tensor:
    """Return ReLU(sum over k of a_k A_k), with a_k the mean over all places of the derivative of the logit by A_k.

    Selvaraju et al. 2017 (arXiv 1610.02391), equations 1 and 2; A is the output of `layer`. Images do not mix in
    evaluation mode, so one pass backwards gives the maps of all images for a label. For a network that averages A
    before its dense layer, it is the positive part of the class activation map without its bias, divided by the places.
    """
    with torch.enable_grad(), _kept(layer.module) as kept:
        logits_BL = model(image_BCHW, meta_B3).logits
        (features,) = kept
        found = []
        for label in labels:
            (slope,) = torch.autograd.grad(logits_BL[:, label].sum(), features, retain_graph=True)
            found.append(_weighted(layer.as_map(features.detach()), layer.as_map(slope)))
    return torch.stack(found, dim=1)


def _weighted(features: Tensor, slope: Tensor) -> Tensor:
    """Return ReLU(sum over k of a_k A_k), (B, h, w)."""
    weights = slope.float().mean(dim=(2, 3), keepdim=True)
    return (weights * features.float()).sum(dim=1).relu()


@contextmanager
def _kept(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Keep what `layer` puts out, as the leaf of a new graph: frozen layers before it need no gradient."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        kept[:] = [leaf]
        return leaf

    handle = layer.register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def last_layer(model: nn.Module, image_BCHW: Tensor, meta_B3: Tensor) -> Layer:
    """Return the last layer that puts out a map of more than one place; of a vision transformer of timm, patches.

    Raises UserError where there is none.
    """
    found = _last_map(model, image_BCHW, meta_B3) or _last_patches(model, image_BCHW)
    if found is None:
        raise UserError(
            f"{_name(model)}: has no last map of features, and no blocks of patches, that could be shown",
            remedy="explain a network of convolutions, a transformer of timm: with blocks of one size (vit, deit, "
            "eva02), or one with --set model.options.head=maps",
        )
    return found


def _unchanged(features: Tensor) -> Tensor:
    return features


def _channels_first(features_BHWC: Tensor) -> Tensor:
    return features_BHWC.permute(0, 3, 1, 2)


def _last_patches(model: nn.Module, image_BCHW: Tensor) -> Layer | None:
    """Return what the last block of a transformer of timm attends to, as a map; None where it is no such network.

    Not what the block puts out: of a network that is read off its class token the patches have no gradient there. It is
    the layer that pytorch-grad-cam names for vision transformers, too. Class and register tokens come first.
    """
    net: Any = getattr(getattr(model, "backbone", None), "net", None)
    blocks, embed = getattr(net, "blocks", None), getattr(net, "patch_embed", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not hasattr(embed, "dynamic_feat_size"):
        return None
    module = getattr(blocks[-1], "norm1", None)
    if not isinstance(module, nn.Module):
        return None
    rows, columns = cast(Any, embed).dynamic_feat_size(tuple(image_BCHW.shape[2:]))

    def as_map(tokens_BTC: Tensor) -> Tensor:
        patches_BPC = tokens_BTC[:, tokens_BTC.shape[1] - rows * columns :]
        return patches_BPC.transpose(1, 2).reshape(len(patches_BPC), -1, rows, columns)

    return Layer(module, as_map, "the patches that the last block attends to")


def _last_map(model: nn.Module, image_BCHW: Tensor, meta_B3: Tensor) -> Layer | None:
    """Return the module that puts out the last map of more than one place; None where tokens come after it."""
    seen: list[tuple[nn.Module, tuple[int, ...]]] = []

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append((module, tuple(output.shape)))

    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.inference_mode():
            model(image_BCHW, meta_B3)
    finally:
        for handle in handles:
            handle.remove()
    channels = getattr(getattr(model, "backbone", None), "channels", None)
    found = None
    for module, shape in seen:
        if len(shape) == 4:
            last = channels is not None and shape[1] != channels and shape[3] == channels
            places = shape[1] * shape[2] if last else shape[2] * shape[3]
            if places > 1:
                found = Layer(module, _channels_first if last else _unchanged, "the last map of features")
        elif len(shape) == 3 and shape[1] > 1:
            found = None  # tokens: what stood before them is far from what the network says
    return found


def _of_library(method: str, model: nn.Module, layer: Layer) -> Attribution:
    try:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        raise UserError(
            f"--method {method}: needs the package grad-cam, which is not installed",
            remedy="pip install 'cxrkit[explain]', or choose --method cam or grad-cam",
        ) from None
    from importlib.metadata import version

    def compute(image_BCHW: Tensor, meta_B3: Tensor, labels: Sequence[int]) -> Tensor:
        of_logits = _Logits(model, meta_B3)
        found = []
        made = getattr(pytorch_grad_cam, LIBRARY[method])
        # The input asks for a gradient, so that frozen layers pass one on.
        with made(of_logits, [layer.module], reshape_transform=layer.as_map) as cam, torch.enable_grad():
            cam.compute_input_gradient = True
            for label in labels:
                maps = cam(image_BCHW, [ClassifierOutputTarget(label)] * len(image_BCHW))
                found.append(torch.from_numpy(maps))
        return torch.stack(found, dim=1).float()

    return Attribution(method, f"{LIBRARY[method]} of grad-cam {version('grad-cam')}", compute)


class _Logits(nn.Module):
    """A network as the library wants it: from an image alone to logits."""

    def __init__(self, model: nn.Module, meta_B3: Tensor) -> None:
        super().__init__()
        self.model, self.meta_B3 = model, meta_B3

    def forward(self, image_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.model(image_BCHW, self.meta_B3).logits
        return logits


def _name(model: nn.Module) -> str:
    spec = getattr(model, "spec", None)
    return f"model {spec.name!r}" if spec is not None else type(model).__name__
