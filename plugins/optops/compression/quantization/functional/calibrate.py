"""Chooses a range for every tensor of a network, by the signal-to-noise ratio of calls that were held out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from optops.compression.quantization.calibration import CALIBRATORS, Calibrator, Histogram
from optops.compression.quantization.functional.network import Network
from optops.compression.quantization.functional.placement import follow_ranges
from optops.compression.quantization.rounding import Range, grid_of
from optops.models.functional.calls import Call
from optops.models.keras import tf

HELD_OUT = 4
"""Every so manieth piece of the calibration data judges the ranges that are found on the others."""
TIE = 0.05
"""Decibels by which a calibrator must be better than one that stands before it."""


@dataclass(frozen=True)
class TensorRange:
    """How one tensor is rounded.

    Attributes:
        limits: Its range.
        calibrator: Which found it.
        decibels: Calibrator to the signal-to-noise ratio of its range on the held-out calls.
    """

    limits: Range
    calibrator: str
    decibels: Mapping[str, float]

    def __str__(self) -> str:
        """Says what was chosen, and how good it is."""
        low, high = self.limits
        return f"[{low:.4g}, {high:.4g}] by {self.calibrator}, {self.decibels[self.calibrator]:.1f} dB"


def choose_ranges(
    network: Network,
    batches: Iterable[Any],
    tensors: Iterable[str] | None = None,
    calibrators: Mapping[str, Calibrator] = CALIBRATORS,
) -> dict[str, TensorRange]:
    """Returns a range for each tensor, found in one pass.

    Memory beside that of running the network on one piece of a batch (see `Network.pieces`) is two histograms of
    128 KiB a tensor, whatever the number and size of examples.

    Args:
        network: The network.
        batches: Its inputs; a few dozen to a few hundred examples do. Every fourth piece is held out; with fewer than
            four, ranges are judged on the data that they are found on.
        tensors: Names; all that are in float32 if None.
        calibrators: What is tried, by name, in the order of preference.

    Raises:
        ValueError: If there are no batches, or a tensor is not finite; names the tensor.
    """
    wanted = network.floats if tensors is None else frozenset(tensors)
    found, judged = ({name: Histogram(name) for name in sorted(wanted)} for _ in range(2))
    pieces = held_out = 0
    for piece in network.pieces(batches):
        pieces += 1
        is_held_out = pieces % HELD_OUT == 0
        held_out += is_held_out
        _count(network, piece, judged if is_held_out else found)
    if not pieces:
        raise ValueError("calibration: there are no batches; give some inputs of the model")
    ranges = {
        name: choose_range(histogram, judged[name] if held_out else histogram, calibrators)
        for name, histogram in found.items()
    }
    followed = follow_ranges(network, {name: chosen.limits for name, chosen in ranges.items()})
    return {name: _with_limits(chosen, followed[name], judged[name], found[name]) for name, chosen in ranges.items()}


def choose_range(
    histogram: Histogram, judged: Histogram, calibrators: Mapping[str, Calibrator] = CALIBRATORS
) -> TensorRange:
    """Returns the range with the best signal-to-noise ratio.

    Args:
        histogram: What calibrators find ranges on.
        judged: What the ranges are judged on.
        calibrators: What is tried, by name; the first of those that are within 0.05 dB of the best is taken.
    """
    ranges = {name: calibrator(histogram) for name, calibrator in calibrators.items()}
    decibels = {name: signal_to_noise(judged, limits) for name, limits in ranges.items()}
    best = max(decibels.values())
    chosen = next(name for name, value in decibels.items() if value >= best - TIE)
    return TensorRange(ranges[chosen], chosen, decibels)


def signal_to_noise(histogram: Histogram, limits: Range) -> float:
    """Returns the ratio of a tensor's power to that of the error of rounding and clipping it to a range, in dB.

    Values count where the middle of their bin lies, 16 to 64 times finer than a step of 8 bits; zeros have no error.
    """
    occupied = np.flatnonzero(histogram.counts_without_zeros)
    counts = histogram.counts_without_zeros[occupied].astype(np.float64)
    middles = (histogram.edges[occupied] + histogram.edges[occupied + 1]) / 2
    noise = np.sum(counts * np.square(grid_of(limits).round(middles) - middles))
    power = np.sum(counts * np.square(middles))
    return decibels_of(float(power), float(noise))


def decibels_of(power: float, noise: float) -> float:
    """Returns the ratio of two powers in dB; infinite without noise, minus infinite without power.

    Raises:
        ValueError: If one of them is NaN.
    """
    if np.isnan(power) or np.isnan(noise):
        raise ValueError(f"the ratio of a signal of power {power} to noise of power {noise} is not a number")
    if noise <= 0:
        return float("inf")
    return 10 * float(np.log10(power / noise)) if power > 0 else float("-inf")


def _with_limits(chosen: TensorRange, limits: Range, judged: Histogram, found: Histogram) -> TensorRange:
    if limits == chosen.limits:
        return chosen
    histogram = judged if judged.counts.any() else found
    name = "what it is made of"
    return TensorRange(limits, name, {**chosen.decibels, name: signal_to_noise(histogram, limits)})


def _count(network: Network, piece: Mapping[str, Any], histograms: Mapping[str, Histogram]) -> None:
    for name, array in piece.items():
        if name in histograms:
            histograms[name].add(array)

    def call_layer(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = call.layer(*args, **kwargs)
        for number, value in zip(call.outputs, tf.nest.flatten(given), strict=True):
            if network.names[number] in histograms:
                histograms[network.names[number]].add(value.numpy())
        return given

    network.run(piece, call_layer)
