"""The time and memory of `cxrkit report --all` for 40 runs of the official test set.

python benchmarks/report_speed.py                       40 runs; made once, kept in build/report-speed
python benchmarks/report_speed.py --runs 4 --replicates 20   a first look

The runs are drawn, what they are of is real: patients, images and labels of all 112,120 images (tests/facts), the
official split, 25,596 test images of 2,797 patients. Scores have AUCs from about 0.7 to 0.9, noise is partly that of
the patient, of the label and of the network, as benchmarks/drawn_test_sets.py draws it. The command runs in a process
of its own on `--cores` cores: first with nothing kept from before, then again.
"""

# ruff: noqa: E402 - the imports follow the line that lets this run as a script

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not benchmarks/, whose file names are no modules of their own

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.drawn_test_sets import AUCS, FACTS
from benchmarks.record import Entry, Record, Target
from cxrkit import recipes
from cxrkit.base.contracts import EVALUATED, LABELS
from cxrkit.base.files import digest_lines, read_json, write_json, write_text
from cxrkit.base.origin import Basis
from cxrkit.datasets import splits
from cxrkit.datasets.splits import Split
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import read_truth
from cxrkit.report.evidence.reference import known_preparations, reference_origin
from cxrkit.runs.config import recipe_digest, to_toml
from cxrkit.runs.folder import RunFolder, write_split
from cxrkit.runs.metrics import MetricsFile
from cxrkit.runs.predictions import PredictionInfo, write_predictions

SECONDS, GIGABYTES, AGAIN_SECONDS = 60.0, 2.0, 10.0
OF_PATIENT, OF_TASK = 0.5, 0.6  # shares of the noise's variance: the patient's; what is hard for every network
EPOCHS = 12
RECIPES = ("resnet50-large-meta", "resnet38-large-meta", "resnet101-large-meta", "resnet50-large", "resnet50-ft-meta")
SEEDED = 4  # networks of four seeds each
SETUP_FILE = "setup.json"


@dataclass(frozen=True)
class Network:
    """One run to be drawn."""

    name: str
    recipe: str
    seed: int
    shift: float
    """Of every label's AUC, in standard deviations of the noise."""


def networks(count: int) -> list[Network]:
    """Return the runs: four networks of four seeds where there are enough, and others of one seed each."""
    seeded = SEEDED if count >= 5 * SEEDED else 0
    found = [
        Network(f"seeded-{number}", RECIPES[number], seed, 0.1 * number - 0.2)
        for number in range(seeded)
        for seed in range(4)
    ]
    singles = count - len(found)
    return found + [
        Network(f"network-{number:02d}", RECIPES[number % len(RECIPES)], 0, 0.5 * number / max(singles, 1) - 0.4)
        for number in range(singles)
    ]


@cache
def cohort() -> tuple[pl.DataFrame, Split]:
    """Return the records of the whole data set, and the official split."""
    sys.path.append(str(FACTS.parent.parent))
    records = importlib.import_module("chestxray14_facts").records()
    return records, splits.make(records, "official")


def make_run(network: Network, runs: Path, labels: Path, replicates: int) -> None:
    """Write one run folder, as a training leaves it, and evaluate it."""
    records, split = cohort()
    config = recipes.resolve(
        {"data": labels, "runs": runs, "fold": "official", "seed": network.seed}, recipe=network.recipe
    )
    run = RunFolder.of(runs, network.name, split.name, network.seed)
    write_text(run.config, to_toml(config))
    used = {subset: digest_lines([subset]) for subset in ("train", *EVALUATED)}
    write_json(run.provenance, {"cxrkit": "drawn", "seed": network.seed, "used_digests": used})
    write_split(run, split, records.select("image_id", used=pl.lit(True)))
    _write_metrics(run, network.seed)
    origin = replace(
        reference_origin("official"), pixels_digest="ab" * 32, preparation_digest=min(known_preparations()),
        image_side=1024, basis=Basis(),
    )  # fmt: skip
    for subset in EVALUATED:
        about = PredictionInfo(
            name=network.name, model=network.recipe, recipe=network.recipe, recipe_digest=recipe_digest(config),
            changes=(), seed=network.seed, input_size=config.input.size or 448, epoch=EPOCHS - 2,
            checkpoint_sha256=digest_lines([network.name, f"{network.seed}"]), subset=subset,
            subset_images=split.images(subset), origin=origin,
        )  # fmt: skip
        write_predictions(run.predictions(subset), _scores(network, records, split, subset), about)
    evaluate_run(run.path, read_truth(labels), options={"replicates": replicates})


