"""Figures: drawn the same every time, every mark there, colours that everybody can tell apart."""

from __future__ import annotations

import itertools
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from cxrkit.base.errors import UserError
from cxrkit.report.document.figures import Axis, Bars, Figure, Grid, Line, Panel, Ranges
from cxrkit.report.rendering.drawing import draw, draw_in
from cxrkit.report.rendering.drawings import draw_all
from cxrkit.report.rendering.legend import legend_texts
from cxrkit.report.rendering.marks import SHORT
from cxrkit.report.rendering.palette import DARK, LIGHT, Theme, names, palette
from cxrkit.report.rendering.svg import with_ids

NAN = float("nan")
SVG = "{http://www.w3.org/2000/svg}"
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}


def test_a_legend_breaks_names_between_words_and_leaves_whole_parts_out() -> None:
    terms = "area_min 0.4, patience 3, lr 0.01, loss focal, seeds 0 to 4, pretraining ImageNet, weights 01234567"
    short, one, two, long = legend_texts(
        ["densenet121", f"net, {terms}, prepared aa", f"net, {terms}, prepared bb", f"other, {terms}, prepared aa"]
    )
    assert short == "densenet121"
    # The last part tells these two apart, so that they have one line more.
    assert (one.replace("\n", " "), two.replace("\n", " ")) == (
        f"net, {terms}, prepared aa",
        f"net, {terms}, prepared bb",
    )
    assert long.split("\n") == [
        "other, area_min 0.4, patience 3, lr 0.01,",
        "loss focal, seeds 0 to 4,",
        "pretraining ImageNet, weights 01234567, …",
    ]
    assert max(len(line) for text in (one, two, long) for line in text.split("\n")) <= SHORT


def test_a_legend_of_long_names_has_the_room_that_it_needs() -> None:
    long = f"{'a-long-name-' * 5}end, at 64 px"
    lines = tuple(Line(name, (0.0, 1.0), (0.0, 1.0)) for name in (long, "b"))
    drawn = [
        ElementTree.fromstring(draw(Figure("k", "t", "c", (Panel("", marks),)))).get("height")
        for marks in (lines[1:], lines)
    ]
    assert float(drawn[1].removesuffix("pt")) > float(drawn[0].removesuffix("pt"))  # type: ignore[union-attr]


def figure() -> Figure:
    curves = Panel(
        "Curves",
        (
            Line("", (0.0, 1.0), (0.0, 1.0)),
            Line("net & <co>", (0.0, 0.5, 1.0), (0.0, 0.8, 1.0), (0.0, 0.7, 1.0), (0.0, 0.9, 1.0)),
            Line("other", (0.0, 0.5, 1.0), (0.0, NAN, 1.0), steps=True, markers=True),
        ),
        Axis("1 - specificity", 0, 1),
        Axis("sensitivity", 0, 1),
        square=True,
    )
    forest = Panel(
        "Forest",
        (
            Ranges("net & <co>", (0.8, NAN), (0.7, NAN), (0.9, NAN)),
            Ranges("other", (0.7, 0.6), (NAN, 0.5), (NAN, 0.7), hollow=True),
        ),
        Axis("AUC"),
        categories=("Mass", "Nodule"),
        across="y",
    )
    bars = Panel("Bars", (Bars("images", (12000.0, NAN)),), y=Axis("images"), categories=("Mass", "Nodule"))
    grid = Panel(
        "Grid",
        (Grid(((NAN, 0.1), (-0.1, NAN)), (("", "+0.1"), ("-0.1", "")), diverging=True),),
        categories=("one", "two"),
    )
    logarithmic = Panel("Rate", (Line("other", (1.0, 2.0), (0.1, 0.001)),), y=Axis("rate", logarithmic=True))
    return Figure("all", "All marks", "One of each.", (curves, forest, bars, grid, logarithmic), columns=2)


