"""Label sets: found again by name, and refused in the user's terms."""

from __future__ import annotations

import pytest
from conftest import REPOSITORY

from cxrkit.base import labels
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14, LABEL_SETS


@pytest.mark.parametrize("name", LABEL_SETS)
def test_every_set_is_found_by_its_name_and_is_consistent(name: str) -> None:
    found = labels.get(name)
    assert found.name == name
    assert set(found.averaged) | set(found.beside) == set(found.labels)
    assert len(found) == len(found.labels)
    assert all(found.heading(label) for label in found.labels)


def test_the_papers_labels() -> None:
    """Baltruschat et al. 2019: 14 pathologies in the order of Table 5 are averaged, "No Finding" stands beside."""
    assert (len(CHESTXRAY14), len(CHESTXRAY14.averaged), CHESTXRAY14.beside) == (15, 14, ("No Finding",))
    assert CHESTXRAY14.heading("Pleural_Thickening") == "Pleural Thicken."


def test_a_set_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY)
    assert labels.get("examples.table_dataset:FINDINGS").labels == ("Effusion", "Fracture", "Device")
    message = r"'examples.table_dataset:read': expected a cxrkit.base.labels.LabelSet of that name, found <function"
    with pytest.raises(UserError, match=message):
        labels.get("examples.table_dataset:read")
    with pytest.raises(UserError, match=r"unknown label set 'chestxray41'\n  remedy: did you mean chestxray14"):
        labels.get("chestxray41")
