"""Damage files at random and read them: no input may end in an internal error, a crash or a hang.

python benchmarks/fuzz.py                             ten seconds for every reader, on files of a tiny run of its own
python benchmarks/fuzz.py --seconds 600 --only shard  a long look at one
python benchmarks/fuzz.py --files kept --only png --seed 17 --one    read one input again, and print what happens

A reader may refuse an input with a UserError (or say that an image is damaged), or take it. Anything else is printed
with its seed, which with the same --files makes the same input; then the exit code is 1.
"""

# ruff: noqa: E402 - the imports follow the line that lets this run as a script

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not benchmarks/, whose file names are no modules of their own

from cxrkit.base.errors import UserError

HANG_SECONDS = 30.0  # without an answer: far longer than any of these files takes
IMAGES = 48
_LONGEST_PIECE = 400  # bytes that one change moves
_POKES = (
    b"",
    b"\0",
    b"\xff" * 8,
    b"\xff\xfe",
    b'"',
    b"[" * 2000,
    b"{",
    b"-1",
    b"9" * 400,
    b"NaN",
    b"1e999",
    b"\\ud800",
)


@dataclass(frozen=True)
class Reader:
    """One kind of file and what reads it."""

    file: str
    """The valid file, below the folder that `make_files` made."""

    read: Callable[[Path, Path], Any]
    """Reads the damaged file (first argument), which stands in a copy of that folder (second one)."""

    refusals: tuple[type[Exception], ...] = (UserError,)
    """What it may raise."""


def _store(_: Path, root: Path) -> None:
    from cxrkit.shards.store import ShardStore

    store = ShardStore(root / "data")
    for row in range(len(store)):
        store.image(row, 0)


def _shard(path: Path, _: Path) -> None:
    from cxrkit.shards.file import read_shard

    read_shard(path)


def _sealed_shard(path: Path, _: Path) -> None:
    """Read a shard whose seal is right for what it holds: what no accident makes, but gets past the checksum."""
    from cxrkit.shards.file import seal, unseal

    with open(path, "r+b") as file:
        payload = unseal(file)
        if payload and min(payload) >= 0 and sum(payload) <= file.seek(0, 2):
            seal(file, *payload)
    _shard(path, path)


def _table(kind: str) -> Callable[[Path, Path], None]:
    """Read a table of the prepared folder whose checksum in dataset.json is right."""

    def read(path: Path, root: Path) -> None:
        description = root / "data" / "dataset.json"
        about = json.loads(description.read_text())
        about[kind]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        description.write_text(json.dumps(about))
        _store(path, root)

    return read


def _raw(_: Path, root: Path) -> None:
    from cxrkit.base import registry

    registry.load("dataset", "synthetic")(root / "raw", allow_missing=True)


def _png(path: Path, _: Path) -> None:
    from cxrkit.sources.pixels import DamagedImage, read_image

    try:
        read_image(path.read_bytes(), 1024)
    except DamagedImage as damage:
        raise UserError(str(damage)) from None


def _tiles(path: Path, _: Path) -> None:
    """Read windows of a level in tiles whose checksum nobody looks at."""
    import numpy as np

    from cxrkit.shards import codecs, tiles

    data = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        for window in ((0, 0, 9, 9), (300, 100, 700, 900), (0, 512, 1024, 1024), (900, 1000, 1024, 1024)):
            part, (left, top, right, bottom) = codecs.encoded_window("jpeg", data, 1024, tiles.RESTART, window)
            codecs.decode("jpeg", part, right - left, bottom - top)
        codecs.check_tiles(data, 1024, tiles.RESTART)
    except ValueError as damage:
        raise UserError(str(damage)) from None


def _windows(_: Path, root: Path) -> None:
    """Read windows of every record of a folder without looking at its checksum."""
    from cxrkit.shards.store import ShardStore

    store = ShardStore(root / "tiles", check_crc=False)
    for row in range(len(store)):
        store.window(row, 0, (130, 40, 250, 200))


def _scores(path: Path, _: Path) -> None:
    from cxrkit.runs.scores import read_scores

    read_scores(path)


