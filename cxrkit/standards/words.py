"""Sentences that the checklist and the model card share, each made of what the run says and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cxrkit.base.contracts import Metric
from cxrkit.base.words import count as count
from cxrkit.datasets.splits import resample_number
from cxrkit.report.evidence.metric_names import metric_words
from cxrkit.report.evidence.runs import AUC
from cxrkit.standards.cases import Cases
from cxrkit.standards.facts import Partition, RunFacts

SUBSET_WORDS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Said:
    """What is to be said of one thing, and what is left to the author."""

    text: str = ""
    """What is known, in sentences; "" where nothing is."""

    author: str = ""
    """What only the author can write; "" where nothing is left open."""

    sources: tuple[str, ...] = ()
    """The files, or the publications, that the text rests on."""


def author(hint: str) -> Said:
    """Return that only the author knows."""
    return Said(author=hint)


def sentences(parts: Iterable[str]) -> str:
    """Join what is not empty into sentences."""
    return " ".join(part if part.endswith(".") else f"{part}." for part in parts if part)


def listed(words: Iterable[str]) -> str:
    """Return "a, b and c"."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def kind(facts: RunFacts) -> str:
    """Return what kind of model it is, "" where that is not known."""
    spec = facts.spec
    if spec is None:
        return ""
    if spec.probe:
        return "a single dense layer on the features of another network"
    if not spec.blocks:
        return "a multilayer perceptron"
    also = " that is also given age, sex and view position" if spec.meta else ""
    return f"a convolutional neural network of residual blocks (ResNet){also}"


def task(facts: RunFacts) -> str:
    """Return what is predicted, in words."""
    labels = facts.labels
    if labels.unit:
        return f"prediction of {listed(labels.heading(label) for label in labels.labels)} in {labels.unit}"
    if len(labels) == 1:
        return f"binary classification of {labels.heading(labels.labels[0])}"
    averaged = f" ({len(labels.averaged)} of them enter the mean)" if labels.beside else ""
    return f"multi-label classification of {count(len(labels), 'label')}{averaged}"


def data_name(facts: RunFacts) -> str:
    """Return what the data set is called."""
    return facts.dataset.name if facts.dataset else facts.run.origin.dataset


def partition_words(partition: Partition) -> str:
    """Return the size of one partition, and how much of it was used."""
    size = f"{count(partition.images, 'image')} of {count(partition.patients, 'patient')}"
    used = "" if partition.used == partition.images else f", of which {partition.used:,} were used"
    return f"{SUBSET_WORDS[partition.subset]} {size}{used}"


def cases_words(cases: Cases) -> str:
    """Return who is in a partition."""
    known = cases.female + cases.male
    parts = []
    if known:
        parts.append(f"{cases.female:,} of women ({100 * cases.female / known:.1f} %) and {cases.male:,} of men")
    if cases.age_years is not None:
        lower, middle, upper = cases.age_years
        parts.append(f"median age {middle:g} years (quartiles {lower:g} and {upper:g})")
    if cases.views:
        parts.append(listed(f"{number:,} {view}" for view, number in cases.views.items()))
    return ", ".join(parts)


def missing_words(facts: RunFacts) -> str:
    """Return which images of the data set were not at hand, or left out as damaged."""
    about = facts.description
    if about is None or not about.levels or facts.looks_at_images is False:
        return ""
    if not (about.missing_images or about.damaged):
        return ""
    parts = [f"{count(about.missing_images, 'listed image')} were not at hand"] * bool(about.missing_images)
    parts += [f"{count(len(about.damaged), 'image')} were left out as damaged"] * bool(about.damaged)
    return f"Of the prepared folder {listed(parts)}"


