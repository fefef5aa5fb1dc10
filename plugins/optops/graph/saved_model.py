"""Lowers a serving-only model, a SavedModel that nobody here can train: optimised, or converted to ONNX."""

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optops.graph.freezing import SIGNATURE
from optops.graph.functional_onnx import executed_graph
from optops.graph.lowering import Lowering, LoweringError
from optops.graph.onnx_conversion import convert
from optops.graph.onnx_fusions import count_fused, fuse
from optops.graph.onnx_half import store_in_half
from optops.graph.onnx_quantization import quantize_all_products
from optops.graph.optimizer.errors import OptimizerError
from optops.graph.optimizer.loading import load
from optops.graph.optimizer.optimizer import KERNEL_LEVELS, optimize
from optops.graph.optimizer.patterns.dense import DENSE
from optops.graph.optimizer.patterns.encoder_stack import ENCODER_STACK
from optops.graph.optimizer.report import Report, SignatureReport
from optops.graph.optimizer.samples import Sample, accepted_samples
from optops.precision import PrecisionPlan
from optops.runtimes.base import ExecutableInfo
from optops.runtimes.onnxruntime import MODEL
from optops.runtimes.tensorflow import SAVED_MODEL

IN_PRECISION = {ENCODER_STACK.name, DENSE.name}
"""Patterns whose operators multiply in the plan's precision; all others compute in float32."""


def copy(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Copies the import as it is, for the baseline."""
    del plan  # fp32 is all that it can be
    shutil.copytree(serving, folder, dirs_exist_ok=True)
    return Lowering({}, ["the imported model as it is"])


def lower_to_tensorflow(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a SavedModel that the graph optimiser rewrote with TensorFlow's own operators.

    Raises:
        LoweringError: If the optimiser can not read the model.
    """
    report = _optimize(serving, folder, plan.precision, kernels=False)
    facts = _facts(report)
    replace(ExecutableInfo.load(serving), facts=facts).save(folder)
    return Lowering(facts, report.lines())


def lower_to_kernels(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a SavedModel whose encoder stacks are operators of the library.

    Raises:
        LoweringError: If nothing could be fused, or nothing that has products in the plan's precision, with the reason.
    """
    from optops.kernels import instruction_set

    report = _optimize(serving, folder, plan.precision, kernels=True)
    missing = _missing(report, plan.precision)
    if missing:
        shutil.rmtree(folder / SAVED_MODEL)
        lines = [line.strip() for line in report.lines()]
        said = [line for line in lines if line.startswith(("left a", "rolled back", "the operator library"))]
        reasons = "; ".join(said[:3]) or "the graph has no attention between products"
        raise LoweringError(f"{missing} in this model could be fused into operators of the library: {reasons}")
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


def _missing(report: Report, precision: str) -> str:
    """Returns what an executable of the library lacks; empty if it is what it is called."""
    served = _served(report)
    if served.level not in KERNEL_LEVELS:
        return "nothing"
    if precision != "fp32" and not IN_PRECISION.intersection(served.counts()):
        return f"nothing that multiplies in {precision}"
    return ""


def _served(report: Report) -> SignatureReport:
    return next(each for each in report.signatures if each.name == SIGNATURE)


def _facts(report: Report) -> dict[str, float | str]:
    served = _served(report)
    return {
        "nodes_before": served.nodes_before,
        "nodes_after": served.nodes_after,
        "rewrites": len(served.rewrites),
        "largest_difference": served.difference,
    }


def lower_to_onnx(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx` with ONNX Runtime's own operators for attention, layer norms and GELU where they fit.

    In int8, every product with a constant weight is quantised dynamically; in fp16, weights are stored in it.

    Raises:
        LoweringError: If the graph can not be converted, or int8 reaches no product.
    """
    info = ExecutableInfo.load(serving)
    fused = fuse(convert(serving / SAVED_MODEL), _samples(serving / SAVED_MODEL))
    model = fused.model
    if plan.precision == "fp16":
        store_in_half(model)
    quantized = quantize_all_products(model, folder / MODEL) if plan.precision == "int8" else _save(model, folder)
    executed = executed_graph(folder / MODEL)
    facts: dict[str, float | str] = {
        "nodes_after": len(executed.node),
        "nodes_quantized": quantized,
        **count_fused(executed),
    }
    replace(info, runtime="onnxruntime", precision=plan.precision, facts=facts).save(folder)
    counts = f"{len(executed.node)} ONNX nodes are executed, {quantized} products in int8"
    return Lowering(facts, [*fused.notes, counts])


def _samples(saved_model: Path) -> list[Sample]:
    """Returns inputs that a model accepts, of different sizes; none where nothing is known of what it takes."""
    with TemporaryDirectory(prefix="optops-samples-") as scratch:
        try:
            signature = load(saved_model, Path(scratch) / "source").signatures[SIGNATURE]
        except OptimizerError:
            return []
        return accepted_samples(signature, signature.graph) if signature.graph is not None else []


def lower_to_openvino(serving: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx`, which OpenVINO compiles when it is loaded; in fp16, weights are stored in it.

    Raises:
        LoweringError: If OpenVINO can not execute the graph.
    """
    from optops.runtimes.openvino import compile_model

    info = ExecutableInfo.load(serving)
    model = convert(serving / SAVED_MODEL)
    if plan.precision == "fp16":
        store_in_half(model)
    _save(model, folder)
    try:
        compiled = compile_model(folder / MODEL, plan.precision, threads=1)
    except RuntimeError as error:
        raise LoweringError(f"OpenVINO can not execute this graph: {error}") from error
    facts: dict[str, float | str] = {"nodes_after": len(compiled.get_runtime_model().get_ops())}
    replace(info, runtime="openvino", precision=plan.precision, facts=facts).save(folder)
    return Lowering(facts, [f"{facts['nodes_after']} operations"])


def _save(model: Any, folder: Path) -> int:
    import onnx

    onnx.save(model, str(folder / MODEL))
    return 0
