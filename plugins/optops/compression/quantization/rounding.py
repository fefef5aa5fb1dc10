"""How 8-bit numbers stand for real ones: the arithmetic of the runtimes, in NumPy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]
"""The smallest and the largest value that a tensor can have once it is rounded."""

STEPS = 255


@dataclass(frozen=True)
class Grid:
    """What the values of a tensor are rounded to: `scale * (q - zero_point)` for q in 0..255.

    Attributes:
        scale: Distance of two neighbours, a float32.
        zero_point: What stands for zero, so that zero is exact (padding with zeros must be).
    """

    scale: np.float32
    zero_point: int

    def round(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the nearest values on the grid, halves to even; what lies beyond its ends is clipped."""
        steps = np.rint(values.astype(np.float32) / self.scale) + np.float32(self.zero_point)
        rounded = (np.clip(steps, 0, STEPS) - np.float32(self.zero_point)) * self.scale
        return np.asarray(rounded, np.float32)


def grid_of(limits: Range) -> Grid:
    """Returns the grid for a range, as ONNX's QuantizeLinear takes it (Jacob et al. 2018, equation 1).

    Args:
        limits: With `low <= 0 <= high`, not both zero; see `with_zero`.
    """
    low, high = limits
    scale = max(np.float32((high - low) / STEPS), np.finfo(np.float32).tiny)
    return Grid(np.float32(scale), int(np.clip(np.rint(-low / scale), 0, STEPS)))


def with_zero(low: float, high: float) -> Range:
    """Returns a range that holds zero and is not empty; of nothing but zeros, (0, 1): any scale is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high - low >= np.finfo(np.float32).tiny * STEPS else (0.0, 1.0)


def weight_scales(kernel: NDArray[Any], channels: tuple[int, ...], levels: int) -> NDArray[np.float32]:
    """Returns the scale of each output channel's weights, with the other axes kept as ones.

    Args:
        kernel: Any shape.
        channels: The axes that count output channels; several for a depthwise convolution.
        levels: The largest weight of a channel becomes plus or minus this.
    """
    others = tuple(axis for axis in range(kernel.ndim) if axis not in channels)
    largest = np.abs(kernel).max(axis=others, keepdims=True).astype(np.float32)
    return np.where(largest > 0, largest / np.float32(levels), np.float32(1)).astype(np.float32)


def round_weights(kernel: NDArray[Any], channels: tuple[int, ...], levels: int) -> NDArray[np.float32]:
    """Returns a kernel as int8 keeps it, in float32; the arguments are those of `weight_scales`."""
    scales = weight_scales(kernel, channels, levels)
    rounded = np.clip(np.rint(kernel.astype(np.float32) / scales), -levels, levels) * scales
    return np.asarray(rounded, np.float32)
