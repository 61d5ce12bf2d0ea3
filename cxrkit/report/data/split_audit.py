"""What `cxrkit splits` prints: known splits, one of them, and what an audit found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cxrkit.base.contracts import SUBSETS
from cxrkit.base.words import count as counted
from cxrkit.datasets import known_splits
from cxrkit.datasets.audit import Audit, AuditedList, Shared
from cxrkit.datasets.known_splits import ForeignSplit, KnownSplit
from cxrkit.report.document.tables import EMPTY, Cell, Column, Report, Row, Table

_FIELDS = ("images", "patients")
OFFICIAL_TEST = ("official", "test")


def known_report() -> Report:
    """Return the known splits: our six, and those of others."""
    columns = (*(Column(name, (name,)) for name in SUBSETS), Column("official", ("official", "test")))
    ours = tuple(_known_row(split, split.name == "official") for split in known_splits.known_splits().values())
    others = tuple(_known_row(split, split.official_test) for split in known_splits.foreign_splits().values())
    notes = tuple(f"{split.name}: {split.title}" for split in known_splits.foreign_splits().values())
    return Report(
        "Splits of ChestX-ray14",
        (
            Table("Images of our six splits: --fold official, 1 to 5", "Split", columns, ours),
            Table("Images of splits that others publish or ship", "Split", columns, others, notes),
        ),
        ("`cxrkit splits show NAME` says more, `export` writes one of ours, `audit FILE...` looks into your own",),
    )


def _known_row(split: KnownSplit | ForeignSplit, official: bool) -> Row:
    counts = [getattr(split, name) for name in SUBSETS]
    cells = [Cell(f"{count:,}") if count else EMPTY for count in counts]
    return Row("", split.name, (*cells, Cell("yes" if official else "no")))


def split_report(split: KnownSplit | ForeignSplit) -> Report:
    """Return all that is known of one split."""
    return _their_report(split) if isinstance(split, ForeignSplit) else _our_report(split)


def _their_report(split: ForeignSplit) -> Report:
    counts = {subset: count for subset in SUBSETS if (count := getattr(split, subset))}
    digests = {subset: getattr(split, f"{subset}_digest") for subset in counts}
    rows = tuple(Row("", subset, (Cell(f"{count:,}"),)) for subset, count in counts.items())
    table = Table(split.title, "Subset", (Column("images", ("Images",)),), rows, tuple(_digest_notes(digests)))
    return Report(split.name, (table,), (f"Source: {split.source}", f"Basis: {split.basis}"))


def _our_report(split: KnownSplit) -> Report:
    frame = known_splits.our_split(split.name).frame
    parts = {subset: frame.filter(frame["subset"] == subset) for subset in SUBSETS}
    digests = {subset: known_splits.list_digest(part["image_id"]) for subset, part in parts.items()}
    rows = tuple(
        Row("", subset, (Cell(f"{len(part):,}"), Cell(f"{part['patient_id'].n_unique():,}")))
        for subset, part in parts.items()
    )
    columns = (Column("images", ("Images",)), Column("patients", ("Patients",)))
    title = f"Split {split.name} of ChestX-ray14"
    whole = f"the whole split, as runs name it: {split.digest}"
    use = f"`cxrkit train --fold {split.name}`; `cxrkit splits export {split.name} --out FILE`"
    table = Table(title, "Subset", columns, rows, (*_digest_notes(digests), whole))
    return Report(split.name, (table,), (use,))


def _digest_notes(digests: Mapping[Any, str]) -> Iterator[str]:
    """Yield the digests in whole: a column of them would be cut on a terminal."""
    yield "SHA-256 over the sorted names of a subset, one a line:"
    for subset, digest in digests.items():
        yield f"{subset}: {digest or 'not known'}"


def audit_report(found: Audit) -> Report:
    """Return what an audit found: three tables, and in the notes what follows from them."""
    tables = [_holds(found)]
    if found.within:
        tables.append(_within(found))
    if found.beside:
        tables.append(_beside(found))
    return Report("Audit of a split", tuple(tables), tuple(_verdicts(found)), text=(_leak(found),))


def _leak(found: Audit) -> str:
    """Return the verdict in a line: whether patients of one subset, or of the official test set, are in another.

    A split with a test subset of its own is held against that; lists without one against the official test set.
    """
    leaks = [
        f"{one} and {other} share {_shared_words(shared)}"
        for (one, other), shared in found.within.items()
        if shared.patients
    ]
    own_test = any(item.name == "test" or _is_official_test(item) for item in found.lists)
    beside = found.beside.get(OFFICIAL_TEST, ())
    if not own_test:
        leaks += [
            f"{item.name} shares {_shared_words(shared)} with the official test set"
            for item, shared in zip(found.lists, beside, strict=False)
            if shared.patients
        ]
    if leaks:
        return f"LEAK: {'; '.join(leaks)}"
    if own_test and len(found.lists) == 1:
        return f"No leak to look for: {found.lists[0].name} is a test set alone"
    if own_test:
        return "No leak: no patient is in two of its subsets"
    if not beside and not found.within:
        return "No verdict: there is one list, and no test set to hold it against"
    names = " and ".join(item.name for item in found.lists)
    share = "has no patient" if len(found.lists) == 1 else "have no patient"
    where = f"{names} {share} of the official test set" if beside else ""
    apart = "no patient is in two of its subsets" if found.within else ""
    return f"No leak: {'; '.join(filter(None, (where, apart)))}"


def _shared_words(shared: Shared) -> str:
    if not shared.images:  # the same patients, by other images
        return counted(shared.patients, "patient")
    return f"{counted(shared.images, 'image')} of {counted(shared.patients, 'patient')}"


def _holds(found: Audit) -> Table:
    rows = tuple(
        Row(item.name, item.name, (*_counts(item), Cell(item.digest[:12]), Cell(_known_words(item, found))))
        for item in found.lists
    )
    columns = (
        Column("images", ("Images",), ("images",)),
        Column("patients", ("Patients",), ("patients",)),
        Column("digest", ("Digest",)),
        Column("known", ("Known as",), left=True),
    )
    return Table("What it holds", "Subset", columns, rows, tuple(_faults(found)))


def _counts(item: AuditedList) -> tuple[Cell, Cell]:
    numbers = {"images": item.images, "patients": item.patients}
    return Cell(f"{item.images:,}", numbers), Cell(f"{item.patients:,}", numbers)


def _known_words(item: AuditedList, found: Audit) -> str:
    """Return the lists that these images are, in a few words: the splits that all of it is come first."""
    ranked = sorted(item.known, key=lambda known: known.split not in found.known)
    words = [f"{known.split} {known.subset}" for known in ranked]
    return ", ".join(words) or "-"


def _faults(found: Audit) -> Iterator[str]:
    for item in found.lists:
        if item.repeated:
            yield f"{item.name}: {item.repeated:,} lines name an image that stood there before"
        if item.unknown:
            yield f"{item.name}: {len(item.unknown):,} names are no image of the data set, the first {item.unknown[0]}"


def _within(found: Audit) -> Table:
    rows = tuple(
        Row("", f"{one}, {other}", (*_shared_cells(shared), Cell(_patients(shared) or "-")))
        for (one, other), shared in found.within.items()
    )
    columns = (
        Column("images", ("Images",)),
        Column("patients", ("Patients",)),
        Column("which", ("Which patients",), left=True),
    )
    return Table("What its subsets share", "Subsets", columns, rows)


def _shared_cells(shared: Shared) -> tuple[Cell, Cell]:
    return Cell(f"{shared.images:,}"), Cell(f"{shared.patients:,}")


def _patients(shared: Shared) -> str:
    more = ", ..." if shared.patients > len(shared.first_patients) else ""
    return ", ".join(shared.first_patients) + more


def _beside(found: Audit) -> Table:
    rows, before = [], ""
    for (split, subset), shared in found.beside.items():
        cells = tuple(
            Cell(f"{item.images:,} / {item.patients:,}", {"images": item.images, "patients": item.patients})
            for item in shared
        )
        rows.append(Row(f"{split} {subset}", f"{split} {subset}", cells, rule_above=bool(before) and split != before))
        before = split
    columns = tuple(Column(f"shared with {item.name}", (item.name,), _FIELDS, own=True) for item in found.lists)
    return Table("What it shares with known splits: images / patients", "Split", columns, tuple(rows))


def _verdicts(found: Audit) -> Iterator[str]:
    """Yield what follows, in whole sentences."""
    if found.known:
        titles = {name: split.title for name, split in known_splits.foreign_splits().items()}
        for name in found.known:
            yield f"This is the split {name}" + (f" ({titles[name]})" if name in titles else "")
    elif found.alike:
        yield f"Its subsets are as large as those of {', '.join(found.alike)}, whose images are not known here"
    elif not (len(found.lists) == 1 and found.lists[0].known):
        yield "As a whole it is none of the known splits (`cxrkit splits list`)"
    leaks = {pair: shared for pair, shared in found.within.items() if shared.patients}
    for (one, other), shared in leaks.items():
        many = "patient is" if shared.patients == 1 else "patients are"
        yield f"{shared.patients:,} {many} in both {one} and {other}: {_patients(shared)}"
    if found.within and not leaks:
        yield "No patient is in two of its subsets"
    yield from _contamination(found)


def _contamination(found: Audit) -> Iterator[str]:
    shared_by = found.beside.get(OFFICIAL_TEST)
    if shared_by is None:
        return
    for item, shared in zip(found.lists, shared_by, strict=True):
        if _is_official_test(item):
            images, patients = counted(item.images, "image"), counted(item.patients, "patient")
            yield f"{item.name} is the official test set: {images} of {patients}"
        elif shared.patients:
            yield (
                f"{item.name} has {shared.images:,} images and {shared.patients:,} patients of the official test set: "
                "what was trained or chosen on it cannot be tested there"
            )
        else:
            yield f"{item.name} has no patient of the official test set"


def _is_official_test(item: AuditedList) -> bool:
    return any((known.split, known.subset) == OFFICIAL_TEST for known in item.known)