def _predictions(path: Path, _: Path) -> None:
    from cxrkit.runs.predictions import read_predictions

    read_predictions(path)


def _checkpoint(path: Path, _: Path) -> None:
    from cxrkit.runs.checkpoints import read

    read(path)


def _config(path: Path, _: Path) -> None:
    from cxrkit.runs.config import read_config

    read_config(path)


def _report(_: Path, root: Path) -> None:
    from cxrkit import report

    report.render(report.official(root / "runs"), "md")


READERS: dict[str, Reader] = {
    "shard": Reader("data/shard-*.h5", _shard),
    "sealed shard": Reader("data/shard-*.h5", _sealed_shard),
    "dataset.json": Reader("data/dataset.json", _store),
    "index": Reader("data/index-*.parquet", _table("index")),
    "records": Reader("data/records-*.parquet", _table("records")),
    "csv": Reader("raw/Data_Entry*.csv", _raw),
    "lists": Reader("raw/test_list*.txt", _raw),
    "boxes": Reader("raw/BBox*.csv", _raw),
    "png": Reader("raw/images/*.png", _png),
    "tiles": Reader("level.jpg", _tiles),
    "windows": Reader("tiles/shard-*.h5", _windows),
    "config": Reader("runs/*/official/config.toml", _config),
    "checkpoint": Reader("runs/*/official/checkpoints/best.safetensors", _checkpoint),
    "predictions": Reader("runs/*/official/predictions/test.parquet", _predictions),
    "scores": Reader("runs/*/official/scores.json", _scores),
    "report": Reader("runs/*/official/scores.json", _report),
}


@dataclass
class Tally:
    """What came of one reader's inputs."""

    taken: int = 0
    """Read without complaint: the damage did no harm."""

    refused: int = 0
    """Named as the user's to mend."""

    wrong: list[str] = field(default_factory=list)
    """One line for each internal error, crash and hang."""


def make_files(folder: Path) -> Path:
    """Make a phantom cohort, prepare it and train on it for an epoch; return the folder."""

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "cxrkit", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    run("synth", str(folder / "raw"), "--images", str(IMAGES))
    data = ("--data", str(folder / "data"))
    prepare = ("prepare", "--raw", str(folder / "raw"), "--dataset", "synthetic")
    run(*prepare, *data, "--levels", "64", "--codec", "png")
    run(*prepare, "--data", str(folder / "tiles"), "--levels", "256", "--limit", "8")
    _write_level(folder / "level.jpg", sorted((folder / "raw" / "images").glob("*.png"))[0])
    run("train", "--model", "mlp-meta", *data, "--runs", str(folder / "runs"), "--epochs", "1", "--device", "cpu")
    return folder


def _write_level(path: Path, image: Path) -> None:
    from cxrkit.shards import codecs, tiles
    from cxrkit.sources.pixels import read_image

    path.write_bytes(codecs.encode("jpeg", read_image(image.read_bytes(), 1024).image, 95, tiles.RESTART))


def damaged(valid: bytes, rng: random.Random) -> bytes:
    """Return `valid` after one to four changes."""
    data = bytearray(valid)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        stop = min(len(data), start + rng.randint(1, _LONGEST_PIECE))
        other = rng.randrange(len(data) + 1)
        match rng.choice(("flip", "flip", "flip", "digit", "poke", "cut", "lose", "double", "zero", "move")):
            case "flip" if start < len(data):
                data[start] ^= 1 << rng.randrange(8)
            case "digit":
                digits = [place for place in range(start, stop) if chr(data[place]).isdigit()]
                for place in digits[: rng.randint(1, 4)]:
                    data[place] = ord(rng.choice("0123456789-.e"))
            case "poke":
                data[start : start + rng.randint(0, 8)] = rng.choice(_POKES)
            case "cut":
                del data[start:]
            case "lose":
                del data[start:stop]
            case "double":
                data[start:start] = data[start:stop]
            case "zero":
                data[start:stop] = bytes(stop - start)
            case "move":
                data[start:stop] = data[other : other + stop - start]
    return bytes(data)


