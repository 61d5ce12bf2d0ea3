from __future__ import annotations

import io
import random
import resource
import struct
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutations
from PIL import Image
from tiny_cohort import picture, png

from cxrkit.sources.pixels import DamagedImage, image_size, read_image, read_png

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


def transparent(kind: str) -> bytes:
    """Return GRAY in the ways in which a PNG can say that white, or everything, is not to be seen."""
    image = Image.fromarray(GRAY)
    if kind in ("RGBA", "LA"):
        image = image.convert(kind)
        image.putalpha(Image.new("L", image.size, 0))
        return saved(image)
    if kind == "palette":
        image = Image.frombytes("P", image.size, GRAY.tobytes())
        image.putpalette([shade // 3 for shade in range(768)])
        return saved(image, transparency=bytes(range(256)))
    return saved(image.convert(kind), transparency=255 if kind == "L" else (255, 255, 255))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "RGB", "L"])
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow's, which ignores it as we do
def test_transparency_is_ignored_as_the_fields_readers_do(kind: str) -> None:
    data = transparent(kind)
    pixels = read_png(data)
    assert np.array_equal(pixels.image, GRAY)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(pixels.image, np.asarray(image.convert("L")))
    assert np.array_equal(pixels.image, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))
    assert pixels.converted == ("" if kind == "L" else f"{kind}, alpha ignored")


def test_transparent_colours_are_mixed_as_they_are_stored() -> None:
    colour = np.dstack([GRAY, np.roll(GRAY, 40, 0), np.roll(GRAY, 80, 1), GRAY // 2])
    pixels = read_png(saved(Image.fromarray(colour, "RGBA")))
    assert np.abs(pixels.image - colour[..., :3] @ [0.299, 0.587, 0.114]).max() <= 1
    assert pixels.converted == "RGBA, colours mixed, alpha ignored"


@pytest.mark.parametrize("side", [224, 256, 320, 512, 1024, 1500])
def test_resized_copies_are_read_at_their_size(side: int) -> None:
    small = cv2.resize(GRAY, (side, side), interpolation=cv2.INTER_AREA)
    gray, colour = png(small), saved(Image.fromarray(small).convert("RGB"))
    for data, converted in ((gray, ""), (colour, "RGB")):
        pixels = read_image(data, side)
        assert np.array_equal(pixels.image, small)
        assert pixels.converted == converted
        assert image_size(data[:64]) == (side, side)
    with pytest.raises(DamagedImage, match=f"^{side} x {side} pixels, expected 100 x 100$"):
        read_image(gray, 100)


def jpeg(image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95, *options])[1].tobytes()


@pytest.mark.parametrize("side", [224, 1024])
@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
def test_a_jpeg_is_read_and_said_to_be_one(side: int, options: tuple[int, ...]) -> None:
    data = jpeg(GRAY[:side, :side], *options)
    pixels = read_image(data, side)
    assert np.array_equal(pixels.image, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))
    assert pixels.converted == "JPEG"
    assert image_size(data[:1000]) == (side, side)


def test_gray_stored_as_a_colour_jpeg_is_gray_and_colour_is_mixed() -> None:
    pixels = read_image(jpeg(np.dstack([GRAY] * 3)), 1024)
    assert np.abs(pixels.image.astype(int) - GRAY).max() <= 12
    assert pixels.converted == "JPEG"
    colour = cv2.GaussianBlur(np.dstack([GRAY, np.roll(GRAY, 40, 0), np.roll(GRAY, 80, 1)]), (0, 0), 5)
    pixels = read_image(jpeg(colour), 1024)
    assert np.abs(pixels.image - colour[..., ::-1] @ [0.299, 0.587, 0.114]).mean() <= 1
    assert pixels.converted == "JPEG, colours mixed"


def test_a_jpeg_is_not_turned_by_its_exif_orientation() -> None:
    upright = Image.fromarray(GRAY)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", quality=95, exif=exif)
    assert np.abs(read_image(buffer.getvalue(), 1024).image.astype(int) - GRAY).mean() < 2


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
def test_half_a_jpeg_is_damaged(share: float, ending: bytes) -> None:
    data = jpeg(GRAY)
    with pytest.raises(DamagedImage, match="the JPEG is cut off"):
        read_image(data[: 2 + int(len(data) * share)] + ending, 1024)


def test_the_size_of_what_is_no_image_is_unknown() -> None:
    whole = png(GRAY)
    for start in (b"", whole[:8], whole[:20], b"\xff\xd8", jpeg(GRAY)[:30], b"<html>", bytes(100)):
        assert image_size(start) is None


def test_a_bomb_does_not_go_off() -> None:
    """Small files that claim, or unpack to, gigabytes."""
    many = zlib.compress(bytes(300_000_000), 1)
    for colour in (0, 2):
        head = build(b"", colour=colour)[:33]
        bomb = head + chunk(b"IDAT", many) + chunk(b"IEND", b"")
        text = head + chunk(b"zTXt", b"a\0\0" + many) + chunk(b"iCCP", b"a\0\0" + many) + build(rows_of(GRAY))[33:]
        for data in (bomb, text):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with suppress(DamagedImage):
                read_image(data, 1024)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    huge = build(b"", side=60_000)
    with pytest.raises(DamagedImage, match="60000 x 60000 pixels, expected 4096 x 4096 at the most"):
        read_image(huge, 60_000)


RGBA = saved(Image.fromarray(GRAY).convert("RGBA"))
SHORT = rows_of(GRAY)[: -1025 * 300]
DAMAGED = {
    "empty": (b"", "the file is empty (0 bytes)"),
    "text": (b"<html>not found</html>", "not a PNG but a text file (it begins with '<html>not found</html>')"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "not a PNG but a Git LFS pointer, not the file itself"),
    "gif": (b"GIF89a" + bytes(50), "not a PNG but a GIF"),
    "too many rows in RGB": (build(bytes(1024 * 3073 + 9), colour=2), "the PNG holds more pixels than its header says"),
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


SMALL = cv2.resize(GRAY, (64, 64), interpolation=cv2.INTER_AREA)
VALID = {
    "gray": png(SMALL),
    "RGBA": saved(Image.fromarray(SMALL).convert("RGBA")),
    "palette": saved(Image.fromarray(SMALL).convert("RGB").quantize(16), transparency=3),
    "JPEG": jpeg(SMALL),
    "colour JPEG": jpeg(np.dstack([SMALL, SMALL[::-1], SMALL])),
    "progressive JPEG": jpeg(SMALL, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
}


@pytest.mark.parametrize("kind", VALID)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_mutated_image_is_read_or_said_to_be_damaged(kind: str, data: st.DataObject) -> None:
    content = data.draw(mutations(VALID[kind]))
    image_size(content[:100])
    try:
        image = read_image(content, 64).image
    except DamagedImage:
        pass
    else:
        assert (image.shape, image.dtype) == ((64, 64), np.uint8)


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
