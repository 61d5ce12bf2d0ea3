"""What labels are called elsewhere: the one table of spellings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from cxrkit.base.labels import LabelSet
from cxrkit.datasets.image_names import plain

# Label -> what it is called elsewhere, without case, spaces and signs; its own name need not stand here.
SPELLINGS = {
    "Infiltration": ("infiltrate", "infiltrates", "infiltrations"),
    "Effusion": ("pleuraleffusion", "effusions"),
    "Pleural Effusion": ("effusion",),  # CheXpert's name for it
    "Pleural_Thickening": ("pleuralthicken", "pleuralthick", "thickening", "pt"),
    "Edema": ("oedema", "pulmonaryedema", "pulmonaryoedema"),
    "Mass": ("lungmass", "masses"),
    "Nodule": ("lungnodule", "pulmonarynodule", "nodules"),
    "Hernia": ("hiatalhernia", "hiatushernia"),
    "Fibrosis": ("pulmonaryfibrosis",),
    "Consolidation": ("consolidations",),
    "Pneumothorax": ("pneumothoraces",),
    "No Finding": ("nofindings",),  # not "normal": that is another thing (NIH's FAQ, question 8)
}


def label_of(name: str, labels: LabelSet) -> str | None:
    """Return the label that a column or an entry of a file is about; None where it is none of the set."""
    wanted = plain(name)
    for label in labels.labels:
        if wanted and (wanted == plain(label) or wanted in SPELLINGS.get(label, ())):
            return label
    return None


def nearest(label: str, names: Iterable[str]) -> str:
    """Return the name that most resembles a label, "" where none does."""
    by_plain = {plain(name): name for name in names}
    near = difflib.get_close_matches(plain(label), by_plain, n=1, cutoff=0.75)
    return by_plain[near[0]] if near else ""
