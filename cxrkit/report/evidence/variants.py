"""Runs that were trained on equal terms, and what tells them from others of the same name and from the paper."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from cxrkit import recipes
from cxrkit.report.evidence.comparability import Verdict
from cxrkit.report.evidence.reference import known_preparations
from cxrkit.report.evidence.runs import Run
from cxrkit.report.literature.published import Published, PublishedFolds
from cxrkit.runs.predictions import IMPORTED

Paper = TypeVar("Paper", bound=Published | PublishedFolds)
SHOWN = 3  # changed settings in a heading; the notes name all


@dataclass(frozen=True)
class Variant:
    """All but the split that decides a run's numbers: runs are pooled in one column when they are of one variant."""

    name: str
    """The run's name."""

    model: str
    """Name of the network."""

    recipe: str
    """Name of the recipe that it started from."""

    changes: tuple[str, ...]
    """Settings that differ from the recipe's own, as "section.key=value"."""

    input_size: int
    """Side of the network's input in pixels."""

    seeds: tuple[int, ...]
    """Of initialisation, order and augmentation; several where their runs are pooled (`pool`)."""

    pretraining: str
    """What the network had seen before."""

    initial_weights: str
    """SHA-256 of the file that training started from."""

    preparation: str
    """Digest of the preparation's settings: other levels or another quality are other pixels; "" where none count."""

    recipe_digest: str
    """SHA-256 over all settings that decide numbers, apart from fold and seed."""


def variant_of(run: Run) -> Variant:
    """Return the terms on which a run was trained."""
    scores = run.scores
    return Variant(
        name=run.name,
        model=scores.model,
        recipe=scores.recipe,
        changes=scores.changes,
        input_size=scores.input_size,
        seeds=(scores.seed,),
        pretraining=run.origin.pretraining,
        initial_weights=run.origin.initial_weights,
        preparation=run.origin.preparation_digest,
        recipe_digest=scores.recipe_digest,
    )


def pool(verdicts: Iterable[Verdict]) -> dict[Variant, list[Verdict]]:
    """Return the runs of each column of a table, in the order of the columns' first runs.

    Seeds are pooled where each of them has been trained on the same splits: a column with three seeds of one fold and
    one of another would mix what it averages over.
    """
    by_seed: dict[Variant, dict[int, list[Verdict]]] = defaultdict(lambda: defaultdict(list))
    place = {}
    for number, verdict in enumerate(verdicts):
        variant = variant_of(verdict.run)
        by_seed[replace(variant, seeds=())][variant.seeds[0]].append(verdict)
        place[id(verdict)] = number
    pooled: dict[Variant, list[Verdict]] = {}
    for terms, seeds in by_seed.items():
        alike: dict[frozenset[str], list[int]] = defaultdict(list)
        for seed, members in seeds.items():
            alike[frozenset(verdict.run.split for verdict in members)].append(seed)
        for same in alike.values():
            members = sorted((item for seed in same for item in seeds[seed]), key=lambda item: place[id(item)])
            pooled[replace(terms, seeds=tuple(sorted(same)))] = members
    return dict(sorted(pooled.items(), key=lambda column: place[id(column[1][0])]))


def seeds_text(seeds: Sequence[int]) -> str:
    """Return "seed 3", "seeds 0, 1" or "seeds 0 to 4"."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def paper_of(variant: Variant, papers: Mapping[str, Paper]) -> Paper | None:
    """Return the published column that a variant repeats, from `papers` by recipe: that of its recipe.

    A network of the paper has its recipe's name, so one that was trained by another recipe has its column, too.
    """
    return papers.get(variant.recipe) or papers.get(variant.model)


def is_altered(variant: Variant, paper: Published | PublishedFolds | None) -> bool:
    """Whether a run of a published system was trained on other terms than the published column: no fair rival."""
    if paper is None:
        return False
    other_size = paper.input_size != 0 and paper.input_size != variant.input_size
    # What its recipe must leave out is other terms, too.
    return bool(variant.changes) or paper.recipes.get(variant.recipe) != "" or other_size


def details(
    variants: Iterable[Variant],
    papers: Mapping[str, Published | PublishedFolds],
    among: Iterable[Run] = (),
) -> dict[Variant, tuple[str, ...]]:
    """Return what the heading of each variant must say beside its name, in a few words each.

    That is: how it differs from its recipe, from the published column that it repeats (`papers`, by recipe), and from
    other variants of the same name. among: all of the report's runs; what they have in common is left out, for
    `common_terms.terms_notes` says it once. Each table of a report is given the same, and so calls a run the same.
    """
    shared = shared_of(map(variant_of, among))
    groups: dict[str, list[Variant]] = defaultdict(list)
    for variant in dict.fromkeys(variants):
        groups[variant.name].append(variant)
    found: dict[Variant, tuple[str, ...]] = {}
    for group in groups.values():
        found |= _group_details(group, papers, shared)
    return found


@dataclass(frozen=True)
class Shared:
    """What all of a report's runs have in common that is not as their recipes, or the default preparation, have it."""

    changes: tuple[str, ...] = ()
    """Settings, as "section.key=value", of all runs that cxrkit trained."""

    preparation: str = ""
    """Digest of the preparation of all runs that look at images; "" where it needs no mention."""


