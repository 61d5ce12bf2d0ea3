"""The tables and file names of other hospitals' data sets, for phantoms in their layouts."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cxrkit.base.contracts import NO_FINDING
from cxrkit.base.labels import CHESTXRAY14, CHEXPERT, PADCHEST, VINDR, LabelSet
from cxrkit.datasets.hospitals import chexpert as chexpert_reader
from cxrkit.datasets.hospitals import mimic as mimic_reader
from cxrkit.datasets.hospitals import padchest as padchest_reader
from cxrkit.datasets.hospitals import sharing
from cxrkit.datasets.phantom.cohort import Row

_LATERAL_EVERY = 4  # a frontal film in so many has a lateral one beside it, in the tables alone
_VERSION = "CheXpert-v1.0-small"


@dataclass(frozen=True)
class Drawn:
    """A film that was drawn and written."""

    row: Row
    """What it shows."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    boxes: dict[str, tuple[float, float, float, float]]
    """Label of ChestX-ray14 -> left, top, right and bottom of its sign, in pixels of the film."""

    @property
    def lateral(self) -> bool:
        """Whether a lateral film of the same day stands in the tables."""
        return self.row.film.index % _LATERAL_EVERY == 1


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _theirs(row: Row, labels: LabelSet) -> set[str]:
    """Return what a hospital calls the film's findings, where it has a word."""
    ours = set(row.film.findings) or {NO_FINDING}
    return {pair.theirs for pair in sharing.shared(CHESTXRAY14, labels) if pair.ours in ours}


def _hash(row: Row, what: str) -> str:
    return hashlib.md5(f"{what} {row.film.seed} {row.film.index}".encode(), usedforsecurity=False).hexdigest()


# CheXpert


def chexpert_place(row: Row) -> str:
    """Return a film's path."""
    part = "valid" if row.subset == "test" else "train"
    return f"{_VERSION}/{part}/patient{row.film.patient_id:05d}/study{row.number + 1}/view1_frontal.jpg"


def _mentioned(row: Row, random: np.random.Generator, *, hedged: bool) -> dict[str, str]:
    """Return what CheXpert's labeller makes of a report: 1.0, 0.0, -1.0 or nothing, by label."""
    there, draws = _theirs(row, CHEXPERT), random.random(len(CHEXPERT.labels))
    cells = {}
    for label, draw in zip(CHEXPERT.labels, draws, strict=True):
        if label in there:
            cells[label] = "-1.0" if hedged and draw < 0.1 and label != NO_FINDING else "1.0"
        elif label == NO_FINDING:
            cells[label] = ""
        else:
            cells[label] = "0.0" if draw < 0.3 else "-1.0" if hedged and draw < 0.33 else ""
    return cells


def chexpert(films: list[Drawn], random: np.random.Generator) -> dict[str, str]:
    """Return train.csv and valid.csv of CheXpert-v1.0-small."""
    tables: dict[str, list[Sequence[object]]] = {name: [chexpert_reader.COLUMNS] for name in chexpert_reader.TABLES}
    for film in films:
        row = film.row
        labels = _mentioned(row, random, hedged=row.subset != "test")
        sex = {"M": "Male", "F": "Female"}[row.film.sex]
        name = "valid.csv" if row.subset == "test" else "train.csv"
        place, age = chexpert_place(row), min(row.film.age_years, 90)
        tables[name].append((place, sex, age, "Frontal", row.film.view, *labels.values()))
        if film.lateral:
            beside = place.replace("view1_frontal", "view2_lateral")
            tables[name].append((beside, sex, age, "Lateral", "", *labels.values()))
    return {f"{_VERSION}/{name}": _csv(rows) for name, rows in tables.items() if len(rows) > 1}


# MIMIC-CXR-JPG


def _subject(row: Row) -> int:
    return 10_000_000 + row.film.patient_id


def _study(row: Row) -> int:
    return 50_000_000 + row.film.index


def _dicom_id(row: Row, what: str) -> str:
    digits = _hash(row, what) + _hash(row, f"{what} more")
    return "-".join(digits[start : start + 8] for start in range(0, 40, 8))


def mimic_place(row: Row) -> str:
    """Return a film's path."""
    subject = _subject(row)
    return f"files/p{subject // 1_000_000}/p{subject}/s{_study(row)}/{_dicom_id(row, 'frontal')}.jpg"


