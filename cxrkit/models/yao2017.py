"""Yao et al. 2017, "Learning to diagnose from scratch by exploiting dependencies among labels" (arXiv 1710.10501).

A compact DenseNet that is trained from scratch at a raised resolution codes the image, an LSTM says the labels one
after the other (label_sequence.py). Read for this toolkit: the abstract and a review; its full text was not. Depth,
growth, widths and order are our choice. With ChestX-ray14's labels it has 1.87 million parameters, 0.76 million without
the decoder; we remember about one million of theirs:

    512 x 512 -> 7 x 7 convolution and max-pooling (128) -> dense blocks of 4, 4, 8, 8 and 8 layers of growth 16, halved
    in resolution and channels between (128, 64, 32, 16, 8) -> average -> dense layer, the image code
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cxrkit.base.contracts import Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14, NO_FINDING, LabelSet
from cxrkit.models.dense_blocks import DenseBlock, normalised_convolution, stem
from cxrkit.models.grammar import ModelSpec
from cxrkit.models.label_sequence import FEEDBACKS, LabelSequence, decode
from cxrkit.models.precision import in_float32
from cxrkit.models.specs import image_spec

# ChestX-ray14's pathologies by falling number of images; "No Finding", which that paper has not, follows from them.
BY_FREQUENCY = (
    "Infiltration",
    "Effusion",
    "Atelectasis",
    "Nodule",
    "Mass",
    "Pneumothorax",
    "Consolidation",
    "Pleural_Thickening",
    "Cardiomegaly",
    "Emphysema",
    "Edema",
    "Fibrosis",
    "Pneumonia",
    "Hernia",
    NO_FINDING,
)


class Encoder(nn.Sequential):
    """The dense network up to its pooled features, (B, `width`)."""

    def __init__(self, channels: int, first: int, blocks: Sequence[int], growth: int, compression: float) -> None:
        """first: channels of the 7 x 7 convolution. compression: share of the channels that a transition keeps."""
        parts: list[nn.Module] = [stem(channels, first)]
        width = first
        for number, layers in enumerate(blocks):
            if number:
                kept = max(1, int(width * compression))
                parts += [normalised_convolution(width, kept, 1), nn.AvgPool2d(2)]
                width = kept
            block = DenseBlock(width, layers, growth)
            parts.append(block)
            width = block.channels
        parts += [nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*parts)
        self.width = width


class Yao2017(nn.Module):
    """The encoder, and the LSTM over the labels or, in its twin, a dense layer."""

    def __init__(self, spec: ModelSpec, encoder: Encoder, code: int, labels: int, sequence: LabelSequence | None):
        super().__init__()
        self.spec, self.encoder = spec, encoder
        self.code = nn.Linear(encoder.width, code)
        self.sequence = sequence
        self.fc = None if sequence is not None else nn.Linear(code, labels)
        self.greedy = False

    def features(self, image_BCHW: Tensor) -> Tensor:
        """Return the image code, (B, D) float32, of a normalised image."""
        return torch.relu(in_float32(self.code, self.encoder(image_BCHW)))

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        """Return the logits under the network's own feedback, and what `decode` needs for the teacher's."""
        code_BD = self.features(image_BCHW)
        if self.fc is not None:
            return Outputs(in_float32(self.fc, code_BD))
        assert self.sequence is not None
        with torch.autocast(code_BD.device.type, enabled=False):
            tensors = self.sequence.as_tensors(code_BD)
            return Outputs(decode(tensors, greedy=self.greedy), extra=tensors)


def build(
    labels: LabelSet,
    *,
    decoder: bool = True,
    feedback: str = "soft",
    order: Sequence[str] | None = None,
    first: int = 32,
    growth: int = 16,
    blocks: Sequence[int] = (4, 4, 8, 8, 8),
    compression: float = 0.5,
    code: int = 512,
    hidden: int = 256,
    embedding: int = 64,
    input_size: int = 512,
    resize: int | None = None,
    channels: int = 1,
) -> Yao2017:
    """Return the network with fresh parameters.

    decoder: false for its twin, a dense layer in the place of the LSTM. feedback: soft or greedy. order: the labels as
    they are said, by default by falling frequency of ChestX-ray14's, or as the label set has them. embedding: length of
    the vector of a label said before. Raises UserError for a feedback or an order that cannot be.
    """
    if feedback not in FEEDBACKS:
        raise UserError(f"model 'yao2017': feedback={feedback!r}", remedy=f"choose {' or '.join(FEEDBACKS)}")
    if order is None:
        order = BY_FREQUENCY if labels.name == CHESTXRAY14.name else labels.labels
    if sorted(order) != sorted(labels.labels):
        wrong = set(order) ^ set(labels.labels) or {label for label in order if list(order).count(label) > 1}
        raise UserError(
            f"model 'yao2017': its order has not each label of {labels.name} once; look at {', '.join(sorted(wrong))}",
            remedy="give every label once, or leave order out",
        )
    encoder = Encoder(channels, first, blocks, growth, compression)
    places = [labels.labels.index(label) for label in order]
    sequence = LabelSequence(places, code, hidden, embedding) if decoder else None
    spec = image_spec("yao2017", input_size=input_size, resize=resize, channels=channels)
    model = Yao2017(spec, encoder, code, len(labels), sequence)
    model.greedy = feedback == "greedy"
    return model
