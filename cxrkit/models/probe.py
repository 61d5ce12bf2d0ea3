"""The paper's probes: what a network's features say of age, sex and view (Baltruschat et al. 2019, section 3)."""

from __future__ import annotations

from torch import Tensor, nn

from cxrkit.base.contracts import Outputs
from cxrkit.models.grammar import AGE_MEAN, AGE_SD, ModelSpec
from cxrkit.models.precision import in_float32


class Probe(nn.Module):
    """One dense layer on feature vectors that another network has made; these come as the batch's `meta`."""

    def __init__(self, spec: ModelSpec, outputs: int) -> None:
        super().__init__()
        self.spec = spec
        self.fc = nn.Linear(spec.features_in, outputs)

    def forward(self, image_BCHW: Tensor, feature_BF: Tensor) -> Outputs:
        """Return the logits, or years of age, for features (B, spec.features_in); the image is not looked at."""
        found_BL = in_float32(self.fc, feature_BF)
        return Outputs(AGE_MEAN + AGE_SD * found_BL if self.spec.unit else found_BL)
