"""The kernel of --cache gpu, lowered for a GPU that is not there: Inductor to Triton, Triton to a cubin for sm_90.

What stands in for the GPU reaches into PyTorch, which keeps no promises there: other versions are passed over. It works
in a process of its own, since PyTorch remembers what it was told of the machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from conftest import REPOSITORY

BUNDLE, SIZE = 128, 448
PIXEL_BYTES = 5 * 10**9
SIGNATURE = {"in_ptr0": "*fp32", "in_ptr1": "*i64", "in_ptr2": "*u8"}
H100 = SimpleNamespace(
    major=9,
    minor=0,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
)


@pytest.mark.skipif(not torch.__version__.startswith("2.14"), reason="written against the inside of PyTorch 2.14")
def test_a_bundle_is_one_kernel_with_64_bit_offsets_that_compiles_for_an_h100(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TRITON_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, __file__, tmp_path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    source, assembly = ((tmp_path / name).read_text() for name in ("kernel.py", "kernel.ptx"))
    about = json.loads(done.stdout.splitlines()[-1])
    assert about["kernels"] == 1
    assert about["cubin_bytes"] > 0
    assert source.count("tl.load(in_ptr2") == 16, "16 reads of the pixels for each that is made"
    assert source.count("tl.store(") == 1, "and one write"
    # Inductor writes the length as an int32, and wraps it, but adds it to negative offsets alone; there are none.
    assert ".to(tl.int32)" not in source, "no offset is narrowed"
    assert source.count(f"< {PIXEL_BYTES})") == 16, "and each is within the pixels"
    assert ".target sm_90" in assembly
    assert "ld.local" not in assembly, "no register is spilled"


@contextlib.contextmanager
def a_gpu_to_compile_for(target: Any) -> Iterator[None]:
    """Let Inductor and Triton believe in an H100; nothing can run on it."""
    import triton
    from torch._dynamo.device_interface import CudaInterface

    driver = SimpleNamespace(get_current_target=lambda: target)
    with contextlib.ExitStack() as stack:
        for owner, name, value in [
            (CudaInterface, "is_available", staticmethod(lambda: True)),
            (CudaInterface, "get_compute_capability", staticmethod(lambda device=None: 90)),
            (CudaInterface, "get_device_properties", staticmethod(lambda device=None: H100)),
            (CudaInterface.Worker, "get_device_properties", staticmethod(lambda device=None: H100)),
            (CudaInterface.Worker, "current_device", staticmethod(lambda: 0)),
            (torch.cuda, "get_device_properties", lambda device=None: H100),
            (torch.cuda, "get_device_capability", lambda device=None: (9, 0)),
            (torch.cuda, "current_device", lambda: 0),
            (torch.cuda, "is_available", lambda: True),
            (torch.cuda, "device_count", lambda: 1),
        ]:
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(mock.patch.object(triton.runtime.driver, "_active", driver, create=True))
        yield


def traced() -> tuple[Any, Any, list[torch.Tensor]]:
    """Return the mode, the operators and the arguments of a bundle's `gather`; no tensor has memory."""
    from torch._inductor.decomposition import select_decomp_table
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    from cxrkit.loaders.gather import gather

    mode = FakeTensorMode()
    with mode:
        tensors = [
            torch.empty(PIXEL_BYTES, dtype=torch.uint8, device="cuda"),
            torch.empty(BUNDLE, 4, dtype=torch.int64, device="cuda"),
            torch.empty(BUNDLE, 8, device="cuda"),
        ]
        graph = make_fx(lambda *given: (gather(*given, SIZE),), decomposition_table=select_decomp_table())(*tensors)
    return mode, graph, tensors


def lowered(mode: Any, graph: Any, tensors: list[torch.Tensor]) -> list[tuple[str, str]]:
    """Return the Triton kernels, name and source, that Inductor makes of it."""
    from torch._inductor.debug import DebugContext
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V

    with V.set_fake_mode(mode), V.set_debug_handler(DebugContext()):
        lowering = GraphLowering(graph, example_inputs=tensors, shape_env=mode.shape_env, is_inference=True)
        with V.set_graph_handler(lowering):
            lowering.run(*tensors)
            wrapper, _ = lowering.codegen()
    return re.findall(r"async_compile\.triton\('(\w+)', '''(.*?)'''", wrapper.value, re.DOTALL)


def compiled(name: str, source: str, file: Path, target: Any) -> Any:
    """Return what Triton makes of the kernel; `file` is left with its source."""
    import triton

    file.write_text(
        "import triton\nimport triton.language as tl\nfrom torch._inductor.runtime import triton_helpers\n"
        "from torch._inductor.runtime.triton_helpers import libdevice, math as tl_math\n"
        + source[source.index("@triton.jit") :]
    )
    spec = importlib.util.spec_from_file_location("kernel", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kernel = getattr(module, name)
    (out,) = {*kernel.arg_names} - {*SIGNATURE, "xnumel", "XBLOCK"}
    signature = SIGNATURE | {out: "*u8", "xnumel": "i64", "XBLOCK": "constexpr"}
    asked = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs={(len(signature) - 1,): 256})
    return triton.compile(asked, target=target, options={"num_warps": 4})


def main(folder: Path) -> None:
    import triton

    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    what = traced()
    with a_gpu_to_compile_for(target):
        kernels = lowered(*what)
        made = compiled(*kernels[0], folder / "kernel.py", target)
    (folder / "kernel.ptx").write_text(made.asm["ptx"])
    print(json.dumps({"kernels": len(kernels), "cubin_bytes": len(made.asm["cubin"])}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
