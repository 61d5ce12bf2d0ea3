"""A small world in which the command lines of the pages run: all that they name lies where they say that it lies.

The cohort is drawn, and taken for ChestX-ray14 that counts otherwise: every gate that looks at counts says so, and lets
it through marked. A training has one epoch of a few images of 64 pixels, by a thin network (`at_a_small_size`); all
else is as written.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from broken_server import Page, serving
from conftest import REPOSITORY
from rich.console import Console
from tiny_download import make_tar

from cxrkit import pipeline
from cxrkit.base.contracts import PATHOLOGIES
from cxrkit.datasets.nih import archives
from cxrkit.datasets.phantom.cohort import generate
from cxrkit.download import published
from cxrkit.prepare.stage import PrepareConfig, prepare_raw

IMAGES = 40
SMALL = {"--epochs": "1", "--limit": "8", "--input-size": "64", "--batch-size": "8", "--threads": "1"}
TRAINED = Path("runs", "trained", "official")
TABLES_ONLY = {"--epochs": "1"}


def build(folder: Path) -> None:
    """Write the world into the folder."""
    raw = folder / "nih"
    generate(raw, IMAGES, seed=1, workers=1)
    (raw / "SYNTHETIC.json").unlink()
    prepare_raw(PrepareConfig(raw, folder / "data" / "shards", workers=1))
    for name in ("data/raw", "films"):
        (folder / name).symlink_to(raw)
    for name in ("examples", "benchmarks"):
        (folder / name).symlink_to(REPOSITORY / name)
    _declare(folder, raw)
    _train(folder)
    _others(folder, raw)


def _declare(folder: Path, raw: Path) -> None:
    """Write what others bring: predictions and lists."""
    test = (raw / "test_list.txt").read_text().split()
    rest = (raw / "train_val_list.txt").read_text().split()
    score_NL = np.random.default_rng(3).random((len(test), len(PATHOLOGIES)))
    scores = pl.DataFrame(score_NL, schema=list(PATHOLOGIES)).with_columns(pl.Series("image_id", test))
    scores.write_csv(folder / "predictions.csv")
    (folder / "test.txt").write_text("\n".join(test))
    first = rest[0].split("_")[0]
    for name, is_wanted in (("train", True), ("val", False)):
        chosen = [image for image in rest if (image.split("_")[0] != first) == is_wanted]
        (folder / f"{name}.txt").write_text("\n".join(chosen))
    score_ML = np.random.default_rng(4).random((len(chosen), len(PATHOLOGIES)))  # of the images that validate
    validation = pl.DataFrame(score_ML, schema=list(PATHOLOGIES)).with_columns(pl.Series("image_id", chosen))
    validation.write_csv(folder / "val_predictions.csv")
    logit_NL = np.random.default_rng(5).normal(size=(len(test), len(PATHOLOGIES)))
    logits = pl.DataFrame(logit_NL, schema=list(PATHOLOGIES)).with_columns(pl.Series("image", test))
    logits.write_csv(folder / "colleague_logits.csv")
    (folder / "mine.toml").write_text('recipe = "mine"\n[about]\nsource = "us"\n[model]\nname = "resnet14-small"\n')
    (folder / "small.toml").write_text('title = "Small"\n[[runs]]\nrecipe = "mlp-meta"\n')
    drains = pl.DataFrame({"Image Index": test, "Drain": [number % 2 for number in range(len(test))]})
    drains.write_csv(folder / "NIH-CX14_TubeAnnotations_NonExperts_aggregated.csv")


def _train(folder: Path) -> None:
    given = {"data": folder / "data" / "shards", "runs": folder / "runs", "epochs": 1, "limit": 16, "input_size": 64}
    given |= {"batch_size": 8, "device": "cpu", "workers": 1, "model": "resnet14-small"}
    run = pipeline.train(pipeline.resolve(given | {"name": "trained"}), False, Console(quiet=True))
    assert run.path == folder / TRAINED


def _others(folder: Path, raw: Path) -> None:
    """Write `small`, a copy of smaller images as some have it, and DIR, a data set with a table of its own."""
    names = sorted(path.name for path in (raw / "images").iterdir())
    shutil.copytree(raw, folder / "small", ignore=shutil.ignore_patterns("*.png"))
    for name in names:
        image = cv2.imread(str(raw / "images" / name), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(folder / "small" / "images" / name), cv2.resize(image, (256, 256)))  # type: ignore[arg-type]
    rows = [f"{name},{name[:8]},{number % 2},{number % 3 % 2},0" for number, name in enumerate(names)]
    (folder / "DIR").mkdir()
    (folder / "DIR" / "images").symlink_to(raw / "images")
    (folder / "DIR" / "table.csv").write_text("\n".join(["image_id,patient_id,Effusion,Fracture,Device", *rows]))


@contextmanager
def served(world: Path) -> Iterator[str]:
    """Serve the raw folder as NIH serves its own, which the manifest says it is; yields the address."""
    raw = world / "nih"
    files = {path.name: path.read_bytes() for path in raw.iterdir() if path.is_file()}
    names = sorted(path.name for path in (raw / "images").iterdir())
    chunks = {"images_001.tar.gz": names[:4], "images_002.tar.gz": names[4:8]}
    for name, chunk in chunks.items():
        tar = make_tar(
            world / name, [f"images/{image}" for image in chunk], data=(raw / "images" / chunk[0]).read_bytes()
        )
        files[name] = tar.read_bytes()
        tar.unlink()

    def known(name: str) -> dict[str, object]:
        md5 = hashlib.md5(files[name], usedforsecurity=False).hexdigest()
        return {"name": name, "bytes": len(files[name]), "md5": md5, "sha256": hashlib.sha256(files[name]).hexdigest()}

    facts = dict(archives.manifest())
    facts["table"] = [known(entry["name"]) | {"box_file": "0"} for entry in facts["table"]]
    facts["archive"] = [
        known(name) | {"images": len(chunk), "first": chunk[0], "last": chunk[-1], "box": "key"}
        for name, chunk in chunks.items()
    ]
    archives.archive_facts.cache_clear()
    with pytest.MonkeyPatch.context() as patch, serving({name: Page(data) for name, data in files.items()}) as address:
        patch.setattr(archives, "manifest", lambda: facts)
        patch.setattr(published, "manifest", lambda: facts)
        yield address
    archives.archive_facts.cache_clear()


def at_a_small_size(words: Sequence[str], address: str) -> list[str]:
    """Return the words of a `cxrkit` command, made to take seconds. address: of the server that stands for NIH's."""
    command, *rest = words
    if command == "train":
        small = TABLES_ONLY if "mlp-meta" in rest else SMALL
        if "--warmup-epochs" in rest:
            small = small | {"--epochs": "6"}
        rest += [word for flag, value in small.items() if flag not in rest for word in (flag, value)]
        if any(word.startswith("resnet50") for word in rest):
            rest += ["--set", "model.options.width=8"]
    elif command == "synth" and "--images" in rest:
        rest[rest.index("--images") + 1] = f"{IMAGES}"
    elif command == "explain" and "--top" not in rest:
        rest += ["--top", "1"]
    elif command == "download":
        rest += ["--from", address]
    elif command == "reproduce":  # what 40 trainings would take is measured with their networks: minutes
        rest = ["small.toml" if word == "table3" else word for word in rest]
        rest += [] if "--dry-run" in rest else ["--dry-run"]
    return [command, *("ark6-2023" if word == "KEY" else word for word in rest)]
