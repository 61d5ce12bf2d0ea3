"""What a network says of its input, for networks that are built by a function of their own."""

from __future__ import annotations

from collections.abc import Sequence

from cxrkit.models.grammar import IMAGENET_MEAN, IMAGENET_STD, NIH_MEAN, NIH_STD, ModelSpec


def image_spec(
    name: str,
    *,
    input_size: int,
    resize: int | None = None,
    channels: int = 1,
    pretrained: bool = False,
    learning_rate: float = 0.001,
    batch_size: int = 16,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ModelSpec:
    """Return the spec of a network that looks at images alone.

    resize: by default the input size, so that validation and test images are the whole film. mean, std: by default
    ImageNet's for 3 channels, ChestX-ray14's for any other number.
    """
    of_imagenet = channels == len(IMAGENET_MEAN)
    return ModelSpec(
        name=name,
        input_size=input_size,
        resize=resize or input_size,
        channels=channels,
        pretrained=pretrained,
        learning_rate=learning_rate,
        batch_size=batch_size,
        mean=tuple(mean or (IMAGENET_MEAN if of_imagenet else NIH_MEAN * channels)),
        std=tuple(std or (IMAGENET_STD if of_imagenet else NIH_STD * channels)),
        blocks=(),
        width=0,
        source="own",
    )
