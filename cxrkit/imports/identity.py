"""What an imported run says of itself: its origin, its identity, and import.json."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from cxrkit import __version__
from cxrkit.base.contracts import Subset
from cxrkit.base.origin import Basis, Origin, labels_digest
from cxrkit.datasets.nih.tables import entries_path
from cxrkit.datasets.splits import Split
from cxrkit.imports import cohort, validation
from cxrkit.imports.cohort import Cohort
from cxrkit.imports.placing import Part
from cxrkit.imports.request import ImportRequest
from cxrkit.imports.splitting import Training
from cxrkit.runs.imported import AboutModel, Imported
from cxrkit.runs.predictions import IMPORTED, PredictionInfo


def origin_of(found: Cohort, split: Split, training: Training | None, about: AboutModel) -> Origin:
    """Return what the numbers are made of, as far as anybody says it."""
    trained_on = training.frame.height if training else 0
    return Origin(
        dataset=found.dataset,
        label_set=found.labels.name,
        label_release=found.label_release,
        labels_digest=labels_digest(found.frame, found.labels),
        pixels_digest="",
        preparation_digest="",
        image_side=0,
        split=split.name,
        split_digest=split.digest,
        train_images=trained_on,
        train_subset_images=trained_on,
        pretraining=about.pretraining or ("none" if about.pretrained.seen == "none" else "unknown"),
        pretrained=about.pretrained,
        basis=Basis(
            pixels="unknown",
            training="declared" if training else "unknown",
            pretraining="declared" if about.pretraining or about.pretrained.known else "unknown",
        ),
    )


def info_of(
    request: ImportRequest,
    about: AboutModel,
    sha256: str,
    subset: Subset,
    images: int,
    origin: Origin,
    unscored: tuple[str, ...],
) -> PredictionInfo:
    """Return where the predictions of a subset come from; images: of the whole subset."""
    # Folds of one model are pooled over their files: what is said of the model makes them one.
    # Where nothing is said of how much it had seen, that leaves no trace: earlier imports of it have none.
    left_out = {"seed", "note"} | ({"pretrained"} if not about.pretrained.known else set())
    said = {name: value for name, value in asdict(about).items() if name not in left_out}
    settings = json.dumps({"imported": request.name, **said}, sort_keys=True)
    return PredictionInfo(
        name=request.name,
        model=about.model or request.name,
        recipe=IMPORTED,
        recipe_digest=hashlib.sha256(settings.encode()).hexdigest(),
        changes=(),
        seed=about.seed,
        input_size=about.input_size,
        epoch=0,
        checkpoint_sha256=sha256,
        subset=subset,
        subset_images=images,
        origin=origin,
        unscored=unscored,
    )


def imported_of(
    request: ImportRequest, about: AboutModel, found: Cohort, training: Training | None, parts: dict[Subset, Part]
) -> Imported:
    """Return the content of import.json."""
    first = next(iter(parts.values()))
    return Imported(
        file=str(request.file),
        sha256=first.file.read.sha256,
        truth=_truth_path(request, found),
        split=request.split,
        columns=first.file.chosen.by_label,
        logits=request.logits,
        left_out=first.left_out,
        trained_on=str(request.trained_on or ""),
        trained_on_digest=training.digest if training else "",
        about=about,
        cxrkit_version=__version__,
        validation=validation.about(parts["val"], logits=request.logits) if "val" in parts else None,
    )


def _truth_path(request: ImportRequest, found: Cohort) -> Path | None:
    """Return where a later evaluation finds the same labels without asking; None for other data sets' raw folders."""
    if request.data is not None:
        return request.data.absolute()
    if found.dataset != cohort.NIH or request.raw is None:
        return None
    return (entries_path(request.raw) if request.raw.is_dir() else request.raw).absolute()
