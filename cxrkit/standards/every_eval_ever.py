"""The results of one run in the format of Every Eval Ever (EvalEval Coalition, https://evalevalai.com).

Written to the aggregate schema `eval.schema.json` of version 0.2.2, the newest whose text we know, and to the rules
that its validator adds: bounds for continuous metrics, and who deployed the model and whether its weights are open. The
format is made for language models; what has no place in it stands in its free `additional_details`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cxrkit.base.contracts import Metric
from cxrkit.report.evidence.metric_names import metric_words
from cxrkit.report.evidence.undefined import defined_names
from cxrkit.standards.facts import RunFacts
from cxrkit.standards.words import data_name

SCHEMA_VERSION = "0.2.2"
_ONE = (0.0, 1.0)
# Name, its canonical id, whether lower is better, lowest and highest value; a threshold is no score and is left out.
_METRICS: dict[str, tuple[str, bool, tuple[float, float] | None]] = {
    "auc": ("auroc", False, _ONE),
    "average_precision": ("average_precision", False, _ONE),
    "sensitivity": ("sensitivity", False, _ONE),
    "specificity": ("specificity", False, _ONE),
    "ppv": ("ppv", False, _ONE),
    "npv": ("npv", False, _ONE),
    "brier": ("brier_score", True, _ONE),
    "mae": ("mae", True, None),
}


def every_eval_ever(facts: RunFacts, now: datetime | None = None) -> dict[str, Any]:
    """Return the document. now: when it is made; the format asks for it."""
    stamp = f"{(now or datetime.now(UTC)).timestamp():.0f}"
    scores = facts.run.scores
    model = f"author/{facts.run.name}"
    test = facts.run.test
    known = [metric for metric in test.overall if metric.name in _METRICS and metric.value is not None]
    left_out = sorted(set(defined_names(test)) - {metric.name for metric in known})
    left_out += ["what is of groups of images"] * any(metric.group for metric in test.metrics)
    library: dict[str, Any] = {"name": "cxrkit", "version": scores.cxrkit_version}
    details = {"evaluator": scores.evaluator} | ({"metrics_left_out": ", ".join(left_out)} if left_out else {})
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{facts.run.origin.dataset}/{model}/{stamp}",
        "retrieved_timestamp": stamp,
        "source_metadata": {
            "source_name": "cxrkit",
            "source_type": "evaluation_run",
            "source_organization_name": "author: your organization",
            # Who trained a run folder has also evaluated it; of an import nobody says.
            "evaluator_relationship": "first_party" if facts.config else "other",
        },
        "eval_library": library | {"additional_details": details},
        "model_info": {"name": facts.run.name, "id": model, "additional_details": _model_details(facts)},
        "evaluation_results": [_result(facts, metric) for metric in known],
    }


def _model_details(facts: RunFacts) -> dict[str, str]:
    scores, origin = facts.run.scores, facts.run.origin
    found = {
        "deployment_type": "self_deployed" if facts.config else "unknown",
        "model_availability": "unknown",
        "author": "replace the developer in the id, and say whether the weights are open",
        "model": scores.model,
        **_trained_by(facts),
        "seed": f"{scores.seed}" if facts.config else "",
        "epoch": f"{scores.epoch}" if facts.config else "",
        "pretraining": "" if origin.basis.pretraining == "unknown" else origin.pretraining,
        "training_images": f"{origin.train_images} ({origin.basis.training})" if origin.train_images else "",
    }
    return {name: text for name, text in found.items() if text}


def _trained_by(facts: RunFacts) -> dict[str, str]:
    """Return recipe and checkpoint of a training of cxrkit's; of an import the file, which is all that is at hand."""
    scores = facts.run.scores
    if facts.run.imported:
        return {"predictions_sha256": scores.checkpoint_sha256}
    return {
        "recipe": scores.recipe,
        "recipe_sha256": scores.recipe_digest,
        "changes": ", ".join(scores.changes),
        "checkpoint_sha256": scores.checkpoint_sha256,
    }


def _result(facts: RunFacts, metric: Metric) -> dict[str, Any]:
    of = metric.label or f"mean over {metric.labels} labels"
    name = f"{facts.run.origin.dataset}: {metric_words(metric.name)}, {of}"
    score: dict[str, Any] = {"score": metric.value}
    if details := _score_details(metric):
        score["details"] = details
    if metric.lower is not None:
        interval = {"lower": metric.lower, "upper": metric.upper, "method": metric.interval}
        if metric.interval.startswith("95 %"):
            interval["confidence_level"] = 0.95
        score["uncertainty"] = {"confidence_interval": interval, "num_samples": facts.run.test.images}
    return {
        "evaluation_name": name,
        "source_data": _source(facts),
        "metric_config": _config(facts, metric),
        "score_details": score,
    }


def _config(facts: RunFacts, metric: Metric) -> dict[str, Any]:
    identity, lower_is_better, bounds = _METRICS[metric.name]
    found: dict[str, Any] = {
        "metric_id": identity,
        "metric_name": metric_words(metric.name),
        "metric_kind": identity,
        "metric_unit": "proportion" if bounds else facts.labels.unit,
        "lower_is_better": lower_is_better,
    }
    if bounds:  # an error in years has no highest value, and the schema no word for that
        found |= {"score_type": "continuous", "min_score": bounds[0], "max_score": bounds[1]}
    return found


def _score_details(metric: Metric) -> dict[str, str]:
    found = {
        "positives": metric.positives,
        "negatives": metric.negatives,
        "positive_patients": metric.positive_patients,
        "interval_mark": metric.mark or None,
        "reason": metric.reason or None,
    }
    return {name: f"{value}" for name, value in found.items() if value is not None}


def _source(facts: RunFacts) -> dict[str, Any]:
    origin, test = facts.run.origin, facts.run.test
    details = {
        "split": origin.split,
        "subset": "test",
        "split_sha256": origin.split_digest,
        "images_sha256": test.images_digest,
        "labels_sha256": origin.labels_digest,
        "label_release": origin.label_release,
        "images": f"{test.images}",
        "images_of_the_subset": f"{test.subset_images}",
        "patients": f"{test.patients}",
    }
    kept = {name: text for name, text in details.items() if text}
    if facts.dataset and facts.dataset.homepage:
        return {
            "dataset_name": data_name(facts),
            "source_type": "url",
            "url": [facts.dataset.homepage],
            "additional_details": kept,
        }
    return {"dataset_name": data_name(facts), "source_type": "other", "additional_details": kept}