def read_one(name: str, root: Path, seed: int) -> str:
    """Damage the reader's file in `root` by `seed` and read it; return "taken", "refused" or a traceback's end."""
    reader = READERS[name]
    path = sorted(root.glob(reader.file))[0]
    kept = {file: file.read_bytes() for file in (path, root / "data" / "dataset.json")}
    rng = random.Random(f"{name} {seed}")
    path.unlink()
    path.write_bytes(damaged(kept[path], rng))
    try:
        reader.read(path, root)
        return "taken"
    except reader.refusals as error:
        # A remedy and a text without control characters are part of the promise.
        shown = str(error).replace("\n", "")
        return "refused" if shown.isprintable() else f"unprintable message: {shown!r}"
    except BaseException:
        return traceback.format_exc(limit=-3).replace("\n", " | ")
    finally:
        for file, content in kept.items():
            file.write_bytes(content)


def serve(name: str, root: Path, first: int) -> None:
    """Read one input after the other and print a line for each, until killed: the process may crash or hang."""
    answers, sys.stdout = sys.stdout, io.StringIO()
    for seed in _count(first):
        answers.write(f"{seed} {read_one(name, root, seed)}\n")
        answers.flush()


def _count(first: int) -> Iterator[int]:
    while True:
        yield first
        first += 1


def fuzz(name: str, root: Path, seconds: float, first: int) -> Tally:
    """Give a reader damaged inputs for `seconds`, in processes of their own."""
    tally, ends, seed = Tally(), time.monotonic() + seconds, first
    while time.monotonic() < ends:
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(shutil.copytree(root, Path(scratch) / "files"))
            seed = _watch(name, copy, seed, ends, tally)
    return tally


def _watch(name: str, root: Path, seed: int, ends: float, tally: Tally) -> int:
    """Run one process until it dies, hangs or time is up; return the next seed."""
    import select

    command = [sys.executable, __file__, "--serve", str(root), "--only", name, "--seed", str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        while time.monotonic() < ends:
            if not select.select([process.stdout], [], [], HANG_SECONDS)[0]:
                tally.wrong.append(f"seed {seed}: no answer within {HANG_SECONDS:.0f} s")
                return seed + 1
            line = process.stdout.readline().decode()
            if not line.endswith("\n"):
                tally.wrong.append(f"seed {seed}: the process died with status {process.wait()}")
                return seed + 1
            number, _, answer = line.rstrip("\n").partition(" ")
            seed = int(number) + 1
            if answer == "taken":
                tally.taken += 1
            elif answer == "refused":
                tally.refused += 1
            else:
                tally.wrong.append(f"seed {number}: {answer}")
        return seed
    finally:
        process.kill()
        process.communicate()


def main(given: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each reader (default: %(default)s)")
    parser.add_argument("--only", default=",".join(READERS), help="readers: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the first input (default: %(default)s)")
    parser.add_argument("--files", type=Path, help="folder of valid files, made if it is not there, and kept")
    parser.add_argument("--one", action="store_true", help="read the one input of --seed, and print what happens")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    names = options.only.split(",")
    if unknown := [name for name in names if name not in READERS]:
        parser.error(f"--only {options.only}: {unknown[0]!r} is unknown; there are {', '.join(READERS)}")
    if options.serve:
        serve(names[0], options.serve, options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        files = options.files or Path(scratch) / "files"
        if not files.exists():
            make_files(files)
        if options.one:
            print(read_one(names[0], Path(shutil.copytree(files, Path(scratch) / "copy")), options.seed))
            return 0
        tallies = {name: fuzz(name, files, options.seconds, options.seed) for name in names}
    for name, tally in tallies.items():
        count = tally.taken + tally.refused
        print(f"{name}: {count:,} inputs, {tally.refused:,} refused, {tally.taken:,} taken, {len(tally.wrong):,} wrong")
        for line in tally.wrong[:5]:
            print(f"  {line}")
    return int(any(tally.wrong for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
