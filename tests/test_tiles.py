"""Tiles: a part of a JPEG is, to the last bit, that part of the whole, and damage to its index is noticed."""

from __future__ import annotations

import io
import struct
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mutations import mutations
from PIL import Image
from tiny_cohort import picture

from cxrkit.shards import codecs, tiles

SIDES = (1024, 512, 256, 320, 160, 224, 128, 136, 1000, 500)
INDEX = 20  # where the index begins: behind JFIF's segment
PLACES = INDEX + 13  # where its list of rows begins


@cache
def image(content: str, side: int) -> np.ndarray:
    """Return a (side, side) uint8 image."""
    rng = np.random.default_rng(side)
    if content == "picture":
        return cv2.resize(picture(side % 7), (side, side), interpolation=cv2.INTER_AREA)
    if content == "noise":
        return rng.integers(0, 256, (side, side), np.uint8)
    if content == "black and white":
        return rng.integers(0, 2, (side, side), np.uint8) * 255
    return np.full((side, side), int(content), np.uint8)


@cache
def encoded(content: str, side: int, quality: int = 95, restart: int = tiles.RESTART) -> np.ndarray:
    return np.frombuffer(bytes(codecs.encode("jpeg", image(content, side), quality, restart)), np.uint8)


@cache
def decoded(content: str, side: int, quality: int = 95) -> np.ndarray:
    return cv2.imdecode(encoded(content, side, quality, 0), cv2.IMREAD_GRAYSCALE)


def joined(data: np.ndarray, side: int, window: tuple[int, int, int, int]) -> tuple[np.ndarray, tiles.Window]:
    return codecs.encoded_window("jpeg", data, side, tiles.RESTART, window)


@st.composite
def windows(draw: st.DrawFn, side: int) -> tuple[int, int, int, int]:
    """Draw left, top, right and bottom; the edges of the image and of tiles more often than others."""
    place = st.sampled_from(range(0, side, 8)) | st.integers(0, side - 1)
    left, top = draw(place), draw(place)
    right = draw(st.sampled_from([left + 1, side]) | st.integers(left + 1, side))
    return left, top, right, draw(st.sampled_from([top + 1, side]) | st.integers(top + 1, side))


