"""The record of the small systems: what each learned, what it took, and where the two of Li et al. look.

    python -m benchmarks.seed_systems.results RUNS [--out DIR]

RUNS is the folder of `make phantom-systems`. Nothing is trained here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import record
from benchmarks.localisation import entries as places
from benchmarks.record import Entry, Record, Target
from cxrkit import report as reports
from cxrkit.base.files import write_text
from cxrkit.explain import measures
from cxrkit.explain.localisation import localisation
from cxrkit.explain.localising import NETWORK, Localised, localise
from cxrkit.explain.measures import Measures, Rate
from cxrkit.report.document.tables import Report
from cxrkit.report.evidence.runs import Run, find_runs
from cxrkit.runs import checkpoints
from cxrkit.runs.config import read_run_config
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import read_metrics

LEAST_AUC = 0.75
IMAGE, BOX = "li2018-mil", "li2018-box"
ON_BOXES = "li2018-box less li2018-mil"
JUDGED: dict[str, Callable[[Measures], Rate]] = {
    "Pointing game": lambda found: found.pointing,
    "IoBB above 0.25": lambda found: found.hit["IoBB", 0.25],
    "IoBB above 0.5": lambda found: found.hit["IoBB", 0.5],
    "IoU above 0.1": lambda found: found.hit["IoU", 0.1],
    "IoU above 0.3": lambda found: found.hit["IoU", 0.3],
}
REMARKS = (
    "Networks, films and trainings are small, and the films are drawn: the numbers say that each recipe learns, and "
    "nothing about radiographs or about which system is better.",
    "Brackets: 95 % intervals by patient, of 600 test films of 204 patients of fold 1. Seconds are of the training's "
    "steps, on one core.",
)


def measured(run: Run) -> list[Entry]:
    """Return the mean AUC of a run with what it took, then the AUC of each finding."""
    folder = RunFolder(run.folder)
    config, lines = read_run_config(folder.config), list(read_metrics(folder.metrics))
    epochs = [line for line in lines if line["kind"] == "epoch"]
    tensors, _ = checkpoints.read(folder.best)
    counted = {name: value for name, value in tensors.items() if name.startswith("model/")}
    about = {
        "input, pixels": run.scores.input_size,
        "numbers in its state": sum(value.numel() for value in counted.values()),
        "epochs": len(epochs),
        "epoch kept": run.scores.epoch,
        "seconds": round(sum(line["train_seconds"] for line in epochs)),
        "test images": run.test.images,
        "test patients": run.test.patients,
        "recipe": run.scores.recipe,
        "changed": list(run.scores.changes),
        "precision": config.run.precision,
    }
    return [_auc(run, None, about), *(_auc(run, label, {}) for label in run.scores.labels.averaged)]


def _auc(run: Run, label: str | None, about: dict[str, Any]) -> Entry:
    found = run.auc(label)
    assert found is not None
    assert found.value is not None
    bounds = {name: None if value is None else round(value, 4) for name, value in
              (("lower", found.lower), ("upper", found.upper))}  # fmt: skip
    name = "mean" if label is None else run.scores.labels.heading(label)
    return Entry(run.name, name, "AUC", (round(found.value, 4),), figures=bounds | about)


def on_boxes(box: Localised, image: Localised) -> list[Entry]:
    """Return what learning from boxes adds to where a network looks, of the same boxes and patients."""
    rows = []
    for name, rate in JUDGED.items():
        one, other = ([rate(who.measures[NETWORK][label]) for label in box.averaged] for who in (box, image))
        found = measures.difference(one, other, len(box.patients))
        lower, upper = found.interval.lower, found.interval.upper
        assert lower is not None
        assert upper is not None
        figures = {"lower": round(lower, 4), "upper": round(upper, 4)}
        rows.append(Entry(ON_BOXES, name, "difference", (round(found.value, 4),), figures=figures))
    return rows


def targets(rows: Sequence[Entry]) -> list[Target]:
    """Return what each system must reach, and the one that learns from boxes beside the one that does not."""
    means = [row for row in rows if row.unit == "AUC" and row.name == "mean"]
    found = [Target(f"{row.group}: mean test AUC", LEAST_AUC, row.values[0], unit="") for row in means]
    more = [row for row in rows if row.group == ON_BOXES]
    return found + [Target(f"{ON_BOXES}, {row.name}: lower end", 0.0, row.figures["lower"], unit="") for row in more]


def measure(runs: Path, console: Console) -> tuple[Record, list[Report]]:
    """Return the record of a folder of runs, and the report of where the two systems of Li et al. look."""
    machine = record.machine("python -m benchmarks.seed_systems.results RUNS")
    found = {run.name: run for run in find_runs(runs).runs}
    rows = [entry for run in found.values() for entry in measured(run)]
    shown = {name: localise(RunFolder(found[name].folder), console=console) for name in (IMAGE, BOX) if name in found}
    documents = {name: localisation(item) for name, item in shown.items()}
    rows += [entry for name, item in shown.items() for entry in places(name, item, documents[name])]
    if len(shown) == 2:
        rows += on_boxes(shown[BOX], shown[IMAGE])
    settings = {"images": 3000, "seed": 0, "fold": 1}
    return Record("seed_systems", settings, machine, tuple(rows), tuple(targets(rows)), REMARKS), [
        replace(document, tables=document.tables[:2]) for document in documents.values()
    ]


def document(found: Record, runs: Path, shown: Sequence[Report]) -> str:
    """Return the record as Markdown: targets, what each took, `cxrkit report`'s table, where they look."""
    lines = ["# The systems that the paper compares with, small, on phantoms", "", *(f"{it}\n" for it in found.remarks)]
    lines += ["## Targets", "", "| | target | reached | |", "| --- | ---: | ---: | --- |"]
    for target in found.targets:
        verdict = "met" if target.met else "**missed**"
        lines.append(f"| {target.what} | at least {target.limit:g} | {target.value:.3f} | {verdict} |")
    lines += ["", "## What each took", "", "| system | mean AUC | 95 % | input | numbers | epochs | kept | seconds |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in found.entries:
        if row.unit == "AUC" and row.name == "mean":
            about = row.figures
            lines.append(
                f"| {row.group} | {row.values[0]:.3f} | {about['lower']:.3f} to {about['upper']:.3f} | "
                f"{about['input, pixels']} | {about['numbers in its state']:,} | {about['epochs']} | "
                f"{about['epoch kept']} | {about['seconds']:,} |"
            )
    lines += ["", f"## {ON_BOXES}", "", "| | difference | 95 % |", "| --- | ---: | ---: |"]
    for row in found.entries:
        if row.group == ON_BOXES:
            span = f"{row.figures['lower']:+.3f} to {row.figures['upper']:+.3f}"
            lines.append(f"| {row.name} | {row.values[0]:+.3f} | {span} |")
    beside = reports.render(reports.resampled(runs), "md")
    return "\n".join([*lines, "", beside, *(reports.render(report, "md") for report in shown)])


def main(given: Sequence[str] | None = None) -> None:
    """Read the runs, ask where two of them look, and leave a record and its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"), help="folder for record and tables")
    options = parser.parse_args(given)
    found, shown = measure(options.runs, Console())
    record.write(found, options.out / "seed_systems.json")
    write_text(options.out / "seed_systems.md", document(found, options.runs, shown))
    print(f"record and tables: {options.out}")


if __name__ == "__main__":
    main()
