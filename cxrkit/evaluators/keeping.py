"""What an earlier evaluation of a run found, and which of it still holds beside a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxrkit import __version__
from cxrkit.base.contracts import SUBSETS, Metric
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.runs.scores import IDENTITY, Scores, read_scores

_CHANGED = "the predictions have changed since"


@dataclass(frozen=True)
class Earlier:
    """What lies in a run folder before it is evaluated again."""

    scores: Scores | None = None
    """Its `scores.json`, where each number of it still holds; None: there is none, or it does not hold."""

    evaluators: tuple[str, ...] = ()
    """All that the file is by, whether it holds or not."""

    why: str = ""
    """Why its numbers do not hold; "" where they do."""


@dataclass(frozen=True)
class Dropped:
    """Numbers of an earlier evaluation that a new one does not keep."""

    evaluators: tuple[str, ...]
    """Whose they were."""

    why: str
    """Why they could not be kept."""


def earlier(run: Path) -> Earlier:
    """Return what an earlier evaluation of a run folder found, and whether it still holds.

    It holds where it is by this version of cxrkit, of the very prediction files that lie there, none more and none
    fewer, and says of each number which evaluator found it. The labels are in the origin of both, which gates compare.
    A file that cannot be read counts as none.
    """
    try:
        scores = read_scores(run / "scores.json")
    except UserError:
        return Earlier()
    files = {name: run / "predictions" / f"{name}.parquet" for name in SUBSETS}
    digests = {name: file_digest(path) for name, path in files.items() if path.is_file()}
    why = ""
    if digests != {name: part.predictions_sha256 for name, part in scores.subsets.items()}:
        why = _CHANGED
    elif scores.cxrkit_version != __version__:
        why = f"they are by cxrkit {scores.cxrkit_version}, this is {__version__}"
    elif any(not metric.evaluator for part in scores.subsets.values() for metric in part.metrics):
        why = "their file does not say which evaluator found what"
    return Earlier(None if why else scores, scores.evaluators, why)


def same_predictions(one: Scores, other: Scores) -> bool:
    """Return whether two scores are of the same prediction files, of one run on the same labels."""
    files = [{name: part.predictions_sha256 for name, part in scores.subsets.items()} for scores in (one, other)]
    return files[0] == files[1] and all(getattr(one, name) == getattr(other, name) for name in IDENTITY)


def together(before: Scores, found: Scores) -> Scores:
    """Return new scores with those earlier ones beside them that are of other evaluators, in the earlier order.

    An evaluator of before that gives a metric which one of the new gives, too, is left out whole.
    """
    new = found.evaluators
    taken = {(name, _key(metric)) for name, part in found.subsets.items() for metric in part.metrics}
    by: dict[str, set[tuple[str, tuple[str, str | None, str]]]] = {}
    for name, part in before.subsets.items():
        for metric in part.metrics:
            by.setdefault(metric.evaluator, set()).add((name, _key(metric)))
    kept = [name for name in before.evaluators if name not in new and not by.get(name, set()) & taken]
    order = [name for name in before.evaluators if name in kept or name in new]
    order += [name for name in new if name not in order]
    subsets = {
        name: replace(part, metrics=_ordered(order, [*_of(before.subsets[name].metrics, kept), *part.metrics]))
        for name, part in found.subsets.items()
    }
    options = {name: before.options[name] for name in kept if name in before.options} | found.options
    return replace(found, evaluator=",".join(order), subsets=subsets, options=options)


def dropped(before: Earlier, found: Scores, asked: str) -> Dropped | None:
    """Return what of an earlier evaluation is not in the new scores, and why; None where all of it is.

    asked: the evaluators that found what is new, joined by commas.
    """
    lost = tuple(name for name in before.evaluators if name not in found.evaluators)
    return Dropped(lost, before.why or f"{asked} gives a metric of the same name") if lost else None


def _key(metric: Metric) -> tuple[str, str | None, str]:
    return metric.name, metric.label, metric.group


def _of(metrics: Sequence[Metric], evaluators: Sequence[str]) -> list[Metric]:
    return [metric for metric in metrics if metric.evaluator in evaluators]


def _ordered(order: Sequence[str], metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """Return metrics by evaluator, each evaluator's own in the order that it gave them."""
    places: Mapping[str, int] = {name: place for place, name in enumerate(order)}
    return tuple(sorted(metrics, key=lambda metric: places[metric.evaluator]))
