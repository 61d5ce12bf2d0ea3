"""What a reader of the localisation report must know: the protocol, what the source leaves open, what was counted."""

from __future__ import annotations

from cxrkit.explain import published
from cxrkit.explain.localising import Localised
from cxrkit.statistics.intervals import MIN_PATIENTS


def notes_of(found: Localised, with_published: bool) -> tuple[str, ...]:
    """Return the notes of the whole document."""
    return (
        *_counted(found),
        *_protocol(found),
        *_controls(found),
        *([_published(found)] * with_published),
    )


def _counted(found: Localised) -> list[str]:
    images, origin = found.boxed_images, found.info.origin
    counted = f"{found.prepared:,} of the {images['test']:,} test images of split {origin.split} that have boxes"
    notes = [f"counted: {counted}, {len(found.patients):,} patients"]
    if others := images["train"] + images["val"]:
        notes.append(
            f"{others:,} more images with boxes are in the training and validation subsets of this split: the network "
            "has learned from them, or was chosen by them, so they are left out"
        )
    if found.learned_boxes:
        notes.append(
            f"†: trained on boxes, those of up to {images['train']:,} training images; none of the images counted here "
            "was among them, but a network that has seen no box is not measured alike"
        )
    if origin.pretraining not in ("none", "ImageNet"):
        notes.append(f"the network had seen before: {origin.pretraining}")
    if left := [label for label in found.findings if label not in found.averaged]:
        headings = ", ".join(map(found.labels.heading, left))
        notes.append(f"not in the means, with boxes of fewer than {MIN_PATIENTS} patients: {headings}")
    return notes


def _protocol(found: Localised) -> list[str]:
    height, width = found.map_size
    return [
        f"maps: {found.method}; {height} x {width} cells over the centre crop of the film, at an input of "
        f"{found.input_size} pixels",
        "protocol of Wang et al. 2017: a map is scaled to [0, 255] and cut at 60 and at 180, and a box is put round "
        "every region of either",
        "what they leave open: a map is laid over the 1024 x 1024 film first, bilinearly; its own lowest value is 0 "
        "and its highest 255; pixels that touch at a side or a corner are one region; outside the crop a map is 0; "
        "only findings with a box on an image are looked for on it, and false boxes are per such image",
        "pointing game: the centre of the map's highest cell lies in a box, without a margin (Zhang et al. 2018: with "
        "one of 15 pixels)",
    ]


def _controls(found: Localised) -> list[str]:
    return [
        "centre prior: the mean box of the finding over the boxes of all other patients; it looks at no image",
        f"random weights: the same network as drawn with seed {found.info.seed}, before any training, with the same "
        "kind of maps",
    ]


def _published(found: Localised) -> str:
    note = f"{published.citation()}; boxes round their own maps of 1024 x 1024 images"
    if found.info.origin.split != "official":
        note += "; measured on all boxes, here on those of this split's test images"
    elif found.prepared < found.boxed_images["test"]:
        note += "; measured on all boxes, here on those of the images that are prepared"
    return note
