"""Weights of others for a backbone: found in what they were saved in, fitted name by name, and told what did not fit.

What people save around a state dict is taken off: containers ("state_dict", "model", "teacher"), prefixes ("module.",
"backbone."), heads, DenseNet's names of before 2018 ("norm.1"), the layouts that timm knows of. A first convolution for
another number of channels is summed or shared out; timm resamples what belongs to another input size. Nothing in a file
is run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.base.pretraining import read_declared
from cxrkit.models import weights
from cxrkit.models.backbones import Backbone
from cxrkit.models.weights import InitialWeights

_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "net.", "image_encoder.", "visual.", "trunk.", "student.")
_HEADS = (
    "fc.",
    "fc_norm.",
    "classifier.",
    "head.",
    "heads.",
    "head_dist.",
    "decoder",
    "mask_token",
    "lm_head.",
    "segmentation_head.",
    "projector.",
    "op_",
)
# Tables that follow from the layout, and counters that nothing here uses.
_FOLLOWS = ("num_batches_tracked", "relative_position_index", "attn_mask", "relative_coords_table")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
_SHOWN = 3


def load(backbone: Backbone, name: str, file: Path | None = None) -> InitialWeights:
    """Fill `backbone` from a file, by default its authors' own, downloaded; returns what it was.

    name: of the model. A file FILE.toml beside it may declare what it was trained on. Raises UserError for a file that
    cannot be had or read, and for one of which something does not fit, with what that is.
    """
    source = f"the weights of {name}" if file is None else str(file)
    declared = read_declared(file) if file else None
    file = file or download(name)
    state = fitted(backbone.net, weights.read(file))
    differences = _differences(backbone.net, state)
    if differences:
        wanted = len(_wanted(backbone.net))
        shown = "; ".join(differences[:_SHOWN])
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise UserError(
            f"{file}: {wanted - _missing(backbone.net, state)} of {wanted} tensors of {name} are in it; {shown}{more}",
            remedy="give the state dict of this very network, or name the model that the file is of",
        )
    backbone.net.load_state_dict(state, strict=False)  # without what follows from the layout
    return weights.with_declared(InitialWeights(file_digest(file), source), declared)


def download(name: str) -> Path:
    """Return the file of a network's published weights, downloaded where it is not in the cache, and checked.

    torchvision's IMAGENET1K_V1, checked by the digits of its SHA-256 in its name; timm's from the Hugging Face hub.
    Raises UserError, with another way to get the weights, where that fails or there is no file of tensors alone.
    """
    source, _, network = name.partition(":")
    if source == "xrv":
        raise UserError(
            f"{name}: torchxrayvision publishes whole pickled networks, which would have to be run to be read",
            remedy="where you trust them: torch.save(torchxrayvision.models.DenseNet(weights=...).state_dict(), FILE), "
            "then --weights FILE",
        )
    try:
        return (_from_torchvision if source == "torchvision" else _from_hub)(network)
    except (OSError, RuntimeError, ValueError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the weights of {name} could not be downloaded ({line})",
            remedy="name a file with --weights FILE (.pth or .safetensors)",
        ) from error


def _from_torchvision(network: str) -> Path:
    from torchvision.models import get_model_weights

    url = get_model_weights(network)["IMAGENET1K_V1"].url
    file: Path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    digits = re.search(r"-([0-9a-f]{8,})\.", file.name)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digits[1] if digits else None, progress=False)
    if digits and not file_digest(file).startswith(digits[1]):
        raise UserError(
            f"{file}: its SHA-256 does not begin with {digits[1]}, as its name says",
            remedy="delete it, so that it is downloaded again, or name another file with --weights FILE",
        )
    return file


def _from_hub(network: str) -> Path:
    import timm
    from huggingface_hub import hf_hub_download

    about = timm.get_pretrained_cfg(network)
    if about is None or not about.hf_hub_id:
        raise UserError(
            f"timm:{network}: timm knows of no weights for it",
            remedy=f"choose one of timm.list_pretrained('{network.partition('.')[0]}*'), or --weights FILE",
        )
    return Path(hf_hub_download(about.hf_hub_id, about.hf_hub_filename or "model.safetensors"))


def fitted(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of `state` under the names, and as far as that is known in the shapes, of `net`."""
    wanted = net.state_dict()
    found = _as_timm_reads_it(net, _without_prefix(state, wanted))
    found = {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in found.items()}
    found = _with_fresh_norm(found, wanted)
    found = {name: value for name, value in found.items() if name in wanted or not name.startswith(_HEADS)}
    return {name: _for_channels(value, wanted.get(name)) for name, value in found.items()}


