"""Readers of other hospitals' data sets, on phantoms in their layouts: labels, policies, films, and every error."""

from __future__ import annotations

import shutil
import sys
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import tiny_dicom
from hypothesis import given
from hypothesis import strategies as st
from tiny_hospitals import ids_of, rewrite, write_layout

from cxrkit.base.contracts import BOX_SCHEMA, IMAGE_SIZE, PIXEL_SCHEMA, Records, record_schema
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY8, CHESTXRAY14, CHEXPERT, LABEL_SETS, PADCHEST, SEX, VINDR
from cxrkit.datasets.hospitals import chexpert, mimic, padchest, sharing, tables, vindr
from cxrkit.datasets.hospitals.films import canvas_side
from cxrkit.datasets.hospitals.policy import read_policy
from cxrkit.datasets.phantom import layouts
from cxrkit.datasets.phantom.cohort import Row, cohort
from cxrkit.prepare.records import read_records
from cxrkit.prepare.stage import PrepareConfig, prepare_raw
from cxrkit.sources.films import LETTERBOX, Placed, in_8_bits, read_film
from cxrkit.sources.pixels import DamagedImage

FILMS = 12
SMALL = "CheXpert-v1.0-small"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospitals")
    for name in layouts.LAYOUTS:
        write_layout(folder, name, FILMS)
    return folder


