"""Lowers a serving-only model, a SavedModel that nobody here can train: optimised, or converted to ONNX."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from optops.graph.freezing import SIGNATURE
from optops.graph.lowering import Lowering, LoweringError
from optops.graph.onnx_conversion import convert
from optops.graph.onnx_quantization import quantize_all_products
from optops.graph.optimizer.errors import OptimizerError
from optops.graph.optimizer.optimizer import optimize
from optops.graph.optimizer.report import Report
from optops.precision import PrecisionPlan
from optops.runtimes.base import ExecutableInfo
from optops.runtimes.onnxruntime import MODEL
from optops.runtimes.tensorflow import SAVED_MODEL


def lower_to_tensorflow(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a SavedModel that the graph optimiser rewrote with TensorFlow's own operators.

    Raises:
        LoweringError: If the plan asks for anything but fp32, or the optimiser can not read the model.
    """
    if plan.precision != "fp32":
        raise LoweringError(f"an imported SavedModel runs in TensorFlow in fp32, not in {plan.precision}")
    report = _optimize(serving, folder, plan.precision, kernels=False)
    facts = _facts(report)
    replace(ExecutableInfo.load(serving), facts=facts).save(folder)
    return Lowering(facts, report.lines())


def lower_to_kernels(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a SavedModel whose encoder stacks are operators of the library.

    Raises:
        LoweringError: If nothing could be fused, with the reason, or the plan's precision is none of the library's.
    """
    from optops.kernels import instruction_set

    if plan.precision not in ("fp32", "bf16", "int8"):
        raise LoweringError(f"the operator library runs in fp32, bf16 and int8, not in {plan.precision}")
    report = _optimize(serving, folder, plan.precision, kernels=True)
    if not report.kernels:
        shutil.rmtree(folder / SAVED_MODEL)
        lines = [line.strip() for line in report.lines()]
        said = [line for line in lines if line.startswith(("left a", "rolled back", "the operator library"))]
        reasons = "; ".join(said[:3]) or "the graph has no attention between products"
        raise LoweringError(f"nothing in this model could be fused into operators of the library: {reasons}")
    facts = {**_facts(report), "instruction_set": instruction_set()}
    info = ExecutableInfo.load(serving)
    replace(info, runtime="tensorflow+kernels", precision=plan.precision, facts=facts).save(folder)
    return Lowering(facts, report.lines())


def _optimize(serving: Path, folder: Path, precision: str, *, kernels: bool) -> Report:
    source, out = serving / SAVED_MODEL, folder / SAVED_MODEL
    try:
        # Which of several executables is the fastest the stage `benchmark` finds out.
        return optimize(source, out, precision=precision, kernels=kernels, benchmark=False, picture=False)
    except OptimizerError as error:
        raise LoweringError(str(error)) from error


def _facts(report: Report) -> dict[str, float | str]:
    served = next(each for each in report.signatures if each.name == SIGNATURE)
    return {
        "nodes_before": served.nodes_before,
        "nodes_after": served.nodes_after,
        "rewrites": len(served.rewrites),
        "largest_difference": served.difference,
    }


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
