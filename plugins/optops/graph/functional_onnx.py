"""Lowers a functional model to ONNX Runtime: one graph, batch norms folded, channels first, int8 as its plan says."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optops.compression.quantization.functional.network import Network
from optops.compression.quantization.functional.placement import after_rectifier, can_give_float
from optops.graph.functional_rounding import executable_part, round_model, rounds_its_output
from optops.graph.functional_serving import Served
from optops.graph.lowering import Lowering, LoweringError, notes_on_reach
from optops.graph.onnx_conversion import convert
from optops.graph.onnx_half import store_in_half
from optops.graph.onnx_static_int8 import quantize_weights
from optops.graph.tensorflow_graph import count_nodes
from optops.models.keras import keras
from optops.precision import PrecisionPlan
from optops.runtimes.onnxruntime import MODEL, open_session

QUANTIZED = ("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat")
SEQUENCE_NOTE = "stays in float: exported, a convolution over a sequence has operations between it and its roundings"
TRANSPOSED_NOTE = "stays in float: ONNX Runtime has no transposed convolution in int8"
RECTIFIED_NOTE = "stays in float: ONNX Runtime rectifies a product in int8 only where the result is rounded too"
BOTH_NOTE = "stays in float: ONNX Runtime gives a product in int8 either rounded or in float, and here both are read"
OUTPUT_NOTE = "stays in float: ONNX Runtime convolves in int8 only where the result is rounded too"


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx`.

    Raises:
        LoweringError: If the graph can not be converted, or int8 did not reach what the plan names.
    """
    import onnx

    served = Served.load(trainable)
    network = served.network()
    plan, left = executable_part(plan, network, _note_on)
    model, reached = onnx_model(served, network, plan)
    onnx.save(model, str(folder / MODEL))
    executed = executed_graph(folder / MODEL)
    operators = Counter(node.op_type for node in executed.node)
    quantized = sum(operators[name] for name in QUANTIZED)
    reach = notes_on_reach("ONNX Runtime", quantized, sum(reached.values()))
    stock = served.trace(served.model)
    facts: dict[str, float | str] = {
        "nodes_before": count_nodes(stock.graph.as_graph_def()),
        "nodes_after": len(executed.node),
        "nodes_quantized": quantized,
        "transposes": operators["Transpose"],
        "convolutions_fused": sum(_is_fused(node) for node in executed.node) + operators["QLinearConv"],
    }
    served.info("onnxruntime", plan.precision, stock, facts).save(folder)
    listed = ", ".join(f"{count} {name}" for name, count in operators.most_common())
    notes = [f"{name} {why}" for name, why in sorted({**plan.notes, **left}.items())]
    return Lowering(facts, ["batch norms folded into the layers before them", f"executed are {listed}", *reach, *notes])


def onnx_model(served: Served, network: Network, plan: PrecisionPlan) -> tuple[Any, dict[str, int]]:
    """Returns the ONNX model of a functional model, and how many products of each layer are in int8.

    Args:
        served: The model.
        network: Of its canonical form.
        plan: Names layers and tensors of that form, all of which the runtime executes as it says.

    Raises:
        LoweringError: If the graph can not be converted, int8 did not reach what the plan names, or fp16 nothing.
    """
    if plan.precision != "int8":
        model = _converted(served, network.model)
        if plan.precision == "fp16":
            store_in_half(model)
        return model, {}
    rounded = round_model(network, plan)
    model = _converted(served, rounded.model)
    reached = quantize_weights(model, rounded.layers, plan.weight_levels)
    missed = sorted(set(rounded.layers) - set(reached))
    if missed:
        raise LoweringError(f"int8 did not reach {', '.join(missed)} in the converted graph")
    return model, reached


def executed_graph(path: Path) -> Any:
    """Returns the ONNX graph that ONNX Runtime makes of a model and executes here, with all its optimisations.

    Raises:
        LoweringError: If ONNX Runtime can not execute the model.
    """
    import onnx

    with TemporaryDirectory(prefix="optops-optimized-") as folder:
        try:
            open_session(path, threads=1, optimized=Path(folder) / MODEL)
        except Exception as error:
            raise LoweringError(f"ONNX Runtime can not execute this graph: {error}") from error
        return onnx.load(str(Path(folder) / MODEL)).graph


def _converted(served: Served, model: Any) -> Any:
    with TemporaryDirectory(prefix="optops-canonical-") as folder:
        served.save(model, served.trace(model), Path(folder))
        return convert(Path(folder))


def _note_on(name: str, network: Network, plan: PrecisionPlan) -> str:
    """Returns why ONNX Runtime can not execute a layer of a plan in int8; empty if it can."""
    layer = network.quantizable[name]
    if type(layer) is keras.layers.Conv1D:
        return SEQUENCE_NOTE
    if type(layer) is keras.layers.Conv2DTranspose:
        return TRANSPOSED_NOTE
    if type(layer) is keras.layers.Dense:
        return _note_on_products(layer, network, plan)
    return "" if rounds_its_output(name, network, plan) else OUTPUT_NOTE


def _note_on_products(layer: Any, network: Network, plan: PrecisionPlan) -> str:
    """Returns why ONNX Runtime can not execute a dense layer in int8; empty if it can."""
    readers = network.calls.readers()
    for call in network.calls.calls:
        # Of more than two axes, a product is exported with a reshaping after it.
        if call.layer is layer and call.node.outputs.shape.rank == 2:
            linear = layer.activation is keras.activations.linear
            leaves = linear and call.outputs[0] in network.calls.outputs
            rounded = network.names[after_rectifier(call.outputs[0], readers)] in plan.ranges
            if leaves and rounded:
                return BOTH_NOTE
            if not (leaves or rounded or can_give_float(call, readers)):
                return RECTIFIED_NOTE
    return ""


def _is_fused(node: Any) -> bool:
    return node.op_type in ("Conv", "FusedConv") and any(attribute.name == "activation" for attribute in node.attribute)
