"""Networks of others as backbones: torchvision's, timm's, torchxrayvision's. Their heads are left out.

A name says where it is from: `torchvision:densenet121`, `timm:convnext_tiny`, `xrv:densenet121-res224-nih`. A backbone
gives a map of features, and the vector that its authors pool it to; what is made of them is for composed.py. Parameters
keep their authors' names behind "net.", so that their weights load as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from cxrkit.base.errors import UserError
from cxrkit.base.registry import unknown

if TYPE_CHECKING:
    from types import ModuleType

Forward = Callable[[Any, Tensor], Tensor]


class Backbone(nn.Module):
    """A network without its head."""

    def __init__(self, net: nn.Module, channels: int, maps: Forward, pooled: Forward | None = None) -> None:
        """Take `net`; maps: from it and an image to (B, channels, h, w); pooled: to (B, features), default the mean."""
        super().__init__()
        self.net = net
        self.name = ""  # as `build` was asked for it: whose weights it takes
        self.channels = channels  # of the map
        # A few networks (MobileNetV3) have a layer behind the pooling, too.
        self.features = getattr(net, "head_hidden_size", channels) if pooled else channels
        self._maps, self._pooled = maps, pooled

    @property
    def pools_average(self) -> bool:
        """Whether `forward` is the mean of `maps` over all places."""
        return self._pooled is None

    def maps(self, image_BCHW: Tensor) -> Tensor:
        """Return the last map of features, (B, channels, h, w), of a normalised image."""
        return self._maps(self.net, image_BCHW)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Return the features pooled as the authors of the network do, (B, features)."""
        if self._pooled is None:
            return self.maps(image_BCHW).mean(dim=(2, 3))
        return self._pooled(self.net, image_BCHW)


def build(
    name: str, *, channels: int, input_size: int, drop_path: float = 0.0, options: Mapping[str, Any] | None = None
) -> Backbone:
    """Return the backbone `name` with fresh parameters, drawn from torch's global generator.

    channels: of the image, 1 or 3. input_size: in pixels, for networks that are built for one. drop_path: the share of
    residual branches that are left out in training, where the network knows of it (stochastic depth). options: of the
    function that builds it in its package, such as depth and width (timm's resnet50: layers, channels; its densenet121:
    block_config, growth_rate). Raises UserError for an unknown network, a missing package, and for an option that the
    network does not take.
    """
    if not isinstance(options or {}, Mapping):
        raise UserError(
            f"model {name!r}: backbone_options is {options!r}, expected a table",
            remedy="write it as --set 'model.options.backbone_options={depth = 4, scale = true}', a table of TOML",
        )
    # Lists, as TOML has them, are tuples where networks ask what they are.
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in (options or {}).items()}
    source, _, of = name.partition(":")
    sources = {"torchvision": _torchvision, "timm": _timm, "xrv": _xrv}
    if not of or source not in sources:
        raise UserError(
            f"backbone {name!r}: expected one of torchvision, timm or xrv, a colon and a network",
            remedy="name it as torchvision:resnet50 or timm:convnext_tiny",
        )
    build_one = sources[source]
    made = build_one(of, channels, input_size, drop_path, options)
    made.name = name
    return made


def _package(name: str, what: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{what}: needs the package {name}", remedy=f"pip install {name}") from None


def _torchvision(name: str, channels: int, input_size: int, drop_path: float, options: dict[str, Any]) -> Backbone:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise unknown("torchvision network", name, models.list_models(module=models))
    family = next((family for family in _MAPS if name.startswith(family)), None)
    if family is None:
        raise UserError(
            f"model 'torchvision:{name}': its map of features is not known here",
            remedy=f"choose one of {', '.join(_MAPS)}, or look for it in timm",
        )
    if drop_path and family in ("convnext", "efficientnet"):
        options["stochastic_depth_prob"] = drop_path
    elif drop_path:
        raise UserError(f"model 'torchvision:{name}': takes no drop_path", remedy="leave it out")
    try:
        net = models.get_model(name, weights=None, **options)
    except (TypeError, ValueError) as error:
        raise _not_built("torchvision", name, options, error) from None
    features = _without_head(net)
    if channels != 3:
        _other_channels(net, channels)
    return Backbone(net, features, _MAPS[family], _convnext_pooled if family == "convnext" else None)


def _not_built(package: str, name: str, options: Mapping[str, Any], error: Exception) -> UserError:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        f"model '{package}:{name}' with {dict(options)}: {package} cannot build it ({line})",
        remedy="correct model.options.backbone_options; depth and width can be chosen for most networks of timm",
    )


def _without_head(net: Any) -> int:
    """Put nothing in the place of the last dense layer and what belongs to it; returns how many features it had."""
    for name in ("fc", "classifier", "head", "heads"):
        head = getattr(net, name, None)
        if isinstance(head, nn.Module):
            first = next(module for module in head.modules() if isinstance(module, nn.Linear))
            if name == "classifier" and isinstance(net.features, nn.Module) and hasattr(net, "avgpool"):
                features = _last_channels(net.features, first.in_features)
            else:
                features = first.in_features
            if isinstance(head, nn.Sequential) and not isinstance(head[0], nn.Linear | nn.Dropout):
                head[-1] = nn.Identity()  # ConvNeXt normalises what it has pooled: that is part of the features
            else:
                setattr(net, name, nn.Identity())
            return features
    raise AssertionError("a network of torchvision has a head")


