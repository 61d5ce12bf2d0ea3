"""Steps of a training on a GPU, and on a CPU in the same ways: what tests of both need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from test_stepping import again

from cxrkit.models import compute
from cxrkit.trainers import stepping

ON_CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
MODES = ["eager", "compiled", "graph"]
SIZE = {"cpu": 32, "cuda": 64}


def loud(text: str) -> None:
    """Take a note where nothing may be done without: what falls back to eager steps would pass every test."""
    if not text.startswith("the loader gives a batch of"):
        raise AssertionError(text)


@contextmanager
def every_mode(device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Let `device` train in every mode, and put torch's switches back afterwards.

    On a CPU `again` stands for a CUDA graph and the compiler's front end for the compiler.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if device == "cpu":
        monkeypatch.setattr(stepping, "records", lambda graph, *_: graph is not False)
        monkeypatch.setattr(stepping, "cuda_graph", again)
        monkeypatch.setattr(
            compute,
            "compiled",
            lambda function, *_: torch.compile(function, backend="eager", dynamic=False, fullgraph=True),
        )
    torch._dynamo.reset()
    yield device
    torch._dynamo.reset()
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