def mimic(films: list[Drawn], random: np.random.Generator) -> dict[str, str]:
    """Return the three tables of MIMIC-CXR-JPG, and MIMIC-IV's patients."""
    columns = sorted(CHEXPERT.labels)
    labels: list[Sequence[object]] = [("subject_id", "study_id", *columns)]
    about: list[Sequence[object]] = [
        ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime")
    ]
    parts: list[Sequence[object]] = [("dicom_id", "study_id", "subject_id", "split")]
    people: dict[int, Sequence[object]] = {}
    for film in films:
        row = film.row
        subject, study = _subject(row), _study(row)
        found = _mentioned(row, random, hedged=True)
        labels.append((subject, study, *(found[label] for label in columns)))
        part = "test" if row.subset == "test" else ("train", "train", "validate")[row.film.patient_id % 3]
        year = 2150 + row.film.age_years
        for what, view in (("frontal", row.film.view), *([("lateral", "LATERAL")] if film.lateral else [])):
            name = _dicom_id(row, what)
            about.append((name, subject, study, view, film.height, film.width, f"{year}0115", "101500.0"))
            parts.append((name, study, subject, part))
        people.setdefault(subject, (subject, row.film.sex, row.film.age_years, year))
    return {
        mimic_reader.LABEL_TABLE: _csv(labels),
        mimic_reader.METADATA_TABLE: _csv(about),
        mimic_reader.SPLIT_TABLE: _csv(parts),
        mimic_reader.PATIENT_TABLE: _csv([("subject_id", "gender", "anchor_age", "anchor_year"), *people.values()]),
    }


# PadChest


def padchest_place(row: Row) -> str:
    """Return a film's path."""
    return f"{row.film.index % 2}/21684011136696401{row.film.index:06d}_0{row.film.patient_id % 5}-{row.number:03d}.png"


def padchest(films: list[Drawn], random: np.random.Generator) -> dict[str, str]:
    """Return PadChest's table: labels as a list of Python's, some from below in its tree."""
    rows: list[Sequence[object]] = [("", *padchest_reader.COLUMNS)]
    below = sharing.below_in_padchest()
    for number, film in enumerate(films):
        row = film.row
        words = sorted(_theirs(row, PADCHEST))
        words = [str(random.choice([word, *below.get(word, ())[:1]])) for word in words]
        if number % 11 == 10:
            words = [("exclude", "unchanged")[number // 11 % 2]]
        method = padchest_reader.PHYSICIAN if number % 3 else padchest_reader.NETWORK
        person = (f"{row.film.patient_id:06d}", f"{2015 - row.film.age_years}.0", row.film.sex)
        projection = "AP_horizontal" if row.film.view == "AP" and number % 2 else row.film.view
        name = padchest_place(row).partition("/")[2]
        rows.append((number, name, "20150312", *person, projection, method, str([*words, *[""] * (number % 5 == 0)])))
        if film.lateral:
            beside = name.replace(".png", "-L.png")
            rows.append((number, beside, "20150312", *person, "L", method, str(words)))
    return {padchest_reader.TABLE: _csv(rows)}


# VinDr-CXR


def vindr_place(row: Row) -> str:
    """Return a film's path."""
    return f"{'test' if row.subset == 'test' else 'train'}/{_hash(row, 'vindr')}.png"


def vindr(films: list[Drawn], random: np.random.Generator) -> dict[str, str]:
    """Return VinDr-CXR's tables of labels and of boxes, three readers for a training film."""
    labels = {"train": [["image_id", "rad_id", *VINDR.labels]], "test": [["image_id", *VINDR.labels]]}
    corners = ["x_min", "y_min", "x_max", "y_max"]
    boxes = {
        "train": [["image_id", "rad_id", "class_name", *corners]],
        "test": [["image_id", "class_name", *corners]],
    }
    words = {pair.ours: pair.theirs for pair in sharing.shared(CHESTXRAY14, VINDR)}
    for film in films:
        row, name = film.row, _hash(film.row, "vindr")
        there = _theirs(row, VINDR)
        there |= {"Nodule/Mass"} if {"Nodule", "Mass"} & set(row.film.findings) else set()
        part = "test" if row.subset == "test" else "train"
        for reader in (f"R{number}" for number in (1, 2, 3) if part == "train" or number == 1):
            missed = random.random(len(VINDR.labels)) < (0.15 if part == "train" else 0)
            seen = [label for label, lost in zip(VINDR.labels, missed, strict=True) if label in there and not lost]
            by = [reader] if part == "train" else []
            labels[part].append([name, *by, *(str(int(label in seen)) for label in VINDR.labels)])
            for ours, box in film.boxes.items():
                if words.get(ours) in seen:
                    boxes[part].append([name, *by, words[ours], *(f"{edge:.2f}" for edge in box)])
            if seen == ["No finding"]:
                boxes[part].append([name, *by, "No finding", "", "", "", ""])
    return {
        f"annotations/{kind}_{part}.csv": _csv(rows)
        for kind, tables in (("image_labels", labels), ("annotations", boxes))
        for part, rows in tables.items()
        if len(rows) > 1
    }
