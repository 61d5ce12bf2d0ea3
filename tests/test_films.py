"""Films of one's own: the same scores as the data set's own films get, and what is said of each."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tiny_own
from rich.console import Console
from tiny_cohort import image_id, picture, png
from typer.testing import CliRunner

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.cli.app import app
from cxrkit.explain.panels import Panel, draw
from cxrkit.films import looks, maps, reading, said, tables
from cxrkit.films.film import Film
from cxrkit.films.predicting import Wanted, predict_films
from cxrkit.films.said import Said
from cxrkit.films.scoring import preparation
from cxrkit.runs.checkpoints import read_info
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import read_predictions
from cxrkit.runs.scores import SubsetScores
from cxrkit.shards.file import ShardSettings
from cxrkit.sources import gray
from cxrkit.sources.dicom import Header
from cxrkit.sources.pixels import DamagedImage
from cxrkit.statistics.intervals import APPROXIMATE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    tiny_own.prepared(folder)
    return folder


@pytest.fixture(scope="module")
def plain(folder: Path) -> RunFolder:
    return tiny_own.run_of("resnet14-small", folder / "shards", folder / "runs")


@pytest.fixture(scope="module")
def meta(folder: Path) -> RunFolder:
    return tiny_own.run_of("resnet14-small-meta", folder / "shards", folder / "runs")


def films_of(folder: Path, run: RunFolder, subset: str) -> tuple[pl.DataFrame, list[Path]]:
    frame = read_predictions(run.predictions(subset)).frame
    return frame, [folder / "raw" / "images" / name for name in frame["image_id"]]


def ask(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


# The same scores


def test_a_film_of_the_data_set_gets_the_score_that_it_has_there(
    folder: Path, plain: RunFolder, tmp_path: Path
) -> None:
    frame, files = films_of(folder, plain, "test")
    out = tmp_path / "scores.csv"
    predict_films(plain, Wanted(tuple(files), out=out), threads=1)
    labels = tiny_own.label_names(plain)
    found = pl.read_csv(out)
    assert found["image"].to_list() == frame["image_id"].to_list()
    difference = np.abs(found.select(labels).to_numpy() - frame.select(labels).to_numpy()).max()
    assert difference < 1e-6
    assert np.ptp(frame.select(labels).to_numpy(), axis=0).max() > 1e-3, "films differ by more than that"


def test_so_does_one_of_a_network_that_is_told_age_sex_and_view(folder: Path, meta: RunFolder, tmp_path: Path) -> None:
    frame, files = films_of(folder, meta, "test")
    from cxrkit.shards.store import read_records

    known = read_records(folder / "shards").join(frame.select("image_id"), on="image_id", how="semi")
    table = tmp_path / "table.csv"
    known.select("image_id", "age_years", "sex", "view").write_csv(table)
    predict_films(meta, Wanted(tuple(files), table=table, out=tmp_path / "a.csv"), threads=1)
    labels = tiny_own.label_names(meta)
    found = pl.read_csv(tmp_path / "a.csv").select(labels).to_numpy()
    assert np.abs(found - frame.select(labels).to_numpy()).max() < 1e-6
    # What is said of them counts.
    predict_films(meta, Wanted(tuple(files), said.by_flags(90, "F", "AP"), out=tmp_path / "b.csv"), threads=1)
    assert np.abs(pl.read_csv(tmp_path / "b.csv").select(labels).to_numpy() - found).max() > 1e-3


def test_what_is_not_known_is_an_error_where_it_counts(folder: Path, meta: RunFolder) -> None:
    _, files = films_of(folder, meta, "test")
    message = (
        r"age and sex are not known, and resnet14-small-meta is told age, sex and view \(3 of 3 films\)\n"
        r"  remedy: give --age, --sex for all films, or --table with a row for each"
    )
    with pytest.raises(UserError, match=message):
        predict_films(meta, Wanted(tuple(files), said.by_flags(None, None, "pa")))


def test_a_score_is_placed_among_those_of_the_validation_images(folder: Path, plain: RunFolder) -> None:
    frame, files = films_of(folder, plain, "val")
    report = predict_films(plain, Wanted((files[1],)), threads=1).report
    (scores,) = (table for table in report.tables if table.key == "scores")
    rows = {row.key: row for row in scores.rows}
    from cxrkit.shards.store import read_records

    truth = read_records(folder / "shards").join(frame.select("image_id"), on="image_id", how="semi").sort("image_id")
    from sklearn.metrics import roc_curve

    for label in ("Mass", "Edema", "No Finding"):
        cells = {column.name: cell for column, cell in zip(scores.columns, rows[label].cells, strict=True)}
        own, all_scores, has = frame[label][1], frame[label].to_numpy(), truth[label].to_numpy()
        assert cells["score"].values["score"] == pytest.approx(own, abs=1e-6)
        assert cells["prevalence"].values["prevalence"] == pytest.approx(has.mean())
        if 0 < has.sum() < len(has):
            fpr, tpr, thresholds = roc_curve(has, all_scores, drop_intermediate=False)
            best = int(np.argmax(tpr - fpr))
            assert cells["threshold"].values["threshold"] == pytest.approx(thresholds[best])
            assert cells["sensitivity"].values["sensitivity"] == pytest.approx(tpr[best])
            assert cells["specificity"].values["specificity"] == pytest.approx(1 - fpr[best])
            assert cells["score"].text.endswith("+") == (own >= thresholds[best])


def test_maps_and_scores_on_the_command_line(folder: Path, plain: RunFolder, tmp_path: Path) -> None:
    """A film that cannot be read is named, the others are scored, and the exit code says so."""
    import shutil

    films = tmp_path / "films" / "deep"
    films.mkdir(parents=True)
    shutil.copy(folder / "raw" / "images" / image_id(0), films / "one.png")
    (films / "cut.png").write_bytes(png(picture(1))[:5000])
    (films / "notes.txt").write_text("not a film")
    out = tmp_path / "scores.csv"
    run = Path(shutil.copytree(plain.path, tmp_path / "runs" / plain.path.parent.name / plain.path.name))
    (run / "scores.json").unlink(missing_ok=True)  # another test may have scored it
    code, said_ = ask(run, "--images", tmp_path / "films", "--out", out, "--explain", "--threads", 1)
    assert code == 1
    said_ = " ".join(said_.split())  # however wide it is laid out
    assert "1 of 2 films could not be read: exit code 1" in said_
    assert "the PNG is cut off: pixels are missing" in said_
    assert "1 other file passed over: deep/notes.txt" in said_
    assert "Trained on all 6 training images; no scores of test images are there: see cxrkit evaluate" in said_
    assert "not for clinical use" in said_
    assert "diagnos" not in said_.lower()
    frame = pl.read_csv(out)
    assert frame["image"].to_list() == ["deep/cut.png", "deep/one.png"]
    assert frame["problem"].to_list() == ["the PNG is cut off: pixels are missing", None]
    assert frame["Mass"].null_count() == 1
    maps = sorted((tmp_path / "scores-maps").iterdir())
    assert maps
    assert all(file.name.startswith("deep_one_png-") and file.suffix == ".png" for file in maps)
    assert reading.read("map", maps[0], 64).width == 970


def test_noise_is_marked_wherever_it_stands(
    folder: Path, plain: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its scores, above them and in the title of its maps; thresholds of few patients beside both films."""
    drawn: list[Panel] = []
    monkeypatch.setattr(maps, "draw", lambda panel: drawn.append(panel) or draw(panel))
    frame, (film_, *_) = films_of(folder, plain, "val")
    noise = tmp_path / "noise.png"
    noise.write_bytes(png(np.random.default_rng(0).integers(0, 256, (1024, 1024), np.uint8)))
    out = tmp_path / "scores.csv"
    wanted = Wanted((noise, film_), out=out, explained=tmp_path / "maps")
    asked = predict_films(plain, wanted, threads=1)
    first, scores, *_ = asked.report.tables
    assert (first.key, first.rows[0].heading) == ("warnings", "! noise.png")
    assert first.rows[0].cells[0].text.startswith("probably not a frontal chest film: as fine as noise or print (")
    assert first.notes[0].startswith("!: where this verdict is right, the scores and maps mean nothing")
    headings = ["".join(column.heading).replace(" ", "") for column in scores.columns]
    assert headings == ["Threshold", "!noise.png", film_.name]
    assert scores.columns[1].name == "noise.png", "a file has the name alone"
    thresholds = [row.cells[0].text for row in scores.rows]
    assert all(text.startswith("~") or text == "-" for text in thresholds), f"{len(frame)} images of one patient"
    assert any(note.startswith("~: a threshold of fewer than 30 patients of val") for note in scores.notes)
    marked = {panel.image_id: (panel.label[:2] == "! ", panel.truth) for panel in drawn}
    assert marked["noise.png"] == (True, "! probably not a frontal chest film")
    assert marked[film_.name] == (False, "a film of one's own")
    assert all(panel.alone and panel.placement.cuts for panel in drawn)
    assert not [file.name for file in (tmp_path / "maps").iterdir() if "!" in file.name or "-_" in file.name]
    assert "probably not a frontal chest film" in pl.read_csv(out).filter(image="noise.png")["warnings"].item()


