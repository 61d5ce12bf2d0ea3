"""A folder with documents in every format and the page that shows them all.

The folder may hold files of others: they stay. `report-files.json` lists those of the report, so that the next one
replaces its own, takes away what it has no more, and touches nothing else. A figure is drawn again when its data
changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cxrkit import __version__
from cxrkit.base import typed
from cxrkit.base.errors import UserError
from cxrkit.base.files import digest_lines, output_error, replacing, write_json, write_text
from cxrkit.report.figures import Figure
from cxrkit.report.rendering import document, formats
from cxrkit.report.tables import Report

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
    done: Callable[[], None] = lambda: None,
) -> Written:
    """Write each document as Markdown, LaTeX, CSV and JSON, their figures as SVG and PDF, and the page of all.

    title, made, best: as the page takes them (page.py). done: called after each document, figure and the page. What an
    optional library is missing for is left out. Raises UserError when the folder cannot be written, or a file of
    somebody else's lies where one of the report's would.
    """
    documents = _with_own_keys(documents)
    before = _read(folder)
    names = [*_names(documents), LIST]
    _refuse_foreign(folder, names, before)
    # Named before they are there: when this ends halfway, the next report knows all of them as its own.
    write_json(folder / LIST, asdict(_Files(sorted({*names, *before.files}))))
    left_out: dict[str, None] = {}
    figures = {}
    for report in documents:
        for item in report.figures:
            figures[item.key] = _draw(item, folder, before, left_out)
            done()
    drawn = all(figures.values())
    for report in documents:
        for name, ending in _TEXTS.items():
            write_text(folder / f"{report.key}{ending}", formats.render(report, name, FIGURES if drawn else ""))
        done()
    _write_page(documents, folder, title, made, best, left_out)
    done()
    return Written(tuple(_finish(folder, names, before, figures)), tuple(left_out))


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


def _refuse_foreign(folder: Path, names: Sequence[str], before: _Files) -> None:
    for name in names:
        if name not in before.files and name != LIST and (folder / name).exists():
            raise UserError(
                f"{folder / name}: is not of an earlier report, and would be replaced",
                remedy="move it away, or choose another folder with --out",
            )


def _draw(figure: Figure, folder: Path, before: _Files, left_out: dict[str, None]) -> str:
    """Draw a figure where it changed. Returns the digest of what it shows; "" where it cannot be drawn."""
    from cxrkit.report.rendering.drawing import draw

    shown = digest_lines([__version__, document.as_json(Report("", (), figures=(figure,)))])
    paths = {ending: folder / FIGURES / f"{figure.key}.{ending}" for ending in _DRAWN}
    if before.figures.get(figure.key) == shown and all(path.exists() for path in paths.values()):
        return shown
    try:
        drawn = {ending: draw(figure, ending) for ending in _DRAWN}
    except UserError as error:
        left_out[f"the figures: {error.what}; {error.remedy}"] = None
        _remove(folder, [f"{FIGURES}/{path.name}" for path in paths.values()])  # of other data
        return ""
    for ending, content in drawn.items():
        with replacing(paths[ending]) as part:
            part.write_bytes(content)
    return shown


def _write_page(
    documents: Sequence[Report], folder: Path, title: str, made: str, best: Sequence[str], left_out: dict[str, None]
) -> None:
    from cxrkit.report.rendering.page import page

    try:
        text = page(documents, title=title, made=made, best=best)
    except UserError as error:
        left_out[f"{PAGE}: {error.what}; {error.remedy}"] = None
    else:
        write_text(folder / PAGE, text)


def _finish(folder: Path, names: Sequence[str], before: _Files, figures: dict[str, str]) -> list[Path]:
    """Take away what the report has no more, and list what is there. Returns its files."""
    _remove(folder, [name for name in before.files if name not in names])
    there = [name for name in names if name == LIST or (folder / name).exists()]
    write_json(folder / LIST, asdict(_Files(sorted(there), {key: shown for key, shown in figures.items() if shown})))
    return [folder / name for name in there]


def _remove(folder: Path, names: Sequence[str]) -> None:
    """Remove files of an earlier report; a list that was written by hand leads nowhere else."""
    try:
        for name in names:
            if "/" not in name.removeprefix(f"{FIGURES}/"):
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