def texts(svg: bytes) -> list[str]:
    return ["".join(item.itertext()) for item in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("format", ["svg", "pdf", "png"])
def test_the_same_figure_gives_the_same_bytes(format: str) -> None:
    begins = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[format]
    drawn = draw(figure(), format, dpi=50)
    assert drawn.startswith(begins)
    assert draw(figure(), format, dpi=50) == drawn


def test_text_is_text_and_marks_have_their_names() -> None:
    svg = draw(figure(), "svg")
    said = texts(svg)
    for text in ("Curves", "Forest", "sensitivity", "AUC", "Mass", "10,000", "+0.1", "net & <co>", "other", "images"):
        assert text in said
    assert {"0.001", "0.01", "0.1"} <= set(said)  # the logarithmic axis
    root = ElementTree.fromstring(svg)
    titles = [item.text for item in root.iter(f"{SVG}title")]
    assert titles.count("net & <co>") >= 2
    assert titles.count("other") >= 3
    assert "images" in titles


def test_ids_are_of_the_figure_alone_and_all_references_have_one() -> None:
    svg = draw(figure(), "svg").decode()
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("all-") for name in ids)
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) <= set(ids)
    other = draw(replace(figure(), key="other"), "svg").decode()
    assert not set(ids) & set(re.findall(r'\bid="([^"]+)"', other))


