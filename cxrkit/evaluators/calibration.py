"""Do the probabilities mean what they say? Brier score and calibration error, as predicted and as mended.

Mended first by one temperature for all labels, then by a prior for each label:

- temperature: fitted on val by cross-entropy (Guo et al. 2017); it undoes over- and under-confidence.
- prior: what the model learned is taken to be the label's prevalence in val, which is drawn from where the training
  images are from; the prevalence of the evaluated images is estimated from their scores alone, without their labels
  (Saerens, Latinne and Decaestecker 2002). It presumes that only the prevalence differs, and that the probabilities of
  val are about right: those of a label where they are not stay as they are with the temperature.

No AUC of a label changes by either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric, Validation
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import auc
from cxrkit.evaluators.probabilities import Known, known_images, mean_over
from cxrkit.statistics import calibration, intervals, ranking

BRIER, ERROR, TEMPERATURE = "brier", "ece", "temperature"
# What is added to the names of the metrics of mended probabilities.
TEMPERED, SHIFTED = "_tempered", "_shifted"
STAGES = ("", TEMPERED, SHIFTED)
# The correction presumes calibrated probabilities: it is not made where their mean over val is so many times too high,
# or too low.
PRESUMED = 3.0
# Nor where the estimated prevalence is so many times the learned one, or less: what differs is then not the prevalence
# alone. On the official split, test has 3.7 times as many pneumothoraces as val.
CREDIBLE = 10.0
BOUND = "the search ends there, so the best one may lie beyond"  # of a temperature
_NO_INTERVAL = "none: the calibration error of few images in a bin is too high, and a bootstrap adds to it"


@dataclass(frozen=True)
class Fitted:
    """What the validation images say of the probabilities."""

    temperature: float
    """Of all labels; NaN where none changes the scores."""

    priors: tuple[float, ...]
    """Prevalence of each label in val; NaN where no image has it, or every one."""

    means: tuple[float, ...]
    """Mean probability of each label in val, with the temperature; NaN where the label is not known."""


@dataclass(frozen=True)
class Mended:
    """The probabilities of one label."""

    scores: NDArray[np.floating]
    """(N,) probabilities."""

    reason: str = ""
    """What was done to them."""


def evaluate(
    scores_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    clusters_N: NDArray[np.intp],
    labels: LabelSet,
    *,
    validation: Validation | None = None,
    bins: int = calibration.BINS,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Iterator[Metric]:
    """Yield the temperature, then Brier score and calibration error of each label and their means, in three stages.

    Those are "brier" and "ece" as predicted, "brier_tempered" and "ece_tempered" with the temperature,
    "brier_shifted" and "ece_shifted" with the prior's correction on top. validation: what both are found on; without it
    there is the first stage alone. bins: of equally many images each. The Brier scores' intervals are percentiles of
    a bootstrap over patients. Raises UserError for settings that cannot be, and where labels are amounts.
    """
    auc.check_settings(replicates, confidence)
    if bins < 1:
        raise UserError(f"{bins} bins; expected at least 1", remedy=f"{calibration.BINS} is the default")
    known = list(known_images(scores_NL, truth_NL, clusters_N, labels))
    fitted = None if validation is None else fit(validation)
    why = "no validation predictions" if validation is None else "no label is known of the validation images"
    if fitted is not None and math.isnan(fitted.temperature):
        fitted, why = None, "every validation score is 0.5, which no temperature changes"
    if validation is None or fitted is None:
        yield Metric(TEMPERATURE, None, reason=why)
    else:
        reason = f"fitted on {len(validation.truth):,} validation images by cross-entropy"
        if calibration.is_bound(fitted.temperature):
            reason += f"; {BOUND}"
        yield Metric(TEMPERATURE, fitted.temperature, reason=reason)
    how = _How(
        bins,
        ranking.draw(int(clusters_N.max()) + 1, replicates, seed).astype(np.float64),
        confidence,
        f"{100 * confidence:g} % percentiles, {auc.drawn_how(replicates, seed)}",
    )
    mended = [mend(one, fitted, why) for one in known]
    for stage in STAGES:
        of_stage = [(one, stages[stage]) for one, stages in zip(known, mended, strict=True)]
        yield from _of_stage(stage, of_stage, labels, how)


@dataclass(frozen=True)
class _How:
    """How metrics and their intervals are made."""

    bins: int
    weights: NDArray[np.float64]  # (R, K), see ranking.draw
    confidence: float
    words: str


def _of_stage(
    stage: str, probabilities: Sequence[tuple[Known, Mended]], labels: LabelSet, how: _How
) -> Iterator[Metric]:
    """Yield Brier score and calibration error of each label, then their means."""
    briers: dict[str, float | None] = {}
    errors: dict[str, float | None] = {}
    drawn: dict[str, NDArray[np.float64]] = {}
    for one, mended in probabilities:
        brier, drawn[one.label] = _brier(one, mended, stage, how)
        error = _error(one, mended, stage, how.bins)
        briers[one.label], errors[one.label] = brier.value, error.value
        yield brier
        yield error
    if not labels.averaged:
        return
    mean = mean_over(BRIER + stage, briers, labels)
    averaged = [drawn[label] for label in labels.averaged if briers.get(label) is not None]
    if averaged:
        interval = intervals.of_percentiles(np.mean(averaged, axis=0), confidence=how.confidence)
        mean = replace(mean, lower=interval.lower, upper=interval.upper, interval=interval.said(how.words))
    yield mean
    yield replace(mean_over(ERROR + stage, errors, labels), interval=_NO_INTERVAL)


def fit(validation: Validation) -> Fitted | None:
    """Return what the validation images say; None where no label of them is known."""
    known_NL, positive_NL = ~np.isnan(validation.truth), validation.truth > 0.5
    if not known_NL.any():
        return None
    with np.errstate(invalid="ignore"):  # 0 / 0: a label that is not known
        prevalence_L = (positive_NL & known_NL).sum(axis=0) / known_NL.sum(axis=0)
    temperature = calibration.fit_temperature(validation.scores, positive_NL, known_NL)
    # NaN where no temperature changes the scores: they stay as they are, and nothing is fitted.
    tempered_NL = calibration.apply_temperature(validation.scores, 1.0 if np.isnan(temperature) else temperature)
    with np.errstate(invalid="ignore"):
        mean_L = np.where(known_NL, tempered_NL, 0.0).sum(axis=0) / known_NL.sum(axis=0)
    priors = tuple(float(one) if 0 < one < 1 else float("nan") for one in prevalence_L)
    return Fitted(temperature, priors, tuple(mean_L.tolist()))


def mend(one: Known, fitted: Fitted | None, why: str = "") -> dict[str, Mended]:
    """Return the probabilities of a label by stage; those that cannot be mended are empty, with the reason.

    why: there is nothing that is fitted.
    """
    none = Mended(np.empty(0), why)
    if fitted is None:
        return {"": Mended(one.scores), TEMPERED: none, SHIFTED: none}
    tempered_N = calibration.apply_temperature(one.scores, fitted.temperature)
    shifted = _shifted(tempered_N, fitted.priors[one.number], fitted.means[one.number])
    return {"": Mended(one.scores), TEMPERED: Mended(tempered_N), SHIFTED: shifted}


def _shifted(tempered_N: NDArray[np.float64], prior: float, mean: float) -> Mended:
    """Return probabilities for the prevalence of these images, or as they are where they cannot be corrected.

    prior, mean: prevalence and mean probability of the label in val.
    """
    if not len(tempered_N):
        return Mended(tempered_N)
    if np.isnan(prior):
        return Mended(tempered_N, "as tempered: validation images of one kind only")
    if not 1 / PRESUMED <= mean / prior <= PRESUMED:
        words = f"as tempered: the mean probability on val is {mean:.3f}, the prevalence {prior:.3f}"
        return Mended(tempered_N, words)
    estimated = calibration.estimate_prior(tempered_N, prior)
    if not 0 < estimated < 1 or not 1 / CREDIBLE <= estimated / prior <= CREDIBLE:
        return Mended(
            tempered_N, f"as tempered: a prevalence of {estimated:.4f} is estimated, against {prior:.4f} in val"
        )
    words = f"prevalence from {prior:.4f} of val to {estimated:.4f}, estimated from the scores"
    return Mended(calibration.shift_prior(tempered_N, prior, estimated), words)


def _brier(one: Known, mended: Mended, stage: str, how: _How) -> tuple[Metric, NDArray[np.float64]]:
    """Return the Brier score of a label, and its replicates."""
    if not len(mended.scores):
        return _undefined(BRIER + stage, one, mended), np.empty(0)
    distance_N = (np.asarray(mended.scores, np.float64) - one.truth) ** 2
    drawn_R = ranking.drawn_means(distance_N, one.clusters, how.weights)
    found = intervals.of_percentiles(drawn_R, confidence=how.confidence)
    metric = Metric(
        BRIER + stage,
        float(distance_N.mean()),
        one.label,
        found.lower,
        found.upper,
        positives=one.positives,
        negatives=one.negatives,
        reason=mended.reason,
        interval=found.said(how.words),
    )
    return metric, drawn_R


def _error(one: Known, mended: Mended, stage: str, bins: int) -> Metric:
    if not len(mended.scores):
        return _undefined(ERROR + stage, one, mended)
    return Metric(
        ERROR + stage,
        calibration.expected_calibration_error(mended.scores, one.truth, bins=bins),
        one.label,
        positives=one.positives,
        negatives=one.negatives,
        interval=_NO_INTERVAL,
    )


def _undefined(name: str, one: Known, mended: Mended) -> Metric:
    reason = mended.reason if len(one.truth) else "not known of any image"
    return Metric(name, None, one.label, reason=reason, interval=reason)
