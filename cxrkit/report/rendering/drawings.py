"""All figures of a report, each drawn once as SVG and PDF, on as many cores as there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cxrkit.base.cores import available_cores
from cxrkit.base.errors import UserError
from cxrkit.base.workers import Worker, Workers
from cxrkit.report.document.figures import Figure
from cxrkit.report.rendering.drawing import Format, draw_in
from cxrkit.report.rendering.palette import Palette

FORMATS: tuple[Format, ...] = ("svg", "pdf")
FEW = 4  # figures: fewer are drawn before other processes have loaded what draws them
MOST = 4  # processes; each takes some 150 MB


@dataclass(frozen=True)
class Drawing:
    """A figure as files' bytes."""

    place: int
    """Of the figure, among those that were to be drawn."""

    content: dict[Format, bytes]
    """By format."""


def draw_all(figures: Sequence[Figure], colours: Palette) -> Iterator[Drawing]:
    """Yield the figures, in the order in which they are done. Raises UserError where matplotlib is not installed."""
    tasks = iter([(place, figure, colours) for place, figure in enumerate(figures)])
    processes = min(available_cores(), MOST)
    if len(figures) < FEW or processes < 2:
        yield from map(draw_task, tasks)
        return
    _require_matplotlib()  # once, and not from each process

    def take(_: Worker) -> tuple[int, Figure, Palette] | None:
        return next(tasks, None)

    with Workers(processes, f"{__name__}:draw_task") as workers:
        yield from workers.run(take)


def draw_task(task: tuple[int, Figure, Palette], _: int = -1) -> Drawing:
    """Draw one figure, in a process of its own or in this one."""
    place, figure, colours = task
    return Drawing(place, draw_in(FORMATS, figure, colours=colours))


def warm_up() -> None:
    """Load matplotlib in a process that will draw."""
    import matplotlib.figure  # noqa: F401


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError(
            "figures are drawn by matplotlib, which is not installed", remedy="pip install 'cxrkit[report]'"
        ) from None
