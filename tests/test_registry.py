from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cxrkit.base import registry
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY8


def test_every_built_in_name_loads() -> None:
    for kind, table in registry.BUILT_IN.items():
        for name in table:
            assert callable(registry.load(kind, name))


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(UserError, match="unknown loader 'opencvv'\n  remedy: did you mean opencv\\?"):
        registry.load("loader", "opencvv")
    with pytest.raises(UserError, match="unknown dataset 'nih'\n  remedy: did you mean nih-chestxray14 or"):
        registry.load("dataset", "nih")
    with pytest.raises(UserError, match="unknown trainer 'zzz'\n  remedy: known: supervised"):
        registry.load("trainer", "zzz")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no.such.module:thing", "there is no module 'no.such.module'"),
        ("cxrkit.base.contracts:NOTHING", "module 'cxrkit.base.contracts' has no attribute 'NOTHING'"),
        ("cxrkit.base.errors:UserError.nothing", "module 'cxrkit.base.errors' has no attribute 'UserError.nothing'"),
        (":thing", "':thing': not of the form package.module:attribute"),
        ("cxrkit.base.errors:", "'cxrkit.base.errors:': not of the form package.module:attribute"),
        (".errors:UserError", "not of the form package.module:attribute"),
        ("C:/nets/mine.py:net", "not of the form package.module:attribute"),
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


@settings(deadline=None)  # a busy machine is no fault
@given(st.text(alphabet="ab.:/\\ \x00é-", max_size=8))
@example("a\x00b:c")
@example("::")
@example("..:a")
def test_no_name_ends_in_an_internal_error(name: str) -> None:
    with pytest.raises(UserError):
        registry.load("model", name)


def test_entry_points_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "stale-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stale\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cxrkit.losses]\ngone = a_module_that_is_gone:build\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="'a_module_that_is_gone:build': there is no module"):
        registry.load("loss", "gone")


def test_two_packages_that_mean_different_things_by_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("one", "two"):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cxrkit.losses]\ntheirs = {package}:build\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UserError, match=r"loss 'theirs': installed packages mean different things by it, \w+:build and"
    ):
        registry.load("loss", "theirs")


def test_a_file_of_the_current_folder_that_an_installed_module_hides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"module 'colorsys' has no attribute 'build'\n  remedy: name it as"):
        registry.load("model", "colorsys:build")
    (tmp_path / "colorsys.py").write_text("def build(): pass\n")
    with pytest.raises(
        UserError, match=r"colorsys\.py, and not colorsys\.py in this folder\n  remedy: give colorsys\.py a"
    ):
        registry.load("model", "colorsys:build")
    with pytest.raises(
        UserError, match=r"no module 'yournet'\n  remedy: .* run cxrkit in the folder that holds yournet\.py"
    ):
        registry.load("model", "yournet:build")
    with pytest.raises(
        UserError, match=r"not of the form package\.module:attribute\n  remedy: name it as nets\.mine:build"
    ):
        registry.load("model", "./nets/mine.py:build")


def test_a_failure_is_told_as_the_plug_ins() -> None:
    error = registry.failed("loss", "a.b:c", KeyError("oops"), "given nothing")
    assert str(error).startswith("plug-in a.b failed: KeyError: 'oops'\n  loss 'a.b:c', given nothing\n  remedy: ")


def test_the_groups_of_entry_points() -> None:
    assert [registry.group(kind) for kind in ("model", "loss")] == ["cxrkit.models", "cxrkit.losses"]


def everything(labels: object, *, width: int = 3, depth: int = 2) -> tuple[object, int, int]:
    return labels, width, depth


def plain() -> str:
    return "plain"


def only_options(*, gamma: float) -> float:
    return gamma


def anything(labels: object, **options: object) -> dict[str, object]:
    return options


def test_factories_are_called_with_what_they_take() -> None:
    def made(factory: object, **options: object) -> object:
        return registry.construct("loss", "mine", factory, CHESTXRAY8, options)  # type: ignore[arg-type]

    assert made(everything) == (CHESTXRAY8, 3, 2)
    assert made(everything, depth=5) == (CHESTXRAY8, 3, 5)
    assert made(plain) == "plain"
    assert made(only_options, gamma=2.0) == 2.0
    assert made(anything, odd=1) == {"odd": 1}
    for factory, options, text in [
        (everything, {"widht": 4}, "loss 'mine': unknown option 'widht'\n  remedy: did you mean width\\?"),
        (everything, {"zzz": 4}, "unknown option 'zzz'\n  remedy: choose from width, depth"),
        (everything, {"labels": 4}, "unknown option 'labels'"),
        (plain, {"gamma": 4}, "unknown option 'gamma'\n  remedy: leave it out: there are no options"),
        (only_options, {}, "its option 'gamma' has no default\n  remedy: give it a value; the label set goes to"),
        (3.14, {}, "expected a function that builds a loss, found 3.14"),
    ]:
        with pytest.raises(UserError, match=text):
            made(factory, **options)  # type: ignore[arg-type]
