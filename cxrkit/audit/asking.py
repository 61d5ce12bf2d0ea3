"""What a run's network says of its test images: as they are, with metadata permuted, with and without their border."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from cxrkit.audit import permuting
from cxrkit.audit.border import border_pixels
from cxrkit.audit.memory import remembering
from cxrkit.base.errors import UserError
from cxrkit.base.files import digest_lines, file_digest
from cxrkit.base.notes import through
from cxrkit.base.progress import progress_bar
from cxrkit.loaders import targets
from cxrkit.loaders.inputs import Inputs, loader_options
from cxrkit.models import ModelSpec
from cxrkit.report.evidence.keeping import keep, kept
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.folder import RunFolder

VERSION = 1  # of what is kept in derived/; raised whenever the same network would give other scores
WHOLE, MASKED, ALONE = "whole", "masked", "alone"


@dataclass(frozen=True)
class Asked:
    """A run's network, opened."""

    run: RunFolder
    """The run."""

    model: Any
    """In evaluation mode, on `device`."""

    spec: ModelSpec
    """Its spec, at the trained size."""

    info: CheckpointInfo
    """What its checkpoint says of itself."""

    inputs: Inputs
    """The images, cut by the run's split."""

    config: TrainConfig
    """The run's, with the precision that is computed in."""

    device: str
    """A torch device."""

    threads: int | None
    """That load images."""


@dataclass(frozen=True)
class Answers:
    """Scores of the test images, each (N, L), in the order of `image_id`."""

    image_id: pl.Series
    """(N,) String."""

    scores: Mapping[str, NDArray[np.float32]]
    """WHOLE: of the films as they are; MASKED and ALONE: without the border, and of nothing else, where the network
    looks at films."""

    permuted: Mapping[str, NDArray[np.float32]]
    """(P, N, L) by what was permuted: an input of permuting.INPUTS, or all TOGETHER; empty without metadata."""

    border: int
    """Pixels of the network's input along each side that were taken for border; 0 where it looks at no film."""


def open_network(run: RunFolder, data: Path | None, device: str, console: Console) -> Asked:
    """Return the best network of a run. Raises UserError for a run without one, a probe, and data of another run."""
    import torch

    from cxrkit import models, predict
    from cxrkit.models import compute
    from cxrkit.runs.folder import read_split
    from cxrkit.runs.opening import run_config
    from cxrkit.trainers import threads

    config = run_config(run)
    asked = models.spec_of(config, data)
    if asked.probe:
        raise UserError(
            f"{run.path}: {asked.name} is a probe of another run's features", remedy="audit the run that it starts from"
        )
    if not run.best.exists():
        raise UserError(f"{run.path}: has no trained network ({run.best.name})", remedy="finish its training first")
    device = compute.choose_device(device)
    precision = compute.choose_precision(config.run.precision, device)
    model, spec, info = predict.load(run.best)
    split, seen = read_split(run)
    inputs = Inputs.of(data or config.run.data, split, config.run.limit, pixels=spec.pixels)
    try:
        inputs.require("test")
        remedy = "name the --data that it was trained on"
        inputs.refuse_other(f"{run.best}: trained with", info.origin, seen, remedy)
        inputs.age_range = info.age_range
        computing = None
        if compute.on_cpu(device):
            computing = threads.chosen(config.run.compute_threads, config.run.compute_threads, through(console))
            threads.use(computing)
        compute.set_switches(device, precision)
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        loading = threads.for_loading(config.run.threads, computing)
        config = config.with_values({"run.precision": precision})
        return Asked(run, model, spec, info, inputs, config, device, loading)
    except BaseException:
        inputs.close()
        raise


def ask(network: Asked, border: float, permutations: int, console: Console | None) -> Answers:
    """Return the scores of the run's test images; they are kept in its derived/ for the next time.

    border: share of the film's side. permutations: of the metadata, with seeds 0, 1, ... Raises UserError.
    """
    from cxrkit.models import compute

    spec, inputs = network.spec, network.inputs
    plan = inputs.eval_plan("test", spec, compute.batch_size(network.device, spec.input_size))
    pixels = border_pixels(plan, border) if spec.image else 0
    rows = inputs.rows["test"]
    image_id = inputs.frame["image_id"].gather(rows)
    made_of = _made_of(network, pixels, permutations)
    path = network.run.derived("audit")
    found = kept(path, made_of)
    if found is None:
        found = _compute(network, plan, pixels, permutations, console)
        keep(path, made_of, found)
    scores: dict[str, Any] = {name: found[name] for name in (WHOLE, MASKED, ALONE) if name in found}
    permuted: dict[str, Any] = {name: found[name] for name in _permutations(spec) if name in found}
    return Answers(image_id, scores, permuted, pixels)


