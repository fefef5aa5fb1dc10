"""Lowers a functional model to a TensorFlow graph: batch norms folded, variables constant, constants folded."""

from pathlib import Path
from tempfile import TemporaryDirectory

from optops.graph.freezing import freeze, save_frozen
from optops.graph.functional_serving import Served
from optops.graph.lowering import Lowering
from optops.graph.tensorflow_graph import count_nodes, optimized
from optops.precision import PrecisionPlan
from optops.runtimes.tensorflow import SAVED_MODEL

FUSED = ("_FusedConv2D", "_FusedDepthwiseConv2dNative")


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a frozen SavedModel for runtime `tensorflow`; all of it is in fp32."""
    served = Served.load(trainable)
    stock = served.trace(served.model)
    with TemporaryDirectory(prefix="optops-canonical-") as temporary:
        canonical = served.canonical()
        served.save(canonical, served.trace(canonical), Path(temporary))
        frozen = freeze(Path(temporary))
    save_frozen(frozen, list(stock.structured_outputs), folder / SAVED_MODEL)
    executed = optimized(frozen)
    facts: dict[str, float | str] = {
        "nodes_before": count_nodes(stock.graph.as_graph_def()),
        "nodes_after": count_nodes(executed),
        "convolutions_fused": sum(node.op in FUSED for node in executed.node),
    }
    served.info("tensorflow", "fp32", stock, facts).save(folder)
    return Lowering(facts, ["batch norms folded into the layers before them", "variables became constants"])
