"""What OpenVINO executes of a graph, in which types, and what it is to be asked for."""

from collections import Counter
from pathlib import Path

from optops.compression.quantization.rounding import Range
from optops.graph.lowering import LoweringError
from optops.precision import PrecisionPlan
from optops.runtimes.openvino import compile_model, has_bf16

PRODUCTS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
WHOLE = ("u8", "i8")
LEAST_SYMMETRY = 0.5
"""Least ratio of the two sides of a range that is made symmetric: that costs at most 2.5 dB of its signal to noise."""


def symmetric_range(limits: Range) -> Range | None:
    """Returns the range around one that is nearly as negative as positive in which zero is 0; None of all others.

    On AMX, OpenVINO's products take longer where zero is another number.
    """
    low, high = limits
    if not low < 0 < high or not LEAST_SYMMETRY <= -low / high <= 1 / LEAST_SYMMETRY:
        return None
    largest = max(-low, high * 128 / 127)
    return -largest, largest * 127 / 128


def check_cpu(plan: PrecisionPlan) -> None:
    """Refuses a plan that OpenVINO can execute on other CPUs only.

    Raises:
        LoweringError: If the plan is in bf16 and this CPU does not compute in it.
    """
    if plan.precision == "bf16" and not has_bf16():
        raise LoweringError("OpenVINO computes in bf16 where the CPU does; this one does not: take fp32")


def executed_layers(path: Path, precision: str) -> Counter[tuple[str, str]]:
    """Returns how many layers of each kind OpenVINO executes in each type, less those that hold constants.

    Raises:
        LoweringError: If OpenVINO can not execute the model.
    """
    try:
        compiled = compile_model(path, precision, threads=1)
    except Exception as error:
        raise LoweringError(f"OpenVINO can not execute this graph: {error}") from error
    found: Counter[tuple[str, str]] = Counter()
    for operation in compiled.get_runtime_model().get_ops():
        facts = operation.get_rt_info()
        kind = facts["layerType"].astype(str)
        if kind not in ("Const", "Input", "Output"):
            found[kind, facts["runtimePrecision"].astype(str)] += 1
    return found


def quantized_products(executed: Counter[tuple[str, str]]) -> int:
    """Returns how many of the products that `executed_layers` found are executed in int8."""
    return sum(count for (kind, precision), count in executed.items() if kind in PRODUCTS and precision in WHOLE)


def listed(executed: Counter[tuple[str, str]]) -> str:
    """Says what is executed, for people."""
    return "executed are " + ", ".join(f"{count} {kind} in {type_}" for (kind, type_), count in executed.most_common())
