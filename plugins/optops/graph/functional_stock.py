"""The baseline: a functional model as its authors would serve it, a SavedModel of its own layers."""

from pathlib import Path

from optops.graph.functional_serving import Served
from optops.graph.lowering import Lowering, LoweringError
from optops.graph.tensorflow_graph import count_nodes
from optops.precision import PrecisionPlan
from optops.runtimes.tensorflow import SAVED_MODEL


def export(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes the unchanged model as an executable for runtime `tensorflow`.

    Raises:
        LoweringError: If the plan asks for anything but fp32.
    """
    if plan.precision != "fp32":
        raise LoweringError(f"the stock export runs in fp32, not in {plan.precision}; lower it to a runtime instead")
    served = Served.load(trainable)
    traced = served.trace(served.model)
    served.save(served.model, traced, folder / SAVED_MODEL)
    facts: dict[str, float | str] = {"nodes": count_nodes(traced.graph.as_graph_def())}
    served.info("tensorflow", "fp32", traced, facts).save(folder)
    return Lowering(facts, ["the model's own layers"])
