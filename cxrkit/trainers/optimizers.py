"""Optimizers of a training: Adam as in the paper, AdamW, or SGD with momentum, over groups of parameters.

All are torch's fused ones, which compute where the parameters are and wait for nothing, so that a step can be recorded.
"""

from __future__ import annotations

from typing import Any

import torch

from cxrkit.base.errors import UserError
from cxrkit.runs.sections import OptimizerSettings
from cxrkit.trainers import layers

SCALE = "cxrkit_scale"  # in a parameter group: the share of the learning rate that it learns at


def build(
    settings: OptimizerSettings, model: torch.nn.Module, name: str, *, rate_on_device: bool
) -> torch.optim.Optimizer:
    """Return the optimizer that the settings ask for, over the parameters of `model`, called `name`, that learn.

    rate_on_device: keep the learning rate where the parameters are, as a recorded step needs it. A rate on the device
    is a float32, one in Python a double: on a CPU the latter, on CUDA always the former, so that it makes no difference
    whether a step is recorded. Raises UserError where nothing learns, and for layers that are not known.
    """
    assert settings.lr is not None, "a resolved config has a rate"
    parts: Any = groups(settings, model, name)
    betas, decay = (settings.beta1, settings.beta2), settings.weight_decay
    optimizer: torch.optim.Optimizer
    if settings.name == "sgd":
        optimizer = torch.optim.SGD(parts, settings.lr, momentum=settings.momentum, weight_decay=decay, fused=True)
        _begin_at_rest(optimizer)
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
        optimizer = kind(parts, settings.lr, betas, weight_decay=decay, fused=True, capturable=rate_on_device)
    if rate_on_device:
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(settings.lr, dtype=torch.float32, device=group["params"][0].device)
    set_rate(optimizer, settings.lr)
    return optimizer


def groups(settings: OptimizerSettings, model: torch.nn.Module, name: str) -> list[dict[str, Any]]:
    """Return the groups of parameters that learn at one rate with one weight decay; one group where all do.

    Raises UserError where nothing learns, and for layers that are not known.
    """
    learning = [(path, parameter) for path, parameter in model.named_parameters() if parameter.requires_grad]
    if not learning:
        raise UserError(
            f"model {name!r}: none of its parameters requires a gradient, so there is nothing to train",
            remedy="let some parameters learn (requires_grad), or choose another --model",
        )
    scales = _scales(settings, model, name)
    exempt = set() if settings.decay_norms else layers.without_decay(model)
    found: dict[tuple[float, bool], dict[str, Any]] = {}
    for path, parameter in learning:
        scale = scales.get(path, 1.0)
        decays = settings.decay_norms or (parameter.ndim > 1 and path not in exempt)
        own: dict[str, Any] = {"params": [], SCALE: scale} | ({} if decays else {"weight_decay": 0.0})
        found.setdefault((scale, decays), own)["params"].append(parameter)
    return list(found.values())


def check(settings: OptimizerSettings, model: torch.nn.Module, name: str) -> None:
    """Refuse, before a training begins, a layer_decay for a network whose layers are not known, with a UserError."""
    _scales(settings, model, name)


def _scales(settings: OptimizerSettings, model: torch.nn.Module, name: str) -> dict[str, float]:
    """Return the share of the rate that each parameter learns at: layer_decay to the power of its layers to the head.

    Clark et al. 2020 (ELECTRA), and Bao et al. 2022 (BEiT) for networks that look at images.
    """
    if settings.layer_decay == 1:
        return {}
    layer = layers.layers(model, name)
    head = max(layer.values())
    return {path: settings.layer_decay ** (head - number) for path, number in layer.items()}


def _begin_at_rest(optimizer: torch.optim.Optimizer) -> None:
    """Give SGD a momentum of zero, which it would make at the first step, and leave as it is where fp16 skips that."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate, of every parameter group its share; in place where it lies on the device."""
    for group in optimizer.param_groups:
        rate = lr * group.get(SCALE, 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
