from __future__ import annotations

from pathlib import Path

import pytest

from cxrkit import registry
from cxrkit.errors import UserError


def test_every_built_in_name_loads() -> None:
    for kind, table in registry.BUILT_IN.items():
        for name in table:
            assert callable(registry.load(kind, name))


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(UserError, match="unknown loader 'opencvv'\n  remedy: did you mean opencv\\?"):
        registry.load("loader", "opencvv")
    with pytest.raises(UserError, match="unknown dataset 'nih'\n  remedy: did you mean nih-chestxray14\\?"):
        registry.load("dataset", "nih")
    with pytest.raises(UserError, match="unknown trainer 'zzz'\n  remedy: known: supervised"):
        registry.load("trainer", "zzz")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no.such.module:thing", "there is no module 'no.such.module'"),
        ("cxrkit.contracts:NOTHING", "module 'cxrkit.contracts' has no attribute 'NOTHING'"),
    ],
)
def test_own_objects_that_are_not_there(name: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        registry.load("model", name)


def test_a_broken_own_module_shows_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_by_test.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        registry.load("model", "broken_by_test:net")


def test_entry_points_of_installed_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real distribution on sys.path: its entry point is a registered name."""
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cxrkit.evaluators]\nmine = plugin_of_test:evaluate\n")
    (tmp_path / "plugin_of_test.py").write_text("def evaluate():\n    return 'mine'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "mine" in registry.names("evaluator")
    assert registry.load("evaluator", "mine")() == "mine"
