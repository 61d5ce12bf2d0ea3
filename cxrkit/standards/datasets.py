"""What is published of a data set itself: facts that no run holds, each with where it is written.

Only data sets that cxrkit reads by itself are here. Of any other one the author must speak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cxrkit.base import manifests
from cxrkit.base.labels import CHESTXRAY8, CHESTXRAY14

SYNTHETIC = "synthetic"  # the phantom cohort of `cxrkit synth`


@dataclass(frozen=True)
class DatasetFacts:
    """What is published of a data set, in sentences."""

    name: str
    """What people call it."""

    source: str
    """Where all this is written."""

    creator: str
    """Who made it."""

    homepage: str
    """Where it can be had; "" where it is made, not downloaded."""

    citation: str
    """The paper that it comes from; "" where there is none."""

    licence: str
    """On what terms it is given."""

    collected: str
    """From whom, where and when the images come, and whether that was planned for a study."""

    selected: str
    """Which images were taken in."""

    deidentified: str
    """What was done so that nobody can be recognised."""

    acquired: str
    """How the images were taken, and what of that is not published."""

    label_sets: tuple[str, ...]
    """The label sets that are its own: what follows of labels is of them."""

    reference: str
    """How the labels were found, and by whom."""

    variability: str
    """What is known of how far annotators agree; "" where nothing is."""

    label_limitations: tuple[str, ...]
    """What anybody should know who reads numbers measured with its labels, most important first."""

    limitations: tuple[str, ...]
    """The same of its images."""

    real: bool = True
    """Whether these are images of people."""


def dataset_facts(dataset: str) -> DatasetFacts | None:
    """Return what is published of the data set of this registered name; None where cxrkit knows nothing of it."""
    known: dict[str, Callable[[], DatasetFacts]] = {
        SYNTHETIC: lambda: _PHANTOM,
        "nih-chestxray14": _chestxray14,
        "nih-chestxray8": _chestxray8,
    }
    return known[dataset]() if dataset in known else None


def _chestxray14() -> DatasetFacts:
    """Return NIH ChestX-ray14: Wang et al., CVPR 2017, and the notes in NIH's download folder."""
    facts = manifests.read("nih_chestxray14.toml")
    return DatasetFacts(
        name=facts["name"],
        source="Wang et al. 2017; NIH's download folder",
        creator="NIH Clinical Center",
        homepage=facts["homepage"],
        citation=facts["citation"].strip(),
        licence=facts["licence"].partition(" (")[0].strip(),
        collected=(
            "Frontal chest radiographs from the picture archive of one hospital, the NIH Clinical Center in Bethesda, "
            "taken from 1992 to 2015 in clinical care and collected afterwards (Wang et al. 2017): retrospective"
        ),
        selected=(
            "NIH searched its archive for reports that name common thoracic findings and took in their frontal images "
            "(Wang et al. 2017)"
        ),
        deidentified=(
            "NIH removed what identifies patients before the release. It publishes an age, a sex and a number of the "
            "patient with each image"
        ),
        acquired=(
            "Posteroanterior and anteroposterior projections, published as 8-bit PNG of 1,024 x 1,024 pixels without "
            "the DICOM headers. NIH's table gives the original size and the pixel spacing; devices and exposure are "
            "not published"
        ),
        label_sets=(CHESTXRAY14.name, CHESTXRAY8.name),
        reference=(
            "Labels were text-mined from radiology reports (Wang et al. 2017); the reports are not published. Release "
            "v2020 adds the findings of NIH's 984 bounding boxes, which lie on 880 images of the official test list: "
            "188 labels of 181 images are positive there that were negative in 2017"
        ),
        variability="NIH publishes none for these labels",
        label_limitations=(
            "Labels are text-mined from reports and noisy. Where radiologists adjudicated 4,376 of the images "
            "(Majkowska et al., Radiology 2020), NIH's label Pneumothorax has a sensitivity of 0.458 and a positive "
            "predictive value of 0.458",
            '"No Finding" means that the report named none of the 14 findings, or only with doubt; it does not mean '
            "healthy",
            "Many images of pneumothorax were taken after treatment, with a chest tube in the picture "
            "(Oakden-Rayner 2020): a model may learn the tube",
        ),
        limitations=("All images are from one hospital: nothing here says how the model does elsewhere",),
    )


def _chestxray8() -> DatasetFacts:
    """Return the eight labels of ChestX-ray8, read from a ChestX-ray14 download: the same films on the same terms."""
    fourteen = _chestxray14()
    adjudicated, _, tubes = fourteen.label_limitations
    return replace(
        fourteen,
        name="NIH ChestX-ray8 (eight labels of the films of ChestX-ray14)",
        selected=(
            f"{fourteen.selected}. The first release had 108,948 images; which of the 112,120 that are published now "
            "these are is not published, so all are here"
        ),
        label_sets=(CHESTXRAY8.name,),
        label_limitations=(
            adjudicated,
            "An image with none of the eight labels may have one of the six that ChestX-ray14 added; it is not said to "
            "be healthy",
            tubes,
        ),
    )


_PHANTOM = DatasetFacts(
    name="cxrkit phantom cohort",
    source="cxrkit synth",
    creator="cxrkit",
    homepage="",
    citation="",
    licence="Drawn by `cxrkit synth`; no rights of others",
    collected="Synthetic images, drawn by `cxrkit synth` from a random generator: no patient, no hospital",
    selected="Every image that was drawn",
    deidentified="Not needed: no image shows a person",
    acquired="Not acquired but drawn, 8-bit PNG",
    label_sets=(CHESTXRAY14.name,),
    reference="The labels are what was drawn into each image, or left out, by the generator",
    variability="None: nobody annotated",
    label_limitations=(),
    limitations=(
        "The images are synthetic. The numbers show that the toolkit works, and say nothing of any patient or of how a "
        "model would do on real radiographs",
    ),
    real=False,
)
