from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrkit.base.errors import UserError
from cxrkit.base.typed import FieldError, build, read_typed


@dataclass(frozen=True)
class Inner:
    count: int
    share: float | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    by_name: dict[str, Inner]
    kind: Literal["a", "b", 3] = "a"
    pair: tuple[int, str] = (1, "x")
    levels: tuple[int, ...] = ()
    names: list[str] = field(default_factory=list)
    where: Path | None = None
    flag: bool = False
    either: int | str = 0
    anything: Any = None

    def __post_init__(self) -> None:
        if self.name == "forbidden":
            raise ValueError("no such name")


def value(**changes: Any) -> dict[str, Any]:
    return {"name": "n", "inner": {"count": 1}, "by_name": {"x": {"count": 2, "share": 1}}} | changes


def test_what_fits_is_built() -> None:
    built = build(Outer, value(pair=[2, "y"], levels=[3, 4], where="a[1]/b", either="text", anything={"free": [1]}))
    assert built == Outer(
        "n", Inner(1), {"x": Inner(2, 1.0)}, "a", (2, "y"), (3, 4), [], Path("a[1]/b"), False, "text", {"free": [1]}
    )
    assert type(built.by_name["x"].share) is float


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 1}, "name is 1 (int), expected text"),
        ({"name": None}, "name is null, expected text"),
        ({"name": "\ud800"}, r"name is '\ud800' (str), expected text"),
        ({"name": "forbidden"}, "no such name"),
        ({"inner": {}}, "inner.count is missing"),
        ({"inner": [1]}, "inner is a list of 1, expected an object"),
        ({"inner": {"count": True}}, "inner.count is True (bool), expected a whole number"),
        ({"inner": {"count": 1.0}}, "inner.count is 1.0 (float), expected a whole number"),
        ({"inner": {"count": 1, "share": float("nan")}}, "inner.share is nan (float), expected a finite number"),
        ({"inner": {"count": 1, "share": 10**400}}, "inner.share is a number of 1329 bits (int), expected a number"),
        ({"by_name": {"x": {"count": "2"}}}, "by_name.x.count is '2' (str), expected a whole number"),
        ({"by_name": {"\ud800": {"count": 2}}}, r"a name in by_name is '\ud800' (str), expected text"),
        ({"kind": "c"}, "kind is 'c' (str), expected one of a, b, 3"),
        ({"kind": 3.0}, "kind is 3.0 (float), expected one of a, b, 3"),
        ({"pair": [1]}, "pair is a list of 1, expected a list of 2"),
        ({"pair": [1, 2]}, "pair[1] is 2 (int), expected text"),
        ({"levels": "12"}, "levels is '12' (str), expected a list"),
        ({"levels": [1, None]}, "levels[1] is null, expected a whole number"),
        ({"where": "a\0b"}, r"where is 'a\x00b' (str), expected a path"),
        ({"where": ""}, "where is '' (str), expected a path"),
        ({"flag": 1}, "flag is 1 (int), expected true or false"),
        ({"either": None}, "either is null, expected a whole number or text"),
        ({"name": ["x" * 999]}, "name is a list of 1, expected text"),
        ({"levels": "x" * 999}, f"levels is 'x{'x' * 55}... (str), expected a list"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError) as caught:
        build(Outer, value(**changes))
    assert str(caught.value) == message


def test_unknown_keys_are_passed_over_or_refused() -> None:
    assert build(Inner, {"count": 1, "more": 2}) == Inner(1)
    with pytest.raises(FieldError, match=r"inner\.more is not a known field; known are count, share"):
        build(Outer, value(inner={"count": 1, "more": 2}), extra="refuse")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"count": "1"}', '{"count": 1e999}'])
def test_a_file_of_anything_else_is_the_users_mistake(tmp_path: Path, text: str) -> None:
    path = tmp_path / "inner.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"inner.json: .*\n  remedy: write it again"):
        read_typed(Inner, path, "the inner file", "write it again")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "inner", "count", "x"]), inner)
    ),
    max_leaves=9,
)


@given(st.dictionaries(st.sampled_from([*Outer.__dataclass_fields__, "more"]), JSON))
def test_no_value_ends_in_another_error(changes: dict[str, Any]) -> None:
    try:
        built = build(Outer, value(**changes))
    except FieldError:
        return
    assert build(Outer, asdict(built)) == built
