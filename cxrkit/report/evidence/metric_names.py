"""What each metric is called where people read it: one name in tables, panels, notes and journals' documents.

The names of the files (`scores.json`, CSV) are for programs and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

_NAMES = {
    "auc": "AUC",
    "auc_difference": "AUC difference",
    "average_precision": "Average precision",
    "prevalence": "Prevalence",
    "brier": "Brier",
    "ece": "ECE",
    "temperature": "Temperature",
    "brier_tempered": "Brier, tempered",
    "ece_tempered": "ECE, tempered",
    "brier_shifted": "Brier, prior",
    "ece_shifted": "ECE, prior",
    "threshold": "Threshold",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "net_benefit": "Net benefit",
    "net_benefit_of_all": "Net benefit of all",
    "mae": "Mean absolute error",
    "mae_sd": "Deviation of the errors",
    "mae_of_median": "Error of saying the median",
}
_ABBREVIATED = ("AUC", "Brier", "ECE", "PPV", "NPV")  # and names of people: not lowered in a sentence


def metric_name(name: str) -> str:
    """Return what a metric is called at the head of a table: "Brier, prior", "Net benefit at 0.05".

    One that is not cxrkit's keeps the name that its evaluator gives it.
    """
    base, at, threshold = name.partition("@")
    known = _NAMES.get(base)
    if known is None:
        return name
    return f"{known} at {threshold}" if at else known


def metric_words(name: str) -> str:
    """Return what a metric is called within a sentence: "sensitivity", "AUC", "mean absolute error"."""
    text = metric_name(name)
    if text == name or text.startswith(_ABBREVIATED):
        return text
    return f"{text[0].lower()}{text[1:]}"


def metrics_listed(names: Iterable[str]) -> str:
    """Return several within a sentence: "AUC, sensitivity and PPV"; with semicolons where a name has a comma."""
    words = [metric_words(name) for name in names]
    if any("," in word for word in words):
        return "; ".join(words)
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
