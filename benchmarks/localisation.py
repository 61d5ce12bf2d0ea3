"""Do maps of a trained network lie where the findings are? On phantoms, whose boxes are true, with two controls.

python benchmarks/localisation.py --work DIR       draws 1,500 films, trains two networks, asks where they look

What is there already in DIR (films, prepared folder, trained networks) is used as it is.
"""

# ruff: noqa: E402 - the imports follow the line that lets this run as a script

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not benchmarks/, whose file names are no modules of their own

from rich.console import Console

from benchmarks import record
from benchmarks.record import Entry, Record, Target
from cxrkit import pipeline
from cxrkit.base.files import write_text
from cxrkit.explain.localisation import localisation
from cxrkit.explain.localising import NETWORK, Localised, localise
from cxrkit.report.document.tables import Report, Row
from cxrkit.report.rendering.formats import render
from cxrkit.runs.folder import RunFolder

IMAGES, SEED, LEVELS = 1500, 0, (256, 128)
TRAINING = {"fold": "official", "area_min": 0.4, "patience": 3}
# A map of 4 x 4 cells, one for each 32 x 32 pixels as the paper's networks have, and one of 20 x 20.
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet14-small": {"model": "resnet14-small", "epochs": 18},
    "fine-maps": {"model": "examples.fine_maps_net:build", "name": "fine-maps", "epochs": 40, "input_size": 160},
}
JUDGED = "fine-maps"
REMARKS = (
    "Boxes of phantoms are where the finding was drawn. Some findings of phantoms lie at the same place in every chest "
    "(heart, emphysema, edema, fibrosis, hernia): there the centre prior cannot be beaten.",
    "IoBB alone is no proof of a good map: maps of random weights with fine cells have so many small boxes that some "
    "lie inside the true one; the false boxes tell them apart, and the IoU.",
)


def prepared(work: Path, console: Console) -> Path:
    """Return the prepared phantoms in `work`, made where they are not there."""
    from cxrkit.datasets.phantom import cohort
    from cxrkit.prepare.stage import PrepareConfig, prepare_raw

    data = work / "shards"
    if not (data / "dataset.json").exists():
        cohort.generate(work / "raw", IMAGES, SEED)
        prepare_raw(PrepareConfig(raw=work / "raw", data=data, dataset="synthetic", levels=LEVELS), console=console)
    return data


def trained(work: Path, name: str, data: Path, console: Console) -> RunFolder:
    """Return the run of a network, trained where it is not there."""
    said = NETWORKS[name] | TRAINING | {"data": data, "runs": work / "runs"}
    config = pipeline.resolve(said)
    run = pipeline.folder_of(config)
    return run if run.best.exists() else pipeline.train(config, run.config.exists(), console)


def entries(name: str, found: Localised, report: Report) -> list[Entry]:
    """Return the summary's rows: of the network, and what it has beyond each control."""
    about = {
        "epoch": found.info.epoch,
        "input, pixels": found.input_size,
        "cells of a map": "x".join(map(str, found.map_size)),
        "images": found.prepared,
        "patients": len(found.patients),
        "findings in the mean": len(found.averaged),
    }
    return [_entry(name, row, about) for row in report.tables[0].rows]


def _entry(name: str, row: Row, about: dict[str, Any]) -> Entry:
    network, centre, random, beyond_centre, beyond_random = (cell.values for cell in row.cells)
    figures = {
        "centre prior": centre.get("mean"),
        "random weights": random.get("mean"),
        **{f"less centre prior, {part}": value for part, value in beyond_centre.items()},
        **{f"less random weights, {part}": value for part, value in beyond_random.items()},
    }
    rounded = {part: round(value, 4) if isinstance(value, float) else value for part, value in figures.items()}
    value = network.get("mean")
    return Entry(name, row.heading, "rate", () if value is None else (round(value, 4),), figures=rounded | about)


def targets(rows: Sequence[Entry]) -> list[Target]:
    """Return what a trained network must reach: clearly more than both controls."""
    found = []
    for row in rows:
        if row.group != JUDGED or row.name not in ("Pointing game", "IoBB above 0.5", "IoU above 0.1"):
            continue
        for control in ("centre prior", "random weights"):
            lower = row.figures.get(f"less {control}, lower")
            found.append(
                Target(f"{row.name}: {NETWORK} less {control}, lower end of the interval", 0.0, lower, unit="")
            )
    return found


def measure(work: Path, console: Console) -> tuple[Record, list[Report]]:
    """Return the record and each network's report."""
    machine = record.machine("benchmarks/localisation.py")
    data = prepared(work, console)
    rows, reports = [], []
    for name in NETWORKS:
        found = localise(trained(work, name, data, console), console=console)
        report = localisation(found)
        rows += entries(name, found, report)
        reports.append(report)
    settings = {"images": IMAGES, "seed": SEED, "levels": LEVELS, "training": TRAINING, "networks": NETWORKS}
    return Record("localisation", settings, machine, tuple(rows), tuple(targets(rows)), REMARKS), reports


def document(found: Record, reports: Sequence[Report]) -> str:
    """Return the record as Markdown: the targets, then each network's report."""
    lines = ["# Maps against the boxes of phantoms", "", *(f"{remark}\n" for remark in found.remarks)]
    lines += ["## Targets", "", "| | target | reached | |", "| --- | ---: | ---: | --- |"]
    for target in found.targets:
        reached, verdict = ("-", "not measured") if target.value is None else (
            f"{target.value:+.3f}", "met" if target.met else "**missed**"
        )  # fmt: skip
        lines.append(f"| {target.what} | at least {target.limit:g} | {reached} | {verdict} |")
    lines += ["", "## Networks", ""]
    for name, said in found.settings["networks"].items():
        about = next(entry.figures for entry in found.entries if entry.group == name)
        lines.append(
            f"- {name}: the best of at most {said['epochs']} epochs, epoch {about['epoch']}; maps of "
            f"{about['cells of a map']} cells at an input of {about['input, pixels']} pixels; {about['images']:,} test "
            f"images of {about['patients']:,} patients"
        )
    return "\n".join([*lines, "", *(render(report, "md") for report in reports)])


def main(given: Sequence[str] | None = None) -> None:
    """Train, ask, and leave a record and its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for films, prepared folder and runs")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", help="folder for record and tables")
    options = parser.parse_args(given)
    found, reports = measure(options.work, Console())
    record.write(found, options.out / "localisation.json")
    write_text(options.out / "localisation.md", document(found, reports))
    print(f"record and tables: {options.out}")


if __name__ == "__main__":
    main()
