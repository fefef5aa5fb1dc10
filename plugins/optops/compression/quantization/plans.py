"""Precision plans: which dense products run in which type, and why the others do not."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np

from optops.compression.quantization.signal import dense_weights, signal_to_noise
from optops.precision import PRECISIONS, Judge, Precision, PrecisionPlan

# A rounding error of 30 dB is 3 % of the weight. Normally distributed columns reach 42 to 46 dB; what falls below 30
# has outliers that take the resolution from everything else in their column.
SMALLEST_SIGNAL = 30.0


def make_plan(
    trainable: Path,
    precision: str,
    calibration: Callable[[], Iterator[Mapping[str, np.ndarray]]] | None = None,
    judge: Judge | None = None,
) -> PrecisionPlan:
    """Returns the plan for a precision with the defaults of this module.

    Args:
        trainable: Folder with the weights.
        precision: One of `PRECISIONS`.
        calibration: Not needed: activations get their scale at run time.
        judge: Not needed: what is hurt is told by the weights alone.

    Raises:
        ValueError: If the precision is unknown.
    """
    del calibration, judge
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; known are {', '.join(PRECISIONS)}")
    return dynamic_int8_plan(trainable) if precision == "int8" else float_plan(trainable, cast(Precision, precision))


def dynamic_int8_plan(trainable: Path) -> PrecisionPlan:
    """Returns a plan for int8 products whose activations get their scale at run time; needs no calibration.

    Args:
        trainable: Folder with the weights; those that int8 would hurt stay in fp32.
    """
    parts: dict[str, Precision] = {}
    notes: dict[str, str] = {}
    for name, kernel in dense_weights(trainable).items():
        signal = signal_to_noise(kernel)
        if signal < SMALLEST_SIGNAL:
            notes[name] = f"signal-to-noise ratio of {signal:.1f} dB in int8, below {SMALLEST_SIGNAL:.1f} dB"
        else:
            parts[name] = "int8"
    return PrecisionPlan("int8", parts, notes=notes)


def float_plan(trainable: Path, precision: Precision) -> PrecisionPlan:
    """Returns a plan in which all dense products run in one floating-point type; for fp32 it names none.

    Args:
        trainable: Folder with the weights.
        precision: `fp32`, `bf16` or `fp16`.

    Raises:
        ValueError: If the precision is int8.
    """
    if precision == "int8":
        raise ValueError("int8 is no floating-point precision; use dynamic_int8_plan")
    if precision == "fp32":
        return PrecisionPlan("fp32")
    return PrecisionPlan(precision, dict.fromkeys(dense_weights(trainable), precision))
