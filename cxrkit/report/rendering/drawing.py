"""Figures by matplotlib: the same bytes from the same figure, as SVG, PDF or PNG.

The title and the caption are not drawn: a page, a paper and a slide print them in their own way. Text of an SVG stays
text, in the reader's own sans-serif; it is laid out for DejaVu Sans, which comes with matplotlib and is wide.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

from cxrkit.base.errors import UserError
from cxrkit.base.words import count as counted
from cxrkit.report.document.figures import Bars, Figure, Grid, Line, Panel, Ranges
from cxrkit.report.rendering.legend import legend_texts
from cxrkit.report.rendering.marks import draw_marks, shortened
from cxrkit.report.rendering.palette import DARK, LIGHT, MARKERS, Palette, Theme, names, palette, whose
from cxrkit.report.rendering.svg import light

Format = Literal["svg", "pdf", "png"]

_WIDTHS = {1: 4.6, 2: 6.9, 3: 7.2, 4: 7.4}  # inches, by the panels in a row; a text column of A4 has 6.9
_WIDEST = 8.2
_CATEGORY = 0.19  # inches of height for one row of a forest plot
_CROWD = 16  # categories that need more than a column's width
_LONG = 22  # letters of a category's name that do
_TALLEST = 9.4  # inches: a page of A4 with a caption
_GREY = ""  # the legend's entry for all that have no colour


def draw(
    figure: Figure, format: Format = "svg", *, colours: Palette | None = None, dark: bool = False, dpi: int = 200
) -> bytes:
    """Return the figure as a file's bytes; the background of SVG and PDF is left out.

    colours: of all figures of a report (`palette`), so that a run looks the same in each; None: of this figure alone.
    dark: for a dark background. dpi: of a PNG. A figure has at least one panel. Raises UserError where matplotlib is
    not installed.
    """
    return draw_in([format], figure, colours=colours, dark=dark, dpi=dpi)[format]


def draw_in(
    formats: Sequence[Format], figure: Figure, *, colours: Palette | None = None, dark: bool = False, dpi: int = 200
) -> dict[Format, bytes]:
    """Return the figure in several formats, laid out once; see `draw`."""
    drawn, style = _drawn(figure, colours or palette([figure]), DARK if dark else LIGHT)
    import matplotlib

    with matplotlib.rc_context(style):
        drawn.draw_without_rendering()  # lays it out, which is half of the work
        drawn.set_layout_engine("none")
        return {format: _saved(drawn, format, figure, dpi) for format in formats}


def _saved(drawn: Any, format: Format, figure: Figure, dpi: int) -> bytes:
    metadata: dict[str, Any] = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }[format]
    out = io.BytesIO()
    drawn.savefig(out, format=format, dpi=dpi, metadata=metadata, transparent=format != "png")
    return light(out.getvalue().decode(), figure).encode() if format == "svg" else out.getvalue()


def _drawn(figure: Figure, colours: Palette, theme: Theme) -> tuple[Any, Any]:
    """Return matplotlib's figure, without pyplot: it is freed with its last name; and the style to save it with."""
    try:
        import matplotlib
        from matplotlib.figure import Figure as Drawn
    except ImportError:
        raise UserError(
            "figures are drawn by matplotlib, which is not installed", remedy="pip install 'cxrkit[report]'"
        ) from None
    columns = min(figure.columns, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    width = _WIDTHS.get(2 if columns == 1 and _is_crowded(figure) else columns, _WIDEST)
    panel_width = width / columns
    heights = [
        max(_height(panel, panel_width) for panel in figure.panels[row * columns : (row + 1) * columns])
        for row in range(rows)
    ]
    style = _style(theme, small=columns > 2)
    with matplotlib.rc_context(style):
        legend = _legend_names(figure, colours)
        texts = _legend_texts(legend, figure, colours)
        per_row = _beside(texts, width)
        lines = max((text.count("\n") for text in texts), default=0)  # beyond the first
        legend_height = (0.2 + 0.13 * lines) * -(-len(legend) // per_row) + 0.05 * bool(legend)
        drawn: Any = Drawn(figsize=(width, sum(heights) + legend_height), layout="constrained")
        drawn.get_layout_engine().set(w_pad=0.04, h_pad=0.04, wspace=0.02, hspace=0.03)
        grid = drawn.subplots(rows, columns, squeeze=False, height_ratios=heights).flatten()
        for number, (panel, axes) in enumerate(zip(figure.panels, grid, strict=False)):
            draw_marks(axes, panel, number, colours, theme)
            _label(axes, panel, figure, number)
        for axes in grid[len(figure.panels) :]:
            axes.set_visible(False)
        if legend:
            handles = [_handle(figure, name, colours, theme) for name in legend]
            drawn.legend(handles, texts, loc="outside lower center", ncols=min(per_row, len(legend)))
    return drawn, style


def _is_crowded(figure: Figure) -> bool:
    """Whether a figure of one column needs the width of two: for many categories, or for long names of them."""
    names_of = [panel.categories for panel in figure.panels if panel.categories]
    return any(len(categories) > _CROWD or max(map(len, categories)) > _LONG for categories in names_of)


def _style(theme: Theme, *, small: bool) -> Any:
    """Return matplotlib's settings (rcParams) for figures of one panel or of small ones."""
    size = 7.0 if small else 8.0
    return {
        "font.family": "DejaVu Sans",
        "font.size": size,
        "text.color": theme.ink,
        "text.parse_math": False,  # a dollar in a run's name is a dollar
        "axes.titlesize": size + 0.5,
        "axes.titleweight": "bold",
        "axes.titlepad": 5,
        "axes.titlelocation": "left",
        "axes.labelsize": size,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.muted,
        "axes.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": "none",
        "axes.grid": True,
        "grid.color": theme.faint,
        "grid.linewidth": 0.6,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelsize": size - 0.5,
        "ytick.labelsize": size - 0.5,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "legend.frameon": False,
        "legend.fontsize": size,
        "legend.handlelength": 1.6,
        "legend.columnspacing": 1.4,
        "legend.labelspacing": 0.35,
        "lines.solid_capstyle": "round",
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "path.simplify_threshold": 0.2,
        "svg.fonttype": "none",
        "svg.hashsalt": "cxrkit",
        "pdf.fonttype": 42,  # TrueType, as journals ask for
        "axes.unicode_minus": True,
    }


def _height(panel: Panel, width: float) -> float:
    """Return the height of a panel in inches, with its labels."""
    around = 0.45 + 0.2 * bool(panel.title)
    if any(isinstance(mark, Grid) for mark in panel.marks):
        letters = max(len(shortened(name)) for name in panel.categories)
        row = _CATEGORY if len(panel.categories) > 8 else 0.32  # few numbers are written larger
        return min(_TALLEST, around + row * len(panel.categories) + 0.045 * letters)
    if panel.across == "y" and panel.categories:
        beside = max(1, sum(isinstance(mark, Ranges | Bars) for mark in panel.marks))
        return min(_TALLEST, around + _CATEGORY * len(panel.categories) * max(1.0, 0.55 * beside))
    if panel.square:
        return width + 0.1
    if panel.categories:
        return max(2.0, 0.5 * width) + 0.045 * max(len(shortened(name)) for name in panel.categories)
    return max(1.5, 0.62 * width) + 0.2


def _label(axes: Any, panel: Panel, figure: Figure, number: int) -> None:
    """Write title and labels; a label that all panels share stands at the outside alone."""
    columns = figure.columns
    last_of_column = number + columns >= len(figure.panels)
    one_x = len({other.x.label for other in figure.panels}) == 1
    one_y = len({other.y.label for other in figure.panels}) == 1
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x.label if last_of_column or not one_x else "")
    axes.set_ylabel(panel.y.label if number % columns == 0 or not one_y else "")
    if len({(other.y.low, other.y.high, other.categories, other.across) for other in figure.panels}) == 1 and (
        number % columns and (None not in (panel.y.low, panel.y.high) or panel.across == "y")
    ):
        axes.tick_params(axis="y", labelleft=False)


def _beside(texts: Sequence[str], width: float) -> int:
    """Return how many names stand in a row of the legend: all of them, or as many as of the longest."""
    lengths = [0.42 + 0.066 * max(map(len, text.split("\n"))) for text in texts]
    if sum(lengths) <= width:
        return max(1, len(lengths))
    return max(1, int(width / max(lengths)))


def _legend_names(figure: Figure, colours: Palette) -> list[str]:
    """Return the names that the legend shows, in the figure's order; _GREY last where some have no colour."""
    found = names(figure)
    coloured = [name for name in found if colours.number(name) is not None]
    return [*coloured, *[_GREY] * (len(found) > len(coloured))]


def _legend_texts(legend: Sequence[str], figure: Figure, colours: Palette) -> list[str]:
    """Return what the legend says beside each mark."""
    texts = legend_texts([name for name in legend if name != _GREY])
    return [*texts, *[_others(figure, colours)] * (_GREY in legend)]


def _others(figure: Figure, colours: Palette) -> str:
    count = sum(colours.number(name) is None for name in names(figure))
    return counted(count, "other")


def _handle(figure: Figure, name: str, colours: Palette, theme: Theme) -> Any:
    """Return what stands beside a name in the legend: a bar, a point or a line, as its first mark is."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    number = colours.number(name)
    colour = theme.rest if number is None else theme.colours[number]
    marks = [mark for panel in figure.panels for mark in panel.marks if isinstance(mark, Line | Bars | Ranges)]
    others = [mark for mark in marks if mark.name and colours.number(whose(mark)) is None]
    mark = next((mark for mark in marks if name and whose(mark) == name), None) or others[0]
    if isinstance(mark, Bars):
        return Patch(facecolor=colour, linewidth=0)
    points = isinstance(mark, Ranges) or mark.markers
    marker = (MARKERS[number] if number is not None else MARKERS[0]) if points else ""
    face = theme.paper if isinstance(mark, Ranges) and mark.hollow else colour
    return Line2D([], [], color=colour, linewidth=1.6, marker=marker, markersize=4, markerfacecolor=face)
