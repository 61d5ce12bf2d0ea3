"""Marks on results that must be read with care: how they were selected, what they had seen, which labels they know."""

from __future__ import annotations

from collections.abc import Iterable

from cxrkit.report.literature.works import Work

TEST_SELECTED = "S"
SAW_DATA_SET = "P"
OTHER_LABELS = "L"
OTHER_SPLIT = "O"
MEANINGS = {
    TEST_SELECTED: "selected on the test set, by the released code: it prints the best test AUC over the epochs",
    SAW_DATA_SET: "pretrained on this data set's images, before it was trained on them",
    OTHER_LABELS: "tested by another release of the labels, that of 2017 with 188 positive test labels fewer",
    OTHER_SPLIT: "measured on another split than the run beside it: the two numbers do not compare",
}
PRETRAINING_NOTE = (
    "Pretraining: what a network had seen before; none: it started from random numbers; images: without labels; "
    "labels: images with labels, as of ImageNet"
)


def marks_of(work: Work, label_release: str = "v2020") -> tuple[str, ...]:
    """Return the marks of a published result that stands beside numbers on `label_release`."""
    found = {
        TEST_SELECTED: work.selected_on == "test, by the released code",
        SAW_DATA_SET: work.pretrained.of_data_set,
        OTHER_LABELS: work.label_release not in ("unknown", label_release),
    }
    return tuple(mark for mark, applies in found.items() if applies)


def shown(marks: Iterable[str]) -> str:
    """Return marks as they stand behind a name: "(S, P)", or "" for none."""
    joined = ", ".join(marks)
    return f"({joined})" if joined else ""


def in_heading(heading: tuple[str, ...], marks: Iterable[str]) -> tuple[str, ...]:
    """Return a column's heading with a line for its marks, where it has any."""
    return (*heading, line) if (line := shown(marks)) else heading


def mark_notes(marks: Iterable[str]) -> list[str]:
    """Return what the marks that are used mean, in their order."""
    used = set(marks)
    return [f"{mark}: {meaning}" for mark, meaning in MEANINGS.items() if mark in used]
