"""Models: `spec` says what a name means, `build` builds it, `prepare_input` makes what it eats.

A network is built for a label set: it has one output for each label.

Importing this package imports no torch; the functions do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit.base import labels as label_sets
from cxrkit.base import registry
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14, LabelSet
from cxrkit.models import grammar
from cxrkit.models import options as spec_options
from cxrkit.models.grammar import ModelSpec, parse
from cxrkit.models.weights import NOT_SAID, SCRATCH, InitialWeights

if TYPE_CHECKING:
    import torch

    from cxrkit.runs.config import TrainConfig

__all__ = ["InitialWeights", "ModelSpec", "build", "build_network", "parse", "prepare_input", "spec", "spec_of"]


def spec(name: str, *, labels: LabelSet = CHESTXRAY14, options: Mapping[str, Any] | None = None) -> ModelSpec:
    """Return the spec of any model name: at once for the grammar's, by building it for the user's own.

    Raises UserError for an unknown name or option, or a function that returns no model.
    """
    if _is_own(name):
        return build(name, labels=labels, options=options, pretrained=False).spec  # type: ignore[return-value]
    return spec_options.apply(parse(name), options or {})


def spec_of(config: TrainConfig, data: Path | None = None) -> ModelSpec:
    """Return the spec of a config's network; the user's own is built for the labels of the prepared folder.

    data: that folder, by default the config's. Raises UserError as `spec` does; for the user's own network also where
    that folder cannot be read.
    """
    from cxrkit.shards.index import read_description

    labels = CHESTXRAY14
    if _is_own(config.model.name):
        labels = label_sets.get(read_description(data or config.run.data).label_set)
    return spec(config.model.name, labels=labels, options=config.model.options)


def build(
    name: str,
    *,
    labels: LabelSet = CHESTXRAY14,
    options: Mapping[str, Any] | None = None,
    weights: Path | None = None,
    pretrained: bool = True,
    seed: int = 0,
) -> torch.nn.Module:
    """Return the model on the CPU, in training mode. Its attribute `spec` is its ModelSpec, with the options in it.

    It maps a normalised image (B, C, H, W) and meta (B, 3) to Outputs with logits (B, len(labels)). Image networks also
    have `features(image)`, (B, spec.features). Initial parameters are a pure function of the name, the options and
    `seed`; torch's global random state is left as it was. Its attribute `initial_weights` says what it started from.

    options: fields of ModelSpec in place of the name's own (see models/options.py); of an own model, its function's.
    weights: a file for -ots and -ft in place of torchvision's ImageNet weights, or for a backbone of others.
    pretrained: False leaves networks without such weights, for a checkpoint to be loaded afterwards.

    Raises UserError for an unknown name or option, for weights that cannot be had or do not fit, and for an own
    function that does not return a model with a spec.
    """
    import torch

    model_spec = None if _is_own(name) else spec(name, options=options)
    if weights is not None and model_spec is not None and not model_spec.pretrained:
        raise _takes_no_weights(name, weights)
    with torch.random.fork_rng(devices=[]):  # built on the CPU, so only its generator is used
        torch.manual_seed(seed)
        model = _own(name, labels, options) if model_spec is None else build_network(model_spec, labels)
    if model_spec is not None and model_spec.pretrained:
        from cxrkit.models.weights import load

        model.initial_weights = load(model, weights) if pretrained else NOT_SAID  # type: ignore[assignment, arg-type]
    elif model_spec is None:
        model.initial_weights = _started_from(model, name, weights, pretrained)  # type: ignore[assignment]
    return model


def build_network(spec: ModelSpec, labels: LabelSet = CHESTXRAY14) -> torch.nn.Module:
    """Return the grammar's network for `spec`, without ImageNet weights, drawing from torch's global generator.

    A probe has the outputs of its own label set, whatever `labels` says.
    """
    model: torch.nn.Module
    if spec.probe:
        from cxrkit.models.probe import Probe

        model = Probe(spec, len(label_sets.get(spec.probe)))
    elif spec.blocks:
        from cxrkit.models.resnet import ResNet

        model = ResNet(spec, len(labels))
    else:
        from cxrkit.models.mlp import MetaMLP

        model = MetaMLP(spec, len(labels))
    model.initial_weights = SCRATCH  # type: ignore[assignment]
    return model


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
    """Whether `name` is outside the grammar: package.module:function, an installed package's, a backbone of others."""
    return ":" in name or (name not in grammar.SPECS and name in registry.names("model"))


def _takes_no_weights(name: str, weights: Path) -> UserError:
    return UserError(
        f"--weights {weights}: {name} does not start from ImageNet weights",
        remedy="leave out --weights, or choose resnet50-ft or resnet50-ots, with or without -meta",
    )


def _started_from(model: Any, name: str, weights: Path | None, pretrained: bool) -> InitialWeights:
    """Fill a backbone of others from a file, or from its authors' where its options say `pretrained`.

    A network of one's own says itself what it started from.
    """
    from cxrkit.models.backbones import Backbone

    backbone = getattr(model, "backbone", None)
    ours = grammar.is_backbone(name) or name in registry.BUILT_IN["model"]
    if weights is not None and not (ours and isinstance(backbone, Backbone)):
        raise _takes_no_weights(name, weights)
    if not ours:
        return model.initial_weights  # type: ignore[no-any-return]
    weights_of = getattr(model, "weights_of", "")
    if weights is None and not model.spec.pretrained and not weights_of:
        return SCRATCH
    if not pretrained:
        return NOT_SAID
    if weights is None and weights_of:
        raise UserError(
            f"model {name!r}: starts from {weights_of}, and no file is given",
            remedy="get the file from its authors and name it with --weights FILE; to train from random numbers, "
            "--set model.options.weights_of=''",
        )
    from cxrkit.models import fitting

    assert isinstance(backbone, Backbone), "what starts from ImageNet weights has a backbone"
    found = fitting.load(backbone, backbone.name, weights)
    # What the file FILE.toml beside it says goes first.
    return replace(found, declared=weights_of) if weights_of and not found.declared else found


def _factory(name: str, options: Mapping[str, Any] | None) -> Callable[..., Any]:
    """Return the function that builds a model of this name."""
    if not grammar.is_backbone(name):
        return registry.load("model", name)  # type: ignore[no-any-return]
    from cxrkit.models import composed

    if "backbone" in (options or {}):
        raise UserError(f"model {name!r}: unknown option 'backbone'", remedy="its name says what its backbone is")
    return functools.partial(composed.build, backbone=name)


def _own(name: str, labels: LabelSet, options: Mapping[str, Any] | None) -> torch.nn.Module:
    """Call the user's function and check what it returns."""
    import torch

    model = registry.construct("model", name, _factory(name, options), labels, options)
    found = getattr(model, "spec", None)
    if not isinstance(model, torch.nn.Module) or not isinstance(found, ModelSpec):
        what = f"one whose spec is a {type(found).__name__}" if isinstance(model, torch.nn.Module) else repr(model)
        raise UserError(
            f"model {name!r}: expected a torch.nn.Module with an attribute `spec` (cxrkit.models.ModelSpec), "
            f"found {what}",
            remedy="in the function, set model.spec = ModelSpec(name='mine', input_size=224, ...) and return the model",
        )
    # The name that rebuilds it is what a run folder must remember.
    model.spec = replace(found, name=name, source="own")  # type: ignore[assignment]
    spec_options.check(model.spec)  # type: ignore[arg-type]
    if not isinstance(getattr(model, "initial_weights", None), InitialWeights):
        model.initial_weights = NOT_SAID  # type: ignore[assignment]
    return model
