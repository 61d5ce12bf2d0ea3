"""Take the backbone out of a run's best checkpoint, as a weights file for `cxrkit ... --weights FILE`.

    python -m benchmarks.phantom_grid.weights RUN FILE.safetensors

RUN is a run folder, such as runs/elsewhere/resample-1. The dense layer, which knows the other labels, stays behind.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cxrkit.base.files import replacing
from cxrkit.runs import checkpoints
from cxrkit.runs.folder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor


def backbone(run: RunFolder) -> dict[str, Tensor]:
    """Return the tensors of the best network of `run` without those of its dense layer, by torchvision's names."""
    tensors, _ = checkpoints.read(run.best)
    named = {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")}
    return {name: value for name, value in named.items() if not name.startswith("fc.")}


def write(run: RunFolder, file: Path) -> None:
    """Write the backbone of `run` into a .safetensors file."""
    from safetensors.torch import save_file

    with replacing(file) as part:
        save_file(backbone(run), part)


if __name__ == "__main__":
    write(RunFolder(Path(sys.argv[1])), Path(sys.argv[2]))