def test_the_bar_ends_at_all_films_whether_they_can_be_read_or_not(
    folder: Path, plain: RunFolder, tmp_path: Path
) -> None:
    _, (film_, *_) = films_of(folder, plain, "val")
    for name in ("a.png", "b.png", "z.png"):
        (tmp_path / name).write_bytes(film_.read_bytes()[: None if name == "b.png" else 900])
    for asked_for, count in (((tmp_path,), 3), ((tmp_path / "a.png",), 1)):
        console = Console(file=io.StringIO(), force_terminal=True, width=100)
        asked = predict_films(plain, Wanted(asked_for), threads=1, console=console)
        assert len(asked.failed) + asked.films == count
        assert f"{count}/{count}" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_the_network_has_learned_is_said(plain: RunFolder) -> None:
    origin = replace(read_info(plain.best).origin, train_images=178, train_subset_images=75707)
    mean = Metric("auc", 0.5402, None, labels=14, interval="Hernia: 1 patient with the finding, fewer than 10")
    few = SubsetScores("test", 38, 25596, "", 38, "", True, (mean,))
    assert tables.trained_and_tested(origin, few) == (
        "Trained on 178 of 75,707 training images; mean AUC on 38 of 25,596 test images 0.540 "
        "(no interval: Hernia: 1 patient with the finding, fewer than 10)"
    )
    rough = replace(mean, lower=0.51, upper=0.57, mark=APPROXIMATE)
    all_of_it = replace(few, images=25596, metrics=(rough,))
    assert tables.trained_and_tested(replace(origin, train_images=75707), all_of_it) == (
        "Trained on all 75,707 training images; mean AUC on its 25,596 test images 0.540 (~[0.510, 0.570])"
    )
    assert tables.trained_and_tested(replace(origin, train_images=0), replace(few, metrics=())) == (
        "Trained on a number of images that is not known; no mean AUC on its test images"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--age", "40"], r"--age: for films of your own, and --images names none"),
        (["--images", "there", "--subset", "val"], r"--subset: of the data set, not of --images"),
        (["--images", "nowhere.png"], r"--images nowhere\.png: does not exist"),
        (["--images", "there", "--age", "150"], r"--age 150: not an age\n  remedy: give whole years, 0 to 120"),
        (["--images", "there", "--sex", "X"], r"--sex X: unknown"),
        (["--images", "there", "--view", "LL"], r"--view LL: not a frontal view"),
        (["--images", "there", "--table", "no.csv"], r"--table no\.csv: there is no such file"),
    ],
)
def test_what_cannot_be_asked(
    plain: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match=message):
        ask(plain.path, *arguments)


