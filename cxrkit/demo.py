"""`cxrkit demo`: the whole toolkit on a phantom cohort, in minutes, without a download."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from shutil import which

from rich.console import Console

from cxrkit import pipeline
from cxrkit.base.errors import UserError

IMAGES = 1500
SEED = 0
LEVELS = (256, 128)
# With and without age, sex and view: the phantoms are drawn so that the metadata helps.
MODELS = ("resnet14-small", "resnet14-small-meta")
# A thousand training images are 80 times fewer than the protocol is made for: more epochs, milder crops, and a
# validation set so small that its loss must be given time.
TRAINING = {"epochs": 15, "area_min": 0.4, "patience": 2}
GOAL = 0.80  # mean test AUC that a working installation reaches


def run(out: Path, console: Console) -> None:
    """Draw, prepare, train, evaluate and report in `out`; a second run goes on where the first one stopped.

    Raises UserError when the trained models do not reach GOAL: something is wrong with the installation then.
    """
    began = time.monotonic()
    raw, data, runs = out / "raw", out / "shards", out / "runs"
    console.print(f"[bold]1/4  synth[/bold]    {IMAGES:,} phantom films into {raw}", highlight=False)
    _draw(raw, console)
    console.print(f"[bold]2/4  prepare[/bold]  into {data}", highlight=False)
    _prepare(raw, data, console)
    console.print(f"[bold]3/4  train[/bold]    {' and '.join(MODELS)}, official split", highlight=False)
    means = {model: _train(model, data, runs, console) for model in MODELS}
    console.print("[bold]4/4  report[/bold]", highlight=False)
    _report(runs, console)
    page = _page(out / "report", runs, data, console)
    for model, mean in means.items():
        console.print(f"{model}: mean test AUC {mean:.3f} on phantoms (chance: 0.500)", highlight=False)
    if page is not None:
        console.print(f"all of it on one page: {page}", highlight=False)
    console.print(f"done in {time.monotonic() - began:.0f} s. Everything is in {out}; the same on real images:")
    if which("cxrkit") is None:
        console.print(f"  . {Path(sys.executable).parent}/activate", highlight=False, markup=False, soft_wrap=True)
    console.print("  cxrkit doctor --raw DIR && cxrkit prepare --raw DIR && cxrkit train --model resnet50-large-meta")
    if max(means.values()) < GOAL:
        raise UserError(
            f"demo: no model reached a mean test AUC of {GOAL:.2f}",
            remedy="run `cxrkit doctor`; if it finds nothing, report this as a bug of cxrkit",
        )


def _draw(raw: Path, console: Console) -> None:
    from cxrkit.base.progress import progress_bar
    from cxrkit.datasets.phantom import cohort as synthetic

    with progress_bar("synth", IMAGES, console=console) as bar:
        synthetic.generate(raw, IMAGES, SEED, progress=bar.advance)


def _prepare(raw: Path, data: Path, console: Console) -> None:
    from cxrkit.prepare.stage import PrepareConfig, prepare_raw

    config = PrepareConfig(raw=raw, data=data, dataset="synthetic", levels=LEVELS)
    console.print(prepare_raw(config, console=console).text(), highlight=False)


def _train(model: str, data: Path, runs: Path, console: Console) -> float:
    from cxrkit.runs.folder import RunFolder
    from cxrkit.runs.scores import read_scores

    said = {"model": model, "data": data, "runs": runs, "fold": "official"} | TRAINING
    resume = RunFolder.of(runs, model, "official").config.exists()
    run = pipeline.train(pipeline.resolve(said, resume=resume), resume, console)
    mean = read_scores(run.scores).subsets["test"].metric("auc")
    return mean.value or 0.0 if mean else 0.0


def _report(runs: Path, console: Console) -> None:
    from cxrkit.report import to_rich
    from cxrkit.report.request import ReportRequest, answer

    console.print(to_rich(answer(ReportRequest(runs, "paper"))))


def _page(out: Path, runs: Path, data: Path, console: Console) -> Path | None:
    """Write all documents into `out`, with a page of them where the libraries for it are installed."""
    from cxrkit.report.request import ReportRequest, write_all

    written = write_all(ReportRequest(runs, "", data=data), out, console)
    for line in written.left_out:
        console.print(f"left out: {line}", highlight=False, markup=False)
    return written.page
