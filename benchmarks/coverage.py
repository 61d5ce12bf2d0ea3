"""Do 95 % intervals hold the truth in 95 % of all test sets? By simulation, with patients as in the official test set.

python benchmarks/coverage.py                      500 test sets, 1,000 replicates each
python benchmarks/coverage.py --test-sets 40       a first look

How test sets are drawn: benchmarks/drawn_test_sets.py.
"""

# ruff: noqa: E402 - the imports follow the line that lets this run as a script

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not benchmarks/, whose file names are no modules of their own

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.drawn_test_sets import Population, draw_test_set, population
from benchmarks.record import Entry, Record, Target
from cxrkit.base.files import write_text
from cxrkit.statistics import clustered, comparing, intervals, ranking
from cxrkit.statistics.clustered import Estimate
from cxrkit.statistics.intervals import Support

MEAN = "Mean of 14"
OF_PATIENT = (0.5, 0.8)  # the patient's shares of the noise's variance: how alike a patient's images are is not known
CONFIDENCE, SEED = 0.95, 0
LOGIT_T, PERCENTILE, FORMULA, BY_IMAGE = "logit-t", "percentile", "logit-t, variance by formula", "image-level DeLong"
METHODS = (LOGIT_T, PERCENTILE, FORMULA, BY_IMAGE)
TESTS = ("clustered t", "image-level DeLong")
LOWEST, HIGHEST, FROM_PATIENTS = 91.0, 98.0, 20
REMARKS = (
    "logit-t: the interval of the reports, over bootstrap replicates. Percentile: of the same replicates. Variance by "
    "formula: logit-t with Obuchowski's standard error instead. Coverages are of the test sets that have an interval: "
    "ten patients with the finding at least. Wrongly different: how often two models that know equally much are called "
    "different at 5 %.",
)


@dataclass(frozen=True)
class Found:
    """What one test set shows of each of Q: the labels, and the mean behind them."""

    inside: NDArray[np.float64]
    """(methods, Q), 1 where the interval holds the truth, 0 where it does not, NaN where there is none."""

    width: NDArray[np.float64]
    """(methods, Q), width of each interval; NaN where there is none."""

    wrong: NDArray[np.float64]
    """(tests, Q), 1 where two equal models are called different at 5 %; NaN where it does not say."""

    patients: NDArray[np.float64]
    """(Q,), how many patients have a positive image."""

    effective: NDArray[np.float64]
    """(Q,), effective number of patients."""


def examine(number: int, of: Population, replicates: int, of_patient: float) -> Found:
    """Draw test set `number` and return what the methods say of it: the same, whatever was examined before."""
    score_MNL, truth_NL, cluster_N = draw_test_set(of, np.random.default_rng([SEED, number]), of_patient)
    by_patient, by_image = (
        [_estimates(score_NL, truth_NL, number_N, of.averaged) for score_NL in score_MNL]
        for number_N in (cluster_N, np.arange(len(cluster_N)))
    )
    drawn_RL = ranking.bootstrap(score_MNL[0], truth_NL, cluster_N, replicates=replicates, seed=number, threads=1)
    drawn_QR = [*drawn_RL.T, drawn_RL[:, of.averaged].mean(axis=1)]
    bounds_QM2 = np.array([_bounds(*one) for one in zip(by_patient[0], by_image[0], drawn_QR, strict=True)])
    lower_MQ, upper_MQ = bounds_QM2.transpose(2, 1, 0)
    true_Q = np.append(of.auc, of.auc[of.averaged].mean())
    p_TQ = np.array(
        [
            [comparing.compare(one, other).p_value for one, other in zip(*sides, strict=True)]
            for sides in (by_patient, by_image)
        ]
    )
    return Found(
        _where_known(lower_MQ, (lower_MQ <= true_Q) & (true_Q <= upper_MQ)),
        upper_MQ - lower_MQ,
        _where_known(p_TQ, p_TQ <= 1 - CONFIDENCE),
        np.array([one.positive_patients for one in by_patient[0]], float),
        np.array([one.clusters_effective for one in by_patient[0]]),
    )