def test_a_folder_without_an_image(plain: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"holds no image \(1 other file\)\n  remedy: name files that end in \.png"):
        predict_films(plain, Wanted((tmp_path,)))


def test_a_run_without_its_data_is_asked_where_its_preparation_was_the_default(
    plain: RunFolder, tmp_path: Path
) -> None:
    """The digest in the checkpoint says whether it was."""
    info, gone = read_info(plain.best), tmp_path / "gone"
    with pytest.raises(UserError, match=r"gone: does not say how the images were prepared that resnet14-small was"):
        preparation(info, gone)
    for codec, quality in (("jpeg", 95), ("raw", 0)):
        settings = ShardSettings("tiny", codec, quality, (1024, 512, 256), 1024)
        known = replace(info, origin=replace(info.origin, preparation_digest=settings.digest))
        assert preparation(known, gone) == settings


# Pixels


def test_pixels_of_other_kinds_are_made_gray_8_bit_and_square() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60), np.uint8)
    same, notes = gray.one_channel(np.stack([image] * 3 + [255 - image], axis=2))
    assert np.array_equal(same, image)
    assert notes == ()
    import cv2

    colour = rng.integers(0, 256, (40, 60, 3), np.uint8)
    mixed, notes = gray.one_channel(colour)
    assert np.abs(mixed.astype(int) - cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)).max() <= 1
    assert notes == ("in colour: mixed to gray",)
    twelve = rng.integers(100, 3000, (40, 60)).astype(np.uint16)
    eight, (note,) = gray.eight_bits(twelve)
    assert (eight.min(), eight.max()) == (0, 255)
    assert np.array_equal(eight, np.rint((twelve - twelve.min()) * (255 / np.ptp(twelve))))
    assert note == f"uint16: levels {twelve.min()} to {twelve.max():,} were spread over 0 to 255, for it has no window"
    flat, _ = gray.eight_bits(np.full((40, 60), 7, np.uint16))
    assert not flat.any()
    # Stretched, not padded: each pixel of the square is the mean of a part of the film as long as the film is.
    wide = np.repeat(np.array([[0, 200]], np.uint8), [64, 64], axis=1).repeat(64, axis=0)
    assert np.array_equal(gray.square(wide, 32), np.repeat([[0] * 16 + [200] * 16], 32, axis=0))


