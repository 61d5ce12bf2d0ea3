"""A run's network, opened to be asked where it looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.contracts import SUBSETS, Subset
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.explain.attribution import AUTO, Attribution, choose
from cxrkit.explain.placing import Placement
from cxrkit.loaders.inputs import Inputs
from cxrkit.models import ModelSpec
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.folder import RunFolder

Weights = Literal["trained", "random"]
_TOGETHER = 16  # images; a backward pass keeps all their activations


@dataclass(frozen=True)
class Seen:
    """What a network says of one image."""

    row: int
    """Of `Network.inputs.frame`."""

    maps: NDArray[np.float32]
    """(K, h, w), one for each label that was asked for."""

    scores: NDArray[np.float32]
    """(L,) probabilities of all labels."""


@dataclass
class Network:
    """A run's network beside its images."""

    run: RunFolder
    """Where it is from."""

    model: Any
    """In evaluation mode, on `device`."""

    spec: ModelSpec
    """Its spec, at the trained size."""

    info: CheckpointInfo
    """What its checkpoint says of itself."""

    inputs: Inputs
    """The images, cut by the run's split."""

    seen: pl.DataFrame
    """The run's split table (runs.read_split)."""

    device: str
    """A torch device."""

    attribution: Attribution
    """How its maps are made."""

    placement: Placement
    """Where its input lies on the film."""

    @property
    def labels(self) -> LabelSet:
        """What it was trained to see."""
        return self.inputs.labels

    def look(self, rows: Sequence[int], labels: Sequence[int]) -> Iterator[Seen]:
        """Yield what the network says of the images in `rows`, in their order, with maps of `labels`."""
        import torch

        from cxrkit.models import prepare_input

        for image, meta, chunk in self._batches(rows):
            eaten = prepare_input(image, self.spec)
            with torch.inference_mode():
                logits = self.model(eaten, meta).logits
                scores = (logits if self.spec.unit else logits.sigmoid()).float().cpu().numpy()
            maps = self.attribution.compute(eaten, meta, labels).detach().cpu().numpy()
            for place, row in enumerate(chunk):
                yield Seen(row, maps[place], scores[place])

    def _batches(self, rows: Sequence[int]) -> Iterator[tuple[Any, Any, list[int]]]:
        plan = self.inputs.eval_plan("test", self.spec, _TOGETHER)
        loader = self.inputs.loader(replace(plan, rows=np.asarray(rows, np.int64)), "opencv", self.device, None)
        try:
            for batch in loader.epoch(0):
                # Copies: what the loader gives out is valid until its next batch, and gradients outlive that.
                yield batch.image.clone(), batch.meta.clone(), batch.index.tolist()
        finally:
            loader.close()
            self.inputs.forget(loader)

    def film(self, row: int) -> NDArray[np.uint8]:
        """Return the image at its largest prepared level, (side, side) uint8."""
        return self.inputs.store.image(row, 0)

    def subset_of(self, row: int) -> Subset | None:
        """Return the subset that an image is in; None where it is in none."""
        return next((subset for subset in SUBSETS if row in self.inputs.rows[subset]), None)

    def close(self) -> None:
        """Close the images."""
        self.inputs.close()


def open_network(
    run: RunFolder,
    data: Path | None = None,
    *,
    method: str = AUTO,
    device: str = "auto",
    weights: Weights = "trained",
) -> Network:
    """Return the best network of a run, ready to be asked.

    data: prepared folder, by default the run's. weights: random for the same network as it is before any training,
    drawn with the run's own seed. Raises UserError for a run without a network, for one that looks at no image, for
    data that it was not trained on, and as `attribution.choose` does.
    """
    from cxrkit import models
    from cxrkit.models import compute
    from cxrkit.predict import load
    from cxrkit.runs.folder import read_split
    from cxrkit.runs.opening import run_config

    config = run_config(run)
    device = compute.choose_device(device)
    asked = models.spec_of(config, data)
    if asked.probe or not asked.image:
        what = "is a probe of another run's features" if asked.probe else "looks at no image"
        raise UserError(
            f"{run.path}: {asked.name} {what}, so there is nothing to show of where it looks",
            remedy="explain the run that it starts from" if asked.probe else "name the run of an image network",
        )
    if not run.best.exists():
        raise UserError(f"{run.path}: has no trained network ({run.best.name})", remedy="finish its training first")
    model, spec, info = load(run.best)
    if weights == "random":
        # As it was when this training began; a network that started from weights is drawn, too.
        model = models.build(
            info.model, labels=_labels(info), options=info.options, pretrained=False, seed=info.seed
        ).eval()
    split, seen = read_split(run)
    inputs = Inputs.of(data or config.run.data, split, None)
    try:
        remedy = "name the --data that it was trained on"
        inputs.refuse_other(f"{run.best}: trained with", info.origin, seen, remedy)
        inputs.age_range = info.age_range
        compute.set_switches(device, "fp32")
        model = model.to(device)
        return _settled(run, model, spec, info, inputs, seen, device, method)
    except BaseException:
        inputs.close()
        raise


def _settled(
    run: RunFolder,
    model: Any,
    spec: ModelSpec,
    info: CheckpointInfo,
    inputs: Inputs,
    seen: pl.DataFrame,
    device: str,
    method: str,
) -> Network:
    """Return the network with its method and placement, which an example image decides."""
    from cxrkit.models import prepare_input

    if not len(inputs.frame):
        inputs.require("test")
    plan = replace(inputs.eval_plan("test", spec, 1), rows=np.zeros(1, np.int64))
    network = Network(run, model, spec, info, inputs, seen, device, None, Placement.of(plan))  # type: ignore[arg-type]
    image, meta, _ = next(iter(network._batches([0])))
    network.attribution = choose(model, method, prepare_input(image, spec), meta)
    return network


def _labels(info: CheckpointInfo) -> LabelSet:
    from cxrkit.base import labels

    return labels.get(info.origin.label_set)
