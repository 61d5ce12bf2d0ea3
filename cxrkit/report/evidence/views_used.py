"""How often, and how, a run's network looked at each test image: as its recipe says, or as `predict --views` did."""

from __future__ import annotations

from cxrkit.loaders.views import resize_for
from cxrkit.models.grammar import ModelSpec
from cxrkit.report.evidence.runs import Run
from cxrkit.runs.config import TrainConfig, recipe_digest
from cxrkit.runs.sections import VIEWS


def views_of(run: Run, config: TrainConfig | None) -> str:
    """Return by which views the predictions were made: those with which the settings have the digest of the scores.

    "none" stands for one look. Where no views give that digest, the config's own are returned; without one, "none".
    """
    if config is None:
        return "none"
    own = config.test.views
    for views in (own, *(name for name in VIEWS if name != own)):
        if recipe_digest(config.with_values({"test.views": views})) == run.scores.recipe_digest:
            return views
    return own


def looked_at(spec: ModelSpec | None, views: str) -> str:
    """Return in words what a network was given of each image; "" of one that looks at none, or is not known."""
    if spec is None or not spec.image:
        return ""
    side = f"{spec.input_size} x {spec.input_size}"
    resize = resize_for(views, spec.input_size, spec.resize)
    scaled = f"scaled to {resize} x {resize} pixels"
    return {
        "none": f"each image once, {scaled}, its centre of {side}",
        "flip": f"each image, {scaled}, its centre of {side} and the mirror image of that, "
        "their probabilities averaged",
        "ten-crop": f"each image, {scaled}, five crops of {side} (centre and corners) and the mirror image of each, "
        "their probabilities averaged",
    }[views]
