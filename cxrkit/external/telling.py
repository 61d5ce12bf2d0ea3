"""What must be said of numbers from another hospital, in sentences: labels, patients, inputs, contamination."""

from __future__ import annotations

from collections.abc import Iterator

from cxrkit.datasets.hospitals import sharing
from cxrkit.datasets.hospitals.assembling import SYNTHETIC, UNTESTED
from cxrkit.external.asking import TEST, Elsewhere
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.predictions import Predictions


def notes(elsewhere: Elsewhere, info: CheckpointInfo, own: Predictions, images: int) -> Iterator[str]:
    """Yield the notes of a validity.json. own: the run's own test predictions; images: how many were predicted."""
    store = elsewhere.inputs.store
    name, release = store.about["dataset"], store.about["label_release"]
    if name.startswith(SYNTHETIC):
        yield f"{name}: phantoms in the layout of that data set, and no patient"
    else:
        yield f"{name}: its reader is {UNTESTED}"
    part = "of its official test part" if elsewhere.part == TEST else "of all parts together"
    listed = elsewhere.inputs.split.images("test")
    counted = f"{images:,} of {listed:,} listed" if images < listed else f"{images:,}"
    yield f"External: {counted} frontal films {part}; labels: {release}"
    if caveat := sharing.caveat_of(elsewhere.theirs):
        yield f"External labels: {caveat}"
    if elsewhere.by_image:
        yield "The external data set has no patient ids: its intervals are by image, and rather too narrow"
    if own.about.subset_images > len(own.frame):
        yield f"Internal: {len(own.frame):,} of {own.about.subset_images:,} test images"
    yield from _contamination(info, name)
    yield from _metadata(elsewhere)
    yield from _left_out(elsewhere, own)
    if store.about["fit"]:
        yield "Films of other proportions were fitted into a square, with black bars; those of ChestX-ray14 have none"


def _contamination(info: CheckpointInfo, name: str) -> Iterator[str]:
    """Say whether the network may have seen the other data set before it was trained."""
    origin = info.origin
    if sharing.names_in(origin.pretraining, name):
        yield (
            f"Contaminated: the network was pretrained on {origin.pretraining!r}, which names {name}: it may have seen "
            "these films, and this is no external validity"
        )
    elif origin.saw.seen == "unknown":
        yield f"What the network had seen before is not known ({origin.pretraining!r}): perhaps these films"


def _metadata(elsewhere: Elsewhere) -> Iterator[str]:
    """Say of what age, sex and view a network was told nothing."""
    rows = len(elsewhere.inputs.rows["test"])
    lacking = [
        f"{word} ({'all' if number == rows else f'{number:,}'} of {rows:,} films)"
        for word, number in elsewhere.unknown.items()
        if number
    ]
    if lacking:
        yield f"The network is given age, sex and view; not known, and given as half way between: {', '.join(lacking)}"


def _left_out(elsewhere: Elsewhere, own: Predictions) -> Iterator[str]:
    """Name the run's labels that the other data set has no counterpart of, and those that only seem to have one."""
    shared = {pair.ours for pair in elsewhere.shared}
    labels = own.about.scored
    without = [labels.heading(label) for label in labels.labels if label not in shared]
    if without:
        yield f"Not shared: {', '.join(without)}"
    for theirs, reason in sharing.apart(elsewhere.theirs).items():
        yield f"{theirs} there is none of these labels: {reason}"
