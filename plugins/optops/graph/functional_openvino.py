"""Lowers a functional model to OpenVINO, by way of ONNX."""

from dataclasses import replace
from pathlib import Path

from optops.compression.quantization.functional.network import Network
from optops.compression.quantization.functional.placement import is_activation, is_sum
from optops.compression.quantization.rounding import Range
from optops.graph.functional_onnx import SEQUENCE_NOTE, onnx_model
from optops.graph.functional_rounding import executable_part, int8_layers, scale_of
from optops.graph.functional_serving import Served
from optops.graph.lowering import Lowering
from optops.graph.onnx_static_int8 import sign_roundings
from optops.graph.openvino_execution import check_cpu, check_reached, executed_layers, listed, symmetric_range
from optops.graph.tensorflow_graph import count_nodes
from optops.models.keras import keras
from optops.precision import PrecisionPlan
from optops.runtimes.onnxruntime import MODEL

DILATED_NOTE = "stays in float: exported, a dilated transposed convolution is several operations"


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
    quantized = check_reached(executed, reached)
    stock = served.trace(served.model)
    facts: dict[str, float | str] = {
        "nodes_before": count_nodes(stock.graph.as_graph_def()),
        "nodes_after": sum(executed.values()),
        "nodes_quantized": quantized,
    }
    served.info("openvino", plan.precision, stock, facts).save(folder)
    notes = [f"{name} {why}" for name, why in sorted({**plan.notes, **left}.items())]
    return Lowering(facts, ["batch norms folded into the layers before them", listed(executed), *notes])


def _note_on(name: str, network: Network, plan: PrecisionPlan) -> str:
    """Returns why OpenVINO can not execute a layer of a plan in int8; empty if it can."""
    del plan  # it matters to no layer here
    layer = network.quantizable[name]
    if type(layer) is keras.layers.Conv1D:
        return SEQUENCE_NOTE
    dilated = type(layer) is keras.layers.Conv2DTranspose and max(layer.dilation_rate) > 1
    return DILATED_NOTE if dilated else ""


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
