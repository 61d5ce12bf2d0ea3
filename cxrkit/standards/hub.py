"""Evaluation results as the Hugging Face Hub takes them, in both of its ways.

The older one is `model-index` in the front matter of a model card (huggingface/hub-docs, modelcard.md): any data set,
a value per label. The newer one is a file in the model repository's folder `.eval_results` (hub-docs, eval_results.yaml
and "Evaluation Results"): a value per task of a data set that is registered on the Hub as a benchmark. Which one that
is only the author knows.
"""

from __future__ import annotations

from typing import Any

from cxrkit.base.contracts import Metric
from cxrkit.base.words import count
from cxrkit.report.evidence.metric_names import metric_words
from cxrkit.report.evidence.undefined import defined_names
from cxrkit.standards.facts import RunFacts
from cxrkit.standards.markup import yaml
from cxrkit.standards.words import data_name, main_metric, task

_METRIC_IDS = {"auc": "roc_auc", "mae": "mae"}  # the Hub's names; any other metric keeps ours
_HEADER = """\
# Evaluation results for the Hugging Face Hub: put this file into the folder .eval_results of your model repository.
# author: name the data set of the Hub that is registered as a benchmark, and the task as its eval.yaml calls it.
"""


def task_type(facts: RunFacts) -> str:
    """Return the Hub's name of the task."""
    what = "regression" if facts.labels.unit else "classification"
    looks = facts.looks_at_images is not False
    return f"image-{what}" if looks and not facts.labels.unit else f"tabular-{what}"


def metric_id(name: str) -> str:
    """Return the Hub's name of a metric."""
    return _METRIC_IDS.get(name, name)


def front_matter(facts: RunFacts) -> str:
    """Return the YAML block that a model card begins with."""
    names = [metric_id(name) for name in defined_names(facts.run.test)]
    tags = ["chest-x-ray", "radiology", facts.run.origin.dataset, task_type(facts), "cxrkit"]
    head: dict[str, Any] = {"library_name": "cxrkit"} if facts.config is not None else {}
    head |= {"tags": tags, "metrics": names, "model-index": [_model_index(facts)]}
    comment = "# author: add license, language and datasets as the Hub calls them\n"
    return f"---\n{comment}{yaml(head)}---\n"


def _model_index(facts: RunFacts) -> dict[str, Any]:
    origin, test = facts.run.origin, facts.run.test
    args: dict[str, Any] = {
        "split": origin.split,
        "split_sha256": origin.split_digest,
        "labels_sha256": origin.labels_digest,
    }
    args |= {"label_release": origin.label_release, "images": test.images, "patients": test.patients}
    data = {"type": origin.dataset, "name": data_name(facts), "split": "test", "args": args}
    result = {
        "task": {"type": task_type(facts), "name": _sentence(task(facts))},
        "dataset": data,
        "metrics": [_indexed(facts, metric) for metric in test.overall if metric.value is not None],
    }
    return {"name": facts.run.name, "results": [result]}


def _indexed(facts: RunFacts, metric: Metric) -> dict[str, Any]:
    of = facts.labels.heading(metric.label) if metric.label else f"mean over {metric.labels} labels"
    if metric.label is None and metric.labels is None:  # of all labels at once: a temperature
        of = "all labels"
    found: dict[str, Any] = {"type": metric_id(metric.name), "value": metric.value}
    found["name"] = f"{metric_words(metric.name)}, {of}"
    args = {"lower": metric.lower, "upper": metric.upper, "interval": metric.interval} if _has_interval(metric) else {}
    if metric.mark:
        args["mark"] = metric.mark
    return found | ({"args": args} if args else {})


def _has_interval(metric: Metric) -> bool:
    return metric.lower is not None


def results_file(facts: RunFacts) -> str:
    """Return the content of a file for `.eval_results`: the run's main number."""
    metric = main_metric(facts)
    if metric is None or metric.value is None:
        return f"{_HEADER}# The main metric of this run is not defined: there is nothing to enter.\n[]\n"
    test, origin = facts.run.test, facts.run.origin
    notes = [f"{metric_words(metric.name)} of {facts.labels.heading(metric.label)}" if metric.label else ""]
    notes += [] if metric.label else [f"mean {metric_words(metric.name)} over {metric.labels} labels"]
    notes += [f"interval {metric.lower:.4f} to {metric.upper:.4f}"] if metric.lower is not None else []
    notes += [f"{data_name(facts)}, split {origin.split} (SHA-256 {origin.split_digest[:12]}...)"]
    notes += [f"labels {origin.label_release}", f"{count(test.images, 'image')} of {count(test.patients, 'patient')}"]
    notes += [] if facts.complete else ["partial: not all images were used"]
    entry = {
        "dataset": {"id": "author: OWNER/DATASET", "task_id": "author: the task's id"},
        "value": metric.value,
        "evaluation_framework": "cxrkit",
        "notes": "; ".join(note for note in notes if note),
    }
    return _HEADER + yaml([entry])


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"