def value_words(metric: Metric, decimals: int = 3) -> str:
    """Return a value with its interval, or why there is none."""
    if metric.value is None:
        return f"not defined ({metric.reason})" if metric.reason else "not defined"
    text = f"{metric.value:.{decimals}f}"
    if metric.lower is not None:
        text += f" [{metric.lower:.{decimals}f}, {metric.upper:.{decimals}f}]"
        return f"{text} ({metric.mark})" if metric.mark else text
    return f"{text} (no interval: {metric.mark})" if metric.mark else text


def main_metric(facts: RunFacts) -> Metric | None:
    """Return the number that stands for the run: the mean AUC or the AUC of its one label, else the first mean.

    Where there is no mean it is the first number. Numbers of a group of images do not stand for all.
    """
    metrics = facts.run.test.overall
    aucs = [metric for metric in metrics if metric.name == AUC]
    means = [metric for metric in aucs or metrics if metric.label is None]
    return next(iter(means), next(iter(aucs or metrics), None))


def groups_found(facts: RunFacts) -> tuple[str, ...]:
    """Return the groups of images that have a number of their own: "sex F", "view AP"; no pair that is compared."""
    known = [metric.group for metric in facts.run.test.metrics if metric.group and metric.value is not None]
    return tuple(dict.fromkeys(group for group in known if " against " not in group))


def how_intervals(facts: RunFacts) -> str:
    """Return how the intervals of the run were made, each way once."""
    ways = dict.fromkeys(
        metric.interval for metric in facts.run.test.overall if metric.lower is not None and metric.interval
    )
    return "; ".join(ways)


def split_words(facts: RunFacts) -> str:
    """Return how images were assigned to partitions, "" where that is not known."""
    origin = facts.run.origin
    if origin.basis.split != "checked":
        return ""
    name = origin.split
    if name == "official" and facts.config is not None:
        return (
            "The test images are those of the data set's official list; of the other images, patients in the order of "
            "a hash (SHA-256 of their number) validate until an eighth is reached, and the rest trains"
        )
    if resample_number(name) is not None and facts.config is not None:
        return (
            f"Patients in the order of a hash (SHA-256 of split and patient number, split {name}) are dealt out to "
            "20 % test, 10 % validation and 70 % training images, as in Baltruschat et al. 2019"
        )
    return ""


def limitations(facts: RunFacts) -> list[str]:
    """Return the limitations that follow from what is known of the data set and of this run."""
    found = list(facts.published_labels.label_limitations) if facts.published_labels else []
    found += facts.dataset.limitations if facts.dataset else ()
    origin, test = facts.run.origin, facts.run.test
    if facts.stale:
        found.insert(0, f"Evaluate the run again before you use this document: {'; '.join(facts.stale)}")
    if not test.complete:
        found.append(f"It was tested on {test.images:,} of the split's {count(test.subset_images, 'test image')}")
    if origin.train_images and not origin.complete:
        found.append(f"It was trained on {origin.train_images:,} of {count(origin.train_subset_images, 'image')}")
    if origin.basis.training == "unknown":
        found.append("What it was trained on is not known: whether test patients were among it was not checked")
    elif origin.basis.training == "declared":
        found.append("What it was trained on is declared, not checked")
    main = main_metric(facts)
    of_labels = [metric for metric in test.overall if main is not None and metric.name == main.name and metric.label]
    if undefined := [metric for metric in of_labels if metric.value is None]:
        names = listed(
            f"{facts.labels.heading(item.label or '')} ({item.reason or 'no reason given'})" for item in undefined
        )
        found.append(f"Not defined on these test images: {metric_words(undefined[0].name)} of {names}")
    unsure = [metric for metric in of_labels if metric.mark]
    if unsure:
        names = listed(dict.fromkeys(facts.labels.heading(metric.label or "") for metric in unsure))
        found.append(f"Few patients stand behind the numbers of {names}: they have an approximate interval, or none")
    if constant := [metric for metric in of_labels if metric.constant]:
        names = listed(facts.labels.heading(metric.label or "") for metric in constant)
        found.append(f"Every image has the same score for {names}: the model says nothing of that")
    return found