def _write_metrics(run: RunFolder, seed: int) -> None:
    metrics = MetricsFile(run.metrics, 0)
    for epoch in range(1, EPOCHS + 1):
        line = {"kind": "epoch", "epoch": epoch, "lr": 0.01 / 2 ** (epoch // 4), "train_images": 75_707}
        losses = {"train_loss": 0.2 / epoch**0.3, "val_loss": 0.19 / epoch**0.1}
        metrics.write(line | losses | {"val_auc": 0.82 - 0.1 / epoch + 0.001 * seed, "val_auc_labels": 14})
    metrics.close()


def _scores(network: Network, records: pl.DataFrame, split: Split, subset: str) -> pl.DataFrame:
    """Return drawn probabilities: the truth, and noise of the patient, of the image, of the network."""
    from scipy.special import expit, ndtri

    chosen = records.join(split.frame.filter(pl.col("subset") == subset).select("image_id"), on="image_id")
    truth_NL = chosen.select(pl.col(label).cast(pl.Float32) for label in LABELS).to_numpy()
    patient_N = np.unique(chosen["patient_id"].to_numpy(), return_inverse=True)[1]

    def noise(seed: Sequence[int]) -> NDArray[np.float32]:
        generator = np.random.default_rng([*seed, len(chosen)])
        of_patient_KL = generator.standard_normal((patient_N.max() + 1, len(LABELS)), np.float32)
        of_image_NL = generator.standard_normal(truth_NL.shape, np.float32)
        parts = [np.float32(np.sqrt(share)) for share in (OF_PATIENT, 1 - OF_PATIENT)]
        found: NDArray[np.float32] = parts[0] * of_patient_KL[patient_N] + parts[1] * of_image_NL
        return found

    own = [*network.name.encode(), network.seed]
    noise_NL = np.sqrt(OF_TASK) * noise([0]) + np.sqrt(1 - OF_TASK) * noise(own)
    strength_L = np.sqrt(2) * ndtri([AUCS[label] for label in LABELS]) + network.shift
    logit_NL = strength_L * truth_NL + noise_NL - 3
    frame = pl.DataFrame(expit(logit_NL).astype(np.float32), schema=list(LABELS))
    return chosen.select("image_id", "patient_id").hstack(frame)


def make_runs(folder: Path, count: int, replicates: int, processes: int) -> Path:
    """Return a folder of runs, made anew unless the same ones are there. Nothing derived is left in them."""
    runs, labels = folder / "runs", folder / "labels.parquet"
    wanted = {"runs": count, "replicates": replicates}
    setup = folder / SETUP_FILE
    if not setup.exists() or read_json(setup, "the setup", "remove it") != wanted:
        shutil.rmtree(runs, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        cohort()[0].drop("follow_up", "official").write_parquet(labels)
        # Not forked: polars' threads would be missing in the child, and it would wait for them for ever.
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(make_run, one, runs, labels, replicates) for one in networks(count)]
            for job in jobs:
                job.result()
        write_json(setup, wanted)
    for derived in runs.glob("*/*/derived"):
        shutil.rmtree(derived)
    return runs


@dataclass(frozen=True)
class Took:
    """What one call of the command took."""

    seconds: float
    """Wall clock, the start of Python included."""

    processor_seconds: float
    """User and system time."""

    gigabytes: float
    """The largest resident set of any of its processes."""


def time_report(runs: Path, out: Path, cores: Sequence[int]) -> Took:
    """Run `cxrkit report --all` on `cores` and return what it took. Raises RuntimeError when it fails."""
    command = [sys.executable, "-m", "cxrkit", "report", "--all", "--runs", str(runs), "--out", str(out)]
    began = time.perf_counter()
    child = os.posix_spawn(sys.executable, command, os.environ | {"PYTHONPATH": str(ROOT)})
    os.sched_setaffinity(child, cores)
    _, status, used = os.wait4(child, 0)  # the rusage of this child alone
    seconds = time.perf_counter() - began
    if code := os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"cxrkit report ended with {code}")
    return Took(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9)


def measure(runs: Path, out: Path, cores: int) -> Record:
    """Time the command twice, the first time with nothing kept."""
    machine = record.machine("benchmarks/report_speed.py")
    shutil.rmtree(out, ignore_errors=True)
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    entries = []
    for name in ("first", "again"):
        took = time_report(runs, out, chosen)
        figures = {"processor s": round(took.processor_seconds, 2), "memory GB": round(took.gigabytes, 3)}
        entries.append(Entry("cxrkit report --all", name, "s", (round(took.seconds, 2),), figures=figures))
        print(f"{name}: {took.seconds:.1f} s, {took.gigabytes:.2f} GB", flush=True)
    page = out / "index.html"
    megabytes = page.stat().st_size / 1e6 if page.exists() else None
    first, again = entries
    targets = (
        Target("first time", SECONDS, first.values[0], at_least=False, unit="s"),
        Target("again", AGAIN_SECONDS, again.values[0], at_least=False, unit="s"),
        Target("memory", GIGABYTES, max(entry.figures["memory GB"] for entry in entries), at_least=False, unit="GB"),
        Target("the page", 5.0, megabytes, at_least=False, unit="MB"),
    )
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    settings = {"runs": len(list(runs.glob("*/*/scores.json"))), "test_images": 25_596, "cores": len(chosen)}
    return Record("report", settings | {"files": files}, machine, tuple(entries), targets)


def document(found: Record) -> str:
    """Return the record as Markdown."""
    settings = found.settings
    lines = [
        f"# A report on {settings['runs']} runs of {settings['test_images']:,} images, {settings['cores']} cores",
        "",
        "| `cxrkit report --all` | seconds | processor seconds | memory, GB |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {entry.name} | {entry.values[0]:.1f} | {entry.figures['processor s']:.1f} "
        f"| {entry.figures['memory GB']:.2f} |"
        for entry in found.entries
    ]
    lines += ["", "| target | at most | measured |", "| --- | ---: | ---: |"]
    for target in found.targets:
        measured = "not made" if target.value is None else f"{target.value:.2f} {target.unit}"
        lines.append(f"| {target.what} | {target.limit:g} {target.unit} | {measured} |")
    stamp = found.machine
    lines += ["", f"{stamp['processor']}, {stamp['cores']} cores, {stamp['memory_gb']} GB; cxrkit {stamp['cxrkit']}"]
    return "\n".join(lines) + "\n"


def main(given: Sequence[str] | None = None) -> None:
    """Make the runs, time the command, and leave a record and its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="how many (default: %(default)s)")
    parser.add_argument("--replicates", type=int, default=1000, help="bootstrap replicates of their intervals")
    parser.add_argument("--processes", type=int, default=2, help="to make them with (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=2, help="for the command (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "report-speed", help="folder for the runs")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", help="folder for record and table")
    options = parser.parse_args(given)
    runs = make_runs(options.work, options.runs, options.replicates, options.processes)
    found = measure(runs, options.work / "report", options.cores)
    record.write(found, options.out / "report.json")
    write_text(options.out / "report.md", document(found))
    print(f"\n{document(found)}\nrecord and table: {options.out}")


if __name__ == "__main__":
    main()
