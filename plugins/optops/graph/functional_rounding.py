"""The form of a functional model that is converted for static int8: marked where it is rounded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.compression.quantization.functional.network import Network, kernel_of
from optops.compression.quantization.functional.placement import is_rectifier, placement
from optops.compression.quantization.functional.rounded import RoundTensor
from optops.compression.quantization.functional.simulate import rounded_form
from optops.compression.quantization.rounding import Range, grid_of, weight_scales
from optops.graph.lowering import LoweringError
from optops.graph.onnx_static_int8 import Int8Layer
from optops.models.functional.folding import DEPTHWISE
from optops.models.keras import keras, tf
from optops.precision import PrecisionPlan

_L = keras.layers

NoteOn = Callable[[str, Network, PrecisionPlan], str]
"""Takes the name of a layer, its network and a plan that wants it in int8; returns why a runtime can not do that."""


@dataclass(frozen=True)
class Rounded:
    """A canonical model with what its plan says of it.

    Attributes:
        model: With biases corrected; a tensor that is rounded passes an operation FakeQuantWithMinMaxArgs.
        layers: Those in int8, by name.
    """

    model: Any
    layers: Mapping[str, Int8Layer]


class MarkTensor(RoundTensor):
    """Rounds a tensor by the operation that the converter writes as the runtimes' roundings."""

    def call(self, inputs: Any) -> Any:
        """Returns the rounded tensor."""
        low, high = self.limits
        return tf.quantization.fake_quant_with_min_max_args(inputs, low, high)


def executable_part(plan: PrecisionPlan, network: Network, note_on: NoteOn) -> tuple[PrecisionPlan, dict[str, str]]:
    """Returns what of a plan a runtime can execute, and which of its int8 layers stay in float there, with the reason.

    Nothing is rounded, and no bias corrected, for the sake of a layer that stays in float.

    Args:
        plan: Of any precision.
        network: That it is of.
        note_on: Returns why the runtime can not execute an int8 layer of the plan, given by its name; empty if it can.

    Raises:
        LoweringError: If no int8 layer is left.
    """
    left: dict[str, str] = {}
    while found := _notes(plan, network, note_on):
        left |= found
        parts = {name: precision for name, precision in plan.parts.items() if name not in left}
        corrections = {name: values for name, values in plan.bias_corrections.items() if name not in left}
        plan = replace(plan, parts=parts, bias_corrections=corrections)
        rounded = placement(network, int8_layers(plan))
        plan = replace(plan, ranges={name: limits for name, limits in plan.ranges.items() if name in rounded})
    if left and not int8_layers(plan):
        raise LoweringError("; ".join(f"{name} {why}" for name, why in sorted(left.items())))
    return plan, left


def _notes(plan: PrecisionPlan, network: Network, note_on: NoteOn) -> dict[str, str]:
    names = int8_layers(plan).intersection(network.quantizable)
    return {name: note for name in names if (note := note_on(name, network, plan))}


def round_model(network: Network, plan: PrecisionPlan) -> Rounded:
    """Returns the form of a model that is converted for static int8.

    Args:
        network: Of the model in canonical form.
        plan: Names layers and tensors of that form.

    Raises:
        LoweringError: If the plan names what the model does not have, or has no range for what an int8 layer takes.
    """
    _check(plan, network)
    rounded = rounded_form(network, plan, MarkTensor, round_kernels=False)
    chosen = int8_layers(plan)
    layers = {
        name: Int8Layer(_int8_kernel(layer, plan.weight_levels), _input_scales(name, network, plan))
        for name, layer in network.quantizable.items()
        if name in chosen
    }
    return Rounded(rounded, layers)


def int8_layers(plan: PrecisionPlan) -> set[str]:
    """Returns the names of the layers that a plan wants in int8."""
    return {name for name, precision in plan.parts.items() if precision == "int8"}


def rounds_its_output(layer: str, network: Network, plan: PrecisionPlan) -> bool:
    """Returns whether nothing reads what a layer gives, or a rectifier makes of it, before it is rounded."""
    calls, readers = network.calls, network.calls.readers()
    for call in calls.calls:
        if call.layer.name == layer:
            (number,) = call.outputs
            while network.names[number] not in plan.ranges and number not in calls.outputs:
                taking = readers.get(number, [])
                if len(taking) != 1 or not is_rectifier(taking[0].layer):
                    return False
                (number,) = taking[0].outputs
            if number in calls.outputs:
                return False
    return True


def _check(plan: PrecisionPlan, network: Network) -> None:
    layers = {call.layer.name for call in network.calls.calls}
    unknown = sorted((set(plan.parts) - layers) | (set(plan.ranges) - set(network.names.values())))
    if unknown:
        raise LoweringError(f"the plan names {', '.join(unknown)}, which the model in canonical form does not have")
    chosen = int8_layers(plan)
    if not chosen:
        raise LoweringError(network.why_none or "the plan says int8 but names no layer of this model in int8")
    impossible = sorted(chosen - set(network.quantizable))
    if impossible:
        raise LoweringError(f"the plan wants int8 for {', '.join(impossible)}, which no runtime can run in it")
    for call in network.calls.calls:
        taken = network.names[call.inputs[0]] if call.inputs else ""
        if call.layer.name in chosen and taken not in plan.ranges:
            raise LoweringError(
                f"the plan wants int8 for {call.layer.name} but has no range for {taken}, which it takes"
            )


def _input_scales(layer: str, network: Network, plan: PrecisionPlan) -> dict[str, np.float32]:
    """Returns the scales of the tensors that a layer takes, by name, of limits in float32 as operations hold them."""
    taken = [network.names[call.inputs[0]] for call in network.calls.calls if call.layer.name == layer]
    return {name: scale_of(plan.ranges[name]) for name in taken}


def scale_of(limits: Range) -> np.float32:
    """Returns the scale of a range as operations have it, which hold its limits in float32."""
    low, high = np.array(limits, np.float32).tolist()
    return grid_of((low, high)).scale


def _int8_kernel(layer: Any, levels: int) -> NDArray[np.int8]:
    """Returns a layer's weights, output channels first, then what each reads, then places."""
    kernel = kernel_of(layer).numpy()
    rank = kernel.ndim
    if isinstance(layer, DEPTHWISE):
        kernel = np.moveaxis(kernel.reshape(*kernel.shape[:-2], 1, -1), -1, 0)
        kernel = np.moveaxis(kernel, -1, 1)
    elif isinstance(layer, _L.Conv2DTranspose):
        kernel = np.moveaxis(kernel, (-2, -1), (0, 1))
    else:
        kernel = np.moveaxis(kernel, (rank - 1, rank - 2), (0, 1))
    return quantize_kernel(kernel, levels)


def quantize_kernel(kernel: NDArray[Any], levels: int) -> NDArray[np.int8]:
    """Returns weights in int8, with one scale for each place of the first axis."""
    scales = weight_scales(kernel, (0,), levels)
    return np.clip(np.rint(kernel / scales), -levels, levels).astype(np.int8)