def shared_of(variants: Iterable[Variant]) -> Shared:
    """Return what the variants have in common; of imported predictions no setting is known, so they do not count."""
    trained = [variant for variant in dict.fromkeys(variants) if variant.recipe != IMPORTED]
    if not trained:
        return Shared()
    changes = (change for change in trained[0].changes if all(change in other.changes for other in trained))
    preparations = {variant.preparation for variant in trained if variant.preparation}
    alike = preparations.pop() if len(preparations) == 1 else ""
    return Shared(tuple(changes), "" if alike in known_preparations() else alike)


def _group_details(
    group: list[Variant], papers: Mapping[str, Published | PublishedFolds], shared: Shared
) -> dict[Variant, tuple[str, ...]]:
    varying = {name for name in Variant.__dataclass_fields__ if len({getattr(variant, name) for variant in group}) > 1}

    def words(variant: Variant, varying: set[str]) -> tuple[str, ...]:
        paper = paper_of(variant, papers)
        # Beside the column that it repeats, what all runs have in common distinguishes a run from that one.
        return _words(variant, varying, paper, shared if paper is None else Shared())

    found = {variant: words(variant, varying) for variant in group}
    # Seeds tell runs apart, not terms: those that differ in nothing that was said are named by their settings.
    terms = {variant: replace(variant, seeds=()) for variant in found}
    said = {bare: words(bare, varying - {"seeds"}) for bare in terms.values()}
    alike = Counter(said.values())
    return {
        variant: words if alike[said[terms[variant]]] == 1 else (*words, f"settings {variant.recipe_digest[:8]}")
        for variant, words in found.items()
    }


def _words(
    variant: Variant, varying: set[str], paper: Published | PublishedFolds | None, shared: Shared
) -> tuple[str, ...]:
    words = []
    # A run may be called like a network that it is not; the recipe of a run that is called as one names its network.
    of_its_recipe = variant.name == variant.recipe and variant.recipe in recipes.names()
    if "model" in varying or (variant.name != variant.model and not of_its_recipe):
        words.append(variant.model)
    if variant.recipe == IMPORTED:  # a note says where it comes from; a name that is of both must tell them apart
        words += ["imported"] * ("recipe" in varying)
    elif "recipe" in varying or variant.recipe not in (variant.name, variant.model):
        words.append(f"recipe {variant.recipe}")
    other_size = paper is not None and paper.input_size not in (0, variant.input_size)
    if variant.input_size and (
        "input_size" in varying or other_size
    ):  # of what comes from elsewhere it may not be known
        words.append(f"at {variant.input_size} px")
    own = (change for change in variant.changes if change not in shared.changes)
    changes = [word for word in map(change_text, own) if word not in words]
    words += changes[:SHOWN]
    if len(changes) > SHOWN:
        words.append(f"{len(changes) - SHOWN} more")
    if "seeds" in varying or len(variant.seeds) > 1:
        words.append(seeds_text(variant.seeds))
    if "pretraining" in varying:
        words.append(f"pretraining {variant.pretraining}")
    if "initial_weights" in varying:
        words.append(f"weights {variant.initial_weights[:8] or 'none'}")
    needs_no_mention = variant.preparation == shared.preparation or variant.preparation in known_preparations()
    if variant.preparation and ("preparation" in varying or not needs_no_mention):
        words.append(f"prepared {variant.preparation[:8]}")
    return tuple(words)


def change_text(change: str) -> str:
    """Return a changed setting as a heading says it: input.size=64 is "at 64 px", optimizer.lr=0.5 "lr 0.5".

    A part is called as what it is: loss.name=focal is "loss focal".
    """
    setting, _, value = change.partition("=")
    section, _, key = setting.rpartition(".")
    match setting:
        case "input.size":
            return f"at {value} px"
        case "schedule.epochs":
            return f"{value} epoch{'s' * (value != '1')}"
        case _:
            return f"{section if key == 'name' else key} {value}"


def full_name(variant: Variant, words: Iterable[str]) -> str:
    """Return name and details in one line, for CSV and notes."""
    return ", ".join((variant.name, *words))
