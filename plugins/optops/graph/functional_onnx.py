"""Lowers a functional model to ONNX Runtime: one graph, batch norms folded, channels first."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optops.graph.functional_serving import Served
from optops.graph.lowering import Lowering, LoweringError
from optops.graph.onnx_conversion import convert
from optops.graph.tensorflow_graph import count_nodes
from optops.precision import PrecisionPlan
from optops.runtimes.onnxruntime import MODEL, open_session

CONVOLUTIONS = ("Conv", "FusedConv")


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx`.

    Raises:
        LoweringError: If the plan's precision has no fast kernels here, or the graph can not be converted.
    """
    import onnx

    if plan.precision != "fp32":
        raise LoweringError(f"onnxruntime runs functional models in fp32, not in {plan.precision}")
    served = Served.load(trainable)
    stock = served.trace(served.model)
    with TemporaryDirectory(prefix="optops-canonical-") as temporary:
        served.save_canonical(Path(temporary))
        model = convert(Path(temporary))
    onnx.save(model, str(folder / MODEL))
    executed = executed_graph(folder / MODEL)
    facts: dict[str, float | str] = {
        "nodes_before": count_nodes(stock.graph.as_graph_def()),
        "nodes_after": len(executed.node),
        "transposes": sum(node.op_type == "Transpose" for node in executed.node),
        "convolutions_fused": sum(_is_fused(node) for node in executed.node),
    }
    served.info("onnxruntime", plan.precision, stock, facts).save(folder)
    operators = Counter(node.op_type for node in executed.node)
    listed = ", ".join(f"{count} {name}" for name, count in operators.most_common())
    return Lowering(facts, ["batch norms folded into the layers before them", f"executed are {listed}"])


def executed_graph(path: Path) -> Any:
    """Returns the ONNX graph that ONNX Runtime makes of a model and executes here, with all its optimisations."""
    import onnx

    with TemporaryDirectory(prefix="optops-optimized-") as folder:
        open_session(path, threads=1, optimized=Path(folder) / MODEL)
        return onnx.load(str(Path(folder) / MODEL)).graph


def _is_fused(node: Any) -> bool:
    return node.op_type in CONVOLUTIONS and any(attribute.name == "activation" for attribute in node.attribute)
