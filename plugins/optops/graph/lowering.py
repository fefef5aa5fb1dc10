"""Lowering: a trained model and a precision plan become an executable for one runtime."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optops.candidate import Candidate
from optops.models.base import Description, LoweringFunction, load_architecture, load_function
from optops.precision import PrecisionPlan
from optops.runtimes.base import IMPORTED, RUNTIMES, load_runtime, runtime_names

STOCK = "stock"
SERVING_ONLY = {
    STOCK: LoweringFunction("optops.graph.saved_model:copy", ("fp32",)),
    "tensorflow": LoweringFunction("optops.graph.saved_model:lower_to_tensorflow", ("fp32",)),
    "tensorflow+kernels": LoweringFunction("optops.graph.saved_model:lower_to_kernels", ("fp32", "bf16", "int8")),
    "onnxruntime": LoweringFunction("optops.graph.saved_model:lower_to_onnx", ("fp32", "fp16", "int8")),
    "openvino": LoweringFunction("optops.graph.saved_model:lower_to_openvino", ("fp32", "fp16")),
}
"""How a model is lowered that came without anything to train."""


class LoweringError(RuntimeError):
    """A model that can not be lowered to a runtime in a precision; the message says why."""


def check_plan(plan: PrecisionPlan, model: Any) -> None:
    """Refuses a plan that names weights which the model does not have, or none at all for its precision.

    Raises:
        LoweringError: Names them.
    """
    unknown = sorted(set(plan.parts) - {weight.name for weight in model.weights})
    if unknown:
        raise LoweringError(f"the plan names {', '.join(unknown)}, which this model does not have")
    if plan.precision != "fp32" and plan.precision not in plan.parts.values():
        raise LoweringError(f"the plan says {plan.precision} but names no weight of this model in {plan.precision}")


def notes_on_reach(runtime: str, executed: int, wanted: int) -> list[str]:
    """Returns what is to be told where a runtime executes fewer products in int8 than its graph has; it decides itself.

    Raises:
        LoweringError: If it executes none.
    """
    if executed >= wanted:
        return []
    if not executed:
        raise LoweringError(f"{runtime} executes none of the {wanted} products in int8 that its graph has")
    return [f"{runtime} executes {executed} of the {wanted} products in int8 that its graph has, and the rest in float"]


@dataclass(frozen=True)
class Lowering:
    """What came of lowering one model.

    Attributes:
        facts: Counts for reports, for example `nodes_before`, `nodes_after`, `nodes_quantized`.
        notes: What was rewritten, or left alone and why, one line each.
    """

    facts: dict[str, float | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def lowerings_of(candidate: Candidate) -> Mapping[str, LoweringFunction]:
    """Returns what lowers a candidate, by runtime, `stock` among them."""
    return _lowerings_of(candidate.architecture if candidate.trainable else IMPORTED)


def _lowerings_of(architecture: str) -> Mapping[str, LoweringFunction]:
    own = SERVING_ONLY if architecture == IMPORTED else load_architecture(architecture).lowerings()
    plugged = {name: load_runtime(name).lowerings() for name in runtime_names() if name not in RUNTIMES}
    return {**{name: found[architecture] for name, found in plugged.items() if architecture in found}, **own}


def unfit(lowerings: Mapping[str, LoweringFunction], runtime: str, precisions: Collection[str]) -> str | None:
    """Returns why a model can not be lowered to a runtime in some precisions, or None if it can."""
    if runtime not in lowerings:
        return f"has no lowering to {runtime!r}; it has {', '.join(lowerings)}"
    able = lowerings[runtime].precisions
    for precision in precisions:
        if precision not in able:
            others = [name for name, lowering in lowerings.items() if precision in lowering.precisions]
            instead = f"; {precision} is there on {', '.join(others)}" if others else ""
            return f"is lowered to {runtime} in {', '.join(able)}, not in {precision}{instead}"
    return None


def lower(trainable: Path, plan: PrecisionPlan, runtime: str, folder: Path) -> Lowering:
    """Lowers the model in a `trainable/` folder to `runtime` and writes the executable into `folder`.

    Args:
        trainable: Folder with `architecture.json` and weights.
        plan: Which part runs in which type.
        runtime: Name of a runtime, or `stock` for the baseline in unchanged TensorFlow.
        folder: Where the executable goes (`serving/`); made if need be.

    Raises:
        LoweringError: If the architecture has no lowering to this runtime, or the plan does not fit it.
    """
    name = Description.load(trainable).architecture
    return _lower(f"architecture {name!r}", _lowerings_of(name), trainable, plan, runtime, folder)


def lower_serving(serving: Path, plan: PrecisionPlan, runtime: str, folder: Path) -> Lowering:
    """Lowers a serving-only model to `runtime` and writes the executable into `folder`.

    Args:
        serving: The import's `serving/` folder, a SavedModel.
        plan: In which precision; it names no parts, because nobody knows the model's.
        runtime: Name of a runtime, or `stock` for the import as it is.
        folder: Where the executable goes; made if need be.

    Raises:
        LoweringError: If the model can not be lowered to this runtime in this precision.
    """
    return _lower("an imported model", _lowerings_of(IMPORTED), serving, plan, runtime, folder)


def _lower(
    subject: str,
    lowerings: Mapping[str, LoweringFunction],
    source: Path,
    plan: PrecisionPlan,
    runtime: str,
    folder: Path,
) -> Lowering:
    reason = unfit(lowerings, runtime, [plan.precision, *plan.parts.values()])
    if reason is not None:
        raise LoweringError(f"{subject} {reason}")
    folder.mkdir(parents=True, exist_ok=True)
    result: Lowering = load_function(lowerings[runtime].function)(source, plan, folder)
    return result
