"""What an exported network eats and says, as plain values: beside the file as JSON, and inside it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cxrkit import __version__
from cxrkit.base.labels import LabelSet
from cxrkit.loaders.geometry import NO_SIGMA
from cxrkit.loaders.plan import Plan
from cxrkit.loaders.targets import NEUTRAL
from cxrkit.models import ModelSpec
from cxrkit.prepare.worker import sides_down_to
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.shards.file import ShardSettings

FORMAT_VERSION = 1
KEY = "cxrkit"  # of the ONNX file's and the safetensors file's metadata; cxrkit.json inside a .pt2


def describe(
    info: CheckpointInfo,
    spec: ModelSpec,
    labels: LabelSet,
    settings: ShardSettings,
    *,
    plan: Plan,
    takes_metadata: bool,
    checkpoint_sha256: str,
    file_format: str,
) -> dict[str, Any]:
    """Return all that is needed to feed the network without cxrkit, and to know where it is from.

    plan: of an evaluation, which takes the same crop of all images.
    """
    return {
        "format_version": FORMAT_VERSION,
        "written_by": f"cxrkit {__version__}",
        "file_format": file_format,
        "use": "Research output of a network that was trained on one data set; not for clinical use.",
        "model": {
            "name": info.model,
            "options": info.options,
            "run": info.name,
            "recipe": info.recipe,
            "seed": info.seed,
            "epoch": info.epoch,
            "checkpoint_sha256": checkpoint_sha256,
        },
        "inputs": {"image": _image(spec, settings, plan)} | ({"metadata": _metadata(info)} if takes_metadata else {}),
        "outputs": _outputs(labels, spec, info),
        "origin": asdict(info.origin),
    }


def _image(spec: ModelSpec, settings: ShardSettings, plan: Plan) -> dict[str, Any]:
    from cxrkit.loaders.opencv import opencv_matrix

    scale = [1 / (255 * std) for std in spec.std]
    shift = [-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
    first = plan.batch(0, 0)
    level = settings.levels[int(first.level[0])]
    sides = sides_down_to(level, settings.image_size)
    jpeg = settings.codec == "jpeg"
    sigma = [float(value) for value in first.sigma[0]]
    blurred = max(sigma) > NO_SIGMA
    return {
        "type": "float32",
        "shape": ["batch", spec.channels, spec.input_size, spec.input_size],
        "steps": [
            f"gray levels 0 to 255 (8 bits, the display window applied), stretched to {settings.image_size} x "
            f"{settings.image_size} pixels without keeping the aspect",
            f"averaged over areas to {level} x {level} pixels (one after the other: sides), rounded each time"
            + (f"; stored as JPEG of quality {settings.quality}" if jpeg else ""),
            f"resized to {spec.resize} x {spec.resize} pixels, antialiased and bilinear; of it the middle "
            f"{spec.input_size} x {spec.input_size}",
            "which is, to the last bit: blurred by a Gaussian of 3 x 3 taps (sigma along x and y in pixels; null for "
            "none) and rounded; pixel (x, y) then sampled bilinearly at matrix times (x, y, 1), with (0, 0) the centre "
            "of the first pixel, and rounded",
            "each channel: the gray level times scale plus shift, which is (gray level / 255 - mean) / std",
        ],
        "canvas": settings.image_size,
        "level": level,
        "sides": sides,
        "jpeg_quality": settings.quality if jpeg else None,
        "sigma": sigma if blurred else None,
        "matrix": (opencv_matrix(first.matrix[0]) + 0.0).tolist(),
        "resize": spec.resize,
        "crop": spec.input_size,
        "channels": spec.channels,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "scale": scale,
        "shift": shift,
    }


def _metadata(info: CheckpointInfo) -> dict[str, Any]:
    low, high = info.age_range
    return {
        "type": "float32",
        "shape": ["batch", 3],
        "columns": ["age", "sex", "view"],
        "age": {"years_at_0": low, "years_at_1": max(high, low + 1), "clipped": True},
        "sex": {"M": 1.0, "F": 0.0},
        "view": {"AP": 1.0, "PA": 0.0},
        "not_known": NEUTRAL,
    }


def _outputs(labels: LabelSet, spec: ModelSpec, info: CheckpointInfo) -> dict[str, Any]:
    shape = {"type": "float32", "shape": ["batch", len(labels)]}
    what = f"amounts in {spec.unit}" if spec.unit else "the sigmoid of the logits"
    return {
        "logits": shape,
        "scores": shape | {"what": what},
        "labels": list(labels.labels),
        "not_learned": list(info.masked),
    }
