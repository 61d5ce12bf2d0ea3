"""A folder with documents in every format and the page that shows them all.

The folder may hold files of others: they stay. `report-files.json` lists those of the report, so that the next one
replaces its own, takes away what it has no more, and touches nothing else. Figures and the page are made
again when what they show has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from cxrkit.base import typed
from cxrkit.base.errors import UserError
from cxrkit.base.files import digest_lines, file_digest, output_error, replacing, write_json, write_text
from cxrkit.report.document.figures import Figure
from cxrkit.report.document.tables import Report
from cxrkit.report.rendering import document, formats
from cxrkit.report.rendering.palette import Palette, names, palette

LIST = "report-files.json"
PAGE = "index.html"
FIGURES = "figures"
_DRAWN = ("svg", "pdf")
_TEXTS = {name: format.ending for name, format in formats.FORMATS.items() if name != "html"}  # one page has them all


@dataclass(frozen=True)
class _Files:
    """The content of LIST."""

    files: list[str] = field(default_factory=list)
    """Those of the report, by their place in the folder."""

    figures: dict[str, str] = field(default_factory=dict)
    """What each figure was drawn from: a digest, by key."""

    page: str = ""
    """What the page was made from."""


@dataclass(frozen=True)
class Written:
    """What was written."""

    files: tuple[Path, ...]
    """All files of the report."""

    left_out: tuple[str, ...]
    """What was not, each with the reason."""


def steps(documents: Sequence[Report]) -> int:
    """Return how often `write_folder` calls `done`."""
    return len(documents) + sum(len(item.figures) for item in documents) + 1


def write_folder(
    documents: Sequence[Report],
    folder: Path,
    *,
    title: str,
    made: str,
    best: Sequence[str] = (),
    others: Mapping[str, str] | None = None,
    said_once: Sequence[str] = (),
    done: Callable[[], None] = lambda: None,
) -> Written:
    """Write each document as Markdown, LaTeX, CSV and JSON, their figures as SVG and PDF, and the page of all.

    title, made, best, said_once: as the page takes them (page.py). others: further texts by the names of their files.
    done: called after each document, figure and the page. What an optional library is missing for is left out. Raises
    UserError when the folder cannot be written, or a file of somebody else's lies where one of the report's would.
    """
    documents = _with_own_keys(documents)
    before = _read(folder)
    others = others or {}
    places = [*_names(documents), *others, LIST]
    _refuse_foreign(folder, places, before)
    # Named before they are there: when this ends halfway, the next report knows all of them as its own.
    write_json(folder / LIST, asdict(_Files(sorted({*places, *before.files}))))
    left_out: dict[str, None] = {}
    figures = _draw([item for report in documents for item in report.figures], best, folder, before, left_out, done)
    drawn = all(figures.values())
    jsons = {report.key: document.as_json(report) for report in documents}  # once: it takes longer than all others
    for report in documents:
        for name, ending in _TEXTS.items():
            text = jsons[report.key] if name == "json" else formats.render(report, name, FIGURES if drawn else "")
            write_text(folder / f"{report.key}{ending}", text)
        done()
    for name, text in (others or {}).items():
        write_text(folder / name, text)
    shown = digest_lines([_program(), title, made, *best, *said_once, *jsons.values()])
    if before.page != shown or not (folder / PAGE).exists():
        svgs = {key: (folder / FIGURES / f"{key}.svg").read_text(encoding="utf-8") for key in figures if figures[key]}
        _write_page(documents, folder, title, made, best, said_once, svgs, left_out)
    done()
    _remove(folder, [name for name in before.files if name not in places])
    there = [name for name in places if name == LIST or (folder / name).exists()]
    drawn_from = {key: digest for key, digest in figures.items() if digest}
    write_json(folder / LIST, asdict(_Files(sorted(there), drawn_from, shown * (PAGE in there))))
    return Written(tuple(folder / name for name in there), tuple(left_out))


@cache
def _program() -> str:
    """Return a digest of all that draws: what it made before is as good as new while it is the same."""
    here = Path(__file__).parent
    return digest_lines(
        sorted(f"{path.name} {file_digest(path)}" for path in here.rglob("*.*") if path.suffix != ".pyc")
    )


def _with_own_keys(documents: Sequence[Report]) -> list[Report]:
    """Return the documents with figures' keys that are unique: they share a folder."""
    seen: set[str] = set()
    found = []
    for report in documents:
        figures = []
        for item in report.figures:
            figures.append(replace(item, key=f"{report.key}-{item.key}") if item.key in seen else item)
            seen.add(item.key)
        found.append(replace(report, figures=tuple(figures)))
    return found


