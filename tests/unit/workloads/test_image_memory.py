"""What large images take of memory, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

PEAK = """
def peak():
    # Not of getrusage, which counts the process that started this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
"""
SIDE = 4000


def growth(setup: str, work: str) -> int:
    """Returns by how many bytes the largest memory of a process grows by some work."""
    code = f"{PEAK}\n{setup}\nbefore = peak()\n{work}\nprint(peak() - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_an_image_of_16_bits_takes_a_few_times_its_own_memory(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint16)).save(tmp_path / "large.tif")
    setup = "from pathlib import Path\nfrom PIL import TiffImagePlugin\nfrom optops.workloads.images import read_image"
    grown = growth(setup, f"read_image(Path({str(tmp_path / 'large.tif')!r}), 'L')")
    assert grown < 5 * SIDE * SIDE * 2


def test_an_image_that_is_made_smaller_is_a_float_in_one_channel_at_a_time() -> None:
    setup = (
        "import numpy as np\nfrom optops.workloads.super_resolution.resizing import shrink\n"
        f"image = np.zeros(({SIDE}, {SIDE}, 3), np.uint8)\nimage[:] = 7\nshrink(image[:64, :64], 2)"
    )
    grown = growth(setup, "shrink(image, 2)")
    # In float64, all channels alone take 24 bytes a pixel, and as many again where an axis is turned.
    assert grown < 32 * SIDE * SIDE
