"""The words of `cxrkit train`: its help, and the report that it names in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrkit.cli import training
from cxrkit.runs.folder import RunFolder


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fp32, bf16, or auto", "fp32, bf16, or auto."),
        ("gpu: keep the pixels", "gpu: keep the pixels."),
        ("torch.compile the network", "torch.compile the network."),
        ("official, 1 to 5", "official, 1 to 5."),
        ("seed of order", "Seed of order."),
        ("several seeds, as in 0,1,2", "Several seeds, as in 0,1,2."),
    ],
)
def test_a_value_at_the_start_of_help_stands_as_it_is_typed(text: str, sentence: str) -> None:
    assert training._sentence(text) == sentence


@pytest.mark.parametrize(
    ("split", "config", "option"),
    [
        ("resample-1", "", ""),
        ("official", "", " --official-split"),
        ("official-seed-1", "", " --official-split"),
        ("official", '[model]\nfrom_run = "runs/other/official"\n', " --probes"),
    ],
)
def test_the_report_that_is_named_has_the_run_in_it(split: str, config: str, option: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "name" / split)
    run.path.mkdir(parents=True)
    run.config.write_text(config, encoding="utf-8")
    assert training._table_of(run) == option