def test_an_svg_is_drawn_as_the_numbers_say() -> None:
    """The curve's path goes from the lower left corner of its square panel to the upper right one, by way of 0.8."""
    line = Line("net", (0.0, 0.25, 1.0), (0.0, 0.8, 1.0))
    panel = Panel("", (line,), Axis("x", 0, 1), Axis("y", 0, 1), square=True)
    svg = draw(Figure("one", "", "", (panel,)), "svg").decode()
    (path,) = re.findall(r'<title>net</title><path d="([^"]+)"', svg)
    numbers = [float(text) for text in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", path)]
    x, y = np.cumsum(np.array(numbers).reshape(-1, 2), axis=0).T
    side = x[-1] - x[0]
    assert side == pytest.approx(y[0] - y[-1], abs=0.2)
    assert (x[1] - x[0]) / side == pytest.approx(0.25, abs=0.002)
    assert (y[0] - y[1]) / side == pytest.approx(0.8, abs=0.002)


def test_a_name_has_one_colour_in_all_figures_of_a_report() -> None:
    def lines(key: str, *names: str) -> Figure:
        return Figure(key, "", "", (Panel("", tuple(Line(name, (0.0, 1.0), (0.0, 1.0)) for name in names)),))

    both = [lines("one", "a", "b"), lines("two", "c", "b"), lines("three", "training")]
    colours = palette(both, best=("b", "not drawn"))
    assert colours.numbers == {"b": 0, "a": 1, "c": 1, "training": 0}
    first, second = (draw(item, "svg", colours=colours).decode() for item in both[:2])
    for svg in (first, second):
        assert f"stroke: {LIGHT.colours[0]}" in svg.partition("<title>b</title>")[2].partition("</g>")[0]


def test_the_runs_of_a_model_share_its_colour_and_place_in_the_legend() -> None:
    folds = tuple(Line(f"a, resample-{n}", (0.0, 1.0), (0.0, n), of="a") for n in (1, 2))
    figure = Figure("training", "", "", (Panel("", (Line("b", (0.0, 1.0), (0.0, 1.0)), *folds)),))
    alone = Figure("roc", "", "", (Panel("", (Line("a", (0.0, 1.0), (0.0, 1.0)),)),))
    colours = palette([figure, alone], best=("a",))
    assert colours.numbers == {"a": 0, "b": 1}
    svg = draw(figure, "svg", colours=colours).decode()
    assert svg.count(f"stroke: {LIGHT.colours[0]}") >= 3, "two curves and the legend"
    assert names(figure) == ["b", "a"], "the legend is in the figure's order, not in that of the colours"
    assert -1 < svg.rfind(">b<") < svg.rfind(">a<"), "the legend comes last"


def test_more_names_than_colours_are_grey_behind_the_best_and_counted_in_the_legend() -> None:
    lines = tuple(Line(f"run {number}", (0.0, 1.0), (0.0, number / 40)) for number in range(40))
    many = Figure("many", "", "", (Panel("", lines),))
    svg = draw(many, "svg", colours=palette([many], best=("run 39",)))
    said = texts(svg)
    assert "32 others" in said
    assert {f"run {number}" for number in (39, 0, 6)} <= set(said)
    assert "run 7" not in said
    order = re.findall(r"<title>(run \d+)</title>", svg.decode())
    assert order[-1] == "run 39"  # drawn over the others
    assert order[:32] == [f"run {number}" for number in range(7, 39)]


def test_a_long_name_keeps_its_ends_in_the_legend() -> None:
    name = "resnet50-large-meta-" + "x" * 60 + "-seed-3"
    one = Figure("one", "", "", (Panel("", (Line(name, (0.0, 1.0), (0.0, 1.0)),)),))
    (short,) = [text for text in texts(draw(one, "svg")) if text.startswith("resnet50")]
    assert len(short) == 42
    assert short.endswith("-seed-3")


def test_what_is_empty_not_known_or_oddly_named_is_drawn_all_the_same() -> None:
    odd = "$\\frac{1}$ _x_ \\alpha"
    panels = (
        Panel(odd, (Line(odd, (), ()), Line("nan", (0.0, 1.0), (NAN, NAN))), Axis(odd)),
        Panel("", (Line("log", (), ()), Line("one", (1.0,), (1e-5,))), y=Axis("rate", logarithmic=True)),
        Panel("", (Bars("none", (NAN, NAN)),), categories=(odd, "x" * 300)),
        Panel("", (Ranges("none", (NAN,), (NAN,), (NAN,)),), categories=("y" * 300,), across="y"),
        Panel("", (Grid(((NAN,),), (("",),)),), categories=("one",)),
        Panel("", (Grid(((0.5, 0.5), (0.5, 0.5)), diverging=True),), categories=("one", "two")),
        Panel("nothing", ()),
    )
    svg = draw(Figure("odd", "", "", panels, 2), "svg")
    assert {odd, f"{'x' * 21}…{'x' * 20}"} <= set(texts(svg))
    for panel in panels:
        assert draw(Figure("odd", "", "", (panel,)), "svg")


def test_a_dark_figure_is_on_dark_paper() -> None:
    from io import BytesIO

    from PIL import Image

    for dark, theme in ((False, LIGHT), (True, DARK)):
        pixels = np.asarray(Image.open(BytesIO(draw(figure(), "png", dark=dark, dpi=40))).convert("RGB"))
        assert "#{:02x}{:02x}{:02x}".format(*pixels[0, 0]) == theme.paper


def test_many_figures_are_drawn_by_several_processes_as_by_one() -> None:
    line = Panel("", (Line("net", (0.0, 1.0), (0.0, 1.0)),))
    figures = [Figure(f"figure-{number}", "", "", (line,) * (1 + number % 2)) for number in range(5)]
    colours = palette(figures)
    found = {drawing.place: drawing.content for drawing in draw_all(figures, colours)}
    assert sorted(found) == list(range(5))
    assert found[3] == draw_in(("svg", "pdf"), figures[3], colours=colours)
    assert found[3]["svg"] == draw(figures[3], "svg", colours=colours)


def test_an_svg_takes_its_ids_from_elsewhere() -> None:
    one = draw(figure(), "svg").decode()
    moved = with_ids(one, figure().key, "there")
    assert with_ids(moved, "there", figure().key) == one
    assert moved != one


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"drawn by matplotlib.*\n.*pip install 'cxrkit\[report\]'"):
        draw(figure())


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_differ_for_every_sight(theme: Theme, sight: str) -> None:
    seen = [oklab(np.array(SIGHTS[sight]) @ linear(colour)) for colour in theme.colours]
    apart = [100 * np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)]
    assert min(apart) >= 12


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_and_text_stand_out_from_the_paper(theme: Theme) -> None:
    assert all(contrast(colour, theme.paper) >= 3 for colour in theme.colours)
    assert all(contrast(colour, theme.paper) >= 4.5 for colour in (theme.ink, theme.muted))


def linear(colour: str) -> np.ndarray:
    share = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: contrast ratio."""
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Ottosson 2020, from linear RGB."""
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    mixed = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return mixed @ np.cbrt(cones @ np.clip(rgb, 0, 1))
