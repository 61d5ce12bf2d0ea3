"""`cxrkit predict RUN --images`: read films, ask the network, say what its scores mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.console import Console

from cxrkit.base.cores import available_cores
from cxrkit.base.errors import UserError
from cxrkit.base.files import replacing
from cxrkit.base.progress import progress_bar
from cxrkit.base.words import count, few
from cxrkit.films import looks, maps, reading, said, tables
from cxrkit.films.film import Film
from cxrkit.films.meaning import meanings
from cxrkit.films.reading import Found
from cxrkit.films.said import Said
from cxrkit.films.scoring import Scorer, open_scorer
from cxrkit.films.tables import Scored, trained_and_tested
from cxrkit.loaders.inputs import Inputs
from cxrkit.report.document.tables import Report
from cxrkit.runs.folder import RunFolder, read_split
from cxrkit.runs.scores import SubsetScores, read_scores
from cxrkit.sources.dicom import Header
from cxrkit.sources.pixels import DamagedImage

TOGETHER = 32  # films in memory at a time


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    images: tuple[Path, ...]
    """Files, and folders of files."""

    flags: Said = Said()
    """What holds for all of them."""

    table: Path | None = None
    """A CSV with what holds for each: said.read_table."""

    out: Path | None = None
    """Where scores go as CSV."""

    explained: Path | None = None
    """Folder for maps of what the network looks at."""


@dataclass(frozen=True)
class Asked:
    """What came of it."""

    report: Report
    """The tables."""

    films: int
    """How many were scored."""

    failed: tuple[tuple[str, str], ...]
    """Name of, and reason for, each that could not be read."""

    maps: int
    """How many maps were drawn."""


def predict_films(
    run: RunFolder,
    wanted: Wanted,
    *,
    checkpoint: Path | None = None,
    data: Path | None = None,
    device: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    console: Console | None = None,
) -> Asked:
    """Score films of one's own; a film that cannot be read is named, and the others are scored all the same.

    Writes `wanted.out` and `wanted.explained`. Raises UserError as `scoring.open_scorer`, `reading.find` and the
    functions of `said` do.
    """
    found = reading.find(wanted.images)
    table = said.read_table(wanted.table) if wanted.table else {}
    scorer = open_scorer(
        run, checkpoint=checkpoint, data=data, device=device, precision=precision, threads=threads, console=console
    )
    if scorer.spec.meta:
        _require_metadata(found, wanted.flags, table, scorer)
    folder = data or scorer.config.run.data
    meant, why = meanings(run, folder, scorer.checkpoint_sha256)
    seen, unseen = _seen(scorer, run, folder)
    drawing = maps.Drawing.of(scorer, wanted.explained) if wanted.explained else None
    scored: list[Scored] = []
    rows: list[dict[str, object]] = []
    failed: list[tuple[str, str]] = []
    unread = 0
    with progress_bar("predict films", len(found.files), console=console, unit="films") as bar:
        for films in _in_parts(found, scorer.side, failed):
            known = [said.settle(film.name, film.header, wanted.flags, table) for film in films]
            for film, one, values in zip(films, known, scorer.score(films, known), strict=True):
                looked = looks.look(film, one, seen)
                scored.append(Scored(film.name, values, looked.warnings, looked.verdict))
                rows.append(_row(film, one, scored[-1], scorer))
            if drawing:
                drawing.draw(films, known, scored[-len(films) :], meant)
            bar.advance(len(films) + len(failed) - unread)
            unread = len(failed)
        bar.advance(len(failed) - unread)  # where none of the last ones could be read
    if wanted.out:
        _write(wanted.out, rows, failed, scorer)
    notes = _notes(scorer, found, table, [one.name for one in scored] + [name for name, _ in failed], why, unseen)
    title = f"{count(len(scored), 'film')}, scored by {scorer.info.name}"
    report = tables.report(scored, failed, scorer.labels, meant, title=title, notes=notes)
    return Asked(report, len(scored), tuple(failed), drawing.count if drawing else 0)


def _require_metadata(found: Found, flags: Said, table: Mapping[str, Said], scorer: Scorer) -> None:
    """Ask the headers first: a film without an age should be heard of before an hour's work."""
    headers: list[tuple[str, Header | None]] = [(name, reading.header_of(path)) for name, path in found.files]
    known = [(name, said.settle(name, header, flags, table)) for name, header in headers if header is not None]
    said.require_all(known, scorer.info.model)


