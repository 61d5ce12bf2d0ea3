"""Do the probabilities mean what they say? Brier score, calibration error, and two ways to mend them.

One temperature for all labels, fitted on val (Guo et al. 2017), undoes over- and under-confidence. A correction for the
shift in prevalence (Saerens, Latinne and Decaestecker, Neural Computation 14 (2002), 21-41) is for test sets that were
drawn otherwise than the training images: on the official split, 2.8 % of val and 10.4 % of test have a pneumothorax.
Neither of the two changes an AUC of a label. scores: probabilities; truth: True where the image has the label; pairs of
image and label that are not known are for the caller to leave out, or `known_NL` says which are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
# Sigmoids in float32 reach 0 and 1, whose logits are infinite. They are taken for numbers next to them that no other
# float32 has, so that no rank is lost: logits of -103 and 17.
NEXT_TO_0, NEXT_TO_1 = float(np.finfo(np.float32).smallest_subnormal) / 2, 1 - float(np.finfo(np.float32).eps) / 4
TEMPERATURES = (0.02, 50.0)  # where the fitted one is looked for


@dataclass(frozen=True)
class ReliabilityBin:
    """A point of the reliability curve."""

    images: int
    """How many images are in the bin."""

    mean_score: float
    """What the model says of them on average."""

    observed: float
    """How many of them have the label, as a share."""


def brier(score_N: NDArray[np.floating], truth_N: NDArray[np.bool_]) -> float:
    """Return the mean squared distance of probability and truth (Brier 1950); 0 is perfect, NaN without images."""
    if not len(score_N):
        return float("nan")
    return float(np.mean((np.asarray(score_N, np.float64) - truth_N) ** 2))


def reliability(
    score_N: NDArray[np.floating], truth_N: NDArray[np.bool_], *, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """Return the reliability curve in bins of equally many images, by rising score; empty bins are left out.

    Equal scores are in one bin, that of the lowest of them: otherwise the order of the images would matter.
    """
    score_N = np.asarray(score_N, np.float64)
    order = np.argsort(score_N)
    rising = score_N[order]
    starts = np.append(True, rising[1:] != rising[:-1])[: len(rising)]  # of each run of equal scores
    below_N = np.empty(len(score_N), np.intp)  # how many scores are lower
    below_N[order] = np.maximum.accumulate(np.where(starts, np.arange(len(rising)), 0))
    bin_N = below_N * bins // max(1, len(score_N))
    images_B, score_B, ill_B = (np.bincount(bin_N, what, bins) for what in (None, score_N, truth_N.astype(float)))
    return tuple(
        ReliabilityBin(int(images), float(score / images), float(ill / images))
        for images, score, ill in zip(images_B, score_B, ill_B, strict=True)
        if images
    )


def expected_calibration_error(score_N: NDArray[np.floating], truth_N: NDArray[np.bool_], *, bins: int = BINS) -> float:
    """Return the mean distance of score and observed share over bins of equally many images; NaN without images."""
    if not len(score_N):
        return float("nan")
    curve = reliability(score_N, truth_N, bins=bins)
    return sum(one.images * abs(one.mean_score - one.observed) for one in curve) / len(score_N)


def cross_entropy(
    score_NL: NDArray[np.floating], truth_NL: NDArray[np.bool_], known_NL: NDArray[np.bool_] | None = None
) -> float:
    """Return the mean binary cross-entropy in nats over all known pairs of image and label."""
    return _cross_entropy(*_logits(score_NL, truth_NL, known_NL))


def fit_temperature(
    score_NL: NDArray[np.floating], truth_NL: NDArray[np.bool_], known_NL: NDArray[np.bool_] | None = None
) -> float:
    """Return the one temperature, over all labels, with the lowest cross-entropy; above 1: the model is too sure.

    score_NL, truth_NL: of val. The cross-entropy is convex in 1 / temperature, so there is one lowest; it is looked for
    between 0.02 and 50, and one of these is returned, exactly, where it lies beyond (`is_bound`). NaN where every
    score is 0.5, which no temperature changes.
    """
    from scipy.optimize import minimize_scalar

    logit_P, truth_P = _logits(score_NL, truth_NL, known_NL)
    if not logit_P.any():
        return float("nan")
    coldest, hottest = TEMPERATURES
    found = minimize_scalar(
        lambda inverse: _cross_entropy(inverse * logit_P, truth_P),
        bounds=(1 / hottest, 1 / coldest),
        method="bounded",
        options={"xatol": 1e-7},
    )
    # The search stops a little before its bounds.
    nearest = min(TEMPERATURES, key=lambda bound: abs(1 / bound - found.x))
    return nearest if abs(1 / nearest - found.x) < 1e-5 / nearest else float(1 / found.x)


def is_bound(temperature: float) -> bool:
    """Whether a temperature is where the search ended, so that the best one may lie beyond."""
    return temperature in TEMPERATURES


def apply_temperature(score_NL: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Return the probabilities with their logits divided by `temperature`."""
    logit_NL = _logit(score_NL) / temperature
    return np.asarray(np.exp(-np.logaddexp(0.0, -logit_NL)))


def _logits(
    score_NL: NDArray[np.floating], truth_NL: NDArray[np.bool_], known_NL: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the logits and the truth of the known pairs, flat."""
    known_NL = np.ones(truth_NL.shape, bool) if known_NL is None else known_NL
    return _logit(score_NL[known_NL]), truth_NL[known_NL]


def _logit(score_P: NDArray[np.floating]) -> NDArray[np.float64]:
    inside_P = np.clip(np.asarray(score_P, np.float64), NEXT_TO_0, NEXT_TO_1)
    return np.asarray(np.log(inside_P) - np.log1p(-inside_P))


def _cross_entropy(logit_P: NDArray[np.float64], truth_P: NDArray[np.bool_]) -> float:
    return float(np.mean(np.logaddexp(0.0, np.where(truth_P, -logit_P, logit_P))))


def shift_prior(score_N: NDArray[np.floating], prior: float, new_prior: float) -> NDArray[np.float64]:
    """Return the probabilities for a prevalence of `new_prior` of a model that learned `prior` (equation 2.4)."""
    score_N = np.asarray(score_N, np.float64)
    ill_N = score_N * (new_prior / prior)
    return np.asarray(ill_N / (ill_N + (1 - score_N) * ((1 - new_prior) / (1 - prior))))


def estimate_prior(score_N: NDArray[np.floating], prior: float) -> float:
    """Return the prevalence among these images, found without their labels, of a model that learned `prior`.

    That with the highest likelihood of the scores: where the expectation-maximisation of equation 2.9 ends, found as
    the root of the derivative, since its steps may be thousands. It presumes calibrated probabilities (so fit the
    temperature first) and that only the prevalence differs. prior: in (0, 1).
    """
    from scipy.optimize import brentq

    score_N = np.asarray(score_N, np.float64)
    ill_N, healthy_N = score_N / prior, (1 - score_N) / (1 - prior)
    surplus_N = ill_N - healthy_N

    def slope(prevalence: float) -> float:
        """Return the derivative of the mean log-likelihood; it falls."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.mean(surplus_N / (prevalence * ill_N + (1 - prevalence) * healthy_N)))

    if not surplus_N.any():  # the scores say nothing
        return prior
    if slope(0.0) <= 0:
        return 0.0
    if slope(1.0) >= 0:
        return 1.0
    return float(brentq(lambda share: np.clip(slope(share), -1e300, 1e300), 0.0, 1.0, xtol=1e-12))
