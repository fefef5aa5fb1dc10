"""Lowers a functional model to OpenVINO, by way of ONNX."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from optops.compression.quantization.functional.network import Network
from optops.compression.quantization.functional.placement import is_activation, is_sum
from optops.compression.quantization.rounding import Range
from optops.graph.functional_onnx import SEQUENCE_NOTE, onnx_model
from optops.graph.functional_rounding import executable_part, int8_layers, scale_of
from optops.graph.functional_serving import Served
from optops.graph.lowering import Lowering, notes_on_reach
from optops.graph.onnx_static_int8 import sign_roundings
from optops.graph.openvino_execution import check_cpu, executed_layers, listed, quantized_products, symmetric_range
from optops.graph.tensorflow_graph import count_nodes
from optops.models.functional.calls import Call
from optops.models.functional.folding import OUTPUT_AXES
from optops.models.keras import keras
from optops.precision import PrecisionPlan
from optops.runtimes.onnxruntime import MODEL

DILATED_NOTE = "stays in float: exported, a dilated transposed convolution is several operations"
EXTREME_NOTE = "stays in float: OpenVINO gives wrong numbers where it rounds the largest or smallest of floats"
RECURRENT_NOTE = "stays in float: OpenVINO gives wrong numbers where a recurrent layer follows one in int8"
SCALED_NOTE = "stays in float: OpenVINO gives wrong numbers where other factors for each place follow a product in int8"
EXTREMES = (keras.layers.GlobalMaxPooling1D, keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling3D)
EXTREME_FUNCTIONS = ("math.reduce_max", "math.reduce_min")
SCALING_FUNCTIONS = ("math.multiply", "math.divide", "math.truediv")
RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx`, which OpenVINO compiles when it is loaded.

    Raises:
        LoweringError: If the plan is in bf16 and this CPU does not compute in it, the graph can not be converted, or
            int8 did not reach what the plan names.
    """
    import onnx

    check_cpu(plan)
    served = Served.load(trainable)
    network = served.network()
    plan, left = executable_part(plan, network, _note_on)
    plan = _rounded_once(plan, network)
    symmetric = _symmetric_ranges(plan, network)
    plan = replace(plan, ranges={**plan.ranges, **symmetric})
    model, reached = onnx_model(served, network, plan)
    sign_roundings(model, {float(scale_of(limits)) for limits in symmetric.values()})
    onnx.save(model, str(folder / MODEL))
    executed = executed_layers(folder / MODEL, plan.precision)
    quantized = quantized_products(executed)
    reach = notes_on_reach("OpenVINO", quantized, sum(reached.values()))
    stock = served.trace(served.model)
    facts: dict[str, float | str] = {
        "nodes_before": count_nodes(stock.graph.as_graph_def()),
        "nodes_after": sum(executed.values()),
        "nodes_quantized": quantized,
    }
    served.info("openvino", plan.precision, stock, facts).save(folder)
    notes = [f"{name} {why}" for name, why in sorted({**plan.notes, **left}.items())]
    return Lowering(facts, ["batch norms folded into the layers before them", listed(executed), *reach, *notes])


def _note_on(name: str, network: Network, plan: PrecisionPlan) -> str:
    """Returns why OpenVINO can not execute a layer of a plan in int8; empty if it can."""
    layer = network.quantizable[name]
    if type(layer) is keras.layers.Conv1D:
        return SEQUENCE_NOTE
    if type(layer) is keras.layers.Conv2DTranspose and max(layer.dilation_rate) > 1:
        return DILATED_NOTE
    if _leads_to_recurrence(name, network):
        return RECURRENT_NOTE
    if _takes_extremes(name, network, plan):
        return EXTREME_NOTE
    return SCALED_NOTE if type(layer) is keras.layers.Dense and _is_scaled_by_place(name, network) else ""


def _leads_to_recurrence(name: str, network: Network) -> bool:
    """Returns whether a recurrent layer takes what a layer takes, or what is made of it."""
    readers = network.calls.readers()

    @cache
    def leads(number: int) -> bool:
        return any(
            isinstance(reader.layer, RECURRENT) or any(map(leads, reader.outputs)) for reader in readers.get(number, [])
        )

    return any(leads(call.inputs[0]) for call in network.calls.calls if call.layer.name == name)


