"""The GPU path on any CUDA machine: one command, one record.

python benchmarks/gpu.py                       a quarter of an hour; to publish: --out benchmarks/results
python benchmarks/gpu.py --device cpu --tiny   does every part of it work? not a measurement

Decoding alone, loading alone, training on one fixed batch that lies on the device, and training with the real loader.
The headline is the last two's ratio: 1 means that training never waits for its images. `--only`, `--sizes` and
`--precisions` cut a run in pieces; pieces with the same --out are put together.
"""

# ruff: noqa: E402 - the imports follow the line that lets this run as a script

from __future__ import annotations

import argparse
import gc
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

import torch

from benchmarks import record, tables
from benchmarks.material import Material, gather
from benchmarks.ours import open_loader
from benchmarks.record import Entry, Record, Target
from benchmarks.run import real_images
from benchmarks.steps import endless, fixed_batch, make_step, steps_pass, synchronize
from benchmarks.stopwatch import ContenderFailed, Lap, Pass, interleave, run
from cxrkit.base.contracts import Batch
from cxrkit.base.files import write_text

PARTS = ("decode", "load", "train")
MODELS = {224: "resnet50", 448: "resnet50-large"}
BATCHES = {224: 256, 448: 128}
# Images/s to reach on an H200.
LOAD_TARGETS, TRAIN_TARGETS = {224: 6000, 448: 3000}, {224: 4000, 448: 2000}
HEADLINE = 0.97
EPOCH_IMAGES = 16_384  # in an epoch at least: its end must not weigh more than in a real training
FIXED, REAL, RESIDENT = "one fixed batch", "real loader, jpeg levels", "real loader, on the device (--cache gpu)"


