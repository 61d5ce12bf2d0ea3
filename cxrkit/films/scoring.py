"""A run's network, opened for films of one's own: from the canvas on, everything is as `cxrkit predict` does it.

A film goes through the preparation's pyramid and codec in memory, and through the same plan, loader and forward pass: a
film of the prepared data gets the score that it has there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.base.labels import LabelSet
from cxrkit.base.notes import through
from cxrkit.films.film import Film
from cxrkit.films.said import Said
from cxrkit.loaders import targets
from cxrkit.loaders.plan import Plan
from cxrkit.models import ModelSpec
from cxrkit.prepare.worker import pyramid
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.folder import RunFolder
from cxrkit.shards import codecs
from cxrkit.shards.file import ShardSettings


class _Levels:
    """Films in memory, with what a loader asks of a prepared folder."""

    def __init__(self, images: Sequence[NDArray[np.uint8]], settings: ShardSettings, level: int) -> None:
        self.levels, self.image_size, self.codec = settings.levels, settings.image_size, settings.codec
        self._restart = settings.restart
        down_to = settings.levels[: level + 1]
        self._encoded = [
            np.frombuffer(
                codecs.encode(settings.codec, pyramid(image, down_to)[-1], settings.quality, settings.restart), np.uint8
            )
            for image in images
        ]

    def window(self, row: int, level: int, window: Sequence[int]) -> NDArray[np.uint8]:
        """Return what lies in `window`, as ShardStore.window does."""
        left, top, right, bottom = window
        data, (first, above, end, below) = codecs.encoded_window(
            self.codec, self._encoded[row], self.levels[level], self._restart, window
        )
        part_HW = codecs.decode(self.codec, data, end - first, below - above)
        return part_HW[top - above : bottom - above, left - first : right - first]


@dataclass
class Scorer:
    """A run's network, ready for films."""

    run: RunFolder
    """Where it is from."""

    config: TrainConfig
    """The run's."""

    model: Any
    """In evaluation mode, on `device`."""

    spec: ModelSpec
    """Its spec, at the trained size."""

    info: CheckpointInfo
    """What its checkpoint says of itself."""

    checkpoint_sha256: str
    """Of the checkpoint's file."""

    labels: LabelSet
    """What it was trained to see."""

    settings: ShardSettings
    """How the images were prepared that it was trained on."""

    device: str
    """A torch device."""

    precision: str
    """fp32, bf16, ..."""

    threads: int | None
    """That load images; None: one for each core."""

    @property
    def side(self) -> int:
        """Pixels along each side of the canvas that films are put on."""
        return self.settings.image_size

    def plan(self, films: int) -> Plan:
        """Return the evaluation plan of so many films."""
        from cxrkit.models import compute

        return Plan(
            rows=np.arange(films),
            train=False,
            seed=0,
            batch_size=compute.batch_size(self.device, self.spec.input_size),
            input_size=self.spec.input_size,
            resize=self.spec.resize,
            levels=self.settings.levels,
            image_size=self.settings.image_size,
        )

    def loader(self, films: Sequence[Film], known: Sequence[Said]) -> Any:
        """Return a loader of the films' crops and what is known of them, without labels."""
        from cxrkit.loaders.opencv import OpenCVLoader

        plan = self.plan(len(films))
        level = int(plan.batch(0, 0).level[0])
        levels: Any = _Levels([film.image for film in films], self.settings, level)
        unknown = np.full((len(films), len(self.labels)), np.nan, np.float32)
        return OpenCVLoader(levels, plan, unknown, self.metadata(known), threads=self.threads, device=self.device)

    def metadata(self, known: Sequence[Said]) -> NDArray[np.float32]:
        """Return (N, 3) what the network is told: contracts.Batch.meta."""
        rows = [(item.age_years, item.sex, item.view) for item in known]
        frame = pl.DataFrame(rows, schema={"age_years": pl.Int32, "sex": pl.String, "view": pl.String}, orient="row")
        return targets.metadata(frame, self.info.age_range)

    def score(self, films: Sequence[Film], known: Sequence[Said]) -> NDArray[np.float32]:
        """Return (N, L) probabilities, NaN for labels that were not learned. Raises UserError for no numbers."""
        from cxrkit.models import compute

        loader = self.loader(films, known)
        try:
            scored = compute.score(self.model, loader, self.spec, self.device, self.precision)
        finally:
            loader.close()
        score = np.asarray(scored.score[np.argsort(scored.index)])
        if not np.isfinite(score).all():
            raise UserError(
                f"{self.run.best}: its scores are no numbers",
                remedy="train again: see RUN/metrics.jsonl where it failed",
            )
        score[:, [self.labels.labels.index(label) for label in self.info.masked]] = np.nan
        return score


def open_scorer(
    run: RunFolder,
    *,
    checkpoint: Path | None = None,
    data: Path | None = None,
    device: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    console: Console | None = None,
) -> Scorer:
    """Return a run's network, computing as `cxrkit predict` would; see there for what is asked.

    Raises UserError for a run without a network, for one that looks at no image, and where it cannot be known how its
    images were prepared.
    """
    import torch

    from cxrkit import models
    from cxrkit.base import labels
    from cxrkit.models import compute
    from cxrkit.predict import load
    from cxrkit.runs.opening import run_config
    from cxrkit.trainers import threads as using

    config = run_config(run)
    folder, best = data or config.run.data, checkpoint or run.best
    asked = models.spec_of(config, folder)
    if asked.probe or not asked.image:
        what = "asks another run's network for features" if asked.probe else "looks at no image"
        raise UserError(f"{run.path}: {asked.name} {what}", remedy="name the run of an image network")
    if not best.exists():
        raise UserError(f"{run.path}: has no trained network ({best.name})", remedy="finish its training first")
    device = compute.choose_device(device)
    computing = None
    if compute.on_cpu(device):
        number = config.run.compute_threads
        computing = using.chosen(number, number, through(console))
        using.use(computing)
    precision = compute.choose_precision(precision or config.run.precision, device)
    compute.set_switches(device, precision)
    model, spec, info = load(best)
    return Scorer(
        run,
        config,
        model.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        spec,
        info,
        file_digest(best),
        labels.get(info.origin.label_set),
        preparation(info, folder),
        device,
        precision,
        using.for_loading(threads, computing),
    )


def preparation(info: CheckpointInfo, data: Path) -> ShardSettings:
    """Return how the images of a training were prepared: as `data` says, or else with the defaults, if it was so.

    The digest in the checkpoint decides. Raises UserError where neither has it.
    """
    from cxrkit.prepare.config import default_levels
    from cxrkit.shards.index import read_description

    origin = info.origin
    found: list[ShardSettings] = []
    why = "another one now"
    try:
        found = [read_description(data).settings]
    except UserError as error:
        why = error.what
    for codec in codecs.CODECS:
        quality = 95 if codec == "jpeg" else 0
        levels = default_levels(origin.image_side)
        found += [ShardSettings(origin.dataset, codec, quality, levels, origin.image_side)]
    for settings in found:
        if replace(settings, dataset=origin.dataset).digest == origin.preparation_digest:
            return settings
    raise UserError(
        f"{data}: does not say how the images were prepared that {info.name} was trained on ({why})",
        remedy="give the --data folder of its training: films are to go the same way",
    )
