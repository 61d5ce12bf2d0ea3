"""The loss of Li et al. 2018: image labels for most images, and boxes for the few that have them."""

from __future__ import annotations

import torch
from torch import Tensor

from cxrkit.base.contracts import Batch, Outputs
from cxrkit.base.errors import UserError
from cxrkit.losses.cross_entropy import cross_entropy
from cxrkit.models.pooling import log_share


class MilBox:
    """Multiple-instance learning with boxes (Li et al. 2018, arXiv 1711.06373, section 3.2).

    Of image i and label k, with p_j the probability at place j of P x P:

        boxed:   p = product over places in the box of p_j * product over the others of (1 - p_j)
        others:  p = 1 - product over all places of (1 - p_j), which the network's own logits are (noisy-or)
        loss = sum over i, k of -lambda eta log p_boxed - (1 - eta) (y log p + (1 - y) log(1 - p)),  eta = 1 if boxed

    As there, lambda is 5, a place is in the box where the box touches it, and before the products p_j and 1 - p_j are
    scaled from [0, 1] to [floor, 1], 0.98; everything is computed in logarithms. Here it is the mean over images and
    labels of which something is known (a sum would make the learning rate hang on the batch), and a box that a crop has
    cut off altogether leaves its label to the image's.
    """

    def __init__(self, places: int = 16, weight: float = 5.0, floor: float = 0.98) -> None:
        """places: P of the network's maps, and of Batch.region. weight: lambda. floor: of the scaling.

        Raises UserError for values that cannot be.
        """
        if places < 1 or weight < 0 or not 0 <= floor < 1:
            raise UserError(
                f"loss 'mil-box': places={places}, weight={weight}, floor={floor}",
                remedy="give at least 1 place, a weight of 0 or more and a floor of 0 to below 1",
            )
        self.region_places, self.weight, self.floor = places, weight, floor

    def __call__(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the loss; where no image of the batch can have a box (`region` is None), that of image labels alone.

        Raises UserError where the network has no maps of P x P places.
        """
        entropy_BL, known_BL = cross_entropy(outputs.logits, batch.target)
        if batch.region is None:
            return entropy_BL.sum() / known_BL.sum().clamp(min=1)
        self._check(outputs)
        assert outputs.maps is not None
        inside_BLN, maps_BLN = batch.region.flatten(2) > 0, outputs.maps.float().flatten(2)
        boxed_BL = inside_BLN.any(dim=2) & (batch.target > 0.5)
        right_BLN = torch.where(inside_BLN, maps_BLN, -maps_BLN)  # the logit of what the box says of a place
        log_p_BL = log_share(right_BLN, self.floor).sum(dim=2)
        loss_BL = torch.where(boxed_BL, -self.weight * log_p_BL, entropy_BL)
        return loss_BL.sum() / known_BL.sum().clamp(min=1)

    def _check(self, outputs: Outputs) -> None:
        wanted = (self.region_places, self.region_places)
        found = None if outputs.maps is None else tuple(outputs.maps.shape[2:])
        if found != wanted:
            what = "no maps" if found is None else f"maps of {found[0]} x {found[1]} places"
            raise UserError(
                f"loss 'mil-box': expected maps of {wanted[0]} x {wanted[1]} places, found {what}",
                remedy="train model li2018, and give model.options.places and loss.options.places the same number",
            )
