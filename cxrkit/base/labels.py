"""Label sets: which labels a data set has, in which order, and which of them the mean is taken over.

Everything that counts labels (networks, losses, prediction files, metrics, tables) takes a LabelSet; nothing else
knows how many there are. A label may be unknown for an image: null in tables, NaN in arrays, and masked by losses and
metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cxrkit.base import registry
from cxrkit.base.errors import UserError

NO_FINDING = "No Finding"


@dataclass(frozen=True)
class LabelSet:
    """An ordered set of labels, each of which an image has, has not, or is not known to have."""

    name: str
    """What files call it; `get` finds it again."""

    labels: tuple[str, ...]
    """Column names in tables and prediction files, in the order of a network's outputs."""

    averaged: tuple[str, ...]
    """The labels whose metrics enter the unweighted mean."""

    headings: Mapping[str, str] = field(default_factory=dict)
    """Words for tables where they differ from the column's name."""

    unit: str = ""
    """What the labels are measured in ("years"); "" where an image has a label or has not, and scores are
    probabilities. Only what is read from the metadata has one."""

    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Where the labels are read from a record's age, sex and view instead of columns of their own, by label: the
    column, then the word for yes and the word for no (a column with a unit has neither). Any other word is not known.
    """

    def __post_init__(self) -> None:
        assert len(set(self.labels)) == len(self.labels), "each label once"
        assert set(self.averaged) <= set(self.labels), "the mean is over the set's own labels"
        assert not self.metadata or self.metadata.keys() == set(self.labels), "all labels are of one kind"
        assert self.metadata or not self.unit, "only what is read from the metadata has a unit"

    def __len__(self) -> int:
        return len(self.labels)

    def heading(self, label: str) -> str:
        """Return what a table calls `label`."""
        return self.headings.get(label, label)

    @property
    def beside(self) -> tuple[str, ...]:
        """The labels that are reported beside the mean without entering it."""
        return tuple(label for label in self.labels if label not in self.averaged)


# The 14 pathologies in the order of Baltruschat et al. 2019, Table 5, then "No Finding" as an explicit 15th label.
PATHOLOGIES = (
    "Cardiomegaly",
    "Emphysema",
    "Edema",
    "Hernia",
    "Pneumothorax",
    "Effusion",
    "Mass",
    "Fibrosis",
    "Atelectasis",
    "Consolidation",
    "Pleural_Thickening",
    "Nodule",
    "Pneumonia",
    "Infiltration",
)
CHESTXRAY14 = LabelSet(
    name="chestxray14",
    labels=(*PATHOLOGIES, NO_FINDING),
    averaged=PATHOLOGIES,
    headings={"Pleural_Thickening": "Pleural Thicken."},
)

# Wang et al., CVPR 2017: the eight labels of the data set's first publication.
_EIGHT = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
CHESTXRAY8 = LabelSet(name="chestxray8", labels=_EIGHT, averaged=_EIGHT)

# Majkowska et al., Radiology 2020: what radiologists adjudicated on part of ChestX-ray14.
_ADJUDICATED = ("Pneumothorax", "Nodule or Mass", "Airspace opacity", "Fracture")
ADJUDICATED = LabelSet(name="adjudicated4", labels=_ADJUDICATED, averaged=_ADJUDICATED)

# Irvin et al., AAAI 2019: CheXpert's 14 observations, of which a competition averaged five.
CHEXPERT = LabelSet(
    name="chexpert14",
    labels=(
        NO_FINDING,
        "Enlarged Cardiomediastinum",
        "Cardiomegaly",
        "Lung Opacity",
        "Lung Lesion",
        "Edema",
        "Consolidation",
        "Pneumonia",
        "Atelectasis",
        "Pneumothorax",
        "Pleural Effusion",
        "Pleural Other",
        "Fracture",
        "Support Devices",
    ),
    averaged=("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"),
)

# Nguyen et al., Scientific Data 2022: the 22 findings of VinDr-CXR that have boxes, then its 6 diagnoses.
_VINDR = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Clavicle fracture",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Lung cavity",
    "Lung cyst",
    "Mediastinal shift",
    "Nodule/Mass",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "Rib fracture",
    "Other lesion",
    "COPD",
    "Lung tumor",
    "Pneumonia",
    "Tuberculosis",
    "Other diseases",
)
VINDR = LabelSet(name="vindr28", labels=(*_VINDR, "No finding"), averaged=_VINDR)

# Bustos et al., Medical Image Analysis 2020: of PadChest's 193 labels those that have a counterpart in ChestX-ray14,
# "normal", and some frequent others. Each stands for those below it in the published tree, too.
_PADCHEST = (
    "cardiomegaly",
    "emphysema",
    "pulmonary edema",
    "hiatal hernia",
    "pneumothorax",
    "pleural effusion",
    "mass",
    "pulmonary fibrosis",
    "atelectasis",
    "consolidation",
    "pleural thickening",
    "nodule",
    "pneumonia",
    "infiltrates",
)
PADCHEST = LabelSet(
    name="padchest23",
    labels=(
        *_PADCHEST,
        "normal",
        "COPD signs",
        "air trapping",
        "granuloma",
        "fracture",
        "tuberculosis",
        "costophrenic angle blunting",
        "aortic elongation",
        "scoliosis",
    ),
    averaged=_PADCHEST,
)

# What the paper's probes predict from a network's features (Baltruschat et al. 2019, section 3): "AP as true and PA as
# false"; which sex is true it does not say. An age has no AUC, so no label enters a mean.
AGE = LabelSet("age", ("age_years",), (), {"age_years": "Age"}, "years", {"age_years": ("age_years",)})
SEX = LabelSet("sex", ("Male",), ("Male",), metadata={"Male": ("sex", "M", "F")})
VIEW = LabelSet("view", ("AP",), ("AP",), metadata={"AP": ("view", "AP", "PA")})

LABEL_SETS = {
    labels.name: labels for labels in (CHESTXRAY14, CHESTXRAY8, ADJUDICATED, CHEXPERT, VINDR, PADCHEST, AGE, SEX, VIEW)
}


def get(name: str) -> LabelSet:
    """Return the label set called `name`: one of LABEL_SETS, or one's own by `package.module:attribute`.

    A set of one's own carries that very name, so that every file that names it finds it again. Raises UserError.
    """
    if name in LABEL_SETS:
        return LABEL_SETS[name]
    if ":" not in name:
        raise registry.unknown("label set", name, LABEL_SETS, own="package.module:attribute")
    found = registry.load_attribute(name)
    if not isinstance(found, LabelSet) or found.name != name:
        raise UserError(
            f"label set {name!r}: expected a cxrkit.base.labels.LabelSet of that name, found {found!r:.80}",
            remedy=f"write it as LabelSet(name={name!r}, labels=..., averaged=...)",
        )
    return found
