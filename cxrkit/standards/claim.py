"""The CLAIM 2024 checklist of one run, as a report: rendered to Markdown and LaTeX as any other, and to DOCX."""

from __future__ import annotations

from cxrkit.report.document.tables import Cell, Column, Report, Row, Table
from cxrkit.standards import claim_data, claim_model, claim_results
from cxrkit.standards.facts import RunFacts
from cxrkit.standards.items import CITATION, ITEMS, Item
from cxrkit.standards.tables import cases_table, performance_table, subgroups_table
from cxrkit.standards.words import Said

AUTHOR = "author"  # marks what no file says
_ANSWERS = claim_data.ANSWERS | claim_model.ANSWERS | claim_results.ANSWERS
_COLUMNS = (Column("item", ("Item",), left=True), Column("answer", ("Answer",), left=True))


def answers(facts: RunFacts) -> dict[Item, Said]:
    """Return what is to be said to each of the 44 items, in their order."""
    return {item: _ANSWERS[item.number](facts) for item in ITEMS}


def claim_report(facts: RunFacts) -> Report:
    """Return the checklist: a table per topic, and below them the performance of the run."""
    found = answers(facts)
    open_items = sum(bool(said.author) for said in found.values())
    unsaid = sum(not said.text for said in found.values())
    topics = dict.fromkeys((item.section, item.topic) for item in found)
    tables: list[Table] = [_topic(topic, found) for topic in topics]
    notes = (
        f'"{AUTHOR}:" marks what no file of this run says: {open_items} of the {len(found)} items, of which {unsaid} '
        "are left to you altogether. Add page and line numbers, and replace these marks",
        "In brackets: the files, or publications, that an answer rests on",
        CITATION,
    )
    name = f"{facts.run.name}, split {facts.run.split}"
    cases = cases_table(facts)
    groups = subgroups_table(facts)
    tables += [*([cases] if cases else []), performance_table(facts), *([groups] if groups else [])]
    return Report(f"CLAIM 2024 checklist: {name}", tuple(tables), notes, key="claim")


def _topic(topic: tuple[str, str], found: dict[Item, Said]) -> Table:
    section, name = topic
    rows = tuple(
        Row("", f"{item.number}", (Cell(item.asks), Cell(answer_text(said))))
        for item, said in found.items()
        if (item.section, item.topic) == topic
    )
    key = f"claim-{section}-{name}".rstrip("-").lower().replace(" / ", "-").replace(" ", "-")
    return Table(f"{section}: {name}" if name else section, "No.", _COLUMNS, rows, key=key)


def answer_text(said: Said) -> str:
    """Return an answer as one text: what is known, what it rests on, what is left to the author."""
    parts = [said.text] if said.text else []
    if said.text and said.sources:
        parts.append(f"[{', '.join(said.sources)}]")
    if said.author:
        parts.append(f"{AUTHOR}: {said.author}")
    return " ".join(parts)
