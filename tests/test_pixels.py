from __future__ import annotations

import io
import random
import struct
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_cohort import picture, png

from cxrkit.pixels import DamagedImage, read_png

GRAY = picture(0)


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def build(rows: bytes, *, depth: int = 8, colour: int = 0, interlaced: int = 0, side: int = 1024) -> bytes:
    """Return a PNG whose checksums are all right, whatever the rows are."""
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def rows_of(image: np.ndarray) -> bytes:
    flat = image.reshape(1024, -1)
    return np.hstack([np.zeros((1024, 1), np.uint8), flat]).tobytes()


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]


def test_gray_is_exact_and_not_converted() -> None:
    pixels = read_png(png(GRAY))
    assert np.array_equal(pixels.image, GRAY)
    assert pixels.image.shape == (1024, 1024)
    assert pixels.converted == ""


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_gray_in_other_clothes_is_taken_as_it_is(mode: str) -> None:
    pixels = read_png(saved(Image.fromarray(GRAY).convert(mode)))
    assert np.array_equal(pixels.image, GRAY)
    assert pixels.converted == mode


def test_a_palette_is_looked_up_and_not_taken_for_gray() -> None:
    indexed = Image.frombytes("P", (1024, 1024), (255 - GRAY).tobytes())
    indexed.putpalette([255 - number // 3 for number in range(768)])
    pixels = read_png(saved(indexed))
    assert np.array_equal(pixels.image, GRAY)
    assert pixels.converted == "palette"


def test_colours_are_mixed_by_luma_and_said_so() -> None:
    colour = np.dstack([GRAY, np.roll(GRAY, 40, 0), np.roll(GRAY, 80, 1)])
    pixels = read_png(saved(Image.fromarray(colour)))
    expected = colour @ [0.299, 0.587, 0.114]
    assert np.abs(pixels.image - expected).max() <= 1
    assert pixels.converted == "RGB, colours mixed"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_black_and_said_so(mode: str) -> None:
    image = Image.fromarray(GRAY).convert(mode)
    alpha = np.full_like(GRAY, 255)
    alpha[:512] = 128
    image.putalpha(Image.fromarray(alpha))
    pixels = read_png(saved(image))
    assert np.array_equal(pixels.image[512:], GRAY[512:])
    assert np.abs(pixels.image[:512] - GRAY[:512] * (128 / 255)).max() <= 0.5
    assert pixels.converted == f"{mode}, alpha applied"


def test_a_shade_declared_transparent_is_shown() -> None:
    pixels = read_png(saved(Image.fromarray(GRAY), transparency=int(GRAY[700, 700])))
    assert np.array_equal(pixels.image, GRAY)


RGBA = saved(Image.fromarray(GRAY).convert("RGBA"))
SHORT = rows_of(GRAY)[: -1025 * 300]
DAMAGED = {
    "empty": (b"", "the file is empty (0 bytes)"),
    "text": (b"<html>not found</html>", "not a PNG but a text file (it begins with '<html>not found</html>')"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "not a PNG but a Git LFS pointer, not the file itself"),
    "jpeg": (cv2.imencode(".jpg", GRAY)[1].tobytes(), "not a PNG but a JPEG"),
    "zeros": (bytes(4000), "not a PNG but a file that begins with zeros (an unfinished download)"),
    "unknown": (bytes(range(128, 256)), "not a PNG but a file of an unknown kind"),
    "half header": (png(GRAY)[:20], "the PNG is cut off inside its header (20 bytes)"),
    "truncated": (png(GRAY)[:100_000], "the PNG is cut off: pixels are missing"),
    "no end": (png(GRAY)[:-12], "the PNG is cut off: pixels are missing"),
    "missing rows": (build(SHORT), "the PNG is cut off: pixels are missing"),
    "truncated RGBA": (RGBA[:100_000], "the PNG is cut off: pixels are missing"),
    "missing rows in RGB": (build(SHORT, colour=2), "the PNG is cut off: pixels are missing"),
    "flipped byte": (flipped(png(GRAY), 90_000), "the checksum of a PNG chunk does not match (CRC error"),
    "flipped byte in RGBA": (flipped(RGBA, 90_000), "the checksum of a PNG chunk does not match (IDAT)"),
    "flipped header": (flipped(png(GRAY), 19), "the checksum of its PNG header does not match"),
    "bad stream": (build(b"\x09" + rows_of(GRAY)[1:]), "the PNG cannot be decoded (Unknown filter method 9)"),
    "small": (png(GRAY[:512, :512]), "512 x 512 pixels, expected 1024 x 1024"),
    "16 bits": (png(GRAY.astype(np.uint16) * 257), "16 bits per gray sample, expected 8"),
    "16 bits RGB": (png(np.dstack([GRAY.astype(np.uint16)] * 3)), "16 bits per RGB sample, expected 8"),
    "1 bit": (saved(Image.fromarray(GRAY).convert("1")), "1 bits per gray sample, expected 8"),
    "4 bits": (build(bytes(1024 * 513), depth=4), "4 bits per gray sample, expected 8"),
    "interlaced": (build(rows_of(GRAY), interlaced=1), "an interlaced PNG, expected one that is not"),
    "colour type": (build(rows_of(GRAY), colour=5), "unknown PNG colour type 5"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_named(kind: str) -> None:
    data, reason = DAMAGED[kind]
    with pytest.raises(DamagedImage) as caught:
        read_png(data)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("data", [png(GRAY), RGBA], ids=["gray", "RGBA"])
def test_no_flipped_bit_goes_unnoticed(data: bytes) -> None:
    rng = random.Random(7)
    noticed = 0
    for _ in range(12):
        try:
            image = read_png(flipped(data, rng.randrange(8, len(data) - 12))).image
        except DamagedImage:
            noticed += 1
        else:
            assert np.array_equal(image, GRAY)
    assert noticed >= 10


def test_real_images_equal_opencv(nih_raw: Path) -> None:
    kinds: Counter[str] = Counter()
    for path in sorted((nih_raw / "images").glob("*.png")):
        if path.read_bytes()[25] == 0 and len(kinds) and kinds[""] >= 25:
            continue  # 25 plain ones are enough; all the others count
        pixels = read_png(path.read_bytes())
        kinds[pixels.converted] += 1
        assert np.array_equal(pixels.image, cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)), path.name
    assert set(kinds) <= {"", "RGBA"}
    assert kinds["RGBA"] >= 1