def _with_fresh_norm(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Let a transformer that normalises what it has pooled keep the new normalisation that it was built with.

    A masked autoencoder normalises its tokens before they are pooled: that one is left out, as MAE's authors do when
    they fine-tune (main_finetune.py of facebookresearch/mae, and of lambert-x/medical_mae).
    """
    fresh = {name: value for name, value in wanted.items() if name.startswith("fc_norm.") and name not in state}
    if not fresh or "norm.weight" in wanted:
        return state
    return {name: value for name, value in state.items() if name not in ("norm.weight", "norm.bias")} | fresh


def _without_prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take the prefixes off with which most names are the network's."""
    best, found = -1, dict(state)
    current = dict(state)
    for _ in range(len(_PREFIXES)):
        matches = sum(_OLD_DENSENET.sub(r"\1\2", name) in wanted for name in current)
        if matches > best:
            best, found = matches, current
        counts = {prefix: sum(name.startswith(prefix) for name in current) for prefix in _PREFIXES}
        prefix = max(counts, key=counts.__getitem__)
        if not counts[prefix]:
            break
        current = {name.removeprefix(prefix): value for name, value in current.items() if name.startswith(prefix)}
    return found


def _as_timm_reads_it(net: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Let timm rename and resample what it knows of: other repositories' layouts, positions of another input size."""
    module = sys.modules[type(net).__module__]
    read = getattr(module, "checkpoint_filter_fn", None)
    if read is None or not module.__name__.startswith("timm."):
        return state
    try:
        return dict(read(dict(state), net))
    except (KeyError, RuntimeError, AttributeError, ValueError):
        return state  # not a layout that it knows: what does not fit is told by name


def _for_channels(value: Tensor, wanted: Tensor | None) -> Tensor:
    """Return a first convolution's kernels for another number of input channels.

    Three channels to one: their sum, which answers a gray image as the kernels answer it repeated. One to several:
    shared out evenly, which undoes that.
    """
    if wanted is None or value.ndim != 4 or value.shape == wanted.shape:
        return value
    if value.shape[0] != wanted.shape[0] or value.shape[2:] != wanted.shape[2:]:
        return value
    if wanted.shape[1] == 1:
        return value.float().sum(dim=1, keepdim=True).to(value.dtype)
    if value.shape[1] == 1:
        return value.repeat(1, wanted.shape[1], 1, 1) / wanted.shape[1]
    return value


def _wanted(net: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in net.state_dict().items() if not name.endswith(_FOLLOWS)}


def _missing(net: nn.Module, state: Mapping[str, Tensor]) -> int:
    return sum(name not in state or state[name].shape != shape for name, shape in _wanted(net).items())


def _differences(net: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Return in words what of the network is not in the file, or otherwise, and what of the file is not in it."""
    wanted = _wanted(net)
    absent = [f"no {name}" for name in wanted if name not in state]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(shape)}"
        for name, shape in wanted.items()
        if name in state and state[name].shape != shape
    ]
    extra = [f"unexpected {name}" for name in state if name not in wanted and not name.endswith(_FOLLOWS)]
    return [*absent, *shapes, *extra]
