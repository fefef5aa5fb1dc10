import base64
import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from optops.candidate import digest_folder
from optops.workloads.images import (
    ImageError,
    encode_png,
    image_files,
    image_of_input,
    image_size,
    inspect_image,
    open_image,
    pixels_of,
    read_image,
)

NOISE = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def test_images_in_folders_that_are_links_are_found_and_loops_end(tmp_path):
    cats, train = tmp_path / "cats", tmp_path / "train"
    (cats / "below").mkdir(parents=True)
    train.mkdir()
    for path in (cats / "a.png", cats / "below" / "b.png"):
        path.write_bytes(b"")
    (train / "cat").symlink_to(cats)
    (train / "tabby").symlink_to(cats / "below")
    (cats / "back").symlink_to(train)
    found = [path.relative_to(train).as_posix() for path in image_files(train)]
    assert found == ["cat/a.png", "cat/below/b.png", "tabby/b.png"]


@pytest.mark.parametrize("read", [image_files, digest_folder], ids=lambda read: read.__name__)
def test_a_name_that_is_no_utf8_is_refused_with_its_folder(tmp_path, read):
    (tmp_path / "below").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "below") + b"/gr\xf6sse.jpg")).write_bytes(b"")
    with pytest.raises(ValueError, match=r"below: the name b'gr\\xf6sse\.jpg' is no UTF-8; rename it"):
        read(tmp_path)