@pytest.mark.parametrize(
    "kind", ["tiff16", "png16", "jpeg", "png interlaced as 8-bit gray", "bmp", "pages", "tiny", "empty"]
)
def test_files_of_other_kinds(tmp_path: Path, kind: str) -> None:
    import cv2
    from PIL import Image

    image = cv2.resize(picture(3), (96, 64))
    deep = image.astype(np.uint16) * 16
    path = tmp_path / "film.png"
    if kind == "tiff16":
        path = tmp_path / "film.tif"
        cv2.imwrite(str(path), deep)
    elif kind == "png16":
        cv2.imwrite(str(path), deep)
    elif kind == "jpeg":
        path = tmp_path / "film.jpg"
        cv2.imwrite(str(path), image)
    elif kind.startswith("png"):
        cv2.imwrite(str(path), image)
    elif kind == "bmp":
        path.write_bytes(cv2.imencode(".bmp", image)[1].tobytes())
    elif kind == "pages":
        path = tmp_path / "film.tiff"
        Image.fromarray(image).save(path, save_all=True, append_images=[Image.fromarray(image)])
    elif kind == "tiny":
        cv2.imwrite(str(path), image[:8, :8])
    else:
        path.write_bytes(b"")
    wrong = {"bmp": "not a PNG, JPEG, TIFF or DICOM file but a BMP", "pages": "2 pages, expected one film"}
    wrong |= {"tiny": "8 x 8 pixels, too few for a film", "empty": "but an empty file"}
    if kind in wrong:
        with pytest.raises(DamagedImage, match=wrong[kind]):
            reading.read("film", path, 64)
        return
    film = reading.read("film", path, 64)
    assert (film.width, film.height, film.image.shape) == (96, 64, (64, 64))
    expected = gray.square(gray.spread(image, image.min(), image.max()) if "16" in kind else image, 64)
    assert np.abs(film.image.astype(int) - expected).max() <= (6 if kind == "jpeg" else 0)
    assert bool(film.notes) == ("16" in kind)


