"""Cross-entropies in which the rarer answer weighs more: over a batch, over a batch's labels, over the training images.

Three systems balance positives and negatives by what they count, and count different things:

    Wang et al. 2017 ("ChestX-ray8", arXiv 1705.02315, section 3.1, W-CEL): over the whole label matrix of a batch,
        weights (|P| + |N|) / |P| for positives and (|P| + |N|) / |N| for negatives
    Guendel et al. 2018 (arXiv 1803.04565): the same, for each label by itself
    Rajpurkar et al. 2017 ("CheXNet", arXiv 1711.05225, section 2.1, its pneumonia network): for each label over the
        training set, weights |N| / (|P| + |N|) and |P| / (|P| + |N|)

Within a label the last weights are the ones before times |P| |N| / (|P| + |N|)^2: what differs is how much a rare label
weighs beside a frequent one. All are means over the known pairs of image and label.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cxrkit.base.contracts import Batch, Loss, Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.losses.cross_entropy import cross_entropy

_WEIGHTS = ("inverse", "other-share")


def batch_weighted(per_label: bool = False) -> Loss:
    """Return the cross-entropy weighted by what a batch counts: W-CEL, which its authors sum instead.

    per_label: count each label by itself; by default all labels are counted together. A batch without any positive, or
    without any negative, has no entropy that its weight would multiply.
    """

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        entropy_BL, known_BL = cross_entropy(outputs.logits, batch.target)
        positive_BL = batch.target > 0.5  # NaN is not
        over = (0,) if per_label else (0, 1)
        positives, known = (what.sum(over).to(entropy_BL) for what in (positive_BL, known_BL))
        for_positives, for_negatives = known / positives.clamp(min=1), known / (known - positives).clamp(min=1)
        return _mean(torch.where(positive_BL, for_positives, for_negatives) * entropy_BL, known_BL)

    return loss


def training_weighted(labels: LabelSet, prevalence: Sequence[float], weights: str = "other-share") -> Loss:
    """Return the cross-entropy weighted for each label by its share of positives in the training set.

    prevalence: that share for each label; filled in from the training images where a recipe does not give it. weights:
    "other-share" as in CheXNet, or "inverse", (|P| + |N|) / |P| and (|P| + |N|) / |N|. Raises UserError for shares or
    weights that cannot be.
    """
    if weights not in _WEIGHTS:
        raise UserError(f"loss option weights={weights!r}", remedy=f"choose {' or '.join(_WEIGHTS)}")
    if len(prevalence) != len(labels) or not all(0 <= share <= 1 for share in prevalence):
        raise UserError(
            f"loss option prevalence: {len(prevalence)} shares, {list(prevalence)}; expected one from 0 to 1 for each "
            f"of {len(labels)} labels",
            remedy=f"leave it out, or give the shares in the order {', '.join(labels.labels)}",
        )
    share_L = torch.tensor(list(prevalence), dtype=torch.float64)
    if weights == "inverse":  # of a label that nobody has, or everybody, one weight multiplies nothing
        for_positives_L, for_negatives_L = (1 / share.clamp(min=1e-12) for share in (share_L, 1 - share_L))
    else:
        for_positives_L, for_negatives_L = 1 - share_L, share_L

    # Brought to the logits' device once: a copy in each step would let a GPU wait, and cannot be recorded in its graph.
    there: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        entropy_BL, known_BL = cross_entropy(outputs.logits, batch.target)
        place = entropy_BL.device, entropy_BL.dtype
        if place not in there:
            there[place] = for_positives_L.to(entropy_BL), for_negatives_L.to(entropy_BL)
        positives_L, negatives_L = there[place]
        return _mean(torch.where(batch.target > 0.5, positives_L, negatives_L) * entropy_BL, known_BL)

    return loss


def _mean(weighted_BL: Tensor, known_BL: Tensor) -> Tensor:
    """Return the mean over what is known; what is not has no entropy, whatever its weight."""
    return weighted_BL.sum() / known_BL.sum().clamp(min=1)
