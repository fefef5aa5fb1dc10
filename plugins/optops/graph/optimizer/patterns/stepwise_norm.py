"""A layer norm by a batch norm over rows, or by moments, is written step by step, which TensorFlow computes faster."""

from collections.abc import Callable, Iterator

import numpy as np

from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.patterns.layer_norm import Norm, norm_at
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.splice import splice
from optops.models.keras import tf

SLOWER = ("FusedBatchNormV3", "SquaredDifference")


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives layer norms that are written in slower ways."""
    for name, node in graph.nodes.items():
        if node.controls:
            continue
        norm = norm_at(graph, f"{name}:0")
        if norm is not None and any(graph.nodes[each].op in SLOWER for each in norm.nodes):
            yield Place(norm.output, norm.nodes, _rewrite(norm), f"width {norm.scale.size}")


def _rewrite(norm: Norm) -> Callable[[Graph], str]:
    def normalise(x: tf.Tensor) -> tf.Tensor:
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
        normed = centred * tf.math.rsqrt(variance + norm.epsilon)
        scaled = normed if np.all(norm.scale == 1) else normed * norm.scale
        return scaled if np.all(norm.offset == 0) else scaled + norm.offset

    return lambda graph: splice(graph, "norm", normalise, [norm.source])


STEPWISE_NORM = Pattern("norm step by step", find)
