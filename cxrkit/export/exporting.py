"""`cxrkit export`: write a run's network, ask the written file about real images, and only then put it in place."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest, replacing, write_json
from cxrkit.base.progress import waiting
from cxrkit.base.words import count
from cxrkit.export.describing import KEY, describe
from cxrkit.runs.folder import RunFolder

if TYPE_CHECKING:
    import torch
    from rich.console import Console

FORMATS = ("onnx", "pt2", "safetensors")
TOLERANCE = 1e-4  # of a score, between torch and the written file
IMAGES = 8  # real ones that are compared
_OPSET = 18

Arrays = Sequence[NDArray[np.float32]]
Runner = Callable[[Arrays], Arrays]
"""From the inputs, in their order, to logits and scores."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    """The network."""

    description: Path
    """What it eats and says."""

    images: int
    """Real images that torch and the file were asked about."""

    difference: float
    """The largest difference of a score."""

    inputs: tuple[str, ...]
    """The names of what it eats."""


@dataclass(frozen=True)
class _Network:
    """A network beside real images."""

    plain: Any
    """network.Plain, float32 on the CPU."""

    inputs: tuple[torch.Tensor, ...]
    """Normalised images, and metadata where it counts."""

    description: dict[str, Any]
    """describing.describe."""

    name: str
    """The model's."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs."""
        from cxrkit.export.network import INPUTS

        return INPUTS[: len(self.inputs)]


def export(
    run: RunFolder,
    out: Path,
    file_format: str | None = None,
    data: Path | None = None,
    *,
    console: Console | None = None,
) -> Exported:
    """Write the best network of a run to `out`, and OUT.json beside it with what it eats.

    file_format: one of FORMATS; default, the ending of `out`. data: prepared folder whose images are asked about;
    default, the run's. console: says what is done. Raises UserError for a network that cannot be exported, with the
    reason, and where the file says something else than torch does; what stood at `out` before is then still there.
    """
    kind = format_of(out, file_format)
    with waiting("opening the network and some real images", console):
        network = _open(run, data, kind)
    import torch

    with replacing(out) as part:
        with waiting(f"exporting {network.name} as {kind}", console):
            run_file = _WRITERS[kind](network, part)
        with waiting(f"checking on {count(len(network.inputs[0]), 'real image')}", console):
            with torch.inference_mode():
                expected = network.plain(*network.inputs)[1].numpy()
            difference = _compare(network, run_file, expected, out)
    description = out.with_name(f"{out.name}.json")
    write_json(description, network.description | {"file_sha256": file_digest(out)})
    return Exported(out, description, len(expected), difference, network.names)


def format_of(out: Path, said: str | None) -> str:
    """Return the format that is said, or else the one of the file's ending. Raises UserError for what is none."""
    kind = said or out.suffix.removeprefix(".")
    if kind == "torchscript":
        raise UserError(
            "--format torchscript: PyTorch has given TorchScript up, and warns whoever writes it",
            remedy="choose pt2, its successor: torch.export.load('FILE').module() runs it, from C++ too",
        )
    if kind not in FORMATS:
        what = f"--format {said}" if said else f"--out {out}"
        raise UserError(f"{what}: not a format of a network", remedy=f"choose --format {', '.join(FORMATS)}")
    return kind


def _open(run: RunFolder, data: Path | None, kind: str) -> _Network:
    """Return the network in float32 on the CPU, whatever it was trained in, with real images of its validation set."""
    import torch

    from cxrkit.export.network import Plain, takes_metadata
    from cxrkit.films.scoring import open_scorer
    from cxrkit.loaders.inputs import Inputs
    from cxrkit.models import prepare_input
    from cxrkit.runs.folder import read_split

    scorer = open_scorer(run, data=data, device="cpu", precision="fp32")
    model = scorer.model.to(memory_format=torch.contiguous_format)
    split, seen = read_split(run)
    inputs = Inputs.of(data or scorer.config.run.data, split, None)
    try:
        inputs.refuse_other(f"{run.best}: trained with", scorer.info.origin, seen, "name the --data of its training")
        inputs.age_range = scorer.info.age_range
        subset = "val" if len(inputs.rows["val"]) else "test"
        inputs.require(subset)  # type: ignore[arg-type]
        plan = inputs.eval_plan(subset, scorer.spec, IMAGES)  # type: ignore[arg-type]
        plan = replace(plan, rows=plan.rows[:IMAGES])
        batch = next(iter(inputs.loader(plan, "opencv", "cpu", 1).epoch(0)))
        image = prepare_input(batch.image, scorer.spec).clone(memory_format=torch.contiguous_format)
        meta = batch.meta.clone()
    finally:
        inputs.close()
    counts = takes_metadata(model, image, meta)
    description = describe(
        scorer.info,
        scorer.spec,
        scorer.labels,
        scorer.settings,
        plan=plan,
        takes_metadata=counts,
        checkpoint_sha256=scorer.checkpoint_sha256,
        file_format=kind,
    )
    plain = Plain(model, takes_metadata=counts, unit=scorer.spec.unit).eval()
    return _Network(plain, (image, meta) if counts else (image,), description, scorer.info.model)


