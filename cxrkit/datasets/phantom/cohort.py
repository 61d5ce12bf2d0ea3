"""`synthetic`: a cohort of phantom films in ChestX-ray14's own layout, drawn on the spot.

It lets a stranger without the data see everything work, and gives tests images whose truth is known. The cohort is a
stream: patient after patient, film after film, each a pure function of (seed, its number), so a larger cohort begins
with the smaller one. As in the real data, patients return many times, the official test set holds the sicker ones
(more follow-ups, more AP films), findings go together, and age, sex and view carry information about them.

That information is real because the films hold little of it: age hardly shows, sex only partly, many signs are faint,
and some resemble each other where the patients differ (see `_ODDS`). Age, sex and view alone reach a mean test AUC of
0.69 to 0.70 over the 14 pathologies (logistic regression on the labels of 30,000 films, seeds 0 to 2), more than the
0.61 that the paper measured on real patients (Baltruschat et al. 2019, section 2.4).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np

from cxrkit.base.contracts import NO_FINDING, PATHOLOGIES, Records
from cxrkit.base.cores import available_cores
from cxrkit.base.errors import UserError
from cxrkit.base.files import output_error, read_json, write_json, write_text
from cxrkit.datasets.nih import chestxray14 as nih_chestxray14
from cxrkit.datasets.phantom.anatomy import COHORT, RENUMBERED, Film, stream
from cxrkit.datasets.phantom.film import PHANTOM_VERSION, Drawing, draw, warm_up

FilmBoxes: TypeAlias = dict[str, tuple[float, float, float, float]]  # label -> x, y, width, height
Boxes: TypeAlias = dict[str, FilmBoxes]  # by file name

MARKER = nih_chestxray14.SYNTHETIC_MARKER
MIN_IMAGES = 20
CSV_NAME = "Data_Entry_2017_v2020.csv"
LISTS = {"train_val": "train_val_list.txt", "test": "test_list.txt"}
BOX_NAME = "BBox_List_2017.csv"
CSV_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"

TEST_SHARE = 0.228  # of the images, as in the official split
_RGBA_EVERY, _RGBA_AT = 97, 11  # film 11, 108, ... is stored as RGBA

# Log-odds of each finding: at age 50 for a woman on a PA film; per 20 years of age; for a man; for an AP film; and the
# loads on the patient's latent heart failure, infection and lung damage, which make findings go together. The
# directions follow epidemiology, the sizes are ours. Findings whose signs resemble each other have different patients:
# masses are the old men's, nodules more the women's; consolidation comes to the old and bedridden, pneumonia to the
# young; fibrosis to the old, infiltration to the young.
_ODDS = {
    #                     base   age    male   AP    heart infect damage
    "Cardiomegaly": (-3.20, 0.90, -0.40, 0.30, 1.0, 0.0, 0.0),
    "Emphysema": (-4.40, 1.10, 0.90, -0.30, 0.0, 0.0, 1.1),
    "Edema": (-4.35, 0.60, -0.20, 1.50, 1.1, 0.0, 0.0),
    "Hernia": (-3.75, 1.30, -0.90, -0.30, 0.0, 0.0, 0.0),
    "Pneumothorax": (-3.60, -1.10, 0.90, 0.20, 0.0, 0.0, 0.7),
    "Effusion": (-2.80, 0.70, 0.00, 0.60, 0.9, 0.5, 0.0),
    "Mass": (-3.50, 1.00, 0.70, -0.30, 0.0, 0.0, 0.6),
    "Fibrosis": (-3.50, 1.10, 0.20, -0.50, 0.0, 0.0, 0.8),
    "Atelectasis": (-2.85, 0.70, 0.20, 0.50, 0.4, 0.4, 0.0),
    "Consolidation": (-3.80, 0.70, 0.20, 0.90, 0.0, 1.0, 0.0),
    "Pleural_Thickening": (-3.90, 0.70, 1.10, -0.40, 0.0, 0.0, 0.6),
    "Nodule": (-2.60, 0.20, -0.80, -0.50, 0.0, 0.0, 0.6),
    "Pneumonia": (-3.70, -1.00, 0.50, 0.40, 0.0, 1.1, 0.0),
    "Infiltration": (-2.10, -0.70, -0.60, 0.30, 0.3, 0.8, 0.0),
}
_ODDS_LP = np.array([_ODDS[label] for label in PATHOLOGIES], np.float64)
_COMMON = 0.6  # how much the patient's general illness adds to every finding
_LASTING = 0.9  # spread of a patient's own leaning towards each finding: follow-ups resemble one another

# Films, subset and renumbering of the first patients, so that even 20 films have every quirk.
_FIRST_PATIENTS = ((3, "train_val", False), (4, "test", False), (3, "train_val", True))


@dataclass(frozen=True)
class Row:
    """One line of the cohort."""

    film: Film
    """The film."""
    number: int
    """The number in its file's name, counted from 0 within the patient."""
    follow_up: int
    """The CSV's follow-up number."""
    subset: str
    """train_val or test."""

    @property
    def name(self) -> str:
        """The file name; its number need not be the follow-up number."""
        return f"{self.film.patient_id:08d}_{self.number:03d}.png"

    @property
    def rgba(self) -> bool:
        """Whether the file has four channels, as a few hundred of NIH's have."""
        return self.film.index % _RGBA_EVERY == _RGBA_AT