def _takes_extremes(name: str, network: Network, plan: PrecisionPlan) -> bool:
    """Returns whether a layer takes extremes of numbers in float, by way of what OpenVINO computes along with them.

    It rounds the result within the reduction itself, and keeps what it has found so far in 8 bits, too.
    """
    makers = {number: call for call in network.calls.calls for number in call.outputs}

    @cache
    def extreme(number: int) -> bool:
        call = makers.get(number)
        if call is None or type(call.layer) in OUTPUT_AXES:
            return False
        in_float = [taken for taken in call.inputs if network.names[taken] not in plan.ranges]
        if type(call.layer) in EXTREMES or getattr(call.layer, "symbol", "") in EXTREME_FUNCTIONS:
            return bool(in_float)
        return any(map(extreme, in_float))

    return any(extreme(call.inputs[0]) for call in network.calls.calls if call.layer.name == name)


def _is_scaled_by_place(name: str, network: Network) -> bool:
    """Returns whether what a layer gives, or that and another number, is multiplied by constants of each place.

    OpenVINO multiplies these by the scales of the layer's channels, and takes the result for such scales.
    """
    readers = network.calls.readers()

    def scaled(number: int) -> bool:
        return any(
            _scales_by_place(reader) or (is_sum(reader.layer) and any(map(scaled, reader.outputs)))
            for reader in readers.get(number, [])
        )

    return any(scaled(call.outputs[0]) for call in network.calls.calls if call.layer.name == name)


def _scales_by_place(call: Call) -> bool:
    if isinstance(call.layer, keras.layers.BatchNormalization):
        last = call.node.outputs.shape.rank - 1
        return any(axis % (last + 1) != last for axis in np.atleast_1d(call.layer.axis))
    if getattr(call.layer, "symbol", "") not in SCALING_FUNCTIONS:
        return False
    taken = {id(tensor) for tensor in call.node.keras_inputs}
    constants = (value for value in (*call.node.call_args, *call.node.call_kwargs.values()) if id(value) not in taken)
    return any(np.prod(np.shape(value)[:-1]) > 1 for value in constants)


def _rounded_once(plan: PrecisionPlan, network: Network) -> PrecisionPlan:
    """Returns a plan without the roundings between a layer in int8 and the activation or sum that alone reads it.

    OpenVINO executes both as one and rounds what comes out; a rounding between them, which ONNX Runtime needs, costs
    time and accuracy. Of what a sum takes, one is made along with it: the last.
    """
    calls, readers = network.calls, network.calls.readers()
    chosen = int8_layers(plan)
    made = {number: place for place, call in enumerate(calls.calls) for number in call.outputs}
    joined = set()
    for call in calls.calls:
        if call.layer.name not in chosen or call.outputs[0] in calls.outputs:
            continue
        (number,) = call.outputs
        taking = readers.get(number, [])
        if len(taking) != 1:
            continue
        (reader,) = taking
        last = max(reader.inputs, key=lambda given: made.get(given, -1))
        if is_activation(reader.layer) or (is_sum(reader.layer) and last == number):
            joined.add(network.names[number])
    return replace(plan, ranges={name: limits for name, limits in plan.ranges.items() if name not in joined})


def _symmetric_ranges(plan: PrecisionPlan, network: Network) -> dict[str, Range]:
    """Returns symmetric ranges, in which zero is 0, for tensors that are nearly as negative as positive, by name.

    Only what goes from products and sums straight to products and sums is among them: what moves in between, or is put
    beside other tensors, keeps their common range.
    """
    chosen, readers = int8_layers(plan), network.calls.readers()
    found = {}
    for call in network.calls.calls:
        for number in call.outputs:
            name, both = network.names[number], (call, *readers.get(number, []))
            computes = all(each.layer.name in chosen or is_sum(each.layer) for each in both)
            limits = symmetric_range(plan.ranges[name]) if computes and name in plan.ranges else None
            if limits is not None:
                found[name] = limits
    return found
