"""Makes a function that TensorFlow can call of a signature's graph."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.loading import Signature
from optops.models.keras import tf

MUCH = 128 << 20
"""Bytes of weights beyond which they are variables of what is written."""


def as_function(signature: Signature, graph: Graph, weights: Mapping[str, Any]) -> Any:
    """Returns a tf.function with the inputs and outputs of a signature that computes a graph.

    Args:
        signature: Of the model.
        graph: What is computed.
        weights: Tensors or variables that take the place of constants, by the constant's tensor.
    """
    shapes = {name: tensor.shape for name, tensor in signature.original.structured_outputs.items()}
    # A tf.function is traced twice, and with its first trace go the functions of branches and loops in it.
    inner = imported(signature, graph, weights)

    @tf.function(input_signature=_specs(signature), autograph=False)
    def serve(*arguments: Any) -> dict[str, Any]:
        named = dict(zip(signature.outputs, inner(*arguments), strict=True))
        for name, tensor in named.items():
            tensor.set_shape(shapes[name])
        # An output that is an input would take the input's place in the signature.
        return {name: tf.identity(tensor) for name, tensor in named.items()}

    return serve


def called_by_name(signature: Signature, function: Any) -> Any:
    """Returns what `as_function` gives as a concrete function that is called as a loaded signature is.

    Either call costs the same then: TensorFlow takes longer to find the concrete function of a tf.function, and to look
    at its arguments, than many a small model takes to compute.
    """
    concrete = function.get_concrete_function()

    @tf.function(autograph=False)
    def serve(**named: Any) -> Any:
        return concrete(**named)

    return serve.get_concrete_function(**signature.inputs)


@contextmanager
def unfused() -> Iterator[None]:
    """Lets TensorFlow compute node by node, without what it fuses itself on this processor.

    On x86 with AVX-512 TensorFlow 2.21 fuses layer norms of constant weights, and computes them with an epsilon of
    0.001 whatever theirs is. Of a model that has some, nothing could be rewritten.
    """
    fuses = tf.config.optimizer.get_experimental_options().get("remapping", True)
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": fuses})


def imported(signature: Signature, graph: Graph, weights: Mapping[str, Any]) -> Any:
    """Returns a function with the inputs of a signature that gives a graph's outputs as a list; see `as_function`."""
    graph_def = graph.graph_def(without=weights)

    def outputs(*arguments: Any) -> list[Any]:
        feeds = dict(zip((f"{name}:0" for name in graph.inputs), arguments, strict=False))
        feeds |= {f"{name}:0": tf.convert_to_tensor(handle) for name, handle in signature.captures.items()}
        feeds |= {tensor: _inside(value) for tensor, value in weights.items()}
        return list(tf.graph_util.import_graph_def(graph_def, feeds, list(graph.outputs), name="graph"))

    return tf.compat.v1.wrap_function(outputs, _specs(signature))


def _specs(signature: Signature) -> list[Any]:
    return [tf.TensorSpec(spec.shape, spec.dtype, keyword(name)) for name, spec in signature.inputs.items()]


def keyword(name: str) -> str:
    """Returns what TensorFlow calls the argument of a function for an input: one of TensorFlow 1 may have any name."""
    from tensorflow.core.function.polymorphism.function_type import sanitize_arg_name

    return str(sanitize_arg_name(name))


def weights_apart(*graphs: Graph) -> list[dict[str, Any]]:
    """Returns the weights that are none of a graph's constants once graphs are written together, by tensor, for each.

    TensorFlow was seen to run convolutions with constant weights up to 6 % faster, but to hold each constant five times
    or more, and no SavedModel may have 2 GB of them: so those of large models are variables.
    """
    weights = [graph.weights() for graph in graphs]
    size = sum(tensor.dtype.size * tensor.shape.num_elements() for each in weights for tensor in each.values())
    return weights if size > MUCH else [{} for _ in graphs]


def _inside(value: Any) -> Any:
    if isinstance(value, tf.Variable):
        return value.read_value()
    return tf.compat.v1.get_default_graph().capture(value)
