"""The HTML page in a real browser: it loads, sorts, hides, turns dark, and asks the network for nothing."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.report.document.figures import Axis, Bars, Figure, Grid, Line, Panel, Ranges
from cxrkit.report.document.tables import AVERAGE, Cell, Column, Report, Row, Table, heading_lines, label_rows
from cxrkit.report.rendering.page import page
from cxrkit.report.rendering.page_views import one_line, sort_key, table_view

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")
in_browser = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="chromium and chromedriver are not installed (Debian: chromium-driver)"
)
EVIL = "<script>alert(1)</script> \"quotes\" 'and' {{ braces }} & ]]> </style>"
LONG = "resnet50large" * 16
NAN = float("nan")
PHONE, DESK = 360, 1280


def documents() -> list[Report]:
    names = ["paper", "net-a", EVIL, LONG]
    columns = [
        {label: cell(0.6 + 0.013 * ((7 * place + 5 * number) % 16), number) for place, label in enumerate(rows())}
        for number in range(4)
    ]
    heads = tuple(
        Column(name, heading_lines(name), ("auc",), own=number > 0) for number, name in enumerate(names)
    )  # fmt: skip
    aucs = Table("AUC", "Pathology", heads, label_rows(columns, CHESTXRAY14), (EVIL, "see `cxrkit <b>`"), "table5")
    wide = Table(
        "Wide",
        "Pathology",
        tuple(Column(f"run-{number}", (f"run-{number}",), ("auc",), own=True) for number in range(40)),
        tuple(
            Row(str(row), f"row {row}", tuple(Cell(f"{column * 0.01 + row:.3f}") for column in range(40)))
            for row in range(3)
        ),
        key="wide",
    )
    mixed = Table(
        "Mixed",
        "Name",
        (Column("count", ("Count",)), Column("words", ("Words",), left=True), Column("net-a", ("net-a",), own=True)),
        tuple(
            Row("", name, (Cell(count), Cell(words), Cell("1")))
            for name, count, words in (("b2", "1,500", "pear"), ("b10", "-", "apple"), ("a", "20", "`fig`"))
        ),
        key="table5",  # twice: anchors differ all the same
    )
    return [
        Report("Results", (aucs, mixed), ("One note",), figures()[:2], "official", ("A paragraph, `code` in it.",)),
        Report(EVIL, (wide,), (), figures()[2:]),
    ]


def rows() -> tuple[str, ...]:
    return (*CHESTXRAY14.labels, AVERAGE)


def cell(value: float, number: int) -> Cell:
    return Cell(f"{value:.3f}", {"auc": value}, bold=number == 1)


def figures() -> tuple[Figure, ...]:
    curve = Line("net-a", tuple(n / 300 for n in range(301)), tuple((n / 300) ** 0.5 for n in range(301)))
    diagonal = Line("", (0.0, 1.0), (0.0, 1.0))
    roc = Panel("Mass", (diagonal, curve), Axis("1 - specificity", 0, 1), Axis("sensitivity", 0, 1), square=True)
    forest = Panel(
        "",
        (Ranges(EVIL, (0.8, NAN), (0.7, NAN), (0.9, NAN)), Ranges("net-a", (0.7, 0.6), (NAN, 0.5), (NAN, 0.7))),
        Axis("AUC"),
        categories=("Mass", "Nodule"),
        across="y",
    )
    counts = Panel("", (Bars("images", (1500.0, 20.0)),), y=Axis("images"), categories=("Mass", EVIL))
    grid = Panel("", (Grid(((NAN, 0.1), (-0.1, NAN)), diverging=True),), categories=("net-a", "paper"))
    return (
        Figure("roc", "ROC curves", "Of the test images.", (roc, roc), 2),
        Figure("forest", "AUC by pathology", EVIL, (forest,)),
        Figure("counts", EVIL, "Images of each.", (counts,)),
        Figure("roc", "Differences", "Of the mean AUC.", (grid,)),
    )


@pytest.fixture(scope="module")
def html() -> str:
    return page(documents(), title=f"A report on {EVIL}", made="cxrkit 1.2.3, 30 November 2026", best=["net-a"])


class Elements(HTMLParser):
    """Elements of a page in order, with their attributes, and what was wrongly nested."""

    VOID = frozenset({"meta", "br", "input", "link", "img", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if len(dict(attrs)) < len(attrs):
            self.wrong.append(f"<{tag}> has an attribute twice")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")


def test_words_are_sorted_as_words_and_colour_tells_own_columns_from_others() -> None:
    def of(own: tuple[bool, ...]) -> str:
        heads = (Column("words", ("Words",), left=True), *(Column(f"{n}", (f"{n}",), own=o) for n, o in enumerate(own)))
        cells = (Cell("3e44dd6636da"), *(Cell("0.5") for _ in own))
        return page([Report("r", (Table("t", "s", heads, (Row("", "row", cells),)),))], title="t", made="m")

    assert of((True, False)).count('class="own"') == 2  # its heading and its cell
    assert 'class="own"' not in of((True, True))
    assert 'data-value="3e' not in of((True,))


def test_the_page_is_well_formed_and_its_ids_are_its_own(html: str) -> None:
    elements = Elements(html)
    assert not elements.wrong
    assert not elements.open
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    asked = {
        name
        for _, attributes in elements.found
        for key in ("aria-labelledby", "aria-describedby", "for")
        for name in (attributes.get(key) or "").split()
    }
    links = {
        (attributes.get("href") or attributes.get("xlink:href") or "#")[1:]
        for tag, attributes in elements.found
        if tag in ("a", "use")
    }
    assert (asked | links) <= set(ids)
    assert {"table5", "table5-2", "roc", "roc-2"} <= set(ids)


def test_text_of_users_is_text(html: str) -> None:
    elements = Elements(html)
    assert [tag for tag, _ in elements.found].count("script") == 1
    assert "<script>alert" not in html
    assert "<b>" not in html
    assert html.count("{{ braces }}") > 5
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<code>cxrkit &lt;b&gt;</code>" in html


def test_nothing_is_fetched_and_only_our_own_script_may_run(html: str) -> None:
    addresses = set(re.findall(r'(?:https?:)?//[^"\'\s<>)]+', html))
    assert addresses <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}  # names, not addresses
    assert not re.search(r"@import|url\((?!#)", html)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_the_script_is_little(html: str) -> None:
    script = html.partition("<script>")[2].partition("</script>")[0]
    assert script.count("\n") < 150


def test_the_same_documents_give_the_same_page(html: str) -> None:
    again = page(documents(), title=f"A report on {EVIL}", made="cxrkit 1.2.3, 30 November 2026", best=["net-a"])
    assert again == html


@pytest.mark.parametrize(
    ("cell", "key"),
    [
        (Cell("0.812 [0.801, 0.823]"), 0.812),
        (Cell("1,500"), 1500),
        (Cell("\N{MINUS SIGN}0.02"), -0.02),
        (Cell("† 0.500", {"auc": 0.5, "lower": 0.4}), 0.5),
        (Cell("n/a", {"auc": None}), None),
        (Cell("-"), None),
        (Cell("1e-05"), 1e-5),
    ],
)
def test_a_cell_is_sorted_by_its_number(cell: Cell, key: float | None) -> None:
    assert sort_key(cell) == key


@pytest.mark.parametrize("name", ["resnet50-large-meta", "a", "Brier, tempered", "schedule.epochs=3", LONG])
def test_a_broken_heading_is_whole_again_where_columns_are_chosen(name: str) -> None:
    assert one_line(heading_lines(name)) == name


def test_a_wide_table_has_parts_for_paper_and_every_column_is_in_one() -> None:
    wide = next(table for report in documents() for table in report.tables if table.key == "wide")
    parts = table_view(wide, "wide").parts
    assert len(parts) > 1
    assert [index for part in parts for index in part] == list(range(40))


def test_what_is_empty_has_its_place() -> None:
    nothing = Table("No rows", "Run", (Column("a", ("a",)),), ())
    line = Panel("", (Line("net", (0.0, 1.0), (0.0, 1.0)),), categories=("one", "two"))
    figure = Figure("line", "A line over categories", "", (line,))
    text = page([Report("", ()), Report("Empty", (nothing,), figures=(figure,))], title="", made="")
    assert not Elements(text).wrong
    assert "No rows" in text
    assert "The numbers of this figure" not in text


def test_without_jinja2_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=r"made with jinja2.*\n.*pip install 'cxrkit\[report\]'"):
        page([], title="", made="")


class Browser:
    """Headless Chromium, and what this file asks of it."""

    def __init__(self, folder: Path) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.add_argument("--disable-background-networking")
        options.add_argument(f"--user-data-dir={folder}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))

    def open(self, path: Path, width: int = DESK, scheme: str = "light") -> None:
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(path.as_uri())

    def ask(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def column(self, table: str, place: int) -> list[str]:
        script = "return [...document.querySelectorAll(`#${arguments[0]} .screen tbody tr`)].map(row => row.children[arguments[1]].innerText)"  # noqa: E501
        return list(self.ask(script, table, place))

    def head(self, table: str, place: int) -> Any:
        return self.driver.find_elements("css selector", f"#{table} .screen thead th")[place]

    def press(self, table: str, place: int) -> str | None:
        """Press the heading of a column and return how it is sorted then."""
        head = self.head(table, place)
        self.ask("arguments[0].querySelector('button').click()", head)
        return head.get_attribute("aria-sort")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def path(html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(html, encoding="utf-8")
    return file


@in_browser
def test_it_loads_without_a_complaint_or_a_request(browser: Browser, path: Path) -> None:
    browser.driver.get("about:blank")
    browser.driver.get_log("performance")
    browser.driver.get_log("browser")
    browser.open(path)
    assert browser.driver.get_log("browser") == []
    messages = [json.loads(line["message"])["message"] for line in browser.driver.get_log("performance")]
    requests = [item["params"]["request"]["url"] for item in messages if item["method"] == "Network.requestWillBeSent"]
    assert requests == [path.as_uri()]
    assert browser.driver.title.startswith("A report on <script>alert(1)</script>")


@in_browser
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_every_figure_is_shown(browser: Browser, path: Path, width: int) -> None:
    browser.open(path, width)
    sizes = browser.ask(
        "return [...document.querySelectorAll('figure svg')].map(svg => {"
        "const box = svg.getBoundingClientRect(); const marks = [...svg.querySelectorAll('.mark')];"
        "return [box.width, box.height, marks.filter(mark => mark.getBoundingClientRect().width > 1).length] })"
    )
    assert len(sizes) == 4
    assert all(box_width > 200 and height > 60 for box_width, height, _ in sizes)
    assert [marks for _, _, marks in sizes] == [2, 4, 2, 0]  # ranges are points and whiskers; a grid has no name


@in_browser
def test_a_column_is_sorted_by_number_both_ways_and_back(browser: Browser, path: Path) -> None:
    browser.open(path)
    before = browser.column("table5-2", 1)
    assert browser.press("table5-2", 1) == "descending"
    assert browser.column("table5-2", 1) == ["1,500", "20", "-"]
    assert browser.press("table5-2", 1) == "ascending"
    assert browser.column("table5-2", 1) == ["20", "1,500", "-"]  # what has no number is last
    assert browser.column("table5-2", 0) == ["a", "b2", "b10"]  # whole rows move
    assert browser.press("table5-2", 1) is None
    assert browser.column("table5-2", 1) == before
    assert browser.press("table5-2", 2) == "ascending"
    assert browser.column("table5-2", 2) == ["apple", "fig", "pear"]
    assert browser.press("table5-2", 0) == "ascending"
    assert browser.column("table5-2", 0) == ["a", "b2", "b10"]
    assert browser.head("table5-2", 2).get_attribute("aria-sort") is None
    assert browser.ask("return document.getElementById('said').textContent") == "Sorted by Name, ascending"
    values = [float(text) for text in browser.column("table5", 2)]
    browser.press("table5", 2)
    assert [float(text) for text in browser.column("table5", 2)] == sorted(values, reverse=True)


@in_browser
def test_the_parts_for_paper_are_sorted_and_hidden_with_their_table(browser: Browser, path: Path) -> None:
    browser.open(path)
    assert browser.press("wide", 3) == "descending"
    order = "return [...document.querySelectorAll('#wide .paper table:last-child tbody th')].map(th => th.textContent)"
    assert browser.ask(order) == ["row 2", "row 1", "row 0"]
    browser.ask("document.querySelector('#wide .chooser input[value=\"39\"]').click()")
    hidden = "return [...document.querySelectorAll('#wide [data-column=\"39\"]')].map(cell => cell.hidden)"
    assert set(browser.ask(hidden)) == {True}


@in_browser
def test_a_run_that_is_left_out_is_left_out_of_all_tables(browser: Browser, path: Path) -> None:
    browser.open(path)
    shown = "return [...document.querySelectorAll('#' + arguments[0] + ' .screen thead th')].filter(th => th.offsetWidth).length"  # noqa: E501
    assert [browser.ask(shown, table) for table in ("table5", "table5-2")] == [5, 4]
    browser.ask("document.querySelector('#table5 .chooser').open = true")
    (box,) = browser.driver.find_elements("css selector", '#table5 .chooser input[data-own="net-a"]')
    box.click()
    assert [browser.ask(shown, table) for table in ("table5", "table5-2")] == [4, 3]
    assert browser.ask("return document.querySelector('#table5 output').value") == "3 of 4"
    (none, *_) = [
        item for item in browser.driver.find_elements("css selector", "#table5 .chooser button") if item.text == "none"
    ]
    none.click()
    assert browser.ask(shown, "table5") == 2  # the published column stays
    legends = browser.driver.find_elements("css selector", "#table5 legend")
    assert [item.text for item in legends] == ["Yours, in all tables", "Others"]


@in_browser
def test_dark_is_the_systems_choice_or_the_readers(browser: Browser, path: Path) -> None:
    from selenium.webdriver.support.select import Select

    background = "return getComputedStyle(document.body).backgroundColor"
    stroke = "return getComputedStyle(document.querySelector('.mark path')).stroke"
    seen = {}
    for scheme in ("light", "dark"):
        browser.open(path, scheme=scheme)
        seen[scheme] = browser.ask(background), browser.ask(stroke)
    assert seen["light"][0] == "rgb(255, 255, 255)"
    assert seen["dark"][0] == "rgb(21, 24, 29)"
    assert seen["light"][1] == "rgb(0, 114, 178)"
    assert seen["dark"][1] == "rgb(108, 182, 245)"
    switch = Select(browser.driver.find_element("id", "colours"))
    switch.select_by_visible_text("light")
    assert browser.ask(background) == seen["light"][0]
    switch.select_by_visible_text("as the system")
    assert browser.ask(background) == seen["dark"][0]


@in_browser
def test_the_keyboard_reaches_and_sorts(browser: Browser, path: Path) -> None:
    from selenium.webdriver import ActionChains, Keys

    browser.open(path)
    focus = "const now = document.activeElement; return [now.tagName, now.closest('.table-block')?.id, now.textContent]"
    ActionChains(browser.driver).send_keys(Keys.TAB).perform()
    assert browser.ask(focus)[2] == "Skip to the content"
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    for _ in range(12):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        tag, block, text = browser.ask(focus)
        if tag == "BUTTON" and block == "table5" and text == "paper":
            break
    else:
        pytest.fail("Tab did not reach the heading of the first column")
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    assert browser.head("table5", 1).get_attribute("aria-sort") == "descending"
    values = [float(text) for text in browser.column("table5", 1)]
    assert values == sorted(values, reverse=True)


@in_browser
@pytest.mark.parametrize("width", [PHONE, 768, DESK])
def test_the_page_itself_does_not_scroll_sideways(browser: Browser, path: Path, width: int) -> None:
    browser.open(path, width)
    assert browser.ask("return document.documentElement.scrollWidth") <= width
    stub = "return getComputedStyle(document.querySelector('#wide tbody th')).position"
    assert browser.ask(stub) == "sticky"


@in_browser
def test_a_reader_who_does_not_see_it_finds_everything(browser: Browser, path: Path) -> None:
    browser.open(path)
    assert browser.ask("return document.documentElement.lang") == "en"
    levels = browser.ask("return [...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    # The browser's own tree: what a screen reader is given.
    nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named: dict[str, list[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert named["main"]
    assert named["navigation"] == ["Contents"]
    assert sorted(named["image"]) == sorted([EVIL, "ROC curves", "AUC by pathology", "Differences"])
    for role in ("image", "button", "checkbox", "combobox", "link", "table", "region", "columnheader"):
        assert all(name.strip() for name in named.get(role, [])), role
    assert len(named["table"]) == 3  # the parts for paper are not read out twice


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(browser: Browser, path: Path, scheme: str) -> None:
    browser.open(path, scheme=scheme)
    found = browser.ask(
        """
        const linear = c => (c /= 255, c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
        const parts = colour => colour.match(/[\\d.]+/g).map(Number);
        const behind = element => {
          for (let at = element; at; at = at.parentElement) {
            const colour = parts(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
          }
          return [255, 255, 255];
        };
        const weak = [];
        let count = 0;
        for (const element of document.querySelectorAll("body *")) {
          const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
          if (!own || !element.getClientRects().length || element.closest("script")) continue;
          if (element instanceof SVGElement && element.tagName !== "text") continue;
          const style = getComputedStyle(element);
          const colour = parts(element instanceof SVGElement ? style.fill : style.color);
          const [low, high] = [light(colour), light(behind(element))].sort((a, b) => a - b);
          count += 1;
          if ((high + 0.05) / (low + 0.05) < 4.5) weak.push(`${element.tagName} ${element.textContent.slice(0, 30)}`);
        }
        return [count, weak];
        """
    )
    assert found[0] > 100
    assert found[1] == []


@in_browser
def test_only_what_scrolls_is_a_stop_of_the_keyboard(browser: Browser, path: Path) -> None:
    """A table of more than 25 rows scrolls downwards on a screen, and on paper nothing does."""
    stops = """
        return [...document.querySelectorAll(".scroll")].filter(box => box.offsetWidth).map(box => [
          box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1,
          box.tabIndex === 0 && box.getAttribute("role") === "region"])
    """
    for width in (PHONE, DESK):
        browser.open(path, width)
        found = browser.ask(stops)
        assert {more for more, _ in found} == {False, True}
        assert [stop for _, stop in found] == [more for more, _ in found]
    table = """
        const box = document.querySelector("#wide .screen"), body = box.querySelector("tbody");
        for (let row = 0; row < 40; row++) body.append(body.rows[0].cloneNode(true));
        const high = () => box.clientHeight + 1 < box.scrollHeight;
        const short = high();
        box.classList.add("long");
        return [short, high()];
    """
    assert browser.ask(table) == [False, True]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    limits = "return [...document.querySelectorAll('.long')].map(box => getComputedStyle(box).maxHeight)"
    assert browser.ask(limits) == ["none"]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_table_of_more_than_25_rows_is_called_long() -> None:
    def made(rows: int) -> str:
        body = tuple(Row("", f"{number}", (Cell("1"),)) for number in range(rows))
        return page([Report("r", (Table("t", "", (Column("c", ("c",)),), body),))], title="t", made="m")

    assert 'class="scroll screen"' in made(25)
    assert 'class="scroll screen long"' in made(26)


@in_browser
def test_on_paper_no_table_is_cut_off(browser: Browser, path: Path) -> None:
    """Laid out as wide as A4 between its margins, no table is wider than the page, and all columns are there."""
    browser.open(path)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    width = round(184 / 25.4 * 96)
    metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    widths = browser.ask(
        "return [...document.querySelectorAll('table')].map(table => table.getBoundingClientRect().right)"
    )
    shown = "return [...document.querySelectorAll('#wide thead th[data-column]')].filter(th => th.offsetWidth).length"
    assert browser.ask(shown) == 40
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert max(widths) <= width


@in_browser
def test_without_a_script_everything_is_there(browser: Browser, path: Path) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(path)
        assert browser.driver.find_elements("css selector", "#table5 .screen tbody tr")
        assert not browser.driver.find_elements("css selector", "thead button")
        assert not [
            item for item in browser.driver.find_elements("css selector", "[data-scripted]") if item.is_displayed()
        ]
        assert all(item.is_displayed() for item in browser.driver.find_elements("css selector", "figure svg"))
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
