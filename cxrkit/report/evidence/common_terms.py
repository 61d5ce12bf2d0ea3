"""What headings leave out: the settings that all of a report's runs have in common, and those that are too many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cxrkit.report.evidence.runs import Run, is_probe
from cxrkit.report.evidence.variants import (
    SHOWN,
    Shared,
    Variant,
    change_text,
    details,
    full_name,
    shared_of,
    variant_of,
)
from cxrkit.runs.predictions import IMPORTED

NOT_DEFAULT = "not the default preparation"


def terms_notes(runs: Iterable[Run]) -> list[str]:
    """Return how the runs differ from their recipes and from the default preparation, where headings do not say it.

    "All runs: area_min 0.4, patience 3 (their recipes say otherwise), prepared 06708bee (not the default preparation)";
    and all settings of a run whose heading counts some as "2 more". Probes, of which tables say it all, do not count.
    """
    runs = [run for run in runs if not is_probe(run)]
    variants = list(dict.fromkeys(replace(variant_of(run), seeds=()) for run in runs))
    shared = shared_of(variants)
    notes = [_shared_note(shared, variants)] if shared != Shared() else []
    words = details(variants, {}, runs)
    for variant in variants:
        own = [change for change in variant.changes if change not in shared.changes]
        if len(own) > SHOWN:
            notes.append(f"{full_name(variant, words[variant])}: {', '.join(map(change_text, own))}")
    return notes


def _shared_note(shared: Shared, variants: Sequence[Variant]) -> str:
    trained = [variant for variant in variants if variant.recipe != IMPORTED]
    # An imported run tells its settings to nobody; one that looks at no image has no preparation.
    parts = [_who(trained, len(trained) == len(variants), "trained by cxrkit")]
    settings = ", ".join(map(change_text, shared.changes))
    recipe = "its recipe says" if len(trained) == 1 else "their recipes say"
    if settings:
        parts[0] += f": {settings} ({recipe} otherwise)"
    if shared.preparation:
        prepared = f"prepared {shared.preparation[:8]} ({NOT_DEFAULT})"
        seen = [variant for variant in trained if variant.preparation]
        if seen == trained:
            parts[0] += f"{', ' if settings else ': '}{prepared}"
        else:
            who = _who(seen, False, "that look at images")
            parts = [*parts, f"{who}: {prepared}"] if settings else [f"{who}: {prepared}"]
    return "; ".join(parts)


def _who(variants: Sequence[Variant], is_all: bool, which: str) -> str:
    if len(variants) == 1:
        return variants[0].name
    return "All runs" if is_all else f"All runs {which}"
