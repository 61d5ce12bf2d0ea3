"""The user's comparable runs as columns of the official table: heading, cells, and how they differ from the paper's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cxrkit.report.document.tables import Cell, Column
from cxrkit.report.evidence.cells import run_heading, run_marks, score_cells
from cxrkit.report.evidence.comparability import Verdict
from cxrkit.report.evidence.epochs import AtEpochs
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.seeds import seed_cells
from cxrkit.report.evidence.variants import Variant, details, full_name, is_altered, paper_of, seeds_text
from cxrkit.report.literature.marks import in_heading
from cxrkit.report.literature.published import Published, by_recipe

DECIMALS = 3


class OwnColumns:
    """The comparable runs by column, those of several seeds together, with the words that each heading needs.

    among: all of the report's runs (variants.details).
    """

    def __init__(self, at: AtEpochs, columns: Sequence[Published], among: Iterable[Run] = ()) -> None:
        self.at = at
        self.members = at.columns
        self.papers = by_recipe(columns)
        self.words = at.words(details(self.members, self.papers, among))

    def name(self, variant: Variant) -> str:
        """Return the full name of a column."""
        return full_name(variant, self.words[variant])

    def paper(self, variant: Variant) -> Published | None:
        """Return the published column that a column repeats."""
        return paper_of(variant, self.papers)

    def marks(self, variant: Variant) -> tuple[str, ...]:
        """Return the marks of a column: those of its runs."""
        return tuple(dict.fromkeys(mark for verdict in self.members[variant] for mark in run_marks(verdict.run)))

    @property
    def verdicts(self) -> list[Verdict]:
        """All runs, column by column."""
        return [verdict for members in self.members.values() for verdict in members]

    def columns(self) -> list[Column]:
        """Return the columns without their cells."""
        heads = []
        for variant, members in self.members.items():
            doubts = dict.fromkeys(doubt for verdict in members for doubt in verdict.doubts)
            heading = run_heading(variant.name, self.words[variant], doubtful=bool(doubts))
            heading = in_heading(heading, self.marks(variant))
            heads.append(Column(self.name(variant), heading, ("auc",), own=True, doubts=tuple(doubts)))
        return heads

    def cells(self) -> list[dict[str, Cell]]:
        """Return the cells of each column: of one run, or the mean and deviation over the seeds."""
        return [
            score_cells(members[0].run)
            if len(members) == 1
            else seed_cells([verdict.run for verdict in members], DECIMALS)
            for members in self.members.values()
        ]

    def runs(self) -> Iterator[tuple[Variant, tuple[str, ...], Verdict]]:
        """Yield each run by itself, with the words that its heading needs: one seed beside the other."""
        for variant, members in self.members.items():
            for verdict in members:
                seed = seeds_text([verdict.run.scores.seed])
                yield (
                    variant,
                    tuple(seed if word == seeds_text(variant.seeds) else word for word in self.words[variant]),
                    verdict,
                )

    def by_run(self) -> list[tuple[Column, Run]]:
        """Return a column, without its cells, for each run."""
        heads = []
        for variant, words, verdict in self.runs():
            heading = run_heading(variant.name, words, doubtful=bool(verdict.doubts), width=14)
            # The bounds of a run by itself stand in CSV beside its AUCs.
            fields = ("auc",) if len(self.members[variant]) > 1 else ()
            column = Column(full_name(variant, words), heading, fields, own=True, doubts=verdict.doubts)
            heads.append((column, verdict.run))
        return heads

    @property
    def altered(self) -> list[bool]:
        """Whether each repeats a published system on other terms than its column."""
        return [is_altered(variant, self.paper(variant)) for variant in self.members]
