"""The paper's check that age, sex and view position alone say something (section 2.4: average AUC 0.61)."""

from __future__ import annotations

from torch import Tensor, nn

from cxrkit.base.contracts import Outputs
from cxrkit.models.grammar import MLP_HIDDEN, ModelSpec
from cxrkit.models.precision import in_float32


class MetaMLP(nn.Module):
    """A perceptron with two hidden layers over the three non-image features; it never looks at the image."""

    def __init__(self, spec: ModelSpec, outputs: int) -> None:
        super().__init__()
        self.spec = spec
        layers: list[nn.Module] = []
        width = 3
        for hidden in MLP_HIDDEN:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        """Return the logits of `meta_B3` alone."""
        return Outputs(in_float32(self.layers, meta_B3))
