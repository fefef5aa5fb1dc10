"""Pictures of 12 bits in files of 16 are told from those that use all, grey and in colour, whatever the format."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from optops.workloads.dark_images import is_dark_16_bit
from optops.workloads.images import open_image

VALUES = np.random.default_rng(0).integers(0, 1 << 12, (20, 30, 4), dtype=np.uint16)


def write_png(path, values):
    """Pillow writes no colours of 16 bits."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def write_tiff(path, values):
    height, width, channels = values.shape
    entries = [(256, width), (257, height), (259, 1), (262, 2 if channels > 2 else 1), (277, channels), (278, height)]
    start = 8 + 2 + 12 * (len(entries) + 3) + 4
    long_entries = [(258, 3, channels, start), (273, 4, 1, start + 8), (279, 4, 1, values.nbytes)]
    packed = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries]
    packed += [struct.pack("<HHII", *entry) for entry in long_entries]
    packed.sort(key=lambda entry: int.from_bytes(entry[:2], "little"))
    head = b"II*\0" + struct.pack("<IH", 8, len(packed)) + b"".join(packed) + bytes(4)
    path.write_bytes(head + struct.pack("<4H", 16, 16, 16, 16) + values.astype("<u2").tobytes())


@pytest.mark.parametrize(("write", "channels"), [(write_png, 1), (write_png, 3), (write_png, 4), (write_tiff, 3)])
def test_a_picture_of_12_bits_in_a_file_of_16_is_dark_and_one_that_uses_all_is_not(tmp_path, write, channels):
    path = tmp_path / "picture"
    values = VALUES[..., :channels].copy()
    if channels == 4:
        values[..., 3] = 65_535  # It is opaque.
    for pixels, dark in ((values, True), (values * 16, False)):
        write(path, pixels)
        assert is_dark_16_bit(open_image(path), path) == dark


def test_a_night_of_8_bits_is_none(tmp_path):
    path = tmp_path / "night.png"
    Image.fromarray((VALUES[..., :3] >> 8).astype(np.uint8)).save(path)
    assert not is_dark_16_bit(open_image(path), path)
