"""Lowers a serving-only model, a SavedModel that nobody here can train: frozen, folded, or converted to ONNX."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from optops.graph.freezing import SIGNATURE, freeze
from optops.graph.lowering import Lowering, LoweringError
from optops.graph.onnx_quantization import quantize_all_products
from optops.models.keras import tf
from optops.precision import PrecisionPlan
from optops.runtimes.base import ExecutableInfo
from optops.runtimes.onnxruntime import MODEL
from optops.runtimes.tensorflow import SAVED_MODEL

OPSET = 18


def lower_to_tensorflow(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a SavedModel whose variables are constants and whose graph TensorFlow's own optimiser has folded.

    Raises:
        LoweringError: If the plan asks for anything but fp32.
    """
    if plan.precision != "fp32":
        raise LoweringError(f"an imported SavedModel runs in TensorFlow in fp32, not in {plan.precision}")
    frozen = freeze(serving / SAVED_MODEL)
    info = ExecutableInfo.load(serving)
    names = list(info.outputs)

    class Frozen(tf.Module):
        """Holds the frozen function; its signature is that of the import."""

        @tf.function(input_signature=[_spec(name, tensor) for name, tensor in info.inputs.items()])
        def serve(self, *arguments: tf.Tensor) -> dict[str, tf.Tensor]:
            """Returns the outputs by name."""
            outputs = frozen(*[tf.convert_to_tensor(argument) for argument in arguments])
            return dict(zip(sorted(names), outputs, strict=True))

    module = Frozen()
    tf.saved_model.save(module, str(folder / SAVED_MODEL), signatures={SIGNATURE: module.serve})
    facts: dict[str, float | str] = {"nodes_after": len(frozen.graph.as_graph_def().node)}
    replace(info, facts=facts).save(folder)
    return Lowering(facts, ["variables became constants; TensorFlow's graph optimiser folded them"])


def lower_to_onnx(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx`; in int8, every product with a constant weight is quantised dynamically.

    Raises:
        LoweringError: If the graph can not be converted, or int8 reaches no product.
    """
    import tf2onnx

    if plan.precision not in ("fp32", "int8"):
        raise LoweringError(f"an imported SavedModel runs in ONNX Runtime in fp32 or int8, not in {plan.precision}")
    info = ExecutableInfo.load(serving)
    frozen = freeze(serving / SAVED_MODEL)
    try:
        model, _ = tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(),
            input_names=[tensor.name for tensor in frozen.inputs],
            output_names=[tensor.name for tensor in frozen.outputs],
            opset=OPSET,
        )
    except Exception as error:
        raise LoweringError(f"tf2onnx can not convert this graph: {type(error).__name__}: {error}") from error
    _name_inputs(model, [tensor.name.partition(":")[0] for tensor in frozen.inputs])
    quantized = quantize_all_products(model, folder / MODEL) if plan.precision == "int8" else _save(model, folder)
    facts: dict[str, float | str] = {"nodes_after": len(model.graph.node), "nodes_quantized": quantized}
    replace(info, runtime="onnxruntime", precision=plan.precision, facts=facts).save(folder)
    return Lowering(facts, [f"{len(model.graph.node)} ONNX nodes, {quantized} products in int8"])


def _spec(name: str, tensor: Any) -> tf.TensorSpec:
    return tf.TensorSpec(tensor["shape"], tensor["dtype"], name=name)


def _save(model: Any, folder: Path) -> int:
    import onnx

    onnx.save(model, str(folder / MODEL))
    return 0


def _name_inputs(model: Any, inputs: list[str]) -> None:
    # tf2onnx keeps TensorFlow's tensor names (`ids:0`); callers know those of the signature. Outputs keep theirs, for
    # in ONNX no output may be called as an input is; they are known by their order, that of their sorted names.
    names = {tensor.name: name for tensor, name in zip(model.graph.input, inputs, strict=True)}
    for tensor in model.graph.input:
        tensor.name = names[tensor.name]
    _rename_uses(model.graph, names)


def _rename_uses(graph: Any, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                # The body of a loop sees the tensors around it.
                _rename_uses(attribute.g, names)
