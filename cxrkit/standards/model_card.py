"""A model card: what the model is, what it was made of, how good it is and where that ends, in Markdown.

Sections follow Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), and the Hugging Face Hub's template; the
front matter carries the metrics for machines (hub.py).
"""

from __future__ import annotations

from dataclasses import replace

from cxrkit.report.document.tables import Table
from cxrkit.standards import claim_data, claim_model, claim_results
from cxrkit.standards.claim import AUTHOR
from cxrkit.standards.facts import RunFacts
from cxrkit.standards.hub import front_matter
from cxrkit.standards.markup import plain, section
from cxrkit.standards.tables import cases_table, performance_table, subgroups_table
from cxrkit.standards.words import Said, author, groups_found, limitations, sentences, task


def model_card(facts: RunFacts) -> str:
    """Return the card of one run."""
    parts = [f"# Model card: {plain(facts.run.name)}", _summary(facts)]
    for heading, rows in _sections(facts).items():
        parts += [f"## {heading}", "\n".join(f"- **{name}**: {_said(said)}" for name, said in rows.items())]
    parts += ["## Limitations", "\n".join(f"- {plain(text)}." for text in _limits(facts))]
    parts += [section(table) for table in _tables(facts)]
    parts += ["## Citation", _citation(facts)]
    return front_matter(facts) + "\n" + "\n\n".join(parts) + "\n"


def _summary(facts: RunFacts) -> str:
    said = claim_results.performance(facts)
    what = task(facts)
    kind = f"{what[0].upper()}{what[1:]}"
    return plain(sentences([kind, said.text.removesuffix(" Each label: see the table below.")]))


def _sections(facts: RunFacts) -> dict[str, dict[str, Said]]:
    return {
        "Model": {
            "Developed by": author("names and institutions"),
            "Architecture": claim_model.model(facts),
            "Starts from": claim_model.initialization(facts),
            "Origin": _origin(facts),
            "Licence": author("of the weights"),
        },
        "Use": {
            "Intended use": author("who should use it, for what"),
            "Not intended": Said(
                "Not a medical device: nothing in this run shows that it is safe or useful for diagnosis or any other "
                "decision about a patient."
            ),
        },
        "Training": {
            "Data": claim_data.data_sources(facts),
            "Reference standard": claim_data.reference_standard(facts),
            "Partitions": claim_data.assignment(facts),
            "Preprocessing": claim_data.preprocessing(facts),
            "Procedure": claim_model.training(facts),
            "Selection": claim_model.selection(facts),
            "Software": claim_model.software(facts),
        },
        "Evaluation": {
            "Test data": claim_data.sample_size(facts),
            "Separation from training": claim_data.disjoint(facts),
            "Metrics": claim_model.metrics(facts),
            "Uncertainty": claim_model.uncertainty(facts),
            "Subgroups": _subgroups(facts),
            "External data": claim_model.external_test(facts),
        },
    }


def _subgroups(facts: RunFacts) -> Said:
    if not groups_found(facts):
        return author("differences between sexes, ages, views and hospitals; `cxrkit report` can count some")
    return replace(claim_model.robustness(facts), author="say what differs between hospitals")


def _origin(facts: RunFacts) -> Said:
    """Return where the predictions came from, where they were not made here."""
    it = facts.imported
    if it is None:
        return Said(f"Trained with cxrkit (version at evaluation: {facts.run.scores.cxrkit_version}).")
    about = it.about
    declared = [
        f"framework {about.framework}" * bool(about.framework),
        f"described in {about.source}" * bool(about.source),
    ]
    declared = [text for text in (*declared, about.note) if text]
    text = f"Trained elsewhere; its predictions were imported (SHA-256 of the file {it.sha256[:12]}...)"
    return Said(sentences([text, f"Declared: {', '.join(declared)}" if declared else ""]), "", (claim_model.IMPORT,))


def _said(said: Said) -> str:
    parts = [plain(said.text)] if said.text else []
    parts += [f"*{AUTHOR}: {plain(said.author)}*"] if said.author else []
    return " ".join(parts)


def _limits(facts: RunFacts) -> list[str]:
    found = limitations(facts)
    if facts.config is not None:
        found.append("It was tested on the data set that it was trained on, and on no other in this run")
    return [text.rstrip(".") for text in found] or [f"{AUTHOR}: name the limitations of the data and the model"]


def _tables(facts: RunFacts) -> list[Table]:
    return [performance_table(facts), *filter(None, (subgroups_table(facts), cases_table(facts)))]


def _citation(facts: RunFacts) -> str:
    lines = [f"*{AUTHOR}: how to cite your work*"]
    if facts.dataset and facts.dataset.citation:
        lines.append(plain(f"Data: {facts.dataset.citation}"))
    if facts.config and facts.config.about.source:
        lines.append(plain(f"Recipe {facts.config.recipe}: {facts.config.about.source}"))
    return "\n\n".join(lines)
