"""The synthetic cohort: NIH's layout and quirks, true boxes, the same bytes from the same seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cxrkit.base.contracts import IMAGE_SIZE, LABELS, NO_FINDING, PATHOLOGIES, Records
from cxrkit.base.errors import UserError
from cxrkit.datasets.phantom import cohort as synthetic
from cxrkit.datasets.phantom.anatomy import Film
from cxrkit.datasets.phantom.cohort import Row, cohort, generate, read
from cxrkit.datasets.phantom.film import draw

IMAGES = 24


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "raw"
    generate(folder, IMAGES, seed=3)
    return folder


@pytest.fixture(scope="module")
def records(raw: Path) -> Records:
    return read(raw)


@pytest.fixture(scope="module")
def many() -> list[Row]:
    return list(islice(cohort(0), 4000))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# The same bytes ----------------------------------------------------------------------------------------------------


def test_workers_do_not_change_a_byte(raw: Path, tmp_path: Path) -> None:
    generate(tmp_path / "again", IMAGES, seed=3, workers=3)
    assert digests(tmp_path / "again") == digests(raw)


def test_a_larger_cohort_begins_with_the_smaller(raw: Path, tmp_path: Path) -> None:
    generate(tmp_path / "more", IMAGES + 4, seed=3, workers=1)
    small, large = digests(raw / "images"), digests(tmp_path / "more" / "images")
    assert len(large) == IMAGES + 4
    assert small.items() <= large.items()


def test_another_seed_gives_other_films() -> None:
    film = Film(0, 5, 2, 50, "F", "PA", ())
    other = Film(1, 5, 2, 50, "F", "PA", ())
    assert not np.array_equal(draw(film).image, draw(other).image)
    assert [row.film.findings for row in islice(cohort(0), 50)] != [row.film.findings for row in islice(cohort(1), 50)]


def test_a_finished_cohort_is_left_alone(raw: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    seen: list[int] = []
    generate(raw, IMAGES, seed=3, progress=seen.append)
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before
    assert sum(seen) == IMAGES


def test_another_cohort_in_the_same_folder_replaces_it(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    generate(folder, 22, seed=1)
    (folder / "images" / "notes.txt").write_text("mine")
    seen: list[int] = []
    generate(folder, IMAGES, seed=3, progress=seen.append)
    assert sum(seen) == IMAGES
    assert (folder / "images" / "notes.txt").read_text() == "mine"
    (folder / "images" / "notes.txt").unlink()
    assert digests(folder) == digests(raw)


# Layout and quirks -------------------------------------------------------------------------------------------------


def test_tables_have_nihs_headers_and_line_ends(raw: Path) -> None:
    csv = (raw / "Data_Entry_2017_v2020.csv").read_text()
    assert csv.startswith(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
    )
    assert csv.endswith("\n")
    assert csv.count("\n") == IMAGES + 1
    boxes = (raw / "BBox_List_2017.csv").read_text()
    assert boxes.startswith("Image Index,Finding Label,Bbox [x,y,w,h],,,\n")
    assert "Infiltrate," in boxes
    assert "Infiltration" not in boxes


def test_the_headers_are_those_of_the_real_files(nih_raw: Path) -> None:
    for name, ours in ((synthetic.CSV_NAME, synthetic.CSV_HEADER), (synthetic.BOX_NAME, synthetic.BOX_HEADER)):
        assert (nih_raw / name).read_text().splitlines()[0] == ours


def test_lists_end_without_newline_and_part_the_patients(raw: Path) -> None:
    names = {key: (raw / name).read_text() for key, name in synthetic.LISTS.items()}
    assert not any(text.endswith("\n") for text in names.values())
    patients = {key: {line[:8] for line in text.split("\n")} for key, text in names.items()}
    assert patients["train_val"]
    assert patients["test"]
    assert not patients["train_val"] & patients["test"]
    assert sum(len(text.split("\n")) for text in names.values()) == IMAGES


def test_images_are_1024_gray_and_some_are_rgba(raw: Path) -> None:
    import cv2

    images = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((raw / "images").glob("*.png"))]
    assert len(images) == IMAGES
    assert {image.shape[:2] for image in images} == {(IMAGE_SIZE, IMAGE_SIZE)}
    assert all(image.dtype == np.uint8 for image in images)
    colour = [image for image in images if image.ndim == 3]
    assert len(colour) == 1
    assert colour[0].shape[2] == 4
    assert (colour[0][..., :3] == colour[0][..., :1]).all()
    assert (colour[0][..., 3] == 255).all()
    gray = [image if image.ndim == 2 else image[..., 0] for image in images]
    assert all(40 < image.mean() < 215 and image.std() > 30 for image in gray)


def test_follow_up_numbers_start_at_0_and_may_differ_from_the_file_names(records: Records) -> None:
    frame = records.frame.with_columns(number=pl.col("image_id").str.slice(9, 3).cast(pl.Int32))
    for _, patient in frame.group_by("patient_id"):
        assert sorted(patient["follow_up"]) == list(range(patient.height))
        assert sorted(patient["number"]) == list(range(patient.height))
    differ = (frame["number"] != frame["follow_up"]).sum()
    assert 0 < differ < IMAGES / 2


def test_read_returns_the_cohort_that_was_drawn(records: Records) -> None:
    assert records.dataset == "synthetic"
    assert records.label_release == "synthetic"
    assert records.missing == 0
    rows = {row.name: row for row in islice(cohort(3), IMAGES)}
    assert records.frame["image_id"].to_list() == sorted(rows)
    for found in records.frame.iter_rows(named=True):
        row = rows[found["image_id"]]
        assert (found["patient_id"], found["age_years"]) == (str(row.film.patient_id), row.film.age_years)
        assert (found["sex"], found["view"], found["official"]) == (row.film.sex, row.film.view, row.subset)
        assert {label for label in LABELS if found[label]} == set(row.film.findings or (NO_FINDING,))


def test_every_finding_has_one_box_inside_the_image(records: Records) -> None:
    boxes = records.boxes
    assert boxes is not None
    pairs = {(row["image_id"], p) for row in records.frame.iter_rows(named=True) for p in PATHOLOGIES if row[p]}
    assert set(boxes.select("image_id", "label").iter_rows()) == pairs
    assert boxes.height == len(pairs)
    assert boxes.filter((pl.col("x") < 0) | (pl.col("y") < 0)).is_empty()
    ends = boxes.select(pl.col("x") + pl.col("width"), pl.col("y") + pl.col("height"))
    assert max(ends.max().row(0)) <= IMAGE_SIZE + 1e-5
    assert min(boxes.select(pl.col("width", "height").min()).row(0)) > 8


# What the cohort is like -------------------------------------------------------------------------------------------


def test_the_official_test_set_is_the_sicker_fifth(many: list[Row]) -> None:
    def share(rows: list[Row], view: str) -> float:
        return sum(row.film.view == view for row in rows) / len(rows)

    test = [row for row in many if row.subset == "test"]
    train = [row for row in many if row.subset == "train_val"]
    assert 0.20 < len(test) / len(many) < 0.26
    assert share(test, "AP") > share(train, "AP") + 0.05
    patients = [{row.film.patient_id for row in rows} for rows in (train, test)]
    assert not patients[0] & patients[1]
    assert len(test) / len(patients[1]) > len(train) / len(patients[0])
    follow_ups = np.bincount([row.film.patient_id for row in many])
    assert follow_ups.max() > 20
    assert np.median(follow_ups[1:]) <= 2


def test_prevalence_and_dependence_on_age_sex_and_view(many: list[Row]) -> None:
    films = [row.film for row in many]
    none = sum(not film.findings for film in films) / len(films)
    assert 0.30 < none < 0.40
    for label in PATHOLOGIES:
        assert 0.015 < sum(label in film.findings for film in films) / len(films) < 0.30

    def rate(label: str, chosen: list[Film]) -> float:
        return sum(label in film.findings for film in chosen) / len(chosen)

    old, young = [f for f in films if f.age_years > 60], [f for f in films if f.age_years < 40]
    assert rate("Hernia", old) > 2 * rate("Hernia", young)
    bedside, upright = [f for f in films if f.view == "AP"], [f for f in films if f.view == "PA"]
    assert rate("Edema", bedside) > 2 * rate("Edema", upright)
    men, women = [f for f in films if f.sex == "M"], [f for f in films if f.sex == "F"]
    # Signs that resemble each other belong to different patients.
    assert rate("Mass", men) > 1.2 * rate("Mass", women)
    assert rate("Nodule", women) > 1.2 * rate("Nodule", men)
    for of_the_old, of_the_young in (("Consolidation", "Pneumonia"), ("Fibrosis", "Infiltration")):
        assert rate(of_the_old, old) > 1.2 * rate(of_the_old, young)
        assert rate(of_the_young, young) > 1.2 * rate(of_the_young, old)


def test_age_sex_and_view_alone_say_something_of_every_finding() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    rows = list(islice(cohort(0), 12_000))
    meta = np.array([(row.film.age_years / 50, row.film.sex == "M", row.film.view == "AP") for row in rows], float)
    test = np.array([row.subset == "test" for row in rows])
    auc = []
    for label in PATHOLOGIES:
        truth = np.array([label in row.film.findings for row in rows])
        fitted = LogisticRegression().fit(meta[~test], truth[~test])
        auc.append(roc_auc_score(truth[test], fitted.decision_function(meta[test])))
    assert min(auc) > 0.55
    assert 0.65 < np.mean(auc) < 0.72


@pytest.mark.parametrize("seed", range(4))
def test_200_images_have_most_labels_in_the_test_list(seed: int) -> None:
    rows = list(islice(cohort(seed), 200))
    found = {label for row in rows if row.subset == "test" for label in row.film.findings}
    assert len(found) >= 11


# The drawing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", PATHOLOGIES)
@pytest.mark.parametrize("view", ["PA", "AP"])
def test_a_sign_changes_the_film_inside_its_box(label: str, view: str) -> None:
    film = Film(0, 70 + (view == "AP"), 9, 58, "M", view, (label,))
    drawing = draw(film)
    plain = draw(Film(0, film.index, 9, 58, "M", view, ()))
    assert plain.boxes == {}
    change = np.abs(drawing.image.astype(np.float32) - plain.image)
    x, y, w, h = drawing.boxes[label]
    inside = change[round(y) : round(y + h), round(x) : round(x + w)]
    # Emphysema moves the diaphragm and the ribs, too; its box is that of the lungs.
    assert inside.sum() > (0.65 if label == "Emphysema" else 0.8) * change.sum()
    assert (inside > 4).mean() > 0.02
    # The box is no larger than the sign: every side of it is reached.
    if label not in ("Emphysema", "Cardiomegaly"):  # these have the box of the organ
        rows, columns = (np.flatnonzero((inside > 2).any(axis=axis)) for axis in (1, 0))
        assert rows[0] < 0.15 * h
        assert rows[-1] > 0.85 * h - 2
        assert columns[0] < 0.15 * w
        assert columns[-1] > 0.85 * w - 2


def test_one_finding_does_not_move_another() -> None:
    both = draw(Film(0, 80, 9, 58, "F", "PA", ("Effusion", "Nodule")))
    alone = draw(Film(0, 80, 9, 58, "F", "PA", ("Nodule",)))
    assert both.boxes["Nodule"] == alone.boxes["Nodule"]


def test_view_and_sex_are_visible() -> None:
    def mean(sex: str, view: str) -> np.ndarray:
        return np.mean([draw(Film(0, k, k + 1, 50, sex, view, ())).image.astype(np.float32) for k in range(6)], axis=0)

    man, woman, bedside = mean("M", "PA"), mean("F", "PA"), mean("M", "AP")
    breast = np.s_[600:680, 270:330]
    assert woman[breast].mean() > man[breast].mean() + 5
    heart = np.s_[600:680, 640:700]  # the left border of a heart that is magnified on AP films
    assert bedside[heart].mean() > man[heart].mean() + 10


def test_age_is_hardly_visible() -> None:
    films = [Film(0, k, k + 1, 30, "F", "PA", ()) for k in range(4)]

    def change(others: list[Film]) -> float:
        pairs = zip(films, others, strict=True)
        return float(np.mean([np.abs(draw(a).image.astype(np.float32) - draw(b).image).mean() for a, b in pairs]))

    strangers = [replace(film, patient_id=90) for film in films]
    assert change([replace(film, age_years=80) for film in films]) < 0.06 * change(strangers)


# What is refused ---------------------------------------------------------------------------------------------------


def test_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"19 synthetic images were asked for.*needs at least 20\n  remedy: ask for 20"):
        generate(tmp_path / "raw", 19)
    assert not (tmp_path / "raw").exists()


def test_a_negative_seed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"seed -1 is negative\n  remedy: take 0 or more"):
        generate(tmp_path / "raw", 20, seed=-1)


def test_a_folder_with_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "thesis.tex").write_text("years of work")
    before = digests(tmp_path)
    with pytest.raises(UserError, match=r"not a synthetic cohort \(images, thesis\.tex\); nothing was written\n"):
        generate(tmp_path, 20)
    assert digests(tmp_path) == before
    assert not list((tmp_path / "images").iterdir())


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("")
    with pytest.raises(UserError, match=r"raw: is a file; a folder was expected\n  remedy: choose another"):
        generate(tmp_path / "raw", 20)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*not a folder\n  remedy: "):
        generate(tmp_path / "file" / "raw", 20)


def test_reading_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no such folder.*\n  remedy: draw one with: cxrkit synth"):
        read(tmp_path / "nowhere")


def test_reading_a_folder_without_the_marker(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"SYNTHETIC\.json is missing.*\n  remedy: read it as nih-chestxray14, or"):
        read(tmp_path)


def test_reading_an_interrupted_cohort(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "raw", 20, seed=5, progress=stop)
    assert not json.loads((tmp_path / "raw" / "SYNTHETIC.json").read_text())["complete"]
    with pytest.raises(UserError, match=r"was not finished\n  remedy: finish it with: .* --images 20 --seed 5"):
        read(tmp_path / "raw")


def test_reading_a_cohort_with_a_film_missing(raw: Path, records: Records) -> None:
    film = Path(records.frame["path"][4])
    film.rename(film.with_suffix(".away"))
    try:
        with pytest.raises(UserError, match=r"1 of 24 images of this .* are missing\n  remedy: .* --seed 3"):
            read(raw)
        assert read(raw, allow_missing=True).missing == 1
    finally:
        film.with_suffix(".away").rename(film)
