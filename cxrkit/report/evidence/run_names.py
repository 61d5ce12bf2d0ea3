"""One name for each run, for figures: a model is called the same, and so has the same colour, in all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.variants import details, full_name, variant_of


def model_names(runs: Sequence[Run]) -> dict[Path, str]:
    """Return what tables call each run, by its folder, without its split: the same for a model on several.

    Runs of one split that nothing else tells apart are called by their folders. What all have in common is in no name:
    `common_terms.terms_notes` says it.
    """
    variants = [variant_of(run) for run in runs]
    words = details(variants, {}, runs)
    names = [full_name(variant, words[variant]) for variant in variants]
    counts = Counter(zip(names, (run.split for run in runs), strict=True))
    return {
        run.folder: name if counts[name, run.split] == 1 else _place(run) for run, name in zip(runs, names, strict=True)
    }


def run_names(runs: Sequence[Run]) -> dict[Path, str]:
    """Return the name of each run by its folder: its model's, and its split where they are of several."""
    names = model_names(runs)
    if len({run.split for run in runs}) == 1:
        return names
    return {run.folder: name if (name := names[run.folder]) == _place(run) else f"{name}, {run.split}" for run in runs}


def _place(run: Run) -> str:
    return "/".join(run.folder.parts[-2:])