def _names(documents: Sequence[Report]) -> Iterator[str]:
    yield PAGE
    for report in documents:
        yield from (f"{report.key}{ending}" for ending in _TEXTS.values())
        yield from (f"{FIGURES}/{item.key}.{ending}" for item in report.figures for ending in _DRAWN)


def _read(folder: Path) -> _Files:
    if not (folder / LIST).exists():
        return _Files()
    remedy = f"remove it, and the files of the report beside it, or choose another folder than {folder}"
    found: _Files = typed.read_typed(_Files, folder / LIST, "the list of a report's files", remedy)
    return found


def _refuse_foreign(folder: Path, places: Sequence[str], before: _Files) -> None:
    for name in places:
        if name not in before.files and name != LIST and (folder / name).exists():
            raise UserError(
                f"{folder / name}: is not of an earlier report, and would be replaced",
                remedy="move it away, or choose another folder with --out",
            )


def _draw(
    figures: Sequence[Figure],
    best: Sequence[str],
    folder: Path,
    before: _Files,
    left_out: dict[str, None],
    done: Callable[[], None],
) -> dict[str, str]:
    """Draw the figures that changed. Returns a digest of what each shows, by key; "" where it cannot be drawn."""
    from cxrkit.report.rendering.drawings import draw_all

    colours = palette(figures, best)
    shown = {item.key: _shown(item, colours) for item in figures}
    changed = [item for item in figures if not _is_drawn(item.key, shown[item.key], folder, before)]
    for _ in range(len(figures) - len(changed)):
        done()
    try:
        for drawing in draw_all(changed, colours):
            for format, content in drawing.content.items():
                with replacing(folder / FIGURES / f"{changed[drawing.place].key}.{format}") as part:
                    part.write_bytes(content)
            done()
    except UserError as error:
        left_out[f"the figures: {error.what}; {error.remedy}"] = None
        gone = [item.key for item in changed]
        _remove(folder, [f"{FIGURES}/{key}.{format}" for key in gone for format in _DRAWN])  # of other data
        return shown | dict.fromkeys(gone, "")
    return shown


def _shown(figure: Figure, colours: Palette) -> str:
    chosen = [f"{name} {colours.number(name)}" for name in names(figure)]
    return digest_lines([_program(), *chosen, document.as_json(Report("", (), figures=(figure,)))])


def _is_drawn(key: str, shown: str, folder: Path, before: _Files) -> bool:
    paths = [folder / FIGURES / f"{key}.{format}" for format in _DRAWN]
    return before.figures.get(key) == shown and all(path.exists() for path in paths)


def _write_page(
    documents: Sequence[Report],
    folder: Path,
    title: str,
    made: str,
    best: Sequence[str],
    said_once: Sequence[str],
    drawn: Mapping[str, str],
    left_out: dict[str, None],
) -> None:
    from cxrkit.report.rendering.page import page

    try:
        text = page(documents, title=title, made=made, best=best, said_once=said_once, drawn=drawn)
    except UserError as error:
        left_out[f"{PAGE}: {error.what}; {error.remedy}"] = None
        _remove(folder, [PAGE])
    else:
        write_text(folder / PAGE, text)


def _remove(folder: Path, places: Sequence[str]) -> None:
    """Remove files of an earlier report; a list that was written by hand leads nowhere else."""
    try:
        for name in places:
            if "/" not in name.removeprefix(f"{FIGURES}/"):
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
