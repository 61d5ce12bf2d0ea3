"""Where the border of a film lies in the square that a network is given."""

from __future__ import annotations

from cxrkit.base.errors import UserError
from cxrkit.loaders.plan import Plan


def border_pixels(plan: Plan, share: float) -> int:
    """Return how many pixels along each side of the network's input show the outer `share` of the film's side.

    The centre crop leaves out a part of it: of a film scaled to 480 pixels and cut to 448, 16 at each side. Raises
    UserError where all of the border is left out, and where nothing but border would be left.
    """
    if not 0 < share < 0.5:
        raise UserError(f"--border {share:g}: expected a share of the film's side, above 0 and below 0.5",
                        remedy="0.1, a tenth at each side, is the default")  # fmt: skip
    outside = (plan.resize - plan.input_size) / 2
    pixels = round(share * plan.resize - outside)
    if pixels < 1:
        cut = outside / plan.resize
        raise UserError(
            f"--border {share:g}: the network's centre crop leaves out {cut:.3f} of the film at each side, so it sees "
            "none of this border",
            remedy=f"give more than --border {cut:.3f}",
        )
    if 2 * pixels >= plan.input_size:
        raise UserError(f"--border {share:g}: covers all of the network's input", remedy="give a smaller border")
    return pixels
