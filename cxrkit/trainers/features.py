"""What a probe starts from: another run's network as a frozen feature extractor (--from RUN), asked once and kept.

The features of every image that a probe may need are computed by the run's best network from the centre crop, as a
validation image is cut, and lie in RUN/features/<checkpoint>-<precision>.safetensors, float32. They are used again
where checkpoint, preparation and the source files of all images in question are the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.console import Console

from cxrkit import predict
from cxrkit.base import files
from cxrkit.base import labels as label_sets
from cxrkit.base.contracts import SUBSETS
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest, replacing
from cxrkit.base.pretraining import Pretraining
from cxrkit.base.progress import progress_bar
from cxrkit.base.words import count as counted
from cxrkit.loaders.inputs import Inputs, loader_options
from cxrkit.models import ModelSpec, compute, prepare_input
from cxrkit.models.weights import InitialWeights
from cxrkit.recipes.probing import extractor_of
from cxrkit.runs import checkpoints
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.folder import RunFolder, read_split
from cxrkit.trainers.threads import for_loading

METADATA_KEY = "cxrkit"
_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Features:
    """Feature vectors of images, as one network made them."""

    image_id: pl.Series
    """(N,) String: whose they are."""

    source_crc32: NDArray[np.uint32]
    """(N,) checksums of the source files that were looked at."""

    vectors: NDArray[np.float32]
    """(N, F)."""


def attach(
    inputs: Inputs, config: TrainConfig, spec: ModelSpec, device: str, console: Console, checkpoint: Path
) -> None:
    """Give `inputs` the label set of the probe, the features of the run that it starts from, and what that run was.

    config: of the probe, resolved (see recipes.probing). checkpoint: of the probe, where there is one already: it goes
    on with the features that it began with. Raises UserError where the run was trained on another split, other pixels
    or labels than `inputs` has, or on fewer of the training images, and where it has another checkpoint now.
    """
    run = extractor_of(config)
    info = checkpoints.read_info(run.best)
    _, seen = read_split(run)
    inputs.refuse_other(
        f"{run.path}: trained with", info.origin, seen, "give the --data and --fold that the run was trained on"
    )
    if info.origin.train_images < (probed := len(inputs.rows["train"])):
        raise UserError(
            f"{run.path}: its network was trained on {counted(info.origin.train_images, 'image')}, and the probe "
            f"would be on {probed:,}",
            remedy=f"give --limit {info.origin.train_images}, or train that run on all images first",
        )
    digest = file_digest(run.best)
    if checkpoint.exists() and (before := checkpoints.read_info(checkpoint).origin.initial_weights) != digest:
        raise UserError(
            f"{checkpoint}: learned from the features of checkpoint {before[:12]}, and {run.best} is {digest[:12]}",
            remedy="give --from the run as it was then, or train the probe again under another --name",
        )
    inputs.features = _all_features(run, digest, inputs, config, device, console)
    if (found := inputs.features.shape[1]) != spec.features_in:
        raise UserError(
            f"{run.path}: the features of {info.model} have length {found}, and {spec.name} expects {spec.features_in}",
            remedy=f"add --set model.options.features_in={found}",
        )
    inputs.labels = label_sets.get(spec.probe)
    # Of the same split: it has seen the test images only where its own pretraining had.
    saw = Pretraining("labels", "labels", info.origin.saw.test_images)
    inputs.extractor = InitialWeights(digest, str(run.path), seen=f"{info.origin.dataset} {info.origin.split}", saw=saw)


def _all_features(
    run: RunFolder, digest: str, inputs: Inputs, config: TrainConfig, device: str, console: Console
) -> NDArray[np.float32]:
    """Return (N, F) for all rows of `inputs.frame`; those that no subset uses are 0."""
    rows = np.sort(np.concatenate([inputs.rows[subset] for subset in SUBSETS]))
    found = of_rows(run, digest, rows, inputs, config, device, console)
    all_NF = np.zeros((len(inputs.frame), found.shape[1]), np.float32)
    all_NF[rows] = found
    return all_NF


def of_rows(
    run: RunFolder,
    digest: str,
    rows: NDArray[np.int64],
    inputs: Inputs,
    config: TrainConfig,
    device: str,
    console: Console,
) -> NDArray[np.float32]:
    """Return the features (len(rows), F) of the images in `rows` of `inputs.frame`, from the run's folder if there.

    digest: SHA-256 of the run's best checkpoint. config: its section `run` says the precision, the loader and threads.
    """
    wanted = inputs.frame["image_id"].gather(rows)
    checksums = inputs.store.source_crc32[rows]
    precision = config.run.precision
    path = run.path / "features" / f"{digest[:16]}-{precision}.safetensors"
    about = {"checkpoint_sha256": digest, "precision": precision, "preparation": inputs.store.settings_digest}
    with _claimed(path, console):
        places = None
        if (kept := read(path, about)) is not None:
            places = _places(kept, wanted, checksums)
        if kept is None or places is None:
            found = _compute(run, rows, inputs, config, device, console)
            kept, places = Features(wanted, checksums, found), np.arange(len(rows))
            _keep(path, kept, about, console)
    return kept.vectors[places]


@contextmanager
def _claimed(path: Path, console: Console) -> Iterator[None]:
    """Hold the file for this process; wait while another probe computes the same features."""
    busy, told = f"{path}: another process computes these features", False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(files.claimed(path.with_name(f".{path.stem}.lock"), busy, "wait for it"))
                break
            except UserError as error:
                if not error.what.startswith(busy):
                    raise
                if not told:
                    console.print(f"{error.what}; waiting for it", highlight=False, markup=False)
                told = True
                time.sleep(_WAIT_SECONDS)
        yield


def _places(kept: Features, wanted: pl.Series, checksums: NDArray[np.uint32]) -> NDArray[np.int64] | None:
    """Return where the wanted images are in `kept`, or None where one is missing or was another file."""
    known = pl.DataFrame({"image_id": kept.image_id, "crc32": kept.source_crc32}).with_row_index("place")
    found = pl.DataFrame({"image_id": wanted, "now": checksums}).join(
        known, on="image_id", how="left", maintain_order="left"
    )
    if (found["crc32"] == found["now"]).fill_null(False).all():
        return found["place"].cast(pl.Int64).to_numpy()
    return None


def _compute(
    run: RunFolder, rows: NDArray[np.int64], inputs: Inputs, config: TrainConfig, device: str, console: Console
) -> NDArray[np.float32]:
    """Return the features (N, F) of the images in `rows`, in their order."""
    model, spec, _ = predict.load(run.best)
    compute.set_switches(device, config.run.precision)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = replace(inputs.eval_plan("train", spec, compute.batch_size(device, spec.input_size)), rows=rows)
    settings = config.run
    threads = for_loading(settings.threads, settings.compute_threads if compute.on_cpu(device) else None)
    loader = inputs.loader(
        plan, settings.loader, device, threads, options=loader_options(settings, cached=False), known_only=True
    )
    found = []
    what = f"features of {run.path.parent.name} {run.path.name}"
    with torch.inference_mode(), progress_bar(what, len(rows), console=console) as bar:
        for batch in loader.epoch(0):
            with compute.autocast(device, settings.precision):
                feature_BF = model.features(prepare_input(batch.image, spec))
            found.append(feature_BF.float().cpu().numpy())
            bar.advance(len(batch.index))
    loader.close()
    feature_NF: NDArray[np.float32] = np.concatenate(found)
    if not np.isfinite(feature_NF).all():
        raise UserError(
            f"{run.best}: its features are not finite for {int((~np.isfinite(feature_NF)).any(axis=1).sum()):,} images",
            remedy="give --from a run whose training went well, or another --precision",
        )
    return feature_NF


def read(path: Path, about: dict[str, str]) -> Features | None:
    """Return the features in `path`; None where there are none, or none of this checkpoint and preparation.

    about: what the file must say of itself. One that cannot be read is computed again, not complained of.
    """
    from safetensors import SafetensorError, safe_open

    with suppress(SafetensorError, OSError, ValueError, TypeError, KeyError):
        with safe_open(path, framework="np") as file:
            if json.loads((file.metadata() or {})[METADATA_KEY]) != about:
                return None
            names = file.get_tensor("image_id").tobytes().decode().split("\n")
            kept = Features(pl.Series(names), file.get_tensor("source_crc32"), file.get_tensor("features"))
        if len(names) == len(kept.source_crc32) == len(kept.vectors):
            return kept
    return None


def _keep(path: Path, found: Features, about: dict[str, str], console: Console) -> None:
    """Write the features; those of earlier checkpoints of the run go, for nothing can use them any more."""
    from safetensors.numpy import save_file

    names = np.frombuffer("\n".join(found.image_id).encode(), np.uint8)
    tensors: dict[str, NDArray[Any]] = {
        "features": found.vectors,
        "source_crc32": found.source_crc32,
        "image_id": names,
    }
    with replacing(path) as part:
        save_file(tensors, part, metadata={METADATA_KEY: json.dumps(about)})
    for other in path.parent.glob("*.safetensors"):
        if not other.name.startswith(path.name.partition("-")[0]):
            other.unlink(missing_ok=True)
    size = path.stat().st_size / 1e6
    text = f"  features of {counted(len(found.image_id), 'image')} kept: {path}, {size:,.1f} MB"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
