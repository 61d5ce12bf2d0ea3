"""DICOM films: what a viewer would show, and what the header says, against pydicom's own arithmetic."""

from __future__ import annotations

import builtins
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless
from tiny_dicom import dicom

from cxrkit.base.errors import UserError
from cxrkit.films import reading
from cxrkit.sources import dicom as reader
from cxrkit.sources.pixels import DamagedImage

RNG = np.random.default_rng(4)
TWELVE = RNG.integers(0, 4096, (48, 40)).astype(np.uint16)


def gray(data: bytes) -> np.ndarray:
    return reader.read(data)[0]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.5, -1024)])
def test_windows_are_those_of_the_standard(function: str, slope: float, intercept: float) -> None:
    centre, width = (2000 * slope + intercept), 1500 * slope
    fields = {"WindowCenter": [centre, 1.0], "WindowWidth": [width, 2.0], "VOILUTFunction": function}
    found = gray(dicom(TWELVE, RescaleSlope=slope, RescaleIntercept=intercept, **fields))
    about = Dataset()
    about.WindowCenter, about.WindowWidth, about.VOILUTFunction = centre, width, function
    about.PhotometricInterpretation, about.BitsStored, about.PixelRepresentation = "MONOCHROME2", 12, 0
    expected = apply_windowing(TWELVE * slope + intercept, about)  # 0 to 4095
    assert np.abs(found - expected * (255 / 4095)).max() <= 0.51
    assert np.ptp(found) == 255 if function != "SIGMOID" else np.ptp(found) > 200


def test_monochrome1_is_turned_over_and_padding_is_black() -> None:
    stored = TWELVE.copy()
    stored[:, :5] = 4095
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    normal = gray(dicom(stored, **window))
    turned = gray(dicom(stored, PhotometricInterpretation="MONOCHROME1", **window))
    assert np.array_equal(turned, 255 - normal)
    padded = gray(dicom(stored, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=4095, **window))
    assert not padded[stored == 4095].any()
    assert np.array_equal(padded[stored != 4095], turned[stored != 4095])
    ranged = gray(dicom(stored, PixelPaddingValue=4095, PixelPaddingRangeLimit=4000, **window))
    assert not ranged[stored >= 4000].any()


def test_without_a_window_levels_are_spread_and_padding_is_left_out_of_it() -> None:
    stored = np.clip(TWELVE, 500, 2000)
    stored[0] = 0
    image, _, (note,) = reader.read(dicom(stored, PixelPaddingValue=0))
    assert note == "no window: levels 500 to 2,000 were spread over 0 to 255"
    assert np.abs(image[1:] - (stored[1:].astype(float) - 500) * (255 / 1500)).max() <= 0.51
    assert not image[0].any()
    signed = (TWELVE.astype(np.int16) - 2048).astype(np.int16)
    assert np.array_equal(gray(dicom(signed)), gray(dicom(TWELVE)))


def test_a_table_of_levels_counts_before_the_window() -> None:
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]  # 16 bits claimed, 12 used
    table.LUTData = np.arange(4095, -1, -1, dtype=np.uint16).tobytes()
    found = gray(dicom(TWELVE, VOILUTSequence=[table], WindowCenter=1, WindowWidth=1))
    assert np.array_equal(found, np.rint((4095 - TWELVE.astype(float)) * (255 / 4095)))


