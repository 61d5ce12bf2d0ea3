"""Answers to CLAIM's items 35 to 44: results to funding."""

from __future__ import annotations

from collections.abc import Callable

from cxrkit.report.evidence.metric_names import metric_words
from cxrkit.report.evidence.undefined import defined_names
from cxrkit.standards.claim_data import CONFIG, LABELS, PREPARED, SCORES, SPLIT, published
from cxrkit.standards.facts import RunFacts
from cxrkit.standards.words import (
    SUBSET_WORDS,
    Said,
    author,
    cases_words,
    count,
    limitations,
    listed,
    main_metric,
    missing_words,
    partition_words,
    sentences,
    value_words,
)


def included(facts: RunFacts) -> Said:
    """Item 35."""
    test = facts.run.test
    if not facts.partitions_used:
        text = f"Tested on {count(test.images, 'image')} of {count(test.patients, 'patient')}"
        return Said(sentences([text]), "give the numbers of training and exclusions", (SCORES,))
    left_out = missing_words(facts)
    text = sentences(["; ".join(map(partition_words, facts.partitions_used)), left_out])
    hint = "" if facts.dataset else "add what the data set left out"
    return Said(text[0].upper() + text[1:], hint, (SPLIT, PREPARED) if left_out else (SPLIT,))


def demographics(facts: RunFacts) -> Said:
    """Item 36."""
    text = []
    for partition in facts.partitions_used:
        if partition.cases is not None and partition.used and (words := cases_words(partition.cases)):
            name = SUBSET_WORDS[partition.subset].capitalize()
            text.append(f"{name}, {count(partition.used, 'image')}: {words}")
    if not text:
        return author("give age, sex and findings of each partition")
    return Said(sentences([*text, "Findings: see the table of cases below"]), "", (SPLIT, LABELS))


def performance(facts: RunFacts) -> Said:
    """Item 37."""
    metric = main_metric(facts)
    if metric is None:
        return author("report the metrics")
    of = f"of {facts.labels.heading(metric.label)}" if metric.label else f"over {count(metric.labels or 0, 'label')}"
    lead = f"{'Mean ' * (metric.label is None)}{metric_words(metric.name)} {of}: {value_words(metric)}"
    return Said(sentences([lead[0].upper() + lead[1:], "Each label: see the table below"]), "", (SCORES,))


def diagnostic(facts: RunFacts) -> Said:
    """Item 38."""
    found = [name for name in ("sensitivity", "specificity") if name in defined_names(facts.run.test)]
    if not found:
        return author("no threshold was chosen in this run; give sensitivity and specificity at one, with intervals")
    known = {metric.label for metric in facts.run.test.overall if metric.name == found[0] and metric.value is not None}
    of = "each label" if len(known) == len(facts.labels) else f"{len(known)} of {count(len(facts.labels), 'label')}"
    return Said(f"{listed(found).capitalize()} of {of}: see the table below.", "", (SCORES,))


def study_limitations(facts: RunFacts) -> Said:
    """Item 40."""
    found = limitations(facts)
    sources = (*published(facts), SCORES)
    return Said(sentences(found), "add those of your study", sources if found else ())


def protocol(facts: RunFacts) -> Said:
    """Item 42."""
    hint = "refer to a protocol, or to the repository that holds these files"
    scores = facts.run.scores
    if facts.config is None:
        return author(hint)
    text = f"The complete settings are in config.toml (digest of the recipe {scores.recipe_digest[:12]}...)."
    return Said(text, hint, (CONFIG, SCORES))


def availability(facts: RunFacts) -> Said:
    """Item 43."""
    text = [f"Software: cxrkit {facts.run.scores.cxrkit_version} (Apache-2.0)"]
    if facts.dataset:
        where = f" at {facts.dataset.homepage}" if facts.dataset.homepage else ""
        text.append(f"Data: {facts.dataset.name}{where}. {facts.dataset.licence}")
    hint = "say whether the trained model can be had" + ("" if facts.dataset else ", and the data")
    return Said(sentences(text), hint, (SCORES, *published(facts)))


ANSWERS: dict[int, Callable[[RunFacts], Said]] = {
    35: included,
    36: demographics,
    37: performance,
    38: diagnostic,
    39: lambda _: author("analyse what the model gets wrong"),
    40: study_limitations,
    41: lambda _: author("discuss what follows for practice, and what the model must not be used for"),
    42: protocol,
    43: availability,
    44: lambda _: author("name funding, other support and the role of the funders"),
}