def _permutations(spec: ModelSpec) -> dict[str, tuple[str, ...]]:
    """Return the inputs that are permuted at once, by what that is called."""
    if not spec.meta:
        return {}
    return {name: (name,) for name in permuting.INPUTS} | {permuting.TOGETHER: tuple(permuting.INPUTS)}


def _made_of(network: Asked, pixels: int, permutations: int) -> str:
    """Return a digest of all that decides the scores."""
    inputs, precision = network.inputs, network.config.run.precision
    origin = inputs.origin()
    about = [f"{VERSION}", file_digest(network.run.best), precision, f"{pixels}", f"{permutations}"]
    return digest_lines([*about, origin.pixels_digest, origin.preparation_digest, origin.metadata_digest,
                         inputs.used_digest("test")])  # fmt: skip


def _other_metadata(network: Asked, permutations: int) -> dict[str, list[Any]]:
    """Return tables of metadata, (N, 3) on the device, by what is permuted: one for each seed."""
    import torch

    rows = network.inputs.rows["test"]
    frame = network.inputs.frame[rows]
    own = targets.metadata(frame, network.inputs.age_range)
    clusters = np.unique(frame["patient_id"].to_numpy(), return_inverse=True)[1].astype(np.intp)
    return {
        name: [
            torch.from_numpy(permuting.permuted(own, clusters, parts, seed)).to(network.device)
            for seed in range(permutations)
        ]
        for name, parts in _permutations(network.spec).items()
    }


def _compute(network: Asked, plan: Any, pixels: int, permutations: int, console: Console | None) -> dict[str, Any]:
    """Return the scores by name: (N, L), or (P, N, L) of what is permuted, in the order of the test rows."""
    import torch

    inputs, settings = network.inputs, network.config.run
    rows = inputs.rows["test"]
    place_of = torch.zeros(len(inputs.frame), dtype=torch.int64)
    place_of[torch.from_numpy(rows)] = torch.arange(len(rows))
    place_of = place_of.to(network.device)
    tables = _other_metadata(network, permutations)
    options = loader_options(settings, cached=False)
    loader = inputs.loader(plan, settings.loader, network.device, network.threads, options=options, known_only=True)
    parts: dict[str, list[Any]] = {}
    order = []
    with torch.inference_mode(), progress_bar("audit", len(rows), console=console) as bar:
        for batch in loader.epoch(0):
            place = place_of[batch.index]
            order.append(place)
            told = {name: [table[place] for table in found] for name, found in tables.items()}
            for name, scores in _answers(network, batch.image, batch.meta, told, pixels).items():
                parts.setdefault(name, []).append(scores)
            bar.advance(len(batch.index))
    loader.close()
    inputs.forget(loader)
    back = torch.cat(order).argsort()
    return {name: torch.cat(found, dim=-2).index_select(-2, back).cpu().numpy() for name, found in parts.items()}


def _answers(network: Asked, image: Any, meta: Any, told: Mapping[str, list[Any]], pixels: int) -> dict[str, Any]:
    """Return the scores of one batch, by name.

    Where a part of the film is masked it has the gray level that the network's input is normalised with, which is 0
    behind `prepare_input`. The border alone comes with neutral metadata: what is read then is read from it.
    """
    import torch

    from cxrkit.models import compute, prepare_input

    def score(eaten: Any, meta_B3: Any) -> Any:
        return network.model(eaten, meta_B3).logits.float().sigmoid()

    with compute.autocast(network.device, network.config.run.precision):
        eaten = prepare_input(image, network.spec)
        with remembering(network.model):
            found = {WHOLE: score(eaten, meta)}
            found |= {name: torch.stack([score(eaten, other) for other in others]) for name, others in told.items()}
        if pixels:
            inside = torch.zeros_like(eaten[:1, :1])
            inside[..., pixels:-pixels, pixels:-pixels] = 1
            found[MASKED] = score(eaten * inside, meta)
            found[ALONE] = score(eaten * (1 - inside), torch.full_like(meta, targets.NEUTRAL))
    return found
