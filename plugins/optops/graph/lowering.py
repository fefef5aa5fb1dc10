"""Lowering: a trained model and a precision plan become an executable for one runtime."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from optops.candidate import Candidate
from optops.models.base import Description, load_architecture, load_function
from optops.precision import PrecisionPlan

STOCK = "stock"
SERVING_ONLY = {
    "tensorflow": "optops.graph.saved_model:lower_to_tensorflow",
    "tensorflow+kernels": "optops.graph.saved_model:lower_to_kernels",
    "onnxruntime": "optops.graph.saved_model:lower_to_onnx",
    "openvino": "optops.graph.saved_model:lower_to_openvino",
}
"""How a model is lowered that came without anything to train."""


class LoweringError(RuntimeError):
    """A model that can not be lowered to a runtime in a precision; the message says why."""


@dataclass(frozen=True)
class Lowering:
    """What came of lowering one model.

    Attributes:
        facts: Counts for reports, for example `nodes_before`, `nodes_after`, `nodes_quantized`.
        notes: What was rewritten, or left alone and why, one line each.
    """

    facts: dict[str, float | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def runtimes_of(candidate: Candidate) -> frozenset[str]:
    """Returns the runtimes that a candidate can be lowered to, `stock` among them."""
    if not candidate.trainable:
        return frozenset({STOCK, *SERVING_ONLY})
    return frozenset(load_architecture(candidate.architecture).lowerings())


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
    lowerings = load_architecture(name).lowerings()
    if runtime not in lowerings:
        raise LoweringError(f"architecture {name!r} has no lowering to {runtime!r}; it has {', '.join(lowerings)}")
    folder.mkdir(parents=True, exist_ok=True)
    result: Lowering = load_function(lowerings[runtime])(trainable, plan, folder)
    return result


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
    if runtime == STOCK:
        shutil.copytree(serving, folder)
        return Lowering({}, ["the imported model as it is"])
    if runtime not in SERVING_ONLY:
        raise LoweringError(f"an imported model has no lowering to {runtime!r}; it has {', '.join(SERVING_ONLY)}")
    folder.mkdir(parents=True, exist_ok=True)
    result: Lowering = load_function(SERVING_ONLY[runtime])(serving, plan, folder)
    return result
