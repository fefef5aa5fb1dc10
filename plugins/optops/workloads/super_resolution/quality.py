"""What papers on super-resolution measure: PSNR and SSIM of the luma, without the border."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.workloads.super_resolution.resizing import to_bytes

LARGEST_PSNR = 100.0
"""In dB: what identical images count, so that a mean over images stays finite."""

LUMA = np.array([65.481, 128.553, 24.966]) / 255
CHROMA = np.array([[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
OFFSET = np.array([16.0, 128.0, 128.0])
WINDOW, SIGMA = 11, 1.5
BAND = 1 << 18
"""Pixels that SSIM is computed for at a time: it takes 80 bytes for each, and images may have 150 million."""
STABILISERS = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)


def luma(image: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the luma Y of BT.601, 16 to 235, as MATLAB's `rgb2ycbcr` computes it before it rounds.

    Args:
        image: RGB [height, width, 3], 0 to 255; or grey [height, width], which is taken as it is, as papers do.
    """
    if image.ndim == 2:
        return np.asarray(image, np.float64)
    # Channel by channel: a product of matrices would hold three times as many numbers, and images may be large.
    values: NDArray[np.float64] = image[..., 0] * LUMA[0]
    for channel in (1, 2):
        values += image[..., channel] * LUMA[channel]
    values += OFFSET[0]
    return values


def chroma(image: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the chroma Cb, Cr of BT.601, 16 to 240, [height, width, 2], of an RGB image of 0 to 255."""
    return image @ CHROMA.T + OFFSET[1:]  # type: ignore[no-any-return]


def rgb_of(luma_values: NDArray[Any], chroma_values: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns the RGB image of a luma [height, width] and a chroma [height, width, 2]."""
    values = np.concatenate([luma_values[..., None], chroma_values], axis=-1) - OFFSET
    return to_bytes(values @ np.linalg.inv(np.vstack([LUMA, CHROMA])).T)


def psnr(ours: NDArray[np.uint8], reference: NDArray[np.uint8], border: int) -> float:
    """Returns the peak signal-to-noise ratio of 8-bit lumas in dB, at most `LARGEST_PSNR`.

    Args:
        ours: [height, width].
        reference: The same shape.
        border: Pixels that are left out on each side; none of an image that has nothing else.
    """
    one, other = _inside(ours, border), _inside(reference, border)
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return LARGEST_PSNR if error == 0 else min(LARGEST_PSNR, 10 * float(np.log10(255**2 / error)))


def ssim(ours: NDArray[np.uint8], reference: NDArray[np.uint8], border: int) -> float:
    """Returns the mean structural similarity of 8-bit lumas; NaN if less than the window is left of them.

    Args: as of `psnr`.

    Source: Wang et al. 2004, equation 13, with the Gaussian window of 11 x 11 and standard deviation 1.5.
    """
    one, other = _inside(ours, border), _inside(reference, border)
    if min(one.shape) < WINDOW:
        return float("nan")
    places = one.shape[0] - WINDOW + 1, one.shape[1] - WINDOW + 1
    rows, total = max(1, BAND // one.shape[1]), 0.0
    for top in range(0, places[0], rows):
        # Bands overlap by what a window reaches beyond its place.
        band = slice(top, top + rows + WINDOW - 1)
        total += float(_similarity(one[band].astype(np.float64), other[band].astype(np.float64)).sum())
    return float(total / (places[0] * places[1]))


def _similarity(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    mean_one, mean_other = _blur(one), _blur(other)
    spread_one = _blur(one * one) - mean_one**2
    spread_other = _blur(other * other) - mean_other**2
    together = _blur(one * other) - mean_one * mean_other
    first, second = STABILISERS
    above = (2 * mean_one * mean_other + first) * (2 * together + second)
    below = (mean_one**2 + mean_other**2 + first) * (spread_one + spread_other + second)
    similarity: NDArray[np.float64] = above / below
    return similarity


def _inside(values: NDArray[np.uint8], border: int) -> NDArray[np.uint8]:
    inner = values[border : values.shape[0] - border, border : values.shape[1] - border]
    return inner if inner.size else values


def _blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the Gaussian mean around each place whose window lies inside."""
    from scipy.ndimage import correlate1d

    reach = WINDOW // 2
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * SIGMA**2))
    taps /= taps.sum()
    blurred = correlate1d(correlate1d(values, taps, axis=0), taps, axis=1)
    return blurred[reach:-reach, reach:-reach]  # type: ignore[no-any-return]