@pytest.mark.parametrize(
    ("side", "blocks"),
    [
        *[(1024, 16), (512, 16), (256, 16), (128, 16), (320, 20), (160, 20), (224, 14)],
        *[(136, 17), (1000, 25), (500, 21), (1016, 127)],
        *[(64, 0), (100, 0), (120, 0), (1032, 0), (2048, 0)],
    ],
)
def test_every_row_begins_a_tile(side: int, blocks: int) -> None:
    assert tiles.interval(side, tiles.RESTART) == blocks
    assert blocks == 0 or -(-side // 8) % blocks == 0
    assert tiles.interval(side, 0) == 0


@pytest.mark.parametrize("content", ["picture", "noise", "black and white", "0", "255", "117"])
@given(data=st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_window_is_that_part_of_the_whole_to_the_last_bit(content: str, data: st.DataObject) -> None:
    side, quality = data.draw(st.sampled_from(SIDES)), data.draw(st.sampled_from([95, 95, 1, 100]))
    window = data.draw(windows(side))
    part, (x, y, right, bottom) = joined(encoded(content, side, quality), side, window)
    assert x <= window[0] < window[2] <= right <= side
    assert y <= window[1] < window[3] <= bottom <= side
    assert window[1] - y < 8
    assert bottom - window[3] < 8
    pixels = codecs.decode("jpeg", part, right - x, bottom - y)
    assert np.array_equal(pixels, decoded(content, side, quality)[y:bottom, x:right])


def test_no_more_is_joined_than_the_window_meets() -> None:
    data = encoded("picture", 1024)
    small, part = joined(data, 1024, (130, 17, 250, 30))
    assert part == (128, 16, 256, 32)
    assert len(small) < 3000
    everything, part = joined(data, 1024, (1, 1, 1020, 1020))
    assert part == (0, 0, 1024, 1024)
    assert everything is data, "nothing is copied where nothing is left out"
    assert joined(encoded("picture", 1024, 95, 0), 64, (0, 0, 9, 9))[1] == (0, 0, 64, 64), "too small for tiles"


@pytest.mark.parametrize("side", SIDES)
def test_a_level_with_tiles_is_a_jpeg_for_every_decoder(side: int) -> None:
    data, expected = encoded("picture", side), decoded("picture", side)
    assert np.array_equal(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), expected)
    for part, pixels in [(data, expected), (joined(data, side, (0, 9, side // 3, side))[0], None)]:
        mine = cv2.imdecode(part, cv2.IMREAD_GRAYSCALE) if pixels is None else pixels
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(part.tobytes()))), mine)
    assert 0 < len(data) - len(encoded("picture", side, 95, 0)) < 0.04 * len(data) + 40
    assert np.array_equal(data, np.frombuffer(bytes(codecs.encode("jpeg", image("picture", side), 95, 16)), np.uint8))


def test_dali_takes_whole_levels_and_windows() -> None:
    dali = pytest.importorskip("nvidia.dali")
    fn, types = pytest.importorskip("nvidia.dali.fn"), pytest.importorskip("nvidia.dali.types")
    parts = [encoded("picture", side) for side in (1024, 256)]
    parts += [joined(parts[0], 1024, window)[0] for window in ((130, 17, 700, 900), (0, 500, 1024, 777))]
    pipeline = dali.Pipeline(len(parts), 1, None)
    with pipeline:
        data = fn.external_source(source=lambda: parts, batch=True, dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(fn.decoders.image(data, device="cpu", output_type=types.GRAY))
    pipeline.build()
    (found,) = pipeline.run()
    for number, part in enumerate(parts):
        expected = cv2.imdecode(part, cv2.IMREAD_GRAYSCALE)
        pixels = np.asarray(found.at(number))[..., 0]
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).max() <= 1


def changed(data: np.ndarray, position: int, values: bytes) -> np.ndarray:
    other = data.copy()
    other[position : position + len(values)] = np.frombuffer(values, np.uint8)
    return other


def marker_after(data: np.ndarray, row: int) -> int:
    """Return where the first restart marker of a row of tiles lies."""
    place = struct.unpack_from(">I", data.data, PLACES + 4 * row)[0]
    return place + data[place:].tobytes().index(b"\xff\xd0" if row % 2 == 0 else b"\xff\xd4")


DAMAGE: dict[str, tuple[Any, str]] = {
    "no index": (lambda d: np.delete(d, np.s_[INDEX : PLACES + 4 * 65]), "hold no index of their tiles"),
    "another segment": (lambda d: changed(d, INDEX + 4, b"others\0"), "hold no index of their tiles"),
    "an index of another length": (lambda d: changed(d, INDEX + 2, b"\0\x20"), "hold no index of their tiles"),
    "a row later": (lambda d: changed(d, PLACES + 4 * 8, b"\0\0\x90\0"), "do not lie where the index says"),
    "a row beyond all": (lambda d: changed(d, PLACES + 4 * 32, b"\xff" * 4), "do not lie where the index says"),
    "a row at nothing": (lambda d: changed(d, PLACES + 4 * 8, b"\0" * 4), "do not lie where the index says"),
    "rows in another order": (lambda d: changed(d, PLACES + 4 * 32, d[PLACES:][:4].tobytes()), "do not lie where"),
    "the first tile elsewhere": (lambda d: changed(d, PLACES, b"\0\0\0\x70"), "is not that of a level with tiles"),
    "a frame elsewhere": (lambda d: changed(d, INDEX + 11, b"\0\x10"), "is not that of a 512x512 image"),
    "a frame of another size": (
        lambda d: changed(d, d.tobytes().index(b"\xff\xc0") + 5, b"\1\0\1\0"),
        "is not that of a 512x512 image",
    ),
    "another interval": (lambda d: changed(d, d.tobytes().index(b"\xff\xdd") + 5, b"\x08"), "is not that of a level"),
    "a marker that is none": (lambda d: changed(d, marker_after(d, 12) + 1, b"\0"), "are not as they were written"),
    "a marker out of turn": (lambda d: changed(d, marker_after(d, 12) + 1, b"\xd5"), "are not as they were written"),
    "an end in the middle": (lambda d: changed(d, marker_after(d, 12) + 9, b"\xff\xd9"), "are not as they were"),
    "cut off": (lambda d: d[:20_000], "do not lie where the index says"),
    "next to nothing": (lambda d: d[:30], "hold no index of their tiles"),
    "nothing": (lambda d: d[:0], "hold no index of their tiles"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_tiles_that_are_not_as_they_were_written_are_refused(damage: str) -> None:
    harm, message = DAMAGE[damage]
    data = encoded("picture", 512)
    for window in ((40, 70, 300, 250), (0, 64, 512, 256)):
        joined(data, 512, window)
        with pytest.raises(ValueError, match=message):
            joined(harm(data), 512, window)
    codecs.check_tiles(data, 512, tiles.RESTART)
    with pytest.raises(ValueError, match="jpeg"):
        codecs.check_tiles(harm(data), 512, tiles.RESTART)


def test_the_check_sees_rows_that_no_window_has_met() -> None:
    data = encoded("picture", 512)
    for harmed in (changed(data, PLACES + 4 * 5, b"\0\0\x90\0"), changed(data, len(data) - 1, b"\xd8")):
        with pytest.raises(ValueError, match="jpeg"):
            codecs.check_tiles(harmed, 512, tiles.RESTART)
    codecs.check_tiles(data[:9], 512, 0)
    codecs.check_tiles(data[:9], 64, tiles.RESTART)


@hypothesis_settings(max_examples=300, deadline=None)
@given(value=st.data())
def test_any_bytes_are_decoded_or_refused(value: st.DataObject) -> None:
    """Most changes fall into the index and the header, where there is more to go wrong than in a tile."""
    whole = encoded("picture", 256).tobytes()
    start = struct.unpack_from(">I", whole, PLACES)[0]
    harmed = value.draw(mutations(whole[:start]) | st.just(whole[:start])) + value.draw(
        mutations(whole[start:]) | st.just(whole[start:])
    )
    try:
        part, (x, y, right, bottom) = joined(np.frombuffer(harmed, np.uint8), 256, value.draw(windows(256)))
        assert codecs.decode("jpeg", part, right - x, bottom - y).shape == (bottom - y, right - x)
    except ValueError as error:
        said = str(error)
    else:
        said = "jpeg"
    assert "jpeg" in said