def generate(
    out: Path,
    images: int,
    seed: int = 0,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Draw a cohort of `images` films into the raw folder `out`, calling `progress(1)` after each.

    The same seed and number give the same bytes whatever the workers (threads; default: one a core). A cohort that
    is there already, whole and the same, is left as it is; another or an unfinished one is replaced. Raises UserError
    for fewer than 20 images, and for a folder that holds anything but such a cohort; nothing there is touched then.
    """
    out = Path(out)
    if images < MIN_IMAGES:
        raise UserError(
            f"{images} synthetic images were asked for; a cohort with both official lists needs at least {MIN_IMAGES}",
            remedy=f"ask for {MIN_IMAGES} images or more",
        )
    if seed < 0:
        raise UserError(f"seed {seed} is negative", remedy="take 0 or more")
    identity = {"seed": seed, "version": PHANTOM_VERSION}
    rows = _with_follow_ups(list(islice(cohort(seed), images)))
    if _claim(out) == {**identity, "images": images, "complete": True} and _all_there(out, rows):
        if progress:
            progress(images)
        return
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
        write_json(out / MARKER, {**identity, "images": images, "complete": False})
        _remove_stale(out)
    except OSError as error:
        raise output_error(out, error) from error
    boxes = _draw_all(rows, out / "images", workers or available_cores(), progress)
    _write_tables(out, rows, boxes)
    write_json(out / MARKER, {**identity, "images": images, "complete": True})


def read(raw: Path, *, allow_missing: bool = False) -> Records:
    """Return the records of a cohort written by `generate` (same reader as the real data set)."""
    raw = Path(raw)
    remedy = f"draw one with: cxrkit synth {raw} --images 1000"
    if not raw.is_dir():
        raise UserError(f"{raw}: there is no such folder; a synthetic cohort was expected", remedy=remedy)
    if not (raw / MARKER).is_file():
        raise UserError(
            f"{raw}: {MARKER} is missing, so this is not a synthetic cohort",
            remedy=f"read it as nih-chestxray14, or {remedy}",
        )
    marker = read_json(raw / MARKER, "the synthetic cohort's marker", remedy)
    if not (isinstance(marker, dict) and marker.get("complete")):
        images, seed = (marker.get(key, "N") if isinstance(marker, dict) else "N" for key in ("images", "seed"))
        raise UserError(
            f"{raw}: this synthetic cohort was not finished",
            remedy=f"finish it with: cxrkit synth {raw} --images {images} --seed {seed}",
        )
    records = nih_chestxray14.read_layout(raw, allow_missing=True)
    if records.missing and not allow_missing:
        raise UserError(
            f"{raw}: {records.missing:,} of {records.frame.height:,} images of this synthetic cohort are missing",
            remedy=f"draw it again with: cxrkit synth {raw} --images {marker['images']} --seed {marker['seed']}",
        )
    return replace(records, dataset="synthetic", label_release="synthetic")


def cohort(seed: int) -> Iterator[Row]:
    """Yield the cohort's films without end, patient by patient. Follow-up numbers are set for whole patients later."""
    index, in_test = 0, 0
    for patient_id in range(1, 10**8):
        rng = stream(seed, COHORT, patient_id)
        subset = "test" if in_test < TEST_SHARE * index else "train_val"
        films = 1 + int(rng.pareto(1.2) * (2.2 if subset == "test" else 0.9))
        films = min(films, 60, max(4, index // 15))  # nobody makes up a small cohort's test list alone
        if patient_id <= len(_FIRST_PATIENTS):
            films, subset, _ = _FIRST_PATIENTS[patient_id - 1]
        for number, film in enumerate(_patient(seed, patient_id, index, films, subset, rng)):
            yield Row(film, number, number, subset)
        index += films
        in_test += films if subset == "test" else 0


def _patient(
    seed: int, patient_id: int, first: int, films: int, subset: str, rng: np.random.Generator
) -> Iterator[Film]:
    """Yield one patient's films in the order they were taken."""
    age = int(np.clip(rng.normal(47, 17), 4, 92))
    male = bool(rng.random() < 0.56)
    ill = rng.normal() + (0.5 if subset == "test" else 0.0)
    traits = rng.normal(size=3) + 0.35 * ill
    lasting = _LASTING * rng.normal(size=len(PATHOLOGIES))
    bedside = 1 / (1 + np.exp(-(-1.05 + 0.8 * ill + (0.7 if subset == "test" else 0.0))))
    for number in range(films):
        age = min(94, age + int(rng.random() < 0.12))
        portable = bool(rng.random() < bedside)
        causes = np.concatenate([[1.0, (age - 50) / 20, male, portable], traits])
        odds = _ODDS_LP @ causes + lasting + _COMMON * ill
        present = rng.random(len(PATHOLOGIES)) < 1 / (1 + np.exp(-odds))
        findings = tuple(label for label, here in zip(PATHOLOGIES, present, strict=True) if here)
        yield Film(seed, first + number, patient_id, age, "M" if male else "F", "AP" if portable else "PA", findings)


def _with_follow_ups(rows: list[Row]) -> list[Row]:
    """Give some patients' first file the last follow-up number, as v2020 has it, and sort as its CSV is sorted."""
    count: dict[int, int] = {}
    for row in rows:
        count[row.film.patient_id] = count.get(row.film.patient_id, 0) + 1
    result = []
    for row in rows:
        films = count[row.film.patient_id]
        follow_up = (row.number - 1) % films if _rotated(row.film.seed, row.film.patient_id) else row.number
        result.append(replace(row, follow_up=follow_up))
    return sorted(result, key=lambda row: (row.film.patient_id, row.follow_up))


def _rotated(seed: int, patient_id: int) -> bool:
    if patient_id <= len(_FIRST_PATIENTS):
        return _FIRST_PATIENTS[patient_id - 1][2]
    return bool(stream(seed, RENUMBERED, patient_id).random() < 0.15)


def _claim(out: Path) -> object:
    """Refuse a folder that is not ours; return what its marker says, None where there is nothing yet."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; a folder was expected", remedy="choose another output folder")
    if not out.exists() or not any(out.iterdir()):
        return None
    if not (out / MARKER).is_file():
        found = ", ".join(sorted(path.name for path in out.iterdir())[:3])
        raise UserError(
            f"{out}: holds something that is not a synthetic cohort ({found}); nothing was written",
            remedy="choose an empty folder or a new one",
        )
    remedy = f"choose another folder, or delete {out} yourself"
    return read_json(out / MARKER, "the synthetic cohort's marker", remedy)


def _all_there(out: Path, rows: list[Row]) -> bool:
    names = {path.name for path in (out / "images").glob("*.png")}
    tables = (CSV_NAME, BOX_NAME, *LISTS.values())
    return all((out / name).is_file() for name in tables) and names == {row.name for row in rows}


def _remove_stale(out: Path) -> None:
    """Remove another cohort's tables and films, and half-written files."""
    for name in (CSV_NAME, BOX_NAME, *LISTS.values()):
        (out / name).unlink(missing_ok=True)
    for path in (out / "images").iterdir():
        if re.fullmatch(r"\d{8}_\d{3}\.png|\..*\.part", path.name):
            path.unlink()


def _draw_all(rows: list[Row], folder: Path, workers: int, progress: Callable[[int], None] | None) -> Boxes:
    """Draw and write every film; return all boxes by file name."""
    boxes: Boxes = {}
    warm_up()
    waiting = iter(rows)
    with ThreadPoolExecutor(workers) as pool:
        running: set[Future[tuple[str, FilmBoxes]]] = set()
        try:
            while True:
                running |= {pool.submit(_draw_one, row, folder) for row in islice(waiting, 2 * workers - len(running))}
                if not running:
                    return boxes
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name, found = future.result()
                    boxes[name] = found
                    if progress:
                        progress(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _draw_one(row: Row, folder: Path) -> tuple[str, FilmBoxes]:
    path = folder / row.name
    drawing = draw(row.film)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(encode(drawing, row.rgba))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise output_error(path, error) from error
    return row.name, drawing.boxes


def encode(drawing: Drawing, rgba: bool) -> bytes:
    """Return the film as PNG: 8-bit gray, or RGBA with R = G = B and full opacity."""
    import cv2

    image = cv2.cvtColor(drawing.image, cv2.COLOR_GRAY2BGRA) if rgba else drawing.image
    # Huffman coding of horizontal differences alone: half the time of zlib's level 1, and files of NIH's size.
    options = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):
        options += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]
    done, data = cv2.imencode(".png", image, options)
    assert done
    return bytes(data)


def _write_tables(out: Path, rows: list[Row], boxes: Boxes) -> None:
    lines = [CSV_HEADER]
    for row in rows:
        film = row.film
        labels = "|".join(sorted(film.findings)) or NO_FINDING
        width, height, spacing = (2500, 2048, "0.168") if film.view == "AP" else (2048, 2500, "0.171")
        lines.append(
            f"{row.name},{labels},{row.follow_up},{film.patient_id},{film.age_years},{film.sex},{film.view},"
            f"{width},{height},{spacing},{spacing}"
        )
    write_text(out / CSV_NAME, "\n".join(lines) + "\n")
    for subset, name in LISTS.items():
        # Like NIH's lists: sorted, and no newline after the last name.
        write_text(out / name, "\n".join(sorted(row.name for row in rows if row.subset == subset)))
    lines = [BOX_HEADER]
    for label in sorted(PATHOLOGIES):
        for row in rows:
            if label in row.film.findings:
                x, y, w, h = boxes[row.name][label]
                shown = "Infiltrate" if label == "Infiltration" else label
                lines.append(f"{row.name},{shown},{x:.6f},{y:.6f},{w:.6f},{h:.6f}")
    write_text(out / BOX_NAME, "\n".join(lines) + "\n")
