"""What NIH's labels say of the images of another source: sensitivity and predictive value, or where releases differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from cxrkit.base.words import count
from cxrkit.evaluators import label_sources as sources_of
from cxrkit.evaluators.label_sources import LabelSource, Truths
from cxrkit.report.document.tables import EMPTY, ROUGHLY, Cell, Column, Row, Table
from cxrkit.statistics import thresholds
from cxrkit.statistics.intervals import APPROXIMATE, FEW_PATIENTS
from cxrkit.statistics.thresholds import Share

_SHARES = (("sensitivity", "Sensitivity"), ("positive predictive value", "PPV"))
_SHARE_NOTES = (
    "Sensitivity: of the images that have a finding by the readers, the share that have it by NIH's labels; PPV: of "
    "those that have it by NIH's labels, the share that have it by the readers",
    "The images were not drawn at random, and a PPV depends on how frequent a finding is: it holds for these alone",
    "Intervals: 95 %, over patients",
)
_ROUGH_NOTE = f"{ROUGHLY}: an approximate interval, of fewer than {FEW_PATIENTS} patients"


@dataclass(frozen=True)
class Agreement:
    """What NIH's labels say of a finding, beside the source."""

    finding: str
    """Its name."""

    images: int
    """Of how many images both are known."""

    patients: int
    """Of how many patients these are."""

    nih: int
    """How many images have it by NIH's labels."""

    source: int
    """How many have it by the source."""

    both: int
    """How many by both."""

    sensitivity: Share
    """Of those that have it by the source, the share that NIH's labels call so, with its interval over patients."""

    positive_predictive_value: Share
    """Of those that NIH's labels call so, the share that has it by the source."""


def agreement(records: pl.DataFrame, source: LabelSource, *, everywhere: bool = True) -> list[Agreement]:
    """Return the sensitivity and positive predictive value of NIH's labels against a source, finding by finding.

    records: image_id and NIH's labels of the whole data set. everywhere: over all parts of the source, not only the
    one that runs are scored on.
    """
    truths = sources_of.both_truths(records, source, everywhere=everywhere)
    return [_agreement(truths, place, finding) for place, finding in enumerate(source.findings.labels)]


def _agreement(truths: Truths, place: int, finding: str) -> Agreement:
    known_N = ~np.isnan(truths.nih[:, place]) & ~np.isnan(truths.source[:, place])
    nih_N, source_N = truths.nih[known_N, place] > 0.5, truths.source[known_N, place] > 0.5
    cluster_N = truths.clusters[known_N]
    return Agreement(
        finding=finding,
        images=len(cluster_N),
        patients=len(np.unique(cluster_N)),
        nih=int(nih_N.sum()),
        source=int(source_N.sum()),
        both=int((nih_N & source_N).sum()),
        sensitivity=thresholds.share(nih_N, source_N, cluster_N),
        positive_predictive_value=thresholds.share(source_N, nih_N, cluster_N),
    )


def agreement_tables(source: LabelSource, records: pl.DataFrame) -> list[Table]:
    """Return a table over all images of a source, and one over those that runs are scored on where these are fewer.

    records: image_id and NIH's labels of the whole data set.
    """
    if source.release:
        return [_releases_table(source, agreement(records, source))]
    key = f"labels-{source.name}-agreement"
    title = f"What NIH's labels say of the images with {source.title}"
    notes = (*_meaning(source), *_SHARE_NOTES)
    tables = [_shares_table(source, title, key, agreement(records, source), notes)]
    if source.scored.height < source.images.height:
        found = agreement(records, source, everywhere=False)
        alone = f"Of these, the {source.scored_part} images, which runs are scored on"
        tables.append(_shares_table(source, alone, f"{key}-{source.scored_part}", found, ()))
    return tables


def _shares_table(source: LabelSource, title: str, key: str, found: Sequence[Agreement], notes: Sequence[str]) -> Table:
    heads = [
        Column(f"{title}: by NIH", ("By", "NIH"), ("images",)),
        Column(f"{title}: by the readers", ("By", "readers"), ("images",)),
        *(Column(f"{title}: {what}", (head,), ("value", "lower", "upper")) for what, head in _SHARES),
    ]
    rows = []
    for one in found:
        cells = (_count(one.nih), _count(one.source), *map(_share_cell, _shares(one)))
        rows.append(Row(one.finding, source.findings.heading(one.finding), cells))
    counted = f"{source.file.name}: {of_images(*_size(found))}; beside each finding, how many have it"
    shares = [share for one in found for share in _shares(one)]
    rough = [_ROUGH_NOTE] * any(share.interval.mark == APPROXIMATE for share in shares)
    return Table(title, "Finding", tuple(heads), tuple(rows), (counted, *notes, *rough), key)


def _releases_table(source: LabelSource, found: Sequence[Agreement]) -> Table:
    heads = [Column(f"images: {what}", head, ("images",)) for what, head in _COUNTS.items()]
    rows = []
    for one in found:
        counts = (one.nih, one.source, one.nih - one.both, one.source - one.both)
        rows.append(Row(one.finding, source.findings.heading(one.finding), tuple(map(_count, counts))))
    notes = [f"{source.file.name}, and the labels that the runs were evaluated with: {of_images(*_size(found))}"]
    if source.release == "unknown":
        notes.append(f"{source.file.name}: its counts are those of no known release")
    title = "Positive images by the two sets of labels"
    return Table(title, "Finding", tuple(heads), tuple(rows), tuple(notes), f"labels-{source.name}-agreement")


_COUNTS = {
    "the runs' labels": ("Runs'", "labels"),
    "labels of 2017": ("Labels", "of 2017"),
    "only the runs' labels": ("Only", "runs'"),
    "only labels of 2017": ("Only", "2017"),
}


def _size(found: Sequence[Agreement]) -> tuple[int, int]:
    return found[0].images, found[0].patients


def _shares(found: Agreement) -> tuple[Share, Share]:
    return found.sensitivity, found.positive_predictive_value


def _count(images: int) -> Cell:
    return Cell(f"{images:,}", {"images": images})


def _share_cell(share: Share) -> Cell:
    if share.value is None:
        return EMPTY
    bounds = share.interval
    values = {"value": share.value, "lower": bounds.lower, "upper": bounds.upper}
    if bounds.lower is None:
        return Cell(f"{share.value:.3f} ({count(share.patients, 'patient')})", values)
    rough = ROUGHLY * (bounds.mark == APPROXIMATE)
    return Cell(f"{share.value:.3f} {rough}[{bounds.lower:.3f}, {bounds.upper:.3f}]", values)


def _meaning(source: LabelSource) -> list[str]:
    """Return which of NIH's labels stand for a finding, where it is not one of the same name."""
    notes = []
    for finding, labels in source.made_of.items():
        if finding in source.proxies:
            notes.append(f"{finding}: no label of NIH's; any of {', '.join(labels)} stands in for it, a proxy")
        elif len(labels) > 1:
            notes.append(f"{finding}: by NIH's labels, any of {', '.join(labels)}")
    return notes


def of_images(images: int, patients: int) -> str:
    """Return "1,962 images of 860 patients"."""
    return f"{count(images, 'image')} of {count(patients, 'patient')}"
