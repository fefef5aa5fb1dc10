"""The precision plan of a functional model: what runs in which type, with which ranges, and why the rest does not."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from optops.compression.quantization.functional.edges import kept_in_float
from optops.compression.quantization.functional.measured import measure
from optops.compression.quantization.functional.network import Network, kernel_of
from optops.compression.quantization.functional.search import search_layers
from optops.compression.quantization.signal import fits_half
from optops.models.base import Description, load_architecture
from optops.precision import PRECISIONS, Judge, Precision, PrecisionPlan


def make_plan(
    trainable: Path,
    precision: str,
    calibration: Callable[[], Iterator[Mapping[str, Any]]] | None = None,
    judge: Judge | None = None,
) -> PrecisionPlan:
    """Returns the plan of a functional model for a precision.

    Args:
        trainable: Folder with the model.
        precision: One of `PRECISIONS`.
        calibration: Gives named input arrays, call by call; int8 needs it.
        judge: With it, layers go back to float until the model is good enough; see `fall_back`.

    Raises:
        ValueError: If the precision is unknown, or the calibration data is missing or unfit; names the tensor.
    """
    model = load_architecture(Description.load(trainable).architecture).load(trainable)
    if precision != "int8":
        return float_plan(model, precision)
    if calibration is None:
        raise ValueError("int8 needs calibration inputs, on which the ranges of tensors are measured")
    measured = measure(model, calibration)
    notes = kept_in_float(measured)
    if judge is not None:
        notes, _ = search_layers(measured, notes, judge, calibration)
    return measured.plan([name for name in measured.layers if name not in notes], notes)


def float_plan(model: Any, precision: str) -> PrecisionPlan:
    """Returns a plan in which all layers that can be run in one floating-point type; for fp32 it names none.

    Raises:
        ValueError: If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; known are {', '.join(PRECISIONS)}")
    if precision == "fp32":
        return PrecisionPlan("fp32")
    kind, layers = cast(Precision, precision), Network.of(model).quantizable
    notes = {name: note for name, layer in layers.items() if precision == "fp16" and (note := _lost_in_half(layer))}
    return PrecisionPlan(kind, {name: kind for name in layers if name not in notes}, notes=notes)


def _lost_in_half(layer: Any) -> str:
    kernel = kernel_of(layer).numpy()
    return "" if fits_half(kernel) else f"weights of up to {np.abs(kernel).max():.3g} are beyond what fp16 holds well"