@pytest.fixture
def raw(drawn: Path, tmp_path: Path):
    """Copy the cohort in one layout, to be spoilt."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(drawn / name, tmp_path / name))

    return copy


def rows() -> list[Row]:
    return list(islice(cohort(3), FILMS))


def read(drawn: Path, name: str, policy: str = "", *, allow_missing: bool = False) -> Records:
    return read_records(name, drawn / name, allow_missing=allow_missing, policy=policy)


# What is read -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_records_are_as_the_contract_has_them(drawn: Path, name: str) -> None:
    found = read(drawn, name)
    assert (found.dataset, found.label_release) == (f"synthetic-{name}", "synthetic")
    assert (found.fit, LABEL_SETS[found.labels.name]) == (LETTERBOX, found.labels)
    assert dict(found.frame.schema) == record_schema(found.labels) | PIXEL_SCHEMA
    assert found.frame["image_id"].is_sorted()
    assert found.missing == 0
    assert set(found.frame["view"]) <= {"PA", "AP"}
    assert {Path(path).stem for path in found.frame["path"]} <= ids_of(drawn / name, "*.*")


@pytest.mark.parametrize("name", ["chexpert", "mimic-cxr-jpg", "padchest"])
def test_lateral_films_are_left_out_and_counted(drawn: Path, name: str) -> None:
    found = read(drawn, name)
    assert any("3 films left out: " in note.found for note in found.notes)
    assert len(found.frame) == FILMS - (name == "padchest")  # one is labelled "exclude"


def test_chexpert_has_the_patients_ages_sexes_and_parts_of_its_paths(drawn: Path) -> None:
    found = read(drawn, "chexpert").frame
    by_id = {row["image_id"]: row for row in found.iter_rows(named=True)}
    for row in rows():
        image_id = chexpert_path(row)
        film, record = row.film, by_id[image_id]
        assert record["patient_id"] == f"patient{film.patient_id:05d}"
        assert (record["age_years"], record["sex"], record["view"]) == (film.age_years, film.sex, film.view)
        assert record["official"] == row.subset


def chexpert_path(row: Row) -> str:
    part = "valid" if row.subset == "test" else "train"
    return f"{part}/patient{row.film.patient_id:05d}/study{row.number + 1}/view1_frontal.jpg"


def test_the_policies_of_chexpert_are_what_they_say(raw) -> None:
    folder = raw("chexpert")
    table = folder / SMALL / "train.csv"
    cells = {"Edema": "-1.0", "Pneumonia": None, "Fracture": "0.0", "Atelectasis": "1.0", "No Finding": None}
    rewrite(table, **{label: pl.lit(cell) for label, cell in cells.items()})

    def of(policy: str) -> dict[str, object]:
        found = chexpert.read(folder, policy=policy).frame
        return found.filter(pl.col("official") == "train_val").select(*cells).row(0, named=True)

    default = {"Edema": None, "Pneumonia": False, "Fracture": False, "Atelectasis": True, "No Finding": False}
    assert of("") == default
    assert of("uncertain=positive") == default | {"Edema": True}
    assert of("uncertain=negative") == default | {"Edema": False}
    # What is not mentioned is unknown, but a finding is not "No Finding".
    assert of("blank=unknown") == default | {"Pneumonia": None}
    rewrite(table, **dict.fromkeys(CHEXPERT.labels, pl.lit(None, pl.String)) | {"No Finding": pl.lit("1.0")})
    healthy = (
        chexpert.read(folder, policy="blank=unknown").frame.filter(pl.col("official") == "train_val").row(0, named=True)
    )
    assert healthy["No Finding"] is True
    assert healthy["Edema"] is False
    assert healthy["Support Devices"] is None


def test_the_policy_is_part_of_the_release_that_results_carry(raw) -> None:
    folder = raw("chexpert")
    (folder / "SYNTHETIC.json").unlink()
    found = chexpert.read(folder, policy="uncertain=positive")
    assert found.dataset == "chexpert"
    assert found.label_release == f"{SMALL}, uncertain positive, blank negative"
    assert any("untested on the real data set" in note.found for note in found.notes)


def test_phantoms_stay_phantoms_where_the_inner_folder_is_named(drawn: Path) -> None:
    assert chexpert.read(drawn / "chexpert" / SMALL).dataset == "synthetic-chexpert"


def test_mimic_joins_studies_films_parts_and_people(drawn: Path) -> None:
    found = read(drawn, "mimic-cxr-jpg").frame.sort("patient_id")
    films = {str(10_000_000 + row.film.patient_id): row for row in rows()}
    for record in found.iter_rows(named=True):
        row = films[record["patient_id"]]
        assert record["sex"] == row.film.sex
        assert abs(record["age_years"] - row.film.age_years) <= 1
        assert record["official"] == row.subset
        assert f"/p10/p{record['patient_id']}/s" in record["path"]


def test_mimic_without_its_patients_knows_neither_age_nor_sex(raw) -> None:
    folder = raw("mimic-cxr-jpg")
    (folder / "patients.csv").unlink()
    found = mimic.read(folder)
    assert found.frame["age_years"].null_count() == found.frame["sex"].null_count() == len(found.frame)
    assert any("no patients.csv of MIMIC-IV" in note.found for note in found.notes)


def test_padchest_counts_what_is_below_a_label_in_its_tree(drawn: Path) -> None:
    found = read(drawn, "padchest").frame
    pairs = {pair.ours: pair.theirs for pair in sharing.shared(CHESTXRAY14, PADCHEST)}
    checked = 0
    for row in rows():
        record = found.filter(pl.col("path").str.contains(f"21684011136696401{row.film.index:06d}"))
        if record.is_empty():
            continue
        for finding in row.film.findings:
            assert record[pairs[finding]].to_list() == [True]
            checked += 1
    assert checked > 5
    assert found["mass"].sum() < len(found)


def test_padchest_of_physicians_alone(drawn: Path) -> None:
    everybody, physicians = (read(drawn, "padchest", policy).frame["normal"] for policy in ("", "method=physician"))
    assert everybody.null_count() == 0
    assert physicians.null_count() == 4  # every third film is the network's


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("['pleural effusion', 'COPD signs']", ["pleural effusion", "COPD signs"]),
        ("['reticular interstitial pattern ', '', nan]", ["reticular interstitial pattern"]),
        ("[]", []),
        ("nan", None),
        (None, None),
    ],
)
def test_labels_of_padchest_are_taken_apart(text, labels) -> None:
    assert padchest.split_labels(text) == labels


@pytest.mark.parametrize("text", ["__import__('os').remove('x')", "['a'", "['a' 'b']", "['a', b]", "('a',)"])
def test_and_never_evaluated(text) -> None:
    with pytest.raises(UserError, match="not a list like"):
        padchest.split_labels(text)


def test_an_unchanged_film_has_no_labels_that_are_known(raw) -> None:
    folder = raw("padchest")
    rewrite(folder / padchest.TABLE, Labels=pl.lit("['unchanged']"))
    found = padchest.read(folder).frame
    assert found["normal"].null_count() == found["cardiomegaly"].null_count() == len(found)


def test_films_that_were_published_damaged_are_left_out(raw) -> None:
    folder = raw("padchest")
    broken = sharing.broken_in_padchest()[0]
    first = pl.int_range(pl.len()) == 0
    rewrite(folder / padchest.TABLE, ImageID=pl.when(first).then(pl.lit(broken)).otherwise("ImageID"))
    found = padchest.read(folder)
    assert broken not in found.frame["image_id"]
    assert any("1 film left out, published damaged" in note.found for note in found.notes)


def test_vindr_takes_the_majority_of_its_readers(raw) -> None:
    folder = raw("vindr-cxr")
    table = folder / "annotations" / "image_labels_train.csv"
    of_reader = pl.col("rad_id").replace_strict({"R1": "1", "R2": "1", "R3": "0"})
    alone = pl.col("rad_id").replace_strict({"R1": "0", "R2": "1", "R3": "0"})
    rewrite(table, Edema=of_reader, COPD=alone)

    def of(policy: str) -> tuple[bool, bool]:
        found = vindr.read(folder, policy=policy).frame.filter(pl.col("official") == "train_val")
        return found["Edema"].all(), found["COPD"].any()

    assert of("") == of("readers=majority") == (True, False)
    assert of("readers=any") == (True, True)
    assert of("readers=all") == (False, False)


def test_vindr_spells_its_last_disease_in_several_ways(raw) -> None:
    folder = raw("vindr-cxr")
    for table in (folder / "annotations").glob("image_labels_*.csv"):
        table.write_text(table.read_text().replace("Other diseases", "Other disease"))
    assert vindr.read(folder).frame["Other diseases"].null_count() == 0


def test_a_film_of_vindr_is_its_own_patient(drawn: Path) -> None:
    found = read(drawn, "vindr-cxr")
    assert found.frame["patient_id"].equals(found.frame["image_id"])
    assert any("no patient ids" in note.found for note in found.notes)


# Films --------------------------------------------------------------------------------------------------------------


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), side=st.sampled_from([256, 512, 1024]))
def test_a_film_lies_within_the_middle_of_its_canvas(width: int, height: int, side: int) -> None:
    place = Placed.of(width, height, side)
    assert max(place.width, place.height) == side
    assert 0 <= place.left <= side - place.left - place.width <= place.left + 1
    assert 0 <= place.top <= side - place.top - place.height <= place.top + 1
    x, y, wide, high = place.box(0, 0, width, height, (width, height))
    assert (x, y, wide, high) == pytest.approx((place.left, place.top, place.width, place.height))


@pytest.mark.parametrize(("width", "height"), [(300, 500), (640, 400), (77, 77)])
def test_a_box_on_a_film_is_the_same_box_on_the_canvas(width: int, height: int) -> None:
    film = np.zeros((height, width), np.uint8)
    x, y, wide, high = width // 4, height // 3, width // 3, height // 5
    film[y : y + high, x : x + wide] = 255
    canvas = read_film(cv2.imencode(".png", film)[1].tobytes(), 512).image
    down, across = np.nonzero(canvas > 127)
    seen = across.min(), down.min(), np.ptp(across) + 1, np.ptp(down) + 1
    assert seen == pytest.approx(Placed.of(width, height, 512).box(x, y, wide, high, (width, height)), abs=2)


def test_boxes_of_vindr_are_on_the_canvas(drawn: Path) -> None:
    found = read(drawn, "vindr-cxr")
    assert found.boxes is not None
    assert dict(found.boxes.schema) == BOX_SCHEMA
    inside = found.boxes.select((pl.col("x") + pl.col("width")).max(), (pl.col("y") + pl.col("height")).max()).row(0)
    assert max(inside) <= IMAGE_SIZE + 1
    annotated = pl.read_csv(drawn / "vindr-cxr" / "annotations" / "annotations_test.csv").drop_nulls("x_min")
    box = annotated.row(0, named=True)
    path = next((drawn / "vindr-cxr").rglob(f"{box['image_id']}.png"))
    height, width = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape
    corners = box["x_min"], box["y_min"], box["x_max"] - box["x_min"], box["y_max"] - box["y_min"]
    expected = Placed.of(width, height, IMAGE_SIZE).box(*corners, (width, height))
    mine = found.boxes.filter((pl.col("image_id") == box["image_id"]) & (pl.col("label") == box["class_name"]))
    assert mine.select("x", "y", "width", "height").row(0) == pytest.approx(expected)


def test_boxes_of_a_resized_copy_need_the_published_sizes(raw) -> None:
    folder = raw("vindr-cxr")
    before = vindr.read(folder).boxes
    sizes = []
    for path in [*folder.rglob("*.png")]:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        sizes.append({"image_id": path.stem, "dim0": image.shape[0], "dim1": image.shape[1]})
        cv2.imwrite(str(path), cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2)))
    without = vindr.read(folder)
    assert without.boxes is None
    assert any("a resized copy" in note.found for note in without.notes)
    pl.DataFrame(sizes).write_csv(folder / "annotations" / "train_meta.csv")
    after = vindr.read(folder).boxes
    assert after is not None
    assert before is not None
    for name in ("x", "y", "width", "height"):
        assert after[name].to_numpy() == pytest.approx(before[name].to_numpy(), abs=1.5)


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (0, 4095), (1000, 1003)])
def test_sixteen_bits_are_spread_from_the_darkest_to_the_brightest(low: int, high: int) -> None:
    film = np.linspace(low, high, 600).round().astype(np.uint16).reshape(20, 30)
    found = read_film(cv2.imencode(".png", film)[1].tobytes(), 30)
    assert found.converted == "16 bits"
    expected = np.floor((film.astype(np.float64) - low) * 255 / (high - low) + 0.5)
    assert np.array_equal(found.image[5:25], expected.astype(np.uint8))
    assert not found.image[:5].any()
    assert not found.image[25:].any()


def test_the_same_film_in_8_and_in_16_bits_is_the_same_film(drawn: Path) -> None:
    """PadChest's phantoms and VinDr-CXR's are of one stream, and of one size."""

    def first(name: str) -> np.ndarray:
        places = (layouts.LAYOUTS[name].place(row) for row in rows())
        return read_film((drawn / name / next(places)).read_bytes(), 512).image.astype(float)

    sixteen, eight = first("padchest"), first("vindr-cxr")
    shown = (eight - eight.min()) * 255 / np.ptp(eight)
    assert np.abs(sixteen - shown)[60:-60, 60:-60].max() <= 2
    assert sixteen.std() > 30


def test_a_film_of_one_gray_level_is_black() -> None:
    assert not in_8_bits(np.full((3, 4), 700, np.uint16)).any()


def test_films_in_colour_and_jpegs_are_read() -> None:
    film = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))
    colour = read_film(cv2.imencode(".png", cv2.cvtColor(film, cv2.COLOR_GRAY2BGR))[1].tobytes(), 60)
    assert colour.converted == "RGB"
    assert np.array_equal(colour.image[10:50], film)
    jpeg = read_film(cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes(), 60)
    assert jpeg.converted == ""
    assert np.abs(jpeg.image[10:50].astype(int) - film).max() <= 2


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_half_a_film_never_passes_for_a_whole_one(ending: str, dtype: type) -> None:
    if ending == ".jpg" and dtype == np.uint16:
        pytest.skip("there is no such JPEG")
    noise = np.random.default_rng(0).integers(0, 200, (80, 60)).astype(dtype)
    data = cv2.imencode(ending, noise)[1].tobytes()
    read_film(data, 64)
    for end in (20, len(data) // 2, len(data) - 20):
        with pytest.raises(DamagedImage, match="cut off"):
            read_film(data[:end], 64)
    with pytest.raises(DamagedImage, match="not a PNG or JPEG but a GIF"):
        read_film(b"GIF89a" + data[:40], 64)


def test_a_film_larger_than_any_is_refused() -> None:
    data = cv2.imencode(".png", np.zeros((1, 9000), np.uint8))[1].tobytes()
    with pytest.raises(DamagedImage, match="9000 x 1 pixels, expected 1 to 8192 along each side"):
        read_film(data, 64)


def test_small_copies_get_a_small_canvas(drawn: Path) -> None:
    assert read(drawn, "chexpert").side == 512
    assert canvas_side([]) == IMAGE_SIZE


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("chexpert", f"{SMALL}/train.csv"),
        ("mimic-cxr-jpg", mimic.SPLIT_TABLE),
        ("padchest", padchest.TABLE),
        ("vindr-cxr", "annotations/image_labels_train.csv"),
    ],
)
def test_a_missing_table_and_what_looks_like_it(raw, name: str, table: str) -> None:
    folder = raw(name)
    for path in (folder / table).parent.glob("*.csv"):
        path.rename(path.with_name(f"x{path.name}x"))
    with pytest.raises(UserError, match=r"no .* here, .*(?s:.)*remedy: take it from"):
        read_records(name, folder, allow_missing=True)


def test_a_table_under_a_near_name_is_named(raw) -> None:
    folder = raw("padchest")
    (folder / padchest.TABLE).rename(folder / "PADCHEST_chest_x_ray_images_labels_160K.csv")
    with pytest.raises(
        UserError, match=r"PadChest.s table; PADCHEST_chest_x_ray_images_labels_160K[.]csv looks like it"
    ):
        padchest.read(folder)


def test_a_missing_column_is_named_with_what_was_found(raw) -> None:
    folder = raw("padchest")
    table = folder / padchest.TABLE
    table.write_text(table.read_text().replace("PatientSex_DICOM", "PatientSex", 1))
    with pytest.raises(UserError, match=r"no column 'PatientSex_DICOM'; 'PatientSex' is near to .*; found ImageID, "):
        padchest.read(folder)


@pytest.mark.parametrize(
    ("name", "table", "column", "cell", "expected"),
    [
        ("chexpert", f"{SMALL}/train.csv", "Edema", "2.0", "found '2.0', expected 1.0, 0.0, -1.0 or nothing"),
        ("chexpert", f"{SMALL}/train.csv", "Path", "p1/a.jpg", "found 'p1/a.jpg', expected a path like CheXpert"),
        ("mimic-cxr-jpg", mimic.METADATA_TABLE, "subject_id", "12", "found '12', expected a number of eight digits"),
        ("mimic-cxr-jpg", mimic.SPLIT_TABLE, "split", "valid", "found 'valid', expected train, validate, test"),
        ("padchest", padchest.TABLE, "Labels", "eval('1')", "expected a list like"),
        ("vindr-cxr", "annotations/image_labels_test.csv", "Edema", "yes", "found 'yes', expected 0 or 1"),
    ],
)
def test_a_cell_that_cannot_be_is_named(raw, name, table, column, cell, expected) -> None:
    folder = raw(name)
    rewrite(folder / table, **{column: pl.lit(cell)})
    with pytest.raises(UserError, match="row 1, column") as error:
        read_records(name, folder, allow_missing=True)
    assert expected in str(error.value)


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_films_that_are_not_there(raw, name: str) -> None:
    folder = raw(name)
    next(
        path for path in sorted(folder.rglob("*.*")) if path.suffix in (".png", ".jpg") and "exclude" not in path.name
    ).unlink()
    with pytest.raises(UserError, match=r"1 of 1\d frontal films are not there: .*(?s:.)*--allow-missing"):
        read_records(name, folder, allow_missing=False)
    assert read_records(name, folder, allow_missing=True).missing == 1


def test_films_of_another_version(raw) -> None:
    folder = raw("chexpert")
    home = folder / SMALL
    other = folder / "CheXpert-v1.0"
    other.mkdir()
    for part in ("train", "valid"):
        (home / part).rename(other / part)
    with pytest.raises(UserError, match=r"tables are of CheXpert-v1[.]0-small, but the films are of CheXpert-v1[.]0"):
        chexpert.read(folder)
    for table in home.glob("*.csv"):
        table.rename(other / table.name)
    with pytest.raises(UserError, match=r"tables are of CheXpert-v1[.]0-small, but the films are in CheXpert-v1[.]0"):
        chexpert.read(folder)


def test_dicom_that_is_not_read_is_said_to_be_so(raw) -> None:
    folder = raw("padchest")
    for path in folder.rglob("*.png"):
        path.rename(path.with_suffix(".dicom"))
    with pytest.raises(
        UserError, match=r"\d+ DICOM files are, which prepare does not read(?s:.)*write them as PNG first"
    ):
        padchest.read(folder)


def as_dicom(path: Path) -> Path:
    """Put a DICOM file of 12 bits, with its window, in the place of a PNG."""
    stored = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.uint16) * 16  # type: ignore[union-attr]
    made = path.with_suffix(".dicom")
    made.write_bytes(tiny_dicom.dicom(stored, WindowCenter=2040.5, WindowWidth=4081))  # 0 to 4,080
    return made


def test_films_of_vindr_are_read_as_they_are_published(raw, tmp_path: Path) -> None:
    folder = raw("vindr-cxr")
    before = vindr.read(folder)
    expected = {path.stem: read_film(path.read_bytes(), 256).image for path in folder.rglob("*.png")}
    films = [as_dicom(path) for path in folder.rglob("*.png")]
    found = vindr.read(folder)
    assert found.boxes is not None
    assert found.boxes.equals(before.boxes)  # a copy as PNG beside it is what is taken, and there is the same film
    assert found.side == before.side
    for path in folder.rglob("*.png"):
        path.unlink()
    found = vindr.read(folder)
    assert found.frame["path"].str.ends_with(".dicom").all()
    assert found.boxes.equals(before.boxes)  # type: ignore[union-attr]
    for path in films:
        image = read_film(path.read_bytes(), 256).image
        assert np.abs(image.astype(int) - expected[path.stem].astype(int)).max() <= 1
    config = PrepareConfig(folder, tmp_path / "shards", dataset="vindr-cxr", levels=(256, 128), workers=1)
    assert "from DICOM" in prepare_raw(config).text()


def test_without_pydicom_the_extra_is_named(raw, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = raw("vindr-cxr")
    for path in list(folder.rglob("*.png")):
        as_dicom(path)
        path.unlink()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"pydicom, which is not installed(?s:.)*cxrkit\[dicom\]"):
        vindr.read(folder)


def test_a_table_that_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "train.csv.gz"
    path.write_bytes(b"\x1f\x8b\x08garbage")
    with pytest.raises(UserError, match="cannot be unpacked"):
        tables.read(path, ("Path",), "take another")
    path.write_bytes(b"Path\n")
    with pytest.raises(UserError, match="has no rows"):
        tables.read(path, ("Path",), "take another")


def test_a_choice_that_there_is_not(drawn: Path) -> None:
    with pytest.raises(
        UserError, match=r"uncertain=maybe: not a choice of chexpert(?s:.)*uncertain=unknown or positive"
    ):
        read(drawn, "chexpert", "uncertain=maybe")
    with pytest.raises(UserError, match="not a choice of padchest"):
        read_policy("uncertain=positive", "padchest", *padchest.CHOICES)
    with pytest.raises(UserError, match="the labels of synthetic leave nothing to choose"):
        read_records("synthetic", drawn, allow_missing=True, policy="uncertain=positive")


# Shared labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", [CHEXPERT, VINDR, PADCHEST])
def test_the_table_of_shared_labels_names_labels_that_there_are(theirs) -> None:
    pairs = sharing.shared(CHESTXRAY14, theirs)
    assert [pair.ours for pair in pairs] == [label for label in CHESTXRAY14.labels if label in {p.ours for p in pairs}]
    assert {pair.theirs for pair in pairs} <= set(theirs.labels)
    assert len({pair.theirs for pair in pairs}) == len(pairs)
    back = sharing.shared(theirs, CHESTXRAY14)
    assert {(pair.ours, pair.theirs) for pair in pairs} == {(pair.theirs, pair.ours) for pair in back}
    assert set(sharing.apart(theirs)) <= set(theirs.labels) - {pair.theirs for pair in pairs}
    assert sharing.caveat_of(theirs)


def test_an_opacity_is_no_infiltration_and_an_effusion_one_of_the_pleura() -> None:
    pairs = {pair.ours: pair.theirs for pair in sharing.shared(CHESTXRAY14, CHEXPERT)}
    assert pairs["Effusion"] == "Pleural Effusion"
    assert "Infiltration" not in pairs
    assert "Lung Opacity" in sharing.apart(CHEXPERT)
    assert len(sharing.shared(CHESTXRAY8, CHEXPERT)) == 5
    assert len(sharing.shared(CHEXPERT, CHEXPERT)) == 14


def test_labels_that_no_table_knows() -> None:
    with pytest.raises(UserError, match="no table says which labels 'chexpert14' and 'vindr28' share"):
        sharing.shared(CHEXPERT, VINDR)
    with pytest.raises(UserError, match="no table says"):
        sharing.shared(CHESTXRAY14, SEX)


def test_a_pretraining_that_names_a_data_set_is_recognised() -> None:
    assert sharing.names_in("MAE on CheXpert and MIMIC-CXR", "chexpert")
    assert sharing.names_in("MAE on CheXpert and MIMIC-CXR", "mimic-cxr-jpg")
    assert not sharing.names_in("ImageNet", "chexpert")
    assert not sharing.names_in("biomimicry", "mimic-cxr-jpg")


# Phantoms -----------------------------------------------------------------------------------------------------------


def test_a_layout_is_drawn_once_and_nothing_is_overwritten(drawn: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    layouts.generate(drawn / "chexpert", "chexpert", FILMS, seed=3, progress=seen.append)
    assert seen == [FILMS]
    with pytest.raises(UserError, match="holds another synthetic cohort"):
        layouts.generate(drawn / "chexpert", "chexpert", FILMS, seed=4)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is no new folder; nothing was written"):
        layouts.generate(tmp_path, "padchest", FILMS)
    with pytest.raises(UserError, match="unknown layout 'chexprt'"):
        layouts.generate(tmp_path / "new", "chexprt", FILMS)
    with pytest.raises(UserError, match="expected 8 at least"):
        layouts.generate(tmp_path / "new", "chexpert", 3)
