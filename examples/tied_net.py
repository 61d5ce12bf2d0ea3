"""A model whose two branches share one convolution: two names in its state, one tensor in memory.

cxrkit train --model examples.tied_net:build
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from cxrkit.base.contracts import Outputs
from cxrkit.base.labels import LabelSet
from cxrkit.models import ModelSpec


class TiedNet(nn.Module):
    """The same filters look at the image as it is and at half its resolution."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.spec = ModelSpec("tied-net", input_size=64, resize=72, learning_rate=0.002)
        self.fine = nn.Conv2d(1, 16, 5, stride=2)
        self.coarse = nn.Conv2d(1, 16, 5, stride=2)
        self.coarse.weight = self.fine.weight
        self.dense = nn.Linear(32, outputs)

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        """Return one logit for each label; the metadata are not used."""
        fine, coarse = self.fine(image_BCHW).relu(), self.coarse(avg_pool2d(image_BCHW, 2)).relu()
        return Outputs(self.dense(torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], dim=1)))


def build(labels: LabelSet) -> TiedNet:
    """Return the network for `labels`."""
    return TiedNet(len(labels))
