"""Predictions of super-resolution: kept as PNG files of the luma, held against the large images."""

import base64
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optops.workloads.images import base64_of, encode_png, read_image
from optops.workloads.super_resolution.loading import Example, load_high_luma, load_low
from optops.workloads.super_resolution.quality import luma, psnr, ssim
from optops.workloads.super_resolution.resizing import enlarge, to_bytes
from optops.workloads.super_resolution.upscaling import Upscaling, upscale_luma

if TYPE_CHECKING:
    from optops.runtimes.base import Executable

SAME_LEVELS = 1
"""Of 255: pixels that differ by no more are the same but for rounding."""


def predict_lumas(
    executable: "Executable",
    examples: Sequence[Example],
    upscaling: Upscaling,
    report: Callable[[str], None] | None = None,
) -> list[str]:
    """Returns the enlarged luma of each example's low-resolution image, as base64 of a PNG file."""
    predictions = []
    for number, example in enumerate(examples, start=1):
        low = luma(load_low(example, upscaling.scale))
        predictions.append(encode_luma(upscale_luma(executable, low, upscaling)))
        if report:
            report(f"{number} of {len(examples)} images enlarged")
    return predictions


def interpolated_lumas(examples: Sequence[Example], scale: int) -> list[str]:
    """Returns the luma of each example's low-resolution image, enlarged bicubically, as `predict_lumas` does."""
    return [encode_luma(to_bytes(enlarge(luma(load_low(example, scale)), scale))) for example in examples]


def example_statistics(predictions: Sequence[str], examples: Sequence[Example], scale: int) -> NDArray[np.float64]:
    """Returns PSNR in dB and SSIM of each image, float64 [images, 2], a border of `scale` pixels left out.

    Raises:
        ValueError: If a prediction has not the size of its image.
    """
    rows = []
    for prediction, example in zip(predictions, examples, strict=True):
        ours, reference = decode_luma(prediction), load_high_luma(example, scale)
        if ours.shape != reference.shape:
            raise ValueError(
                f"{example['file']}: the enlarged image has {ours.shape[1]} x {ours.shape[0]} pixels, the large one "
                f"{reference.shape[1]} x {reference.shape[0]}; see the label check `wrong_scale`"
            )
        rows.append((psnr(ours, reference, scale), ssim(ours, reference, scale)))
    return np.array(rows, np.float64).reshape(-1, 2)


def mean_psnr(statistics: NDArray[np.float64], weights: NDArray[np.integer[Any]] | None = None) -> NDArray[np.float64]:
    """Returns the mean of the images' PSNR, for each row of weights [resamples, images], or one without."""
    values = statistics[:, 0]
    if weights is None:
        mean: NDArray[np.float64] = values.mean(keepdims=True)
        return mean
    means: NDArray[np.float64] = weights @ values / weights.sum(axis=1)
    return means


def same_share(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """Returns the share of images of which no pixel differs by more than rounding."""
    same = 0
    for one, other in zip(ours, theirs, strict=True):
        first, second = decode_luma(one).astype(int), decode_luma(other).astype(int)
        same += first.shape == second.shape and bool((np.abs(first - second) <= SAME_LEVELS).all())
    return same / max(len(ours), 1)


def encode_luma(values: NDArray[np.uint8]) -> str:
    """Returns a luma [height, width] as base64 of a PNG file."""
    from PIL import Image

    return base64_of(encode_png(Image.fromarray(values)))


def decode_luma(text: str) -> NDArray[np.uint8]:
    """Returns the luma that `encode_luma` wrote."""
    return read_image(base64.b64decode(text), "L", pixel_limit=2**31)
