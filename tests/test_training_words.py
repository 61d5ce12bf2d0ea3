"""The words of `cxrkit train`: its help, and the report that it names in the end."""

from __future__ import annotations

import pytest

from cxrkit.cli import training


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
