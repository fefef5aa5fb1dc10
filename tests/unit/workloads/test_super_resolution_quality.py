"""Resizing, PSNR and SSIM against independent references, and against published figures where the data is there."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import convolve2d

from optops.workloads.images import open_image
from optops.workloads.super_resolution import quality
from optops.workloads.super_resolution.loading import visible_pixels
from optops.workloads.super_resolution.quality import LARGEST_PSNR, chroma, luma, psnr, rgb_of, ssim
from optops.workloads.super_resolution.resizing import enlarge, resize, shrink, to_bytes

DATA = Path(__file__).parents[3] / ".." / "shared" / "data" / "super_resolution"
PUBLISHED = {
    "set5": {2: 33.64, 3: 30.39, 4: 28.42},
    "set14": {2: 30.22, 3: 27.53, 4: 25.99},
}
"""PSNR of bicubic resizing in dB: README of github.com/jbhuang0604/SelfExSR."""

RANDOM = np.random.default_rng(5)
NOISE = RANDOM.integers(0, 256, (40, 33, 3), dtype=np.uint8)


def read(path):
    return visible_pixels(open_image(path))


@pytest.mark.parametrize("data_set", PUBLISHED)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_resizing_reaches_the_published_figure(data_set, scale):
    folder = DATA / data_set
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    found = []
    for path in sorted((folder / "HR").iterdir()):
        low = read(folder / f"LR_x{scale}" / path.name)
        high = read(path)[: low.shape[0] * scale, : low.shape[1] * scale]
        found.append(psnr(to_bytes(enlarge(luma(low), scale)), to_bytes(luma(high)), scale))
    assert np.mean(found) == pytest.approx(PUBLISHED[data_set][scale], abs=0.015)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_shrinking_gives_the_bytes_that_matlab_gave(scale):
    folder = DATA / "set5"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    for path in sorted((folder / "HR").iterdir()):
        low = read(folder / f"LR_x{scale}" / path.name)
        ours = shrink(read(path)[: low.shape[0] * scale, : low.shape[1] * scale], scale)
        # Their images were larger when they were made small: the edges differ.
        differ = np.abs(ours.astype(int) - low)[6:-6, 6:-6]
        assert (differ > 0).mean() < 0.002 and differ.max() <= 1


def reference_resize(line, wanted, factor):
    """One axis, place by place, as MATLAB documents it: slow, in float64, written for this test alone."""

    def cubic(x):
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    size, narrow, result = len(line), min(factor, 1), []
    for place in range(wanted):
        center = (place + 0.5) / factor - 0.5
        total = weight_total = 0.0
        for tap in range(-3 * size, 4 * size):
            weight = cubic((center - tap) * narrow)
            mirrored = tap % (2 * size)
            total += weight * line[mirrored if mirrored < size else 2 * size - 1 - mirrored]
            weight_total += weight
        result.append(total / weight_total)
    return np.array(result)


@pytest.mark.parametrize(("factor", "wanted"), [(2, 46), (0.5, 11), (1 / 3, 7), (0.9, 20), (4, 92)])
def test_resizing_equals_a_slow_reference(factor, wanted):
    image = RANDOM.random((23, 1)) * 255
    ours = resize(image, wanted, 1, factor)[:, 0]
    # The other axis has one pixel, whose mirror images are all there is.
    np.testing.assert_allclose(ours, reference_resize(image[:, 0], wanted, factor), atol=1e-9)


def test_a_shift_looks_at_another_place():
    line = np.repeat(RANDOM.random((60, 1)), 60, axis=1)
    still, moved = resize(line, 30, 30, 0.5), resize(line, 30, 30, 0.5, (6, 0))
    np.testing.assert_allclose(moved[4:20], still[7:23], atol=1e-12)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_images_of_a_few_pixels_can_be_enlarged(side):
    flat = np.full((side, side, 3), 77, np.uint8)
    np.testing.assert_allclose(enlarge(flat, 4), 77)


def test_luma_and_chroma_are_those_of_bt601_and_come_back_as_rgb():
    extremes = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    # What MATLAB's rgb2ycbcr gives for these.
    np.testing.assert_array_equal(to_bytes(luma(extremes)), [[16, 235, 81, 145, 41]])
    np.testing.assert_array_equal(to_bytes(chroma(extremes))[0, 2:], [[90, 240], [54, 34], [240, 110]])
    np.testing.assert_array_equal(rgb_of(luma(NOISE), chroma(NOISE)), NOISE)


def test_psnr_is_that_of_its_definition_inside_the_border():
    one, other = NOISE[..., 0], NOISE[..., 1]
    inner = (slice(3, -3), slice(3, -3))
    error = np.mean((one[inner].astype(np.float64) - other[inner]) ** 2)
    assert psnr(one, other, 3) == pytest.approx(20 * np.log10(255) - 10 * np.log10(error))
    assert psnr(one, one, 3) == LARGEST_PSNR
    assert psnr(np.array([[1]], np.uint8), np.array([[2]], np.uint8), 2) == pytest.approx(20 * np.log10(255))


def test_ssim_equals_a_direct_convolution():
    one, other = NOISE[..., 0].astype(np.float64), (NOISE[..., 0] * 0.7 + NOISE[..., 1] * 0.3).astype(np.uint8)
    down, right = np.mgrid[-5:6, -5:6]
    window = np.exp(-(down**2 + right**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(values):
        return convolve2d(values, window, mode="valid")

    x, y = one, other.astype(np.float64)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, cxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    expected = np.mean((2 * mx * my + c1) * (2 * cxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    assert ssim(NOISE[..., 0], other, 0) == pytest.approx(expected, abs=1e-10)
    assert ssim(NOISE[..., 0], NOISE[..., 0], 2) == pytest.approx(1)
    assert np.isnan(ssim(NOISE[:12, :12, 0], NOISE[:12, :12, 0], 2))


@pytest.mark.parametrize("height", [11, 12, 40, 41])
def test_ssim_is_the_same_in_bands_of_any_height(monkeypatch, height):
    one, other = RANDOM.integers(0, 256, (2, height, 33), dtype=np.uint8)
    whole = ssim(one, other, 0)
    for rows in (1, 3, 10, 30, 100):
        monkeypatch.setattr(quality, "BAND", rows * 33)
        assert ssim(one, other, 0) == pytest.approx(whole, abs=1e-12)


def test_ssim_of_a_large_image_takes_little_more_memory_than_the_image():
    one = np.zeros((2_000, 2_000), np.uint8)
    tracemalloc.start()
    ssim(one, one, 2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * one.size
