"""What makes scored predictions hard to believe: a finished model does better than chance."""

from __future__ import annotations

from collections.abc import Iterator

from cxrkit.base.contracts import Metric
from cxrkit.runs.scores import Scores

# So near to 0.5 no finished model is expected: no published result (data_manifests/published/literature.toml) has a
# mean below 0.67.
NEAR_CHANCE = 0.05


def of(scores: Scores) -> Iterator[str]:
    """Yield why the predictions of each subset are doubtful, if they are."""
    for name, part in scores.subsets.items():
        mean = part.metric("auc")
        if mean is None or mean.value is None:
            continue
        said = f"the mean AUC on {name}, {mean.value:.3f}, is"
        if _is_chance(mean):
            yield f"{said} that of chance, or hardly more: are rows and columns in the order of their names?"
        elif mean.value < 0.5:
            yield f"{said} below 0.5: do high scores stand for the absence of a finding?"


def _is_chance(mean: Metric) -> bool:
    """Whether a mean is near 0.5, or its interval holds 0.5."""
    assert mean.value is not None
    if abs(mean.value - 0.5) < NEAR_CHANCE:
        return True
    return mean.lower is not None and mean.upper is not None and mean.lower <= 0.5 <= mean.upper