def _compare(network: _Network, run_file: Runner, expected: NDArray[np.float32], out: Path) -> float:
    """Return the largest difference of a score, over all images together and the first alone. Raises UserError."""
    arrays = [tensor.numpy() for tensor in network.inputs]
    differences = []
    for images in {len(expected), 1}:
        try:
            found = run_file([array[:images] for array in arrays])[1]
        except Exception as error:
            raise UserError(
                f"{out}: {network.name} was written, and cannot be run with {images} images ({_line(error)})",
                remedy="choose another --format: safetensors holds the weights of any network",
            ) from error
        differences.append(float(np.abs(found - expected[:images]).max()))
    difference = max(differences)
    if not difference <= TOLERANCE:
        raise UserError(
            f"{out}: {network.name}, as written, differs from torch by {difference:.2g} in a score, more than "
            f"{TOLERANCE:g}, on {len(expected)} real images; nothing was put in place",
            remedy="choose another --format, and report this with the model's name",
        )
    return difference


def _exported_program(network: _Network) -> Any:
    """Return the network as torch.export traces it, with a free number of images."""
    import torch

    dynamic = {name: {0: torch.export.Dim("batch", min=1)} for name in network.names}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts; what is wrong raises, and the file is compared
        try:
            return torch.export.export(network.plain, network.inputs, dynamic_shapes=dynamic)
        except Exception as error:
            raise _cannot(network, error) from error


def _cannot(network: _Network, error: Exception) -> UserError:
    return UserError(
        f"model {network.name!r}: torch cannot export it ({_line(error)})",
        remedy="choose --format safetensors: its weights, for a program that builds the network itself",
    )


def _write_onnx(network: _Network, path: Path) -> Runner:
    """Write ONNX with the description in its metadata; return what runs it, with onnxruntime."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
        import torch
    except ImportError as error:
        raise UserError(
            f"--format onnx: needs the package {error.name}, which is not installed",
            remedy="pip install 'cxrkit[export]'",
        ) from None
    from cxrkit.export.network import OUTPUTS

    program = _exported_program(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = torch.onnx.export(
                program, dynamo=True, input_names=list(network.names), output_names=list(OUTPUTS),
                opset_version=_OPSET, verbose=False,
            )  # fmt: skip
        except Exception as error:
            raise _cannot(network, error) from error
    assert made is not None, "dynamo=True returns the program"
    proto = made.model_proto
    onnx.helper.set_model_props(proto, {KEY: json.dumps(network.description)})
    path.write_bytes(proto.SerializeToString())
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda arrays: session.run(list(OUTPUTS), dict(zip(network.names, arrays, strict=True)))


def _write_pt2(network: _Network, path: Path) -> Runner:
    """Write torch.export's file with the description in it as cxrkit.json; return what runs it, as read again."""
    import io

    import torch

    program = _exported_program(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={f"{KEY}.json": json.dumps(network.description)})
        path.write_bytes(buffer.getbuffer())
        buffer.seek(0)
        module = torch.export.load(buffer).module()
    return lambda arrays: _run(module, arrays)


def _write_safetensors(network: _Network, path: Path) -> Runner:
    """Write the weights by their names in the network; return what runs the network with them, as read again."""
    import copy

    import torch
    from safetensors.torch import load_file, save_file

    weights = {name: value.detach().contiguous().clone() for name, value in network.plain.model.state_dict().items()}
    save_file(weights, path, metadata={KEY: json.dumps(network.description)})
    again = copy.deepcopy(network.plain)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    again.model.load_state_dict(load_file(path))
    return lambda arrays: _run(again, arrays)


def _run(module: Any, arrays: Arrays) -> Arrays:
    import torch

    with torch.inference_mode():
        return [output.numpy() for output in module(*(torch.from_numpy(array.copy()) for array in arrays))]


def _line(error: Exception) -> str:
    """Return the reason that an exporter gives: the last cause's first line."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]


_WRITERS = {"onnx": _write_onnx, "pt2": _write_pt2, "safetensors": _write_safetensors}
