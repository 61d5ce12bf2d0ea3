"""matplotlib's SVG made light: a third of the bytes, one font for all, names as tooltips, ids that a page can hold."""

from __future__ import annotations

import re
from html import escape

from cxrkit.report.document.figures import Figure
from cxrkit.report.rendering.palette import LIGHT

THEMED = ("paper", "ink", "muted", "faint", "rest")  # colours of a Theme that a page has variables of
_ON_SCREEN = 1.5  # pixels for a point: more than on paper, since a screen is read from further off
_SIZE = re.compile(r'width="([\d.]+)pt" height="([\d.]+)pt"')
_FONTS = "'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_ATTRIBUTES = re.compile(r'\b(x|y|width|height|transform)="[^"]*"')
_PATH = re.compile(r'\bd="([^"]*)"')
_POINT = re.compile(r"([ML])\s*(-?[\d.]+) (-?[\d.]+)")


def light(text: str, figure: Figure) -> str:
    """Return matplotlib's SVG of `figure` with fewer bytes, whose marks have their names as tooltips.

    Coordinates keep a tenth of a point. Ids begin with the figure's key, so that two figures can stand in one page.
    """
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = _ATTRIBUTES.sub(lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)
    text = _PATH.sub(lambda found: f'd="{_short_path(found[1])}"', text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = text.replace("<svg ", f'<svg font-family="{_FONTS}" ', 1)
    text = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", text)
    text = _named(text, figure)
    # What nothing refers to needs no id.
    text = re.sub(r' id="[a-zA-Z0-9]+_\d+"', "", text)
    text = re.sub(r'(\bid="|url\(#|href="#)', lambda found: f"{found[1]}{figure.key}-", text)
    text = re.sub(r"<g>\s*(<text [^>]*>[^<]*</text>)\s*</g>", r"\1", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r">\s+<", "><", text)


def with_ids(svg: str, key: str, other: str) -> str:
    """Return the SVG of a figure called `key` with ids that begin with `other`."""
    return re.sub(rf'(\bid="|url\(#|href="#){re.escape(key)}-', lambda found: f"{found[1]}{other}-", svg)


def inline(svg: str, title_id: str, caption_id: str) -> str:
    """Return a drawn SVG as an element of a page, whose colours follow the page's light and dark (`colours.css`).

    title_id, caption_id: the elements that say in words what it shows.
    """
    element = svg[svg.index("<svg ") :]
    element = re.sub(r"<defs><style.*?</style></defs>", "", element, count=1, flags=re.DOTALL)
    for name in THEMED:
        element = element.replace(getattr(LIGHT, name), f"var(--{name})")
    for number, colour in enumerate(LIGHT.colours):
        element = element.replace(colour, f"var(--colour{number})")
    (sizes,) = _SIZE.findall(element)
    width, height = map(float, sizes)
    words = f'role="img" aria-labelledby="{title_id}" aria-describedby="{caption_id}"'
    about = f'class="plot" style="--points: {width:.0f}" {words}'
    size = f'width="{_ON_SCREEN * width:.0f}" height="{_ON_SCREEN * height:.0f}"'
    element = _SIZE.sub(size, element, count=1)
    return re.sub(r'<svg font-family="[^"]*"', f"<svg {about}", element, count=1)


def _named(text: str, figure: Figure) -> str:
    """Give each mark its name as a tooltip: see `draw_marks` for the ids."""

    def group(found: re.Match[str]) -> str:
        name = getattr(figure.panels[int(found[1])].marks[int(found[2])], "name", "")
        return f'<g class="mark"><title>{escape(name)}</title>' if name else "<g>"

    return re.sub(r'<g id="mark-(\d+)-(\d+)">', group, text)


def _short_path(path: str) -> str:
    """Return a path of straight lines in relative steps of a tenth; any other as it is, without needless digits."""
    pieces = _POINT.findall(path)
    if re.sub(r"\s", "", _POINT.sub("", path)) not in ("", "z"):
        return " ".join(re.sub(r"(\.\d\d)\d+", r"\1", path).split())
    out, before_x, before_y = [], 0, 0
    for command, x, y in pieces:
        at_x, at_y = round(float(x) * 10), round(float(y) * 10)
        if command == "M":
            out.append(f"M{_tenths(at_x)} {_tenths(at_y)}")
        elif (at_x, at_y) != (before_x, before_y) or len(pieces) == 2:
            out.append(f"l{_tenths(at_x - before_x)} {_tenths(at_y - before_y)}")
        before_x, before_y = at_x, at_y
    joined = "".join(out) + "z" * path.rstrip().endswith("z")
    return joined.replace(" -", "-")


def _tenths(value: int) -> str:
    whole, tenth = divmod(abs(value), 10)
    digits = f"{whole}.{tenth}" if tenth else f"{whole}"
    return f"-{digits.removeprefix('0') if tenth else digits}" if value < 0 else digits.removeprefix("0") or "0"
