"""The one command: measure cxrkit beside its peers, and leave records and their tables.

python benchmarks/run.py                              everything, about a quarter of an hour on 2 cores
python benchmarks/run.py --quick --only load,train    a first look; not to be published
"""

# ruff: noqa: E402 - the imports follow the line that lets this run as a script

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not benchmarks/, whose file names are no modules of their own

from benchmarks import record, tables
from benchmarks.quiet import Quiet
from benchmarks.session import Session
from cxrkit.base.files import write_text

PARTS = ("load", "prepare", "train", "evaluate", "scale")
CORES = 2  # the targets are for a small machine
REAL = ROOT.parent / "shared" / "nih"
PEERS = ROOT / "build" / "peers" / "bin" / "python"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run: %(default)s")
    parser.add_argument("--raw", type=Path, help="real images (default: CXRKIT_NIH, or the sample beside the checkout)")
    parser.add_argument("--synthetic", action="store_true", help="draw images even where there are real ones")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", help="folder for records and tables")
    parser.add_argument("--work", type=Path, help="scratch folder, kept (default: a temporary one)")
    parser.add_argument("--images", type=int, default=968, help="images in the cohort (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs that count, after one that does not")
    parser.add_argument("--seconds", type=float, default=2.0, help="least duration of a run (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=CORES, help="cores to use (default: %(default)s)")
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds a part may spend on repeating runs that others disturbed"
    )
    parser.add_argument("--peer-python", type=Path, help="interpreter of the peers, see peers/install.py")
    parser.add_argument("--quick", action="store_true", help="few images and short runs: does it work at all?")
    options = parser.parse_args(given)
    unknown = [part for part in options.only.split(",") if part not in PARTS]
    if unknown:
        parser.error(f"--only {','.join(unknown)}: unknown; there are {', '.join(PARTS)}")
    return options


def real_images(options: argparse.Namespace) -> Path | None:
    """Return the folder with real images, None to draw some."""
    if options.synthetic:
        return None
    if options.raw or "CXRKIT_NIH" in os.environ:
        return Path(options.raw or os.environ["CXRKIT_NIH"])
    return REAL if (REAL / "images").is_dir() else None


def peer_python(options: argparse.Namespace) -> str:
    """Return the interpreter for the peers."""
    return str(options.peer_python or (PEERS if PEERS.exists() else sys.executable))


@contextmanager
def cores(wanted: int) -> Iterator[int]:
    """Keep this process and its children to `wanted` cores, so that every contender has the same; yield how many."""
    if not hasattr(os, "sched_setaffinity"):
        yield os.cpu_count() or 1
        return
    all_of_them = os.sched_getaffinity(0)
    chosen = sorted(all_of_them)[:wanted]
    os.sched_setaffinity(0, chosen)
    try:
        yield len(chosen)
    finally:
        os.sched_setaffinity(0, all_of_them)


def main(given: Sequence[str] | None = None) -> None:
    """Measure the parts asked for, one after another."""
    options = arguments(given)
    with tempfile.TemporaryDirectory(prefix="cxrkit-bench-") as temporary, cores(options.cores) as usable:
        session = Session(
            work=options.work or Path(temporary),
            raw=real_images(options),
            images=options.images,
            runs=options.runs,
            seconds=options.seconds,
            cores=usable,
            quick=options.quick,
            peers=peer_python(options),
            say=partial(print, flush=True),
        )
        if options.quick:
            session = replace(session, images=min(options.images, 96), runs=min(options.runs, 2), seconds=0.2)
        for part in options.only.split(","):
            patient = replace(session, quiet=Quiet(0.0 if options.quick else options.patience))
            found = importlib.import_module(f"benchmarks.{part}").measure(patient)
            record.write(found, options.out / f"{part}.json")
            text = tables.document(found)
            write_text(options.out / f"{part}.md", text)
            print(f"\n{text}", flush=True)
    print(f"records and tables: {options.out}")


if __name__ == "__main__":
    main()
