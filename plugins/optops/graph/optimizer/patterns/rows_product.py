"""A batched product with one constant matrix becomes one product of all rows, which TensorFlow computes at once."""

from collections.abc import Callable, Iterator

from optops.graph.optimizer.graph import Graph, Node
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.splice import splice
from optops.models.keras import tf


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives products [..., rows, inputs] x [inputs, outputs] of more than two axes."""
    for node in graph.nodes.values():
        if node.op not in ("BatchMatMulV2", "BatchMatMulV3") or node.controls or node.attributes["adj_x"].b:
            continue
        matrix, shape = graph.constant(node.inputs[1]), graph.shape(node.inputs[0])
        # What has its batch in a known axis of 1 is one product already.
        if matrix is None or matrix.ndim != 2 or shape is None or len(shape) < 3 or set(shape[:-2]) == {1}:
            continue
        if graph.dtype(node.inputs[0]) == graph.dtype(f"{node.name}:0"):
            yield Place(f"{node.name}:0", (node.name,), _rewrite(node), f"kernel {list(matrix.shape)}")


def _rewrite(node: Node) -> Callable[[Graph], str]:
    transposed = node.attributes["adj_y"].b

    def multiply(x: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
        inputs, outputs = matrix.shape[::-1] if transposed else matrix.shape
        made = tf.matmul(tf.reshape(x, [-1, inputs]), matrix, transpose_b=transposed)
        sizes = [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape[:-1])]
        return tf.reshape(made, [*sizes, outputs])

    return lambda graph: splice(graph, "product", multiply, node.inputs)


ROWS_PRODUCT = Pattern("product of rows", find)
