from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from cxrkit.config import TrainConfig, changed, read_toml, resolve, to_toml
from cxrkit.errors import UserError


def test_round_trip(tmp_path: Path) -> None:
    config = TrainConfig(model="mlp-meta", fold="3", lr=0.02, data=tmp_path, compile=False)
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert resolve(TrainConfig, {}, path) == config
    assert resolve(TrainConfig, {"lr": 0.5, "seed": None}, path) == TrainConfig(
        model="mlp-meta", fold="3", lr=0.5, data=tmp_path, compile=False
    )


def test_paper_defaults() -> None:
    """Section 3: Adam(0.9, 0.999), halving, crops of 8 to 100 %, aspect 3:4 to 4:3, 7 degrees, flip, no decay."""
    config = TrainConfig()
    assert (config.beta1, config.beta2, config.lr_factor, config.weight_decay) == (0.9, 0.999, 0.5, 0.0)
    assert (config.area_min, config.aspect_max, config.angle, config.flip) == (0.08, 4 / 3, 7.0, 0.5)


def test_every_field_has_help() -> None:
    assert all(item.metadata["help"] for item in fields(TrainConfig))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"epochs": 0}, "--epochs 0: out of range\n  remedy: give a value of at least 1"),
        ({"lr": float("nan")}, "--lr nan: out of range\n  remedy: give a value of from 1e-09 to 10"),
        ({"batch_size": -4}, "--batch-size -4: out of range"),
        ({"flip": 1.5}, "--flip 1.5: out of range"),
        ({"precision": "fp8"}, "--precision fp8: unknown\n  remedy: choose one of auto, fp32, bf16, fp16"),
    ],
)
def test_out_of_range(values: dict[str, float], text: str) -> None:
    with pytest.raises(UserError) as caught:
        TrainConfig(**values)  # type: ignore[arg-type]
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown setting 'epoch'\n  remedy: did you mean epochs"),
        ("epochs = 'many'", "epochs = 'many' is not int"),
        ("epochs = 2.9", "epochs = 2.9 is not int"),
        ("epochs = true", "epochs = True is not int"),
        ("epochs = ", "not valid TOML"),
    ],
)
def test_broken_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_toml(path, TrainConfig)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_toml(tmp_path / "none.toml", TrainConfig)


def test_changed() -> None:
    assert changed(TrainConfig(), TrainConfig(epochs=3, seed=1)) == ["epochs", "seed"]
