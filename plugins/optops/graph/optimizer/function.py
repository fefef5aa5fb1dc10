"""Makes a function that TensorFlow can call of a signature's graph."""

from typing import Any

from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.loading import Signature
from optops.models.keras import tf


def as_function(signature: Signature, graph: Graph, *, weights_apart: bool = False) -> Any:
    """Returns a tf.function with the inputs and outputs of a signature that computes a graph.

    Args:
        signature: Of the model.
        graph: What is computed.
        weights_apart: Whether large constants are captured tensors, which all such functions share: for what is tried
            and thrown away. What is timed or written holds them itself, for TensorFlow prepares constants in advance.
    """
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in signature.inputs.items()]
    shapes = {name: tensor.shape for name, tensor in signature.original.structured_outputs.items()}

    graph_def, weights = graph.graph_def_without_weights() if weights_apart else (graph.graph_def(), {})

    def imported(*arguments: Any) -> list[Any]:
        feeds = dict(zip((f"{name}:0" for name in graph.inputs), arguments, strict=False))
        feeds |= {f"{name}:0": tf.convert_to_tensor(handle) for name, handle in signature.captures.items()}
        feeds |= {tensor: tf.compat.v1.get_default_graph().capture(value) for tensor, value in weights.items()}
        return list(tf.graph_util.import_graph_def(graph_def, feeds, list(graph.outputs), name="graph"))

    # A tf.function is traced twice, and with its first trace go the functions of branches and loops in it.
    inner = tf.compat.v1.wrap_function(imported, specs)

    @tf.function(input_signature=specs, autograph=False)
    def serve(*arguments: Any) -> dict[str, Any]:
        named = dict(zip(signature.outputs, inner(*arguments), strict=True))
        for name, tensor in named.items():
            tensor.set_shape(shapes[name])
        # An output that is an input would take the input's place in the signature.
        return {name: tf.identity(tensor) for name, tensor in named.items()}

    return serve