def _last_channels(features: nn.Module, flat: int) -> int:
    """Return the channels of a feature map: VGG's dense layer takes all its 7 x 7 places."""
    widths = [module.out_channels for module in features.modules() if isinstance(module, nn.Conv2d)]
    return flat if flat in widths or not widths else widths[-1]


def _other_channels(net: nn.Module, channels: int) -> None:
    """Give the first convolution another number of input channels."""
    for parent in net.modules():
        for name, module in parent.named_children():
            if isinstance(module, nn.Conv2d):
                fresh = nn.Conv2d(
                    channels,
                    module.out_channels,
                    module.kernel_size,  # type: ignore[arg-type]
                    module.stride,  # type: ignore[arg-type]
                    module.padding,  # type: ignore[arg-type]
                    bias=module.bias is not None,
                )
                nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
                setattr(parent, name, fresh)
                return


def _through_stages(net: Any, image: Tensor) -> Tensor:
    x = net.maxpool(net.relu(net.bn1(net.conv1(image))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))  # type: ignore[no-any-return]


def _densenet(net: Any, image: Tensor) -> Tensor:
    return net.features(image).relu()  # type: ignore[no-any-return]


def _features(net: Any, image: Tensor) -> Tensor:
    return net.features(image)  # type: ignore[no-any-return]


def _convnext(net: Any, image: Tensor) -> Tensor:
    return net.classifier[0](net.features(image))  # type: ignore[no-any-return]


def _convnext_pooled(net: Any, image: Tensor) -> Tensor:
    return net.classifier(net.avgpool(net.features(image)))  # type: ignore[no-any-return]


def _regnet(net: Any, image: Tensor) -> Tensor:
    return net.trunk_output(net.stem(image))  # type: ignore[no-any-return]


def _swin(net: Any, image: Tensor) -> Tensor:
    return net.permute(net.norm(net.features(image)))  # type: ignore[no-any-return]


_MAPS: dict[str, Forward] = {
    "resnet": _through_stages,
    "resnext": _through_stages,
    "wide_resnet": _through_stages,
    "densenet": _densenet,
    "convnext": _convnext,
    "efficientnet": _features,
    "mobilenet": _features,
    "vgg": _features,
    "regnet": _regnet,
    "swin": _swin,
}


def _timm(name: str, channels: int, input_size: int, drop_path: float, options: dict[str, Any]) -> Backbone:
    timm = _package("timm", f"model 'timm:{name}'")
    architecture = name.partition(".")[0]  # behind a dot stand weights, which are asked for by themselves
    if not timm.is_model(architecture):
        raise unknown("timm network", architecture, timm.list_models())
    given = dict(options)
    if drop_path:
        options["drop_path_rate"] = drop_path
    needs_size = timm.get_pretrained_cfg(architecture)
    if needs_size is not None and needs_size.fixed_input_size:
        options["img_size"] = input_size
    try:
        net = timm.create_model(architecture, pretrained=False, in_chans=channels, num_classes=0, **options)
    except (TypeError, RuntimeError, AssertionError, ValueError) as error:
        if given:
            raise _not_built("timm", name, given, error) from None
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"model 'timm:{name}' at {input_size} px: timm cannot build it ({line})",
            remedy="choose an input size that it takes, or leave out drop_path",
        ) from None
    return Backbone(net, net.num_features, _timm_maps, _timm_pooled)


def _timm_maps(net: Any, image: Tensor) -> Tensor:
    x: Tensor = net.forward_features(image)
    if x.ndim == 4:  # Swin has its channels last
        return x if x.shape[1] == net.num_features else x.permute(0, 3, 1, 2)
    if not hasattr(net, "forward_intermediates"):
        raise UserError(
            f"model {type(net).__name__}: timm gives no map of its features",
            remedy="leave pooling at its authors' own, or choose another network",
        )
    tokens: Tensor = net.forward_intermediates(image, indices=1, norm=True, intermediates_only=True)[-1]
    return tokens


def _timm_pooled(net: Any, image: Tensor) -> Tensor:
    return net.forward_head(net.forward_features(image), pre_logits=True)  # type: ignore[no-any-return]


def _xrv(name: str, channels: int, input_size: int, drop_path: float, options: dict[str, Any]) -> Backbone:
    xrv = _package("torchxrayvision", f"model 'xrv:{name}'")
    if not name.startswith("densenet121") or drop_path:
        raise UserError(
            f"model 'xrv:{name}': of torchxrayvision the densenet121 networks are known here",
            remedy="choose xrv:densenet121-res224-all, -nih, -pc, -chex, -mimic_nb, -mimic_ch or -rsna",
        )
    if channels != 1:
        raise UserError(f"model 'xrv:{name}': takes 1 channel, not {channels}", remedy="leave channels at 1")
    try:
        net = xrv.models.DenseNet(weights=None, **options)
    except TypeError as error:
        raise _not_built("xrv", name, options, error) from None
    features = net.classifier.in_features
    net.classifier = nn.Identity()
    return Backbone(net, features, _densenet)
