"""Lowers a serving-only model, a SavedModel that nobody here can train: frozen, folded, or converted to ONNX."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from optops.graph.freezing import freeze, save_frozen
from optops.graph.lowering import Lowering, LoweringError
from optops.graph.onnx_conversion import convert
from optops.graph.onnx_quantization import quantize_all_products
from optops.precision import PrecisionPlan
from optops.runtimes.base import ExecutableInfo
from optops.runtimes.onnxruntime import MODEL
from optops.runtimes.tensorflow import SAVED_MODEL


def lower_to_tensorflow(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a SavedModel whose variables are constants and whose graph TensorFlow's own optimiser has folded.

    Raises:
        LoweringError: If the plan asks for anything but fp32.
    """
    if plan.precision != "fp32":
        raise LoweringError(f"an imported SavedModel runs in TensorFlow in fp32, not in {plan.precision}")
    frozen = freeze(serving / SAVED_MODEL)
    info = ExecutableInfo.load(serving)
    save_frozen(frozen, list(info.outputs), folder / SAVED_MODEL)
    facts: dict[str, float | str] = {"nodes_after": len(frozen.graph.as_graph_def().node)}
    replace(info, facts=facts).save(folder)
    return Lowering(facts, ["variables became constants; TensorFlow's graph optimiser folded them"])


def lower_to_onnx(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx`; in int8, every product with a constant weight is quantised dynamically.

    Raises:
        LoweringError: If the graph can not be converted, or int8 reaches no product.
    """
    if plan.precision not in ("fp32", "int8"):
        raise LoweringError(f"an imported SavedModel runs in ONNX Runtime in fp32 or int8, not in {plan.precision}")
    info = ExecutableInfo.load(serving)
    model = convert(serving / SAVED_MODEL)
    quantized = quantize_all_products(model, folder / MODEL) if plan.precision == "int8" else _save(model, folder)
    facts: dict[str, float | str] = {"nodes_after": len(model.graph.node), "nodes_quantized": quantized}
    replace(info, runtime="onnxruntime", precision=plan.precision, facts=facts).save(folder)
    return Lowering(facts, [f"{len(model.graph.node)} ONNX nodes, {quantized} products in int8"])


def lower_to_openvino(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx`, which OpenVINO compiles when it is loaded.

    Raises:
        LoweringError: If the plan asks for anything but fp32, or OpenVINO can not execute the graph.
    """
    from optops.runtimes.openvino import compile_model

    if plan.precision != "fp32":
        raise LoweringError(f"an imported SavedModel runs in OpenVINO in fp32, not in {plan.precision}")
    info = ExecutableInfo.load(serving)
    model = convert(serving / SAVED_MODEL)
    _save(model, folder)
    try:
        compiled = compile_model(folder / MODEL, plan.precision, threads=1)
    except RuntimeError as error:
        raise LoweringError(f"OpenVINO can not execute this graph: {error}") from error
    facts: dict[str, float | str] = {"nodes_after": len(compiled.get_runtime_model().get_ops())}
    replace(info, runtime="openvino", facts=facts).save(folder)
    return Lowering(facts, [f"{facts['nodes_after']} operations"])


def _save(model: Any, folder: Path) -> int:
    import onnx

    onnx.save(model, str(folder / MODEL))
    return 0