def test_colour_and_planes() -> None:
    one = RNG.integers(0, 256, (48, 40), np.uint8)
    same = np.repeat(one[..., None], 3, axis=2)
    assert np.array_equal(gray(dicom(same)), one)
    planes = np.ascontiguousarray(np.moveaxis(same, 2, 0)).reshape(48, 40, 3)
    assert np.array_equal(gray(dicom(planes, PlanarConfiguration=1)), one)
    red = np.stack([one, one * 0, one * 0], axis=2)
    image, _, notes = reader.read(dicom(red))
    assert np.array_equal(image, np.rint(one * 0.299))
    assert notes == ("in colour: mixed to gray",)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEG2000Lossless, lambda codecs: codecs.jpeg2k_encode(TWELVE, reversible=True, level=0, codecformat="j2k")),
        (JPEGLSLossless, lambda codecs: codecs.jpegls_encode(TWELVE)),
        (JPEGLosslessSV1, lambda codecs: codecs.ljpeg_encode(TWELVE, bitspersample=12)),
    ],
)
def test_compressed_films(syntax: str, encode: Any) -> None:
    codecs = pytest.importorskip("imagecodecs", reason="imagecodecs is not installed (the extra htj2k)")
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    compressed = dicom(TWELVE, encoded=bytes(encode(codecs)), syntax=syntax, **window)
    assert np.array_equal(gray(compressed), gray(dicom(TWELVE, **window)))
    with pytest.raises(DamagedImage, match="its pixels cannot be decoded"):
        gray(dicom(TWELVE, encoded=b"\x00" * 64, syntax=syntax))


# The header


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"PatientAge": "045Y", "PatientSex": "M", "ViewPosition": "PA"}, (45, "M", "PA", "")),
        ({"PatientAge": "030M", "PatientSex": "O"}, (2, None, None, "")),
        ({"PatientAge": "051W", "ViewPosition": ""}, (0, None, None, "")),
        ({"PatientAge": "old", "ViewPosition": "LL"}, (None, None, None, "ViewPosition LL")),
        ({"PatientBirthDate": "19500601", "StudyDate": "20200531"}, (69, None, None, "")),
        ({"SeriesDescription": "Chest AP portable"}, (None, None, "AP", "")),
        ({"SeriesDescription": "CHEST_LATERAL"}, (None, None, None, "SeriesDescription 'CHEST LATERAL'")),
        ({"SeriesDescription": "Chest PA/AP"}, (None, None, None, "")),
        ({"SeriesDescription": "Chest happy"}, (None, None, None, "")),
    ],
)
def test_what_the_header_says(fields: dict[str, str], expected: tuple[Any, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom, of what is written against the rules
        data = dicom(TWELVE, ImagerPixelSpacing=[0.15, 0.15], **fields)
    header = reader.header(data)
    assert (header.age_years, header.sex, header.view, header.lateral) == expected
    assert header.spacing_mm == 0.15
    assert bool(header.notes) == (fields.get("SeriesDescription") == "Chest AP portable")


def test_what_is_no_chest_film_is_said() -> None:
    header = reader.header(dicom(TWELVE, Modality="CT", BodyPartExamined="HAND"))
    assert header.notes == ("modality CT: no X-ray film", "body part HAND, not the chest")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dicom(TWELVE, NumberOfFrames=2), "2 frames, expected one film"),
        (dicom(TWELVE)[:-500], "its pixels cannot be decoded"),
        (dicom(TWELVE)[:300], "DICOM"),
        (dicom(TWELVE, Rows=30000), "40 x 30,000 pixels, expected 32 to 16,384"),
        (b"\x00" * 128 + b"DICM", "not a readable DICOM file|without pixels"),
        (b"hello" * 100, "not a readable DICOM file|without pixels"),
    ],
)
def test_damaged_files(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "film.dcm").write_bytes(data)
    with pytest.raises(DamagedImage, match=message):
        reading.read("film", tmp_path / "film.dcm", 64)


def test_files_are_found_by_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "IM0001").write_bytes(dicom(TWELVE))
    (tmp_path / "a.dcm").write_bytes(dicom(TWELVE))
    (tmp_path / "README").write_text("read me")
    (tmp_path / ".hidden.png").write_bytes(b"")
    found = reading.find((tmp_path,))
    assert [name for name, _ in found.files] == ["a.dcm", "deep/IM0001"]
    assert found.passed_over == ("README",)
    film = reading.read("IM0001", tmp_path / "deep" / "IM0001", 64)
    assert (film.width, film.height, film.image.shape) == (40, 48, (64, 64))


def test_without_pydicom(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "pydicom":
            raise ImportError(name=name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(
        UserError, match=r"read with pydicom, which is not installed\n  remedy: pip install 'cxrkit\[dicom\]'"
    ):
        reader.header(b"")
