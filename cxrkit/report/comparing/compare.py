"""`cxrkit compare`: whether runs differ, two in a table of labels, more in a matrix with their ties."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from cxrkit.base import registry
from cxrkit.base.errors import UserError
from cxrkit.report.comparing.contenders import Contender, contenders, is_fold, refuse_alone
from cxrkit.report.comparing.contests import Contest
from cxrkit.report.comparing.difference_cells import where
from cxrkit.report.comparing.matrix import many
from cxrkit.report.comparing.pairing import contests
from cxrkit.report.comparing.versus import sentence, versus
from cxrkit.report.document.figures import Figure
from cxrkit.report.document.tables import Report, Table
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.variants import Variant, details, full_name, variant_of

Keyed = TypeVar("Keyed", Table, Figure)


def compare(runs: Sequence[Sequence[Run]], opened: Opened, *, only: Collection[str] = ()) -> Report:
    """Return how models differ: in each AUC and in the mean, on each split that they have in common.

    runs: for each model its run, or its runs over seeds and folds. opened: where labels and scores come from. only:
    labels to show beside the mean; what is computed and adjusted for stays the same. Raises UserError where fewer than
    two models are named, where they may not be compared (contenders.py, pairing.py), and for a label that they lack.
    """
    if len(runs) < 2:
        raise UserError("compare: fewer than two runs are named", remedy="name two run folders or more")
    who = contenders(runs)
    found = contests(who, opened)
    for label in only:
        if not any(label in contest.labels.labels for contest in found):
            known = dict.fromkeys(name for contest in found for name in contest.labels.labels)
            raise registry.unknown("label", label, known, own="")
    tables, figures = _documents(found, only)
    names = [contender.name for contender in who]
    title = f"{names[0]} against {names[1]}" if len(names) == 2 else f"{len(names)} runs compared"
    return Report(title, tuple(tables), (), tuple(figures), "compare", _sentences(found, only))


def comparisons(runs: Iterable[Run], opened: Opened) -> tuple[list[Table], list[Figure]]:
    """Return the comparisons of all runs that may be compared: on each split those of it, and over the folds.

    Runs are pooled over seeds and folds by the terms that they were trained on. What cannot be compared with anything
    is passed over: a report says elsewhere what it keeps apart. Raises UserError where predictions or labels are gone.
    """
    return _documents(_contests(runs, opened))


def _contests(runs: Iterable[Run], opened: Opened) -> list[Contest]:
    return [contest for group in _comparable(runs) for contest in contests(group, opened)]


def _sentences(found: Sequence[Contest], only: Collection[str] = ()) -> tuple[str, ...]:
    """Return a sentence on each two contenders, and of several contests where it was; only: as `compare` takes it."""
    pairs = [contest for contest in found if len(contest.names) == 2]
    several = len(found) > 1
    return tuple(f"On the {where(contest)}: " * several + sentence(contest, names=not only) for contest in pairs)


def compare_all(runs: Iterable[Run], opened: Opened) -> Report:
    """Return the comparisons of all runs that may be compared, as a document; see `comparisons`."""
    found = _contests(runs, opened)
    tables, figures = _documents(found)
    notes = () if tables else ("No two models were tested on the same images, or on the same folds",)
    return Report("Differences between runs", tuple(tables), notes, tuple(figures), "compare", _sentences(found))


def compared(runs: Iterable[Run]) -> list[Run]:
    """Return the runs that `comparisons` compares."""
    return [run for group in _comparable(runs) for contender in group for run in contender.runs]


def _comparable(runs: Iterable[Run]) -> list[list[Contender]]:
    """Return groups of two contenders or more on the same images, or over the same folds."""
    runs = list(runs)
    pooled: dict[Variant, list[Run]] = defaultdict(list)
    for run in runs:
        try:
            refuse_alone(run)
        except UserError:
            continue
        pooled[replace(variant_of(run), seeds=())].append(run)
    words = details(pooled, {}, runs)
    names = {terms: full_name(terms, said) for terms, said in words.items()}
    groups: dict[object, list[Contender]] = defaultdict(list)
    over_folds: dict[str, dict[object, list[Run]]] = {}
    for terms, members in pooled.items():
        alone: dict[object, list[Run]] = defaultdict(list)
        over: dict[object, list[Run]] = defaultdict(list)
        for run in members:
            (over if is_fold(run.split) else alone)[_images(run)].append(run)
        for images, seeds in alone.items():
            groups[images].append(Contender(names[terms], tuple(seeds)))
        if over:
            over_folds[names[terms]] = over
    together = [*groups.values(), *_over_common_folds(over_folds)]
    return [group for group in together if len(group) > 1]


def _over_common_folds(over: Mapping[str, Mapping[object, Sequence[Run]]]) -> list[list[Contender]]:
    """Return groups of contenders with the folds that all of a group have: once for each set of folds in common.

    over: by name, the runs of each fold. Of five folds, five and three come two groups: the first two over five folds,
    and all of them over three.
    """
    common: dict[frozenset[object], None] = {}
    for folds in over.values():  # every set that is common to some of them
        sets = [frozenset(folds), *(frozenset(folds) & other for other in common)]
        common |= dict.fromkeys(found for found in sets if found)
    groups: dict[tuple[str, ...], list[Contender]] = {}
    for found in sorted(common, key=len, reverse=True):
        who = tuple(name for name, folds in over.items() if found <= folds.keys())
        if who not in groups:  # else they have these folds in common, and more
            groups[who] = _with_folds(found, {name: over[name] for name in who})
    return list(groups.values())


def _with_folds(found: frozenset[object], over: Mapping[str, Mapping[object, Sequence[Run]]]) -> list[Contender]:
    """Return contenders with their runs of these folds, and with those of splits that others lack: notes name them."""
    every = {name: [(key, run) for key, seeds in folds.items() for run in seeds] for name, folds in over.items()}
    shared = set.intersection(*({run.split for _, run in runs} for runs in every.values()))
    return [
        Contender(name, tuple(run for key, run in runs if key in found or run.split not in shared))
        for name, runs in every.items()
    ]


def _images(run: Run) -> tuple[str, ...]:
    """Return what must be the same for two runs to be compared image by image."""
    origin = run.origin
    return origin.dataset, origin.label_set, origin.labels_digest, run.split, run.test.images_digest


def _documents(found: Sequence[Contest], only: Collection[str] = ()) -> tuple[list[Table], list[Figure]]:
    """Return tables and figures of all contests, under keys that tell them apart."""
    tables: list[Table] = []
    figures: list[Figure] = []
    for contest in found:
        if len(contest.names) == 2:
            table, figure = versus(contest, only)
            tables.append(table)
            figures.append(figure)
        else:
            more, drawn = many(contest, only)
            tables += more
            figures += drawn
    return _told_apart(tables), _told_apart(figures)


def _told_apart(items: list[Keyed]) -> list[Keyed]:
    seen: Counter[str] = Counter()
    found = []
    for item in items:
        seen[item.key] += 1
        found.append(replace(item, key=f"{item.key}-{seen[item.key]}") if seen[item.key] > 1 else item)
    return found