def test_a_png_that_claims_a_gigabyte(tmp_path: Path) -> None:
    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(DamagedImage, match=r"40,000 x 40,000 pixels, expected 16,384 at the most"):
        reading.read("bomb", tmp_path / "bomb.png", 1024)


# What looks wrong

SEEN = looks.Seen((20.0, 80.0), looks.SPACING_MM, ((90.0, 160.0), (30.0, 80.0)), 64)


def film(image: np.ndarray, width: int = 2048, height: int = 2048, **header: object) -> Film:
    return Film("film", Path("film"), image, width, height, Header(**header))


def chest(side: int = 128) -> np.ndarray:
    """Return dark corners and a bright middle."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    return (200 * np.exp(-6 * (x**2 + y**2)) + 15).astype(np.uint8)


@pytest.mark.parametrize(
    ("looked_at", "known", "message"),
    [
        (film(chest()), Said(50), None),
        (film(chest(), 2048, 1024), Said(), "2,048 x 1,024 pixels: stretched to a square more than"),
        (film(chest(), 100, 100), Said(), "100 x 100 pixels: enlarged to 128 x 128"),
        (film(255 - chest()), Said(), "perhaps inverted"),
        (film(chest() // 4), Said(), "gray levels: mean 2"),
        (film(chest(), spacing_mm=0.5), Said(), "pixels 0.5 mm apart; training films had 0.115 to 0.199"),
        (film(chest()), Said(90), "age 90: trained on 20 to 80; where age counts, 80 is used"),
    ],
)
def test_a_film_that_is_unlike_those_of_the_training_is_pointed_out(
    looked_at: Film, known: Said, message: str | None
) -> None:
    found = looks.look(looked_at, known, SEEN).warnings
    assert found == () if message is None else any(text.startswith(message) for text in found), found


def test_real_films_are_not_inverted_and_turned_over_they_are(nih_raw: Path) -> None:
    import cv2

    files = sorted((nih_raw / "images").glob("*.png"))[::6]
    corners = [
        looks.bright_corners(cv2.resize(cv2.imread(str(file), 0), (256, 256), interpolation=3)) for file in files
    ]
    assert max(corners) <= looks.BRIGHT_CORNERS
    inverted = np.array([-corner for corner in corners])
    assert (inverted > looks.BRIGHT_CORNERS).mean() > 0.8


# Age, sex and view


def test_a_table_counts_before_the_flags_and_both_before_the_header(tmp_path: Path) -> None:
    path = tmp_path / "said.csv"
    path.write_text("Image Index,Patient Age,Patient Gender,View Position\na.png,61,M,\nb.png,,female,pa\n")
    table = said.read_table(path)
    flags = said.by_flags(30, None, "AP")
    found = said.settle("x/a.png", Header(62, "F", "PA"), flags, table)
    assert (found.age_years, found.sex, found.view) == (61, "M", "AP")
    assert found.notes == (
        "age 30 by --age is not used: the table says 61",
        "age 62 by the header is not used: the table says 61",
        "sex F by the header is not used: the table says M",
        "view PA by the header is not used: --view says AP",
    )
    assert said.settle("b.png", Header(), Said(), table) == Said(None, "F", "PA")
    assert said.settle("c.png", Header(), Said(), table).missing == ("age", "sex", "view")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,weight\na,1\n", r"needs image and age_years, sex or view; found image, weight"),
        ("image,sex\na,M\na,F\n", r"a is listed twice"),
        ("image,sex\na,M\nb,2\n", r"line 3: sex 2: unknown"),
        ("image,age\na,old\n", r"line 2: age 'old': not a number"),
    ],
)
def test_a_table_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        said.read_table(tmp_path / "t.csv")
