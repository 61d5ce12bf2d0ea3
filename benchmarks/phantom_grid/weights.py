"""Take the backbone out of a run's best checkpoint, as a weights file for `cxrkit ... --weights FILE`.

    python benchmarks/phantom_grid/weights.py RUN FILE.safetensors

RUN is a run folder, such as runs/elsewhere/resample-1. The dense layer, which knows the other labels, stays behind.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cxrkit.base.files import replacing
from cxrkit.runs import checkpoints
from cxrkit.runs.folder import RunFolder


def write(run: RunFolder, file: Path) -> None:
    """Write the best network of `run`, without its dense layer, with torchvision's names."""
    from safetensors.torch import save_file

    tensors, _ = checkpoints.read(run.best)
    named = {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")}
    with replacing(file) as part:
        save_file({name: value for name, value in named.items() if not name.startswith("fc.")}, part)


if __name__ == "__main__":
    write(RunFolder(Path(sys.argv[1])), Path(sys.argv[2]))
