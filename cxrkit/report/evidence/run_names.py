"""One name for each run, for figures: a run is called the same, and so has the same colour, in all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.variants import details, full_name, variant_of


def run_names(runs: Sequence[Run]) -> dict[Path, str]:
    """Return the name of each run by its folder: what tables call it, and its split where they are of several.

    Runs that nothing else tells apart are called by their folders.
    """
    variants = [variant_of(run) for run in runs]
    words = details(variants, {})
    several = len({run.split for run in runs}) > 1
    names = [
        full_name(variant, (*words[variant], *([run.split] if several else [])))
        for run, variant in zip(runs, variants, strict=True)
    ]
    counts = Counter(names)
    return {
        run.folder: name if counts[name] == 1 else "/".join(run.folder.parts[-2:])
        for run, name in zip(runs, names, strict=True)
    }