def _estimates(
    score_NL: NDArray[np.float32], truth_NL: NDArray[np.bool_], cluster_N: NDArray[np.intp], averaged: Sequence[int]
) -> list[Estimate]:
    """Return the estimates of all labels, and of the mean behind them."""
    found = [
        clustered.estimate(score_N, truth_N, cluster_N) for score_N, truth_N in zip(score_NL.T, truth_NL.T, strict=True)
    ]
    return [*found, clustered.mean([found[label] for label in averaged])]


def _bounds(one: Estimate, by_image: Estimate, drawn_R: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return the interval of each of METHODS; NaN where there is none."""
    rests_on = Support(one.positive_patients, one.negative_patients, one.clusters_effective)
    own = intervals.of_replicates(one.value, drawn_R, rests_on, confidence=CONFIDENCE)
    if own.lower is None or own.upper is None:
        return [(np.nan, np.nan)] * len(METHODS)
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.nanquantile(drawn_R, [tail, 1 - tail])
    spread = one.standard_error / (one.value * (1 - one.value))
    half = intervals.student_quantile(np.inf, CONFIDENCE) * by_image.standard_error
    return [
        (own.lower, own.upper),
        (lower, upper),
        intervals.on_logit_scale(one.value, spread, one.degrees_of_freedom, CONFIDENCE),
        (by_image.value - half, by_image.value + half),
    ]


def _where_known(known: NDArray[np.float64], value: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(np.isnan(known), np.nan, value.astype(float))


def simulate(of: Population, test_sets: int, replicates: int, of_patient: float, processes: int) -> Iterable[Found]:
    """Yield what each test set shows, in order."""
    job = partial(examine, of=of, replicates=replicates, of_patient=of_patient)
    if processes == 1:
        yield from map(job, range(test_sets))
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(job, range(test_sets))


def entries(of: Population, found: Sequence[Found], of_patient: float) -> list[Entry]:
    """Return a row for each label and the mean: the share of intervals that hold the truth, and what goes with it."""
    group = f"{100 * of_patient:.0f} % of the noise is the patient's"
    rows = []
    for place, name in enumerate((*of.names, MEAN)):
        inside_SM = np.array([one.inside[:, place] for one in found])
        wrong_ST = np.array([one.wrong[:, place] for one in found])
        width_SM = np.array([one.width[:, place] for one in found])
        given = ~np.isnan(inside_SM[:, 0])
        figures: dict[str, Any] = {"test sets with an interval": int(given.sum())}
        if not given.any():
            rows.append(Entry(group, name, "%", figures=figures, unavailable="too few patients in every test set"))
            continue
        figures |= {
            f"covered by {method}, %": _percent(inside_SM[given, place_M]) for place_M, method in enumerate(METHODS)
        }
        figures |= {
            f"width of {method}": round(float(width_SM[given, place_M].mean()), 4)
            for place_M, method in enumerate(METHODS)
        }
        figures |= {
            f"equal models called different by {test}, %": _percent(wrong_ST[given, place_T])
            for place_T, test in enumerate(TESTS)
        }
        figures["patients with the finding"] = round(float(np.mean([one.patients[place] for one in found])), 1)
        figures["effective patients"] = round(float(np.mean([one.effective[place] for one in found])), 1)
        rows.append(Entry(group, name, "%", (_percent(inside_SM[given, 0]),), figures=figures))
    return rows


def _percent(share_S: NDArray[np.float64]) -> float:
    return round(100 * float(np.nanmean(share_S)), 1)


def targets(rows: Sequence[Entry]) -> list[Target]:
    """Return what the intervals must reach: 91 to 98 % from 20 positive patients on, where images must fail."""
    found = []
    for group in dict.fromkeys(row.group for row in rows):
        own = [row for row in rows if row.group == group and row.values]
        many = [row for row in own if row.figures["patients with the finding"] >= FROM_PATIENTS - 0.5]
        covered = [row.values[0] for row in many]
        by_image = [row.figures[f"covered by {BY_IMAGE}, %"] for row in many]
        found += [
            Target(f"lowest coverage, {group}", LOWEST, min(covered), unit="%"),
            Target(f"highest coverage, {group}", HIGHEST, max(covered), at_least=False, unit="%"),
            Target(f"image-level DeLong at its best, {group}", LOWEST, max(by_image), at_least=False, unit="%"),
        ]
    return found


def document(found: Record) -> str:
    """Return the record as Markdown."""
    settings = found.settings
    lines = ["# Coverage of 95 % intervals", ""]
    lines.append(
        f"{settings['test_sets']:,} simulated test sets a table, with patients as in the official test set; "
        f"{settings['replicates']:,} bootstrap replicates each. A share of 95 % is known to "
        f"{settings['monte_carlo_error']} points (one standard error). benchmarks/coverage.py says how they are drawn."
    )
    heads = ["patients with it", "effective", *METHODS, *(f"wrongly different, {test}" for test in TESTS)]
    for group in dict.fromkeys(entry.group for entry in found.entries):
        lines += ["", f"## {group}", "", f"| % | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
        lines += [_line(entry) for entry in found.entries if entry.group == group]
    lines += ["", "## Targets", "", "| | target | reached | |", "| --- | ---: | ---: | --- |"]
    for target in found.targets:
        sign, verdict = ("at least" if target.at_least else "at most"), ("met" if target.met else "**missed**")
        lines.append(f"| {target.what} | {sign} {target.limit:g} % | {target.value:g} % | {verdict} |")
    lines += ["", *(f"{remark}\n" for remark in found.remarks)]
    return "\n".join(lines)


def _line(entry: Entry) -> str:
    if not entry.values:
        return f"| {entry.name} | {entry.unavailable} |" + " |" * (len(METHODS) + len(TESTS) + 1)
    figures = entry.figures
    cells = [f"{figures['patients with the finding']:,.0f}", f"{figures['effective patients']:.0f}"]
    cells += [f"{figures[f'covered by {method}, %']:.1f}" for method in METHODS]
    cells += [f"{figures[f'equal models called different by {test}, %']:.1f}" for test in TESTS]
    return f"| {entry.name} | {' | '.join(cells)} |"


def measure(test_sets: int, replicates: int, processes: int, say: Any = print) -> Record:
    """Return the record."""
    machine = record.machine(f"benchmarks/coverage.py --test-sets {test_sets} --replicates {replicates}")
    of, rows, began = population(), [], time.monotonic()
    for of_patient in OF_PATIENT:
        found = []
        for one in simulate(of, test_sets, replicates, of_patient, processes):
            found.append(one)
            if len(found) % 25 == 0:
                say(f"{100 * of_patient:.0f} %: {len(found)} of {test_sets} test sets", flush=True)
        rows += entries(of, found, of_patient)
    settings = {
        "test_sets": test_sets,
        "replicates": replicates,
        "monte_carlo_error": round(100 * float(np.sqrt(0.95 * 0.05 / test_sets)), 1),
        "processes": processes,
        "seconds": round(time.monotonic() - began),
    }
    return Record("coverage", settings, machine, tuple(rows), tuple(targets(rows)), REMARKS)


def main(given: Sequence[str] | None = None) -> None:
    """Simulate, and leave a record and its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test-sets", type=int, default=500, help="how many to draw (default: %(default)s)")
    parser.add_argument("--replicates", type=int, default=1000, help="bootstrap replicates (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="how many to use (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", help="folder for record and tables")
    options = parser.parse_args(given)
    found = measure(options.test_sets, options.replicates, options.processes)
    record.write(found, options.out / "coverage.json")
    write_text(options.out / "coverage.md", document(found))
    print(f"\n{document(found)}\nrecord and tables: {options.out}")


if __name__ == "__main__":
    main()
