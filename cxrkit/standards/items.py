"""The 44 items of CLAIM, the Checklist for Artificial Intelligence in Medical Imaging, in its 2024 update.

Tejani AS, Klontzas ME, Gatti AA, et al. Radiology: Artificial Intelligence 2024; 6(4): e240300,
doi:10.1148/ryai.240300. Numbers, sections and topics are the published ones; what each item asks for is in our words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CITATION = (
    "CLAIM, 2024 update: Tejani AS, Klontzas ME, Gatti AA, et al. Radiology: Artificial Intelligence 2024; 6(4): "
    "e240300. doi:10.1148/ryai.240300"
)


@dataclass(frozen=True)
class Item:
    """One item of the checklist."""

    number: int
    """From 1 to 44."""

    section: str
    """Of the manuscript: "Methods"."""

    topic: str
    """Within the section: "Data"; "" where the section has one topic."""

    asks: str
    """What it asks for, in short."""


_ASKED: dict[tuple[str, str], tuple[str, ...]] = {
    ("Title / Abstract", ""): ("A study of AI, and of which kind, in the title or abstract",),
    ("Abstract", ""): ("Summary of design, methods, results and conclusions",),
    ("Introduction", ""): (
        "Scientific or clinical background; intended use and role of the AI",
        "Aims, objectives and hypotheses",
    ),
    ("Methods", "Study design"): ("Prospective or retrospective", "Goal of the study"),
    ("Methods", "Data"): (
        "Sources of the data",
        "Inclusion and exclusion criteria",
        "Preprocessing",
        "Selection of subsets of the data",
        "De-identification",
        "How missing data were handled",
        "Image acquisition protocol",
    ),
    ("Methods", "Reference standard"): (
        "How the reference standard was obtained",
        "Why this reference standard",
        "Where its annotations come from",
        "Annotation of the test set",
        "Variability between and within annotators",
    ),
    ("Methods", "Data partitions"): (
        "How data were assigned to partitions",
        "Level at which partitions are disjoint",
    ),
    ("Methods", "Testing data"): ("Intended sample size",),
    ("Methods", "Model"): (
        "Detailed description of the model",
        "Software libraries, frameworks and packages",
        "Initialization of the parameters",
    ),
    ("Methods", "Training"): (
        "Details of the training",
        "How the final model was selected",
        "Ensembling",
    ),
    ("Methods", "Evaluation"): (
        "Metrics of performance",
        "Statistical measures of significance and uncertainty",
        "Robustness or sensitivity analysis",
        "Methods of explainability or interpretability",
        "Evaluation on internal data",
        "Testing on external data",
        "Registration of a clinical trial",
    ),
    ("Results", "Data"): (
        "Numbers of patients or examinations included and excluded",
        "Demographic and clinical characteristics of each partition",
    ),
    ("Results", "Model performance"): (
        "Performance metrics with their uncertainty",
        "Estimates of diagnostic performance and their precision",
        "Analysis of failures",
    ),
    ("Discussion", ""): (
        "Limitations of the study",
        "Implications for practice, intended use or clinical role",
    ),
    ("Other information", ""): (
        "Reference to the full protocol or to further technical details",
        "Availability of software, trained model and data",
        "Funding and other support; role of the funders",
    ),
}


def _numbered() -> Iterator[Item]:
    number = 0
    for (section, topic), asked in _ASKED.items():
        for asks in asked:
            number += 1
            yield Item(number, section, topic, asks)


ITEMS = tuple(_numbered())
