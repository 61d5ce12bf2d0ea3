"""Networks for other programs: each format says what torch says, and what it eats is written down."""

from __future__ import annotations

import builtins
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny_own
import torch
from rich.console import Console
from safetensors import safe_open
from typer.testing import CliRunner

from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.cli.app import app
from cxrkit.export import exporting
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import read_predictions
from cxrkit.shards.store import ShardStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    tiny_own.prepared(folder)
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> RunFolder:
    options = {"sets": ["model.options.told=true"], "precision": "bf16", "name": "told"}
    return tiny_own.run_of("tiny_own:build_tiny", folder / "shards", folder / "runs", **options)


@pytest.fixture(scope="module")
def untold(folder: Path) -> RunFolder:
    return tiny_own.run_of("tiny_own:build_tiny", folder / "shards", folder / "runs", name="untold")


def fed_by_hand(folder: Path, run: RunFolder, about: dict[str, Any]) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    """Return the predictions of val, and the inputs that the description asks for, made with Pillow and numpy alone."""
    from PIL import Image

    frame = read_predictions(run.predictions("val")).frame
    eats = about["inputs"]["image"]
    images = []
    for name in frame["image_id"]:
        picture = Image.open(folder / "raw" / "images" / name).convert("L")
        assert picture.size == (eats["canvas"],) * 2
        level = picture.resize((eats["level"],) * 2, Image.Resampling.BOX)
        small = np.asarray(level.resize((eats["resize"],) * 2, Image.Resampling.BILINEAR), np.float32)
        edge = (eats["resize"] - eats["crop"]) // 2
        images.append(small[edge : edge + eats["crop"], edge : edge + eats["crop"]])
    gray = np.stack(images)[:, None]
    channels = [gray * scale + shift for scale, shift in zip(eats["scale"], eats["shift"], strict=True)]
    fed = {"image": np.concatenate(channels, axis=1).astype(np.float32)}
    assert list(fed["image"].shape[1:]) == eats["shape"][1:]
    if meta := about["inputs"].get("metadata"):
        store = ShardStore(folder / "shards")
        rows = store.records().join(frame.select("image_id"), on="image_id", how="semi").sort("image_id")
        low, high = meta["age"]["years_at_0"], meta["age"]["years_at_1"]
        age = np.clip((rows["age_years"].to_numpy() - low) / (high - low), 0, 1)
        sex, view = ([meta[name][value] for value in rows[name]] for name in ("sex", "view"))
        fed["metadata"] = np.stack([age, sex, view], axis=1).astype(np.float32)
    return frame, fed


def test_onnx_of_a_network_that_is_told_age_sex_and_view(folder: Path, told: RunFolder, tmp_path: Path) -> None:
    import onnxruntime

    out = tmp_path / "net.onnx"
    done = CliRunner().invoke(app, ["export", str(told.path), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "which takes image and metadata" in done.output
    assert "checked: on 3 real images no score differs" in done.output
    session = onnxruntime.InferenceSession(out)
    about = json.loads(session.get_modelmeta().custom_metadata_map["cxrkit"])
    beside = json.loads((tmp_path / "net.onnx.json").read_text())
    assert beside == about | {"file_sha256": file_digest(out)}
    image, metadata = (item.shape for item in session.get_inputs())
    assert (image[1:], metadata[1:]) == ([1, 64, 64], [3])
    assert isinstance(image[0], str), "any number of images"
    assert image[0] == metadata[0]
    frame, fed = fed_by_hand(folder, told, about)
    _, scores = session.run(["logits", "scores"], fed)
    expected = frame.select(about["outputs"]["labels"]).to_numpy()
    # Pillow's bilinear filter, another JPEG, and bf16 in the run: near, and in the same order.
    assert np.abs(scores - expected).max() < 0.02
    assert np.ptp(expected, axis=0).max() > 0.05
    assert about["origin"]["split"] == "file-split"
    assert about["model"]["checkpoint_sha256"] == file_digest(told.best)


def test_pt2_runs_in_torch_alone(folder: Path, untold: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "net.pt2"
    made = exporting.export(untold, out)
    assert made.inputs == ("image",)
    assert made.difference <= 1e-6
    files = {"cxrkit.json": ""}
    module = torch.export.load(out, extra_files=files).module()
    about = json.loads(files["cxrkit.json"])
    frame, fed = fed_by_hand(folder, untold, about)
    with torch.inference_mode():
        _, scores = module(torch.from_numpy(fed["image"]))
        _, (alone,) = module(torch.from_numpy(fed["image"][1:2]))
    torch.testing.assert_close(scores[1], alone)
    assert np.abs(scores.numpy() - frame.select(about["outputs"]["labels"]).to_numpy()).max() < 0.02


def test_safetensors_holds_the_weights(untold: RunFolder, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    made = exporting.export(untold, tmp_path / "net.safetensors", console=console)
    assert made.difference < 1e-6  # of one image alone and of three together
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "opening the network and some real images" in shown
    assert "exporting tiny_own:build_tiny as safetensors" in shown
    assert "checking on 3 real images" in shown
    with safe_open(made.path, framework="pt") as file, safe_open(untold.best, framework="pt") as best:
        about = json.loads(file.metadata()["cxrkit"])
        assert {f"model/{name}" for name in file.keys()} == set(best.keys())  # noqa: SIM118
        for name in file.keys():  # noqa: SIM118
            assert torch.equal(file.get_tensor(name), best.get_tensor(f"model/{name}"))
    assert about["file_format"] == "safetensors"
    assert about["outputs"]["scores"]["what"] == "the sigmoid of the logits"


def test_a_network_that_no_exporter_follows_says_why(folder: Path, tmp_path: Path) -> None:
    data, runs = folder / "shards", folder / "runs"
    run = tiny_own.run_of("tiny_own:build_moody", data, runs, name="moody", predicted=False)
    out = tmp_path / "net.pt2"
    out.write_text("what was there")
    message = r"model 'tiny_own:build_moody': torch cannot export it \(.+\)\n  remedy: choose --format safetensors"
    with pytest.raises(UserError, match=message):
        exporting.export(run, out)
    assert out.read_text() == "what was there"
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt2"]
    assert exporting.export(run, tmp_path / "net.safetensors").images == 3


def test_a_file_that_says_something_else_is_not_put_in_place(
    untold: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(network: Any, path: Path) -> Any:
        run = exporting._write_safetensors(network, path)
        return lambda arrays: [output + 0.001 for output in run(arrays)]

    monkeypatch.setitem(exporting._WRITERS, "safetensors", wrong)
    with pytest.raises(
        UserError, match=r"differs from torch by 0\.001 in a score, more than 0\.0001, on 3 real images"
    ):
        exporting.export(untold, tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "kind", "message"),
    [
        ("net.pt", "torchscript", r"PyTorch has given TorchScript up[^\0]*choose pt2, its successor"),
        ("net.bin", None, r"--out .*net\.bin: not a format of a network\n  remedy: choose --format onnx, pt2"),
    ],
)
def test_formats_that_there_are_not(untold: RunFolder, tmp_path: Path, out: str, kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        exporting.export(untold, tmp_path / out, kind)


def test_without_onnx(untold: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("onnx"):
            raise ImportError(name=name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"needs the package onnx, which is not installed\n  remedy: pip install"):
        exporting.export(untold, tmp_path / "net.onnx")
