"""Models: `spec` says what a name means, `build` builds it, `prepare_input` makes what it eats.

Importing this package imports no torch; the functions do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit import registry
from cxrkit.errors import UserError
from cxrkit.models import grammar
from cxrkit.models.grammar import ModelSpec, parse

if TYPE_CHECKING:
    import torch

__all__ = ["ModelSpec", "build", "build_network", "parse", "prepare_input", "spec"]


def spec(name: str) -> ModelSpec:
    """Return the spec of any model name: at once for the grammar's, by building it for the user's own.

    Raises UserError for an unknown name or a function that returns no model.
    """
    return build(name).spec if _is_own(name) else parse(name)  # type: ignore[return-value]


def build(name: str, *, weights: Path | None = None, pretrained: bool = True, seed: int = 0) -> torch.nn.Module:
    """Return the model on the CPU, in training mode; its attribute `spec` is its ModelSpec.

    It maps a normalised image (B, C, H, W) and meta (B, 3) to logits (B, 15). Image networks also have
    `features(image)`, (B, spec.features). Initial parameters are a pure function of `name` and `seed`; torch's global
    random state is left as it was.

    weights: a file for -ots and -ft in place of torchvision's ImageNet weights.
    pretrained: False leaves -ots and -ft without ImageNet weights, for a checkpoint to be loaded afterwards.

    Raises UserError for an unknown name, for weights that cannot be had or do not fit, and for an own function that
    does not return a model with a spec.
    """
    import torch

    own = _is_own(name)
    model_spec = None if own else parse(name)
    if weights is not None and not (model_spec and model_spec.pretrained):
        raise UserError(
            f"--weights {weights}: {name} does not start from ImageNet weights",
            remedy="leave out --weights, or choose resnet50-ft or resnet50-ots, with or without -meta",
        )
    with torch.random.fork_rng(devices=[]):  # built on the CPU, so only its generator is used
        torch.manual_seed(seed)
        model = _own(name) if model_spec is None else build_network(model_spec)
    if pretrained and model_spec is not None and model_spec.pretrained:
        from cxrkit.models.weights import load

        load(model, weights)  # type: ignore[arg-type]
    return model


def build_network(spec: ModelSpec) -> torch.nn.Module:
    """Return the grammar's network for `spec`, without ImageNet weights, drawing from torch's global generator."""
    if not spec.blocks:
        from cxrkit.models.mlp import MetaMLP

        return MetaMLP(spec)
    from cxrkit.models.resnet import ResNet

    return ResNet(spec)


def prepare_input(image_B1HW: torch.Tensor, spec: ModelSpec, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return what the model eats: (B, spec.channels, H, W), normalised, channels_last, float32 or `dtype`.

    image_B1HW: gray levels 0 to 255, uint8. They are scaled to [0, 1], repeated for each channel, and normalised with
    the spec's mean and std per channel. This is the only place that does so; it runs on the image's device, and
    torch.compile fuses it.
    """
    import torch

    image = image_B1HW.to(torch.float32)
    # (x / 255 - mean) / std as one multiplication and one addition, with Python numbers: no copies to the device.
    channels = [image * (1 / (255 * std)) - mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
    normalised = channels[0] if len(channels) == 1 else torch.cat(channels, dim=1)
    return normalised.to(dtype or torch.float32).contiguous(memory_format=torch.channels_last)


def _is_own(name: str) -> bool:
    """Whether `name` is the user's: package.module:function, or an entry point of an installed package."""
    return ":" in name or (name not in grammar.SPECS and name in registry.names("model"))


def _own(name: str) -> torch.nn.Module:
    """Call the user's function, without arguments, and check what it returns."""
    import torch

    function: Callable[[], Any] = registry.load("model", name)
    model = function()
    found = getattr(model, "spec", None)
    if not isinstance(model, torch.nn.Module) or not isinstance(found, ModelSpec):
        what = f"one whose spec is a {type(found).__name__}" if isinstance(model, torch.nn.Module) else repr(model)
        raise UserError(
            f"model {name!r}: expected a torch.nn.Module with an attribute `spec` (cxrkit.models.ModelSpec), "
            f"found {what}",
            remedy="in the function, set model.spec = ModelSpec(name='mine', input_size=224, ...) and return the model",
        )
    if len(found.mean) != found.channels or len(found.std) != found.channels:
        raise UserError(
            f"model {name!r}: its spec has {found.channels} channels, but {len(found.mean)} values in mean "
            f"and {len(found.std)} in std",
            remedy="give one mean and one std for each input channel",
        )
    # The name that rebuilds it is what a run folder must remember.
    model.spec = replace(found, name=name, source="own")  # type: ignore[assignment]
    return model