class Bench:
    """What a run was asked for, and how it makes its passes."""

    def __init__(self, options: argparse.Namespace, material: Material) -> None:
        self.options = options
        self.material = material
        self.device: str = options.device
        self.tiny: bool = options.tiny
        self.entries: list[Entry] = []

    def size(self, size: int) -> int:
        """Return the output size that stands for `size` in this run: a seventh of it in a tiny one."""
        return size // 7 if self.tiny else size

    def batch(self, size: int) -> int:
        """Return the batch size for an output size."""
        return 8 if self.tiny else (self.options.batch or BATCHES[size])

    def prepared(self, codec: str) -> Path:
        """Return the images prepared with `codec`, listed often enough for long epochs."""
        return self.material.many_times(codec, 1 if self.tiny else -(-EPOCH_IMAGES // self.material.images))

    def race(
        self, group: str, makers: Mapping[str, Callable[[], Pass]], notes: Mapping[str, str] | None = None
    ) -> None:
        """Race the passes that `makers` build, all in this process, and keep the entries."""
        print(f"\n{group}", flush=True)
        passes: dict[str, Callable[[], Lap]] = {}
        reasons: dict[str, str] = {}
        for name, make in makers.items():
            try:
                with failing_softly():
                    passes[name] = partial(self._lap, name, make(), reasons)
            except ContenderFailed as failure:
                reasons[name] = str(failure)
                print(f"  {name}: not available ({failure})", flush=True)
        laps = interleave(passes, self.options.runs, on_lap=_report)
        for name in makers:
            note, taken = (notes or {}).get(name, ""), laps.get(name)
            values = tuple(round(lap.images_per_second, 2) for lap in taken or ())
            self.entries.append(
                Entry(group, name, "images/s", values, note, unavailable="" if taken else reasons[name])
            )
        passes.clear()
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _lap(self, name: str, one_pass: Pass, reasons: dict[str, str]) -> Lap:
        try:
            with failing_softly():
                return run(one_pass, self.options.seconds)
        except ContenderFailed as failure:
            reasons[name] = str(failure)
            print(f"  {name}: failed ({failure})", flush=True)
            raise


@contextmanager
def failing_softly() -> Iterator[None]:
    """Turn whatever goes wrong inside into ContenderFailed: the rest of the record is still worth having."""
    try:
        yield
    except ContenderFailed:
        raise
    except Exception as error:
        raise ContenderFailed(f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:300]) from error


def decode(bench: Bench) -> None:
    """Measure decoding alone: every image of a level to gray pixels on the device."""
    # The hardware engines, the GPU's cores, and both.
    engines = (1.0, 0.0, 0.8) if bench.device.startswith("cuda") else (0.0,)
    makers: dict[str, Callable[[], Pass]] = {}
    for codec, level in itertools.product(("jpeg", "htj2k"), (0, 1)):
        for hardware in engines if codec == "jpeg" else (0.0,):
            unit = f", hw_decoder_load {hardware:g}" if codec == "jpeg" else ""

            def make(codec: str = codec, level: int = level, hardware: float = hardware) -> Pass:
                from benchmarks.decoding import decode_pass

                return decode_pass(bench.material.prepared(codec), level, bench.device, bench.batch(224), hardware)

            makers[f"{codec} {1024 >> level}{unit}"] = make
    bench.race("decoding alone", makers)


def loader_makers(bench: Bench, size: int) -> dict[str, Callable[[], Pass]]:
    """Return the loaders by row name."""

    def make(codec: str, backend: str, **more: Any) -> Pass:
        data, side, batch = bench.prepared(codec), bench.size(size), bench.batch(size)
        return epochs(bench, open_loader(data, backend, side, batch, bench.options.threads, bench.device, **more))

    return {
        "jpeg levels, DALI": partial(make, "jpeg", "dali"),
        "jpeg levels, DALI, hw_decoder_load 0": partial(make, "jpeg", "dali", hw_decoder_load=0.0),
        "jpeg levels, DALI, hw_decoder_load 0.8": partial(make, "jpeg", "dali", hw_decoder_load=0.8),
        "raw levels, DALI": partial(make, "raw", "dali"),
        "htj2k levels, DALI": partial(make, "htj2k", "dali"),
        "jpeg levels, OpenCV threads": partial(make, "jpeg", "opencv"),
        "raw levels, OpenCV threads": partial(make, "raw", "opencv"),
        "on the device (--cache gpu)": partial(make, "raw", "resident"),
    }


def epochs(bench: Bench, loader: Any) -> Pass:
    """Return a pass over one epoch that ends when the last batch is on the device."""
    counter = itertools.count()

    def one_pass() -> Mapping[str, float]:
        images = sum(len(batch.index) for batch in loader.epoch(next(counter)))
        synchronize(bench.device)
        return {"images": images}

    return one_pass


def load(bench: Bench) -> None:
    """Measure loading alone."""
    for size in bench.options.sizes:
        bench.race(f"loading alone, to {size}", loader_makers(bench, size))


def train(bench: Bench) -> None:
    """Measure training on one fixed batch against real loaders, for every size, precision and compile mode."""
    for size, precision, mode in itertools.product(bench.options.sizes, bench.options.precisions, bench.options.modes):
        model, side, batch = MODELS[size], bench.size(size), bench.batch(size)
        # One network for the rows of a group: they differ in where the batches come from, and in nothing else.
        try:
            with failing_softly():
                step = make_step(model, bench.device, precision, mode)
        except ContenderFailed as failure:
            print(f"  {precision}, {mode}: not available ({failure})", flush=True)
            continue

        def make(backend: str | None, step: Any = step, side: int = side, batch: int = batch) -> Pass:
            if backend is None:
                batches: Iterator[Batch] = itertools.repeat(fixed_batch(side, batch, bench.device))
            else:
                data = bench.prepared("raw" if backend == "resident" else "jpeg")
                threads = bench.options.threads
                batches = endless(open_loader(data, backend, side, batch, threads, bench.device, drop_last=True))
            return steps_pass(step, batches, 2 if bench.tiny else 10, bench.device)

        makers = {FIXED: partial(make, None), REAL: partial(make, "dali"), RESIDENT: partial(make, "resident")}
        bench.race(train_group(size, precision, mode), makers)


def train_group(size: int, precision: str, mode: str) -> str:
    """Return the name of a training table."""
    return f"training {MODELS[size]} at {size}, {precision}, {mode}"


def targets(entries: Sequence[Entry]) -> list[Target]:
    """Return the targets for the groups that were measured."""
    found = []
    groups = list(dict.fromkeys(entry.group for entry in entries))
    for size in LOAD_TARGETS:
        best = _best(entries, f"loading alone, to {size}")
        if best is not None:
            found.append(Target(f"loading alone, to {size}, the fastest", LOAD_TARGETS[size], best, unit="images/s"))
        training = [group for group in groups if group.startswith(f"training {MODELS[size]} at {size},")]
        for group in training:
            for real in (REAL, RESIDENT):
                ratio = record.ratio(entries, group, real, FIXED)
                found.append(Target(f"{group}: {real} / {FIXED}", HEADLINE, None if ratio is None else round(ratio, 4)))
        rates = [rate for group in training if (rate := _best(entries, group, REAL, RESIDENT)) is not None]
        if rates:
            what = f"training {MODELS[size]} at {size} with a real loader, the fastest"
            found.append(Target(what, TRAIN_TARGETS[size], max(rates), unit="images/s"))
    return found


def _best(entries: Sequence[Entry], group: str, *names: str) -> float | None:
    medians = [
        entry.spread.median
        for entry in entries
        if entry.group == group and entry.values and (not names or entry.name in names)
    ]
    return max(medians, default=None)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def listed(kind: Callable[[str], Any], allowed: Sequence[Any]) -> Callable[[str], list[Any]]:
        def parse(text: str) -> list[Any]:
            values = [kind(item) for item in text.split(",")]
            if set(values) - set(allowed):
                raise argparse.ArgumentTypeError(f"{text!r}: choose from {','.join(map(str, allowed))}")
            return values

        return parse

    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu for a trial (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="few small images and short runs: does it work at all?")
    parser.add_argument("--only", type=listed(str, PARTS), default=list(PARTS), help="decode,load,train")
    parser.add_argument("--sizes", type=listed(int, (224, 448)), default=[224, 448], help="224,448")
    parser.add_argument("--precisions", type=listed(str, ("bf16", "fp16")), default=["bf16", "fp16"], help="bf16,fp16")
    parser.add_argument("--modes", type=listed(str, ("eager", "compiled")), default=["eager", "compiled"])
    parser.add_argument("--raw", type=Path, help="real images (default: CXRKIT_NIH, or the sample beside the checkout)")
    parser.add_argument("--synthetic", action="store_true", help="draw images even where there are real ones")
    parser.add_argument("--images", type=int, default=2048, help="images in the cohort (default: %(default)s)")
    parser.add_argument("--batch", type=int, help="images a step (default: 256 at 224, 128 at 448)")
    parser.add_argument("--threads", type=int, help="loader threads (default: one per core)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="least duration of a run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", help="folder of gpu.json and gpu.md")
    parser.add_argument("--work", type=Path, help="scratch folder, kept (default: a temporary one)")
    options = parser.parse_args(given)
    if options.tiny:
        options.images, options.runs, options.seconds = min(options.images, 24), 1, 0.0
        options.sizes, options.modes = options.sizes[:1], options.modes[:1]
    if options.device == "cpu":
        options.precisions = ["bf16"]
    return options


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """Return the stamp of record.machine and the GPU's."""
    stamp = record.machine("benchmarks/gpu.py" + (" --tiny" if options.tiny else ""))
    if options.device.startswith("cuda"):
        found = torch.cuda.get_device_properties(options.device)
        memory, capability = round(found.total_memory / 1e9, 1), f"{found.major}.{found.minor}"
        stamp["gpu"] = {"name": found.name, "memory_gb": memory, "capability": capability, "cuda": torch.version.cuda}
    return stamp


def merged(new: Record, path: Path) -> Record:
    """Return `new` with the groups of the record at `path` that it has not measured itself, from the same machine."""
    if not path.exists():
        return new
    old = record.read(path)
    if old.machine.get("gpu") != new.machine.get("gpu") or old.settings != new.settings:
        return new
    measured = {entry.group for entry in new.entries}
    entries = (*(entry for entry in old.entries if entry.group not in measured), *new.entries)
    return Record(new.part, new.settings, new.machine, entries, tuple(targets(entries)), new.remarks)


def main(given: Sequence[str] | None = None) -> None:
    """Measure the parts asked for and write the record after each of them."""
    options = arguments(given)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py: torch finds no CUDA device; try it with --device cpu --tiny")
    stamp = machine(options)
    with tempfile.TemporaryDirectory(prefix="cxrkit-gpu-") as temporary:
        material = gather(
            (options.work or Path(temporary)) / f"gpu-{options.images}", real_images(options), options.images
        )
        bench = Bench(options, material)
        settings = {
            "runs": options.runs, "least_seconds_per_run": options.seconds, "quick": options.tiny,
            "images": material.images, "different_images": material.distinct, "origin": material.origin,
            "batch": {str(size): bench.batch(size) for size in BATCHES}, "cores": len(os.sched_getaffinity(0)),
        }  # fmt: skip
        for part in options.only:
            {"decode": decode, "load": load, "train": train}[part](bench)
            after = stamp | {"load_average_after": record.load_average()}
            entries = tuple(bench.entries)
            found = Record("gpu", settings, after, entries, tuple(targets(entries)))
            found = merged(found, options.out / "gpu.json")
            record.write(found, options.out / "gpu.json")
            write_text(options.out / "gpu.md", tables.document(found))
    print(f"\n{tables.document(found)}\nrecord and tables: {options.out}")


def _report(name: str, turn: int, lap: Lap) -> None:
    print(
        f"  {'warm-up' if turn == 0 else f'run {turn}':8} {name:44} {lap.images_per_second:10,.1f} images/s", flush=True
    )


if __name__ == "__main__":
    main()
