"""PyTorch, the GPU, its driver, and DALI: each has to fit the others' CUDA."""

from __future__ import annotations

from collections.abc import Iterator

from cxrkit.base.extras import not_installed
from cxrkit.doctor.findings import Finding


def torch() -> Iterator[Finding]:
    """Say which PyTorch it is, and which GPUs it finds."""
    try:
        import torch
        import torchvision
    except ModuleNotFoundError as error:
        if not_installed(error) is None:
            raise
        found = f"{error.name} is not installed: nothing that needs a network works; tables and reports do"
        yield Finding("torch", "note", found, "pip install 'cxrkit[train]'")
        return
    except (ImportError, RuntimeError) as error:
        yield Finding("torch", "problem", str(error), "pip install torch torchvision, from the same release")
        return
    yield Finding("torch", "ok", f"{torch.__version__}, torchvision {torchvision.__version__}")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            yield Finding("CUDA", "ok", f"cuda:{number} {about.name}, {about.total_memory / 2**30:.0f} GiB")
    elif torch.version.cuda is None:
        remedy = "on a machine with an NVIDIA GPU: pip install torch built with CUDA"
        yield Finding("CUDA", "note", "this torch is built for CPUs only", remedy)
    else:
        remedy = "with an NVIDIA GPU: install its driver (nvidia-smi must work); without one, --device cpu is used"
        yield Finding("CUDA", "note", f"no GPU found (torch is built for CUDA {torch.version.cuda})", remedy)


def driver() -> Iterator[Finding]:
    """Compare the CUDA that the driver runs with the one that torch is built for."""
    from cxrkit.loaders import dali_setup

    runs, built = dali_setup.driver_cuda(), _torch_cuda()
    if runs is None or built is None:
        return
    found = f"it runs CUDA {runs[0]}.{runs[1]}, torch is built for CUDA {built}"
    if built <= runs[0]:
        yield Finding("driver", "ok", found)
    else:
        remedy = (
            f"update the NVIDIA driver, or install torch built for CUDA {runs[0]} (https://pytorch.org/get-started)"
        )
        yield Finding("driver", "problem", f"{found}: it finds no GPU", remedy)


def dali() -> Iterator[Finding]:
    """Say whether DALI is there and fits the driver and torch."""
    from cxrkit.loaders import dali_setup

    builds, driver = dali_setup.installed(), dali_setup.driver_cuda()
    fits = "" if driver is None else f"; the driver runs CUDA {driver[0]}.{driver[1]}"
    if not builds and driver is None:
        yield Finding("DALI", "ok", "not installed; it is of use with an NVIDIA GPU, and there is no driver of one")
    elif not builds:
        remedy = f"{dali_setup.how_to_install()}; without it the opencv loader is used"
        yield Finding("DALI", "note", f"not installed{fits}", remedy)
    elif (reason := dali_setup.misfit()) is not None:
        yield Finding("DALI", "problem", reason, dali_setup.how_to_install())
    else:
        ((package, found),) = builds.items()
        if (known := _torch_cuda()) in (None, dali_setup.BUILDS[package]):
            yield Finding("DALI", "ok", f"{package} {found}{fits}")
        else:
            found = f"{package} {found} is for CUDA {dali_setup.BUILDS[package]}, torch for CUDA {known}{fits}"
            yield Finding("DALI", "note", found, f"{dali_setup.how_to_install()}; two CUDAs take more memory")


def _torch_cuda() -> int | None:
    from cxrkit.loaders import dali_setup

    try:
        return dali_setup.torch_cuda()
    except (ImportError, RuntimeError):  # said of torch already
        return None
