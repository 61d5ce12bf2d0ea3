"""`cxrkit doctor`: is this machine, and this download, fit for the work? Every finding comes with its remedy."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
from rich.table import Table
from rich.text import Text

from cxrkit.base import provenance
from cxrkit.base.contracts import IMAGE_SIZE, Records
from cxrkit.base.cores import available_cores, free_cores, omp_threads
from cxrkit.base.errors import UserError, shown
from cxrkit.models.compute import cpu_has_bf16
from cxrkit.prepare.config import MIN_LEVEL

# Measured on real images: three JPEG levels of quality 95 take about 262 kB an image.
PREPARED_GB = 112_120 * 262e3 / 1e9

State = Literal["ok", "note", "problem"]
COLOURS: dict[State, str] = {"ok": "green", "note": "yellow", "problem": "red"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    """What it is: Python, disk, download, ..."""
    state: State
    """ok, note (works, could be better) or problem (something will fail)."""
    found: str
    """What was found."""
    remedy: str = ""
    """What to do about it; empty where all is well."""


def examine(raw: Path | None, data: Path) -> list[Finding]:
    """Return the findings on this machine, the disk under `data`, and the raw folder, if one is given."""
    checks: list[Callable[[], Iterator[Finding]]] = [_python, _torch, _dali, _processor, lambda: _disk(data)]
    if raw is not None:
        checks.append(lambda: _raw(raw))
    return [finding for check in checks for finding in check()]


def to_rich(findings: list[Finding]) -> Table:
    """Return the findings as a table for the terminal."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for finding in findings:
        # Text, not markup: a folder called data[1] must not lose its brackets.
        found = Text(shown(finding.found, keep="\n"))
        if finding.remedy:
            found.append(f"\n-> {shown(finding.remedy)}", style="dim")
        table.add_row(Text(finding.state, style=COLOURS[finding.state]), Text(finding.what), found)
    return table


def _python() -> Iterator[Finding]:
    # Older ones never get here: the package does not install on them, and the Makefile says so first.
    yield Finding("Python", "ok", ".".join(map(str, sys.version_info[:3])))


def _torch() -> Iterator[Finding]:
    try:
        import torch
        import torchvision
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


def _dali() -> Iterator[Finding]:
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


def _processor() -> Iterator[Finding]:
    cores, free = available_cores(), free_cores()
    bf16 = "computes in bfloat16" if cpu_has_bf16() else "no bfloat16: CPU training runs in fp32"
    yield Finding("processor", "ok", f"{provenance.processor()}, {cores} cores usable, {bf16}")
    yield _cores(cores, free, omp_threads())
    if cores < 2:
        remedy = "allow this process more cores (taskset, cgroup or job limits)"
        yield Finding("processor", "note", "a single core loads and trains in turns", remedy)


def _cores(cores: int, free: int, omp: int | None) -> Finding:
    """Say how many cores nobody else keeps busy, and what a training on the CPU would do with them."""
    from cxrkit.trainers import threads

    try:
        number = omp or min(free, threads.torch_default())
    except (ImportError, RuntimeError):  # said of torch already
        number = omp or free
    loading = threads.for_loading(None, number)
    by = "OMP_NUM_THREADS says so" if omp else "--compute-threads changes it"
    found = f"{free} of {cores} free now; threads of a training on the CPU: {number} compute ({by}), {loading} load"
    if number > free:
        remedy = "all threads wait for the slowest: set OMP_NUM_THREADS to the cores that are free, or unset it"
        return Finding("cores", "note", found, remedy)
    if free < cores:
        return Finding("cores", "note", found, "wait for what keeps the others busy, or train on a GPU")
    return Finding("cores", "ok", found)


def _disk(data: Path) -> Iterator[Finding]:
    folder = next(parent for parent in [data.absolute(), *data.absolute().parents] if parent.exists())
    free = shutil.disk_usage(folder).free / 1e9
    found = f"{free:,.0f} GB free under {folder}"
    if free > PREPARED_GB * 1.1:
        yield Finding("disk", "ok", found)
    else:
        remedy = f"all of ChestX-ray14 takes {PREPARED_GB:.0f} GB prepared; choose --data elsewhere or fewer --levels"
        yield Finding("disk", "note", found, remedy)


def _raw(raw: Path) -> Iterator[Finding]:
    """Say of a download what preparing it would say: it is read by the same reader."""
    from cxrkit.datasets.nih import chestxray14 as nih_chestxray14
    from cxrkit.datasets.phantom import cohort as synthetic

    is_synthetic = (raw / synthetic.MARKER).is_file()
    try:
        records = (synthetic if is_synthetic else nih_chestxray14).read(raw, allow_missing=True)
    except UserError as error:
        yield Finding("download", "problem", str(error).partition("\n  remedy: ")[0], error.remedy)
        return
    at_hand = records.frame.height - records.missing
    found = f"{at_hand:,} of {records.frame.height:,} images, labels {records.label_release}"
    if records.missing:
        remedy = nih_chestxray14.missing_images(raw, records).remedy
        yield Finding("download", "note" if at_hand else "problem", found, remedy)
    else:
        yield Finding("download", "ok", found)
    for note in records.notes:
        yield Finding("download", "problem" if note.serious else "note", note.found, note.remedy)
    yield from _images(records)
    if is_synthetic:
        yield Finding("labels", "note", "a synthetic cohort, not ChestX-ray14", "prepare it with --dataset synthetic")
        return
    yield from _labels(records)
    yield from _archives(raw)


def _images(records: Records) -> Iterator[Finding]:
    """Say what is peculiar about the images at hand: they are not NIH's own files then."""
    found = f"resized copies, {records.side} px: not the {IMAGE_SIZE} px of the published images"
    if records.side < MIN_LEVEL:
        yield Finding("images", "problem", found, "download NIH's own images, or a larger copy")
    elif records.side != IMAGE_SIZE:
        yield Finding("images", "note", found, "prepare them with --resized, or download NIH's own images")
    files = records.frame.select(file=pl.coalesce("member", "path"))["file"].drop_nulls()
    jpegs = int(files.str.to_lowercase().str.contains(r"\.jpe?g$").sum())
    if jpegs:
        found = f"{jpegs:,} are JPEGs: recompressed, not the published PNGs"
        yield Finding(
            "images", "note", found, "results on them are not those of ChestX-ray14; download NIH's own images"
        )


def _labels(records: Records) -> Iterator[Finding]:
    from cxrkit.datasets.nih import chestxray14 as nih_chestxray14

    differing = nih_chestxray14.check_counts(records)
    if differing:
        more = f", and {len(differing) - 1} more differences; the first: {differing[1]}" if len(differing) > 1 else ""
        remedy = "expected for a CSV that was cut or changed on purpose; otherwise download it and the lists again"
        yield Finding("labels", "note", f"{differing[0]}{more}", remedy)
    else:
        yield Finding("labels", "ok", "all counts of images, patients, labels and boxes are the published ones")


def _archives(raw: Path) -> Iterator[Finding]:
    """Compare the sizes of archives called like NIH's with NIH's; their pixels are checked when they are prepared."""
    from cxrkit.datasets.nih.archives import archive_facts, archive_number
    from cxrkit.datasets.nih.folders import look_into

    expected = {fact.number: fact.bytes for fact in archive_facts()}
    for archive in look_into(raw).archives:
        size = archive.stat().st_size
        wanted = expected.get(archive_number(archive.name), size)
        if size != wanted:
            found = f"{archive.relative_to(raw)}: {size:,} bytes, NIH's has {wanted:,}"
            yield Finding("archive", "note", found, "download it again, unless you packed it yourself")
