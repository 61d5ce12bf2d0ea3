"""What differences between runs look like in a table, and the words on how they were found."""

from __future__ import annotations

import math
from collections.abc import Iterable

from cxrkit.report.comparing.contests import Contest, OnFolds, OnImages
from cxrkit.report.document.numbers import p_text, signed
from cxrkit.report.document.tables import ROUGHLY, Cell, Number
from cxrkit.statistics.comparing import TEST_TO_TRAIN, Comparison
from cxrkit.statistics.intervals import APPROXIMATE, MIN_PATIENTS

LEVEL = 0.05  # at which two runs are called different
TOO_FEW_NOTE = (
    f"Patients in brackets: so few have the finding, or have it not, that there is no interval (fewer than "
    f"{MIN_PATIENTS}, or most images are of one or two)"
)
BY_IMAGE_NOTE = (
    "Images of one patient resemble each other: DeLong's test, which takes images for independent, calls equal models "
    "different at 5 % in 14 to 48 % of comparisons (simulated: benchmarks/results/statistics/coverage.md)"
)


def p_cell(p_value: float, field: str) -> Cell:
    """Return a p-value; one that calls two runs different is bold."""
    return Cell(p_text(p_value), {field: number(p_value)}, bold=p_value <= LEVEL)


def auc_cell(contest: Contest, contender: int, label: str | None) -> Cell:
    """Return an AUC; its standard deviation over seeds or folds is for CSV, `spread_note` says that of the mean."""
    values: dict[str, Number] = {"auc": contest.auc(contender, label)}
    spread = contest.spread(contender, label)
    if spread is not None:
        values[spread_field(contest)] = spread
    return Cell(f"{values['auc']:.3f}", values)


def spread_field(contest: Contest) -> str:
    """Return what CSV calls the standard deviation of a contender's AUC."""
    return "std_seeds" if isinstance(contest, OnImages) else "std"


def spread_note(contest: Contest) -> list[str]:
    """Say how the average AUC of each contender varies over its seeds or folds, apart from the intervals."""
    spreads = {name: contest.spread(place) for place, name in enumerate(contest.names)}
    said = [f"{name} {spread:.4f}" for name, spread in spreads.items() if spread is not None]
    if not said:
        return []
    over = "seeds" if isinstance(contest, OnImages) else "folds"
    return [f"Standard deviation of the average over the {over} (n - 1): {', '.join(said)}"]


def difference_cell(found: Comparison) -> Cell:
    """Return a difference with its interval, or with the reason why there is none."""
    values: dict[str, Number] = {
        "difference": found.difference,
        "lower": number(found.lower),
        "upper": number(found.upper),
        "standard_error": number(found.standard_error),
        "degrees_of_freedom": number(found.degrees_of_freedom),
    }
    if math.isnan(found.lower):
        reason = found.reason.partition(" with")[0]  # "9 patients with the finding, fewer than 10"
        return Cell(f"{signed(found.difference)} ({reason})" if reason else signed(found.difference), values)
    roughly = ROUGHLY * (found.mark == APPROXIMATE)
    values |= {"approximate": 1} if roughly else {}
    return Cell(f"{signed(found.difference)} {roughly}[{signed(found.lower)}, {signed(found.upper)}]", values)


def number(value: float) -> float | None:
    """Return a number for CSV: None for what is not known."""
    return None if math.isnan(value) else value


def where(contest: Contest) -> str:
    """Say on what the contenders are compared."""
    if isinstance(contest, OnImages):
        return f"{contest.split} split" + ", partial" * contest.partial
    return f"{len(contest.folds)} resampling folds"


def how_notes(contest: Contest, found: Iterable[Comparison]) -> list[str]:
    """Say how intervals and p-values were found; found: the comparisons that are shown, the primary one first."""
    found = [item for item in found if not math.isnan(item.p_value)]
    notes = _image_notes(contest, found) if isinstance(contest, OnImages) else fold_notes(contest)
    return [*notes, *spread_note(contest), *contest.notes]


def _image_notes(contest: OnImages, found: list[Comparison]) -> list[str]:
    seeds = max(len(runs) for runs in contest.estimates)
    how = "Student's t on the variance clustered by patient (Obuchowski 1997), effective patients less one"
    if seeds > 1:
        how += ", with the variance of the seeds (Welch and Satterthwaite)"
    notes = [
        f"On the same {contest.images:,} test images of {contest.patients:,} patients, aligned by name",
        f"95 % intervals and p-values: {how}{_freedom(found)}",
    ]
    if any(len(runs) == 1 for runs in contest.estimates):
        notes.append("Of a single training the result holds for that network: another seed may differ")
    return [*notes, BY_IMAGE_NOTE]


def _freedom(found: list[Comparison]) -> str:
    if not found:
        return ""
    mean, *others = (f"{item.degrees_of_freedom:,.0f}" for item in found)
    ordered = [f"{value:,.0f}" for value in sorted(item.degrees_of_freedom for item in found[1:])]
    if not others or ordered[0] == ordered[-1] == mean:
        return f"; {mean} degrees of freedom"
    span = ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"
    return f"; degrees of freedom: {mean} for the average, {span} for the labels"


def fold_notes(contest: OnFolds) -> list[str]:
    """Say how folds are compared, and what their spread is about."""
    folds = len(contest.folds)
    wider = math.sqrt((1 / folds + TEST_TO_TRAIN) * folds)
    return [
        f"Fold against fold ({', '.join(contest.folds)}), 95 % intervals and p-values by the corrected resampled "
        f"t-test (Nadeau and Bengio 2003), test/train = 2/7, {folds - 1} degrees of freedom",
        f"Folds share training images: the naive standard error, which takes them for independent, is too small by a "
        f"factor of {wider:.2f}. The spread over folds is mostly about which patients are tested",
    ]