def _in_parts(found: Found, side: int, failed: list[tuple[str, str]]) -> Iterator[list[Film]]:
    """Yield the films that can be read, some at a time; the others go to `failed`."""

    def read(item: tuple[str, Path]) -> Film | str:
        try:
            return reading.read(*item, side)
        except DamagedImage as damage:
            return str(damage)

    with ThreadPoolExecutor(available_cores(), thread_name_prefix="cxrkit-films") as pool:
        for start in range(0, len(found.files), TOGETHER):
            part = found.files[start : start + TOGETHER]
            films = []
            for (name, _), film in zip(part, pool.map(read, part), strict=True):
                if isinstance(film, str):
                    failed.append((name, film))
                else:
                    films.append(film)
            if films:
                yield films


def _seen(scorer: Scorer, run: RunFolder, data: Path) -> tuple[looks.Seen, str]:
    """Return what the network was trained on, and why its films are not known, where they are not."""
    films, side, why = [], scorer.side, ""
    try:
        inputs = Inputs.of(data, read_split(run)[0], scorer.config.run.limit)
        try:
            films, side = looks.sampled(inputs), inputs.store.levels[-1] if inputs.store.levels else side
        finally:
            inputs.close()
    except UserError as error:
        why = f"Not compared with the training films, their gray levels and layout: {error.what}"
    spacing = looks.SPACING_MM if scorer.info.origin.dataset == "nih-chestxray14" else None
    return looks.seen_of(films, side, scorer.info.age_range, spacing), why


def _notes(
    scorer: Scorer, found: Found, table: Mapping[str, Said], names: Sequence[str], why: str, unseen: str
) -> list[str]:
    """Return what is to be said of all films."""
    info, notes = scorer.info, []
    notes.append(
        f"{info.name}: {info.model} at {scorer.spec.input_size} px, epoch {info.epoch}, split {info.origin.split} of "
        f"{info.origin.dataset}; checkpoint {scorer.checkpoint_sha256[:12]}"
    )
    notes.append(trained_and_tested(info.origin, _test_scores(scorer)))
    if why:
        notes.append(f"No thresholds: {why}")
    if unseen:
        notes.append(unseen)
    if not scorer.spec.meta and scorer.spec.source == "own":
        notes.append("A network of one's own may look at age, sex and view; what is not known of a film is 0.5")
    if found.passed_over:
        notes.append(f"{count(len(found.passed_over), 'other file')} passed over: {few(found.passed_over)}")
    last_parts = {Path(name).name for name in names} | set(names)
    if unused := [name for name in table if name not in last_parts]:
        are = "is" if len(unused) == 1 else "are"
        notes.append(f"{count(len(unused), 'row')} of the table {are} of no film here: {unused[0]}")
    return notes


def _test_scores(scorer: Scorer) -> SubsetScores | None:
    """Return the run's test scores, where they are of the network that was asked."""
    try:
        scores = read_scores(scorer.run.scores)
    except UserError:
        return None
    return scores.subsets.get("test") if scores.checkpoint_sha256 == scorer.checkpoint_sha256 else None


def _row(film: Film, known: Said, scored: Scored, scorer: Scorer) -> dict[str, object]:
    values = {label: float(score) for label, score in zip(scorer.labels.labels, scored.scores, strict=True)}
    about = {"age_years": known.age_years, "sex": known.sex, "view": known.view}
    size = {"width": film.width, "height": film.height}
    return {"image": film.name, **values, **about, **size, "warnings": "; ".join(scored.said), "problem": None}


def _write(out: Path, rows: Sequence[dict[str, object]], failed: Sequence[tuple[str, str]], scorer: Scorer) -> None:
    """Write the scores as CSV: a row for each film, by name; one that was not read has a problem instead."""
    labels = dict.fromkeys(scorer.labels.labels, pl.Float32())
    schema = {"image": pl.String(), **labels, "age_years": pl.Int32(), "sex": pl.String(), "view": pl.String()}
    schema |= {"width": pl.Int32(), "height": pl.Int32(), "warnings": pl.String(), "problem": pl.String()}
    unread = [dict.fromkeys(schema) | {"image": name, "problem": reason} for name, reason in failed]
    frame = pl.DataFrame([*rows, *unread], schema=schema).fill_nan(None).sort("image")
    frame = frame.with_columns(checkpoint_sha256=pl.lit(scorer.checkpoint_sha256))
    with replacing(out) as part:
        part.write_bytes(frame.write_csv().encode())