def encoded(image, form="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def bomb(width, height):
    """A PNG that says it is large and is small."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_pixels_come_back_from_lossless_formats(form):
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(NOISE), form)), NOISE)


@pytest.mark.parametrize("form", ["PNG", "BMP", "JPEG", "TIFF", "WEBP", "PPM", "GIF"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_found_in_every_format(form, kept):
    content = encoded(Image.fromarray(NOISE), form)
    facts = inspect_image(content[: int(kept * len(content))])
    assert facts.problem
    with pytest.raises(ImageError):
        open_image(content[: int(kept * len(content))])


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", bytes(5000)])
def test_what_is_no_image_is_said_to_be_none(content):
    facts = inspect_image(content)
    assert facts.problem
    assert (facts.width, facts.height) == (0, 0)


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (15_000, 10_001)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(width, height):
    with pytest.raises(ImageError, match="pixels"):
        open_image(bomb(width, height))


def test_a_photograph_on_its_side_is_set_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(NOISE), "PNG", exif=exif)
    np.testing.assert_array_equal(read_image(content), np.rot90(NOISE, -1))
    assert (inspect_image(content).width, inspect_image(content).height) == (40, 30)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_the_header_is_that_of_the_upright_image(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(NOISE), form, exif=exif)
    upright = (40, 30) if orientation > 4 else (30, 40)
    assert image_size(content) == open_image(content).size == upright
    facts = inspect_image(content)
    assert (facts.width, facts.height) == upright


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "I;16"])
@pytest.mark.parametrize("orientation", [6, 3])
def test_an_uncompressed_tiff_on_its_side_is_the_same_from_its_file_as_from_its_bytes(tmp_path, mode, orientation):
    deep = Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)
    image = deep if mode == "I;16" else Image.fromarray(NOISE).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "scan.tif"
    image.save(path, exif=exif)
    upright = np.rot90(np.asarray(image), -1 if orientation == 6 else 2)
    for source in (path, path.read_bytes()):
        np.testing.assert_array_equal(np.asarray(open_image(source)), upright)


@pytest.mark.parametrize("said", ["eXIf", "iTXt"])
@pytest.mark.parametrize("after", [False, True], ids=["before the pixels", "after the pixels"])
def test_a_png_may_say_before_or_after_its_pixels_that_it_stands_on_its_side(said, after):
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
    content = encoded(Image.fromarray(NOISE), "PNG", **({"exif": exif} if said == "eXIf" else {"pnginfo": text}))
    start = content.index(said.encode()) - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    if after:
        content = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    assert image_size(content) == open_image(content).size == (40, 30)


def test_the_size_of_a_png_is_told_without_decoding_it(monkeypatch):
    def decode(image):
        raise AssertionError("decoded")

    content = encoded(Image.fromarray(NOISE), "PNG")
    monkeypatch.setattr(PngImageFile, "load", decode)
    assert image_size(content) == (30, 40)


@pytest.mark.parametrize("form", ["BMP", "GIF", "PPM"])
def test_an_image_that_says_nothing_of_its_orientation_is_upright(form):
    content = encoded(Image.fromarray(NOISE), form)
    assert image_size(content) == open_image(content).size == (30, 40)


@pytest.mark.parametrize(
    "odd",
    [
        struct.pack("<HHI4s", 0x128, 2, 4, b"abc\0"),
        struct.pack("<HHI4s", 0x11A, 2, 4, b"72\0\0"),
        struct.pack("<HHIhh", 0x128, 8, 1, -5, 0),
        struct.pack("<HHIf", 0x11A, 11, 1, float("nan")),
    ],
    ids=["text for a number", "text for a ratio", "a negative unit", "no ratio"],
)
def test_a_photograph_on_its_side_may_have_an_odd_tag_beside_its_orientation(odd):
    entries = [struct.pack("<HHIHH", 0x112, 3, 1, 6, 0), odd]
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)
    content = encoded(Image.fromarray(NOISE), "JPEG")
    photograph = content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:]
    np.testing.assert_array_equal(read_image(photograph), np.rot90(read_image(content), -1))
    assert image_size(photograph) == (40, 30)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_an_orientation_in_xmp_alone_counts_too(form):
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    if form == "PNG":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        content = encoded(Image.fromarray(NOISE), form, pnginfo=text)
    else:
        content = encoded(Image.fromarray(NOISE), form, tiffinfo={700: xmp})
    assert image_size(content) == open_image(content).size == (40, 30)


def test_colour_modes_become_what_they_look_like():
    grey = Image.fromarray(NOISE[..., 0])
    np.testing.assert_array_equal(pixels_of(grey, "RGB"), np.repeat(NOISE[..., :1], 3, -1))
    deep = Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)
    np.testing.assert_array_equal(pixels_of(open_image(encoded(deep)), "L"), NOISE[..., 0])
    palette = Image.fromarray(NOISE).quantize(16)
    np.testing.assert_array_equal(pixels_of(open_image(encoded(palette)), "RGB"), np.asarray(palette.convert("RGB")))
    see_through = Image.fromarray(np.dstack([NOISE, NOISE[..., :1]]))
    np.testing.assert_array_equal(pixels_of(see_through, "RGB"), NOISE)
    white = Image.new("CMYK", (4, 3), (0, 0, 0, 0))
    assert (pixels_of(open_image(encoded(white, "TIFF")), "RGB") == 255).all()
    with pytest.raises(ImageError, match="floating-point"):
        pixels_of(Image.fromarray(np.zeros((2, 2), np.float32)), "L")


def test_a_served_image_comes_as_bytes_as_base64_or_as_an_array():
    content = encode_png(Image.fromarray(NOISE))
    text = base64.b64encode(content).decode()
    for value in (content, bytearray(content), text, f"data:image/png;base64,{text}", NOISE):
        np.testing.assert_array_equal(np.asarray(image_of_input(value)), NOISE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"not an image", "input 3: it is no image"),
        ("not base64!", "input 3: the text"),
        ("data:image/png,xyz", "does not say base64"),
        (7, "input 3 is int"),
        (encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "input 3: its pixels are floating-point"),
        (encoded(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF"), "input 3: its pixels are 32-bit"),
        (np.zeros((2, 2), np.float32), "float32"),
        (np.zeros((0, 2), np.uint8), r"uint8 \[0, 2\]"),
    ],
)
def test_an_input_that_is_no_image_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        image_of_input(value, 3)


def test_a_folder_gives_its_images_in_order_and_nothing_else(tmp_path):
    for name in ("b.PNG", "a.jpg", "d.jfif", "e.jpe", "sub/c.bmp", ".hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = [str(path.relative_to(tmp_path)) for path in image_files(tmp_path)]
    assert found == ["a.jpg", "b.PNG", "d.jfif", "e.jpe", "sub/c.bmp"]
    with pytest.raises(ValueError, match="does not exist"):
        image_files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        image_files(tmp_path / "empty")


@pytest.mark.parametrize("mode", ["<u2", ">u2", "i4"])
def test_every_number_of_16_bits_becomes_its_nearest_of_8(mode):
    values = np.arange(65_536).reshape(256, 256)
    order = "I;16B" if mode == ">u2" else "I;16" if mode == "<u2" else "I"
    image = Image.frombytes(order, (256, 256), values.astype(mode).tobytes())
    assert (pixels_of(image, "L") == np.floor(values / 257 + 0.5)).all()
