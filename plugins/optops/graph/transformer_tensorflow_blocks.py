"""The blocks of a Transformer as TensorFlow operations on folded weights: few, two-dimensional, fusible."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optops.models.keras import tf
from optops.models.transformer.layers import NORM_EPSILON
from optops.models.transformer.weights import FeedForwardWeights, Product, by_precision, joined
from optops.precision import PrecisionPlan


@dataclass(frozen=True)
class Blocks:
    """Adds blocks to the graph that is being traced; states are float32 [rows, width].

    Attributes:
        plan: Type of each product; neighbours of one type become one.
        head_size: Of all heads.
    """

    plan: PrecisionPlan
    head_size: int

    def norm(self, states: tf.Tensor) -> tf.Tensor:
        """Returns states over their root mean square: layer normalisation once `fold_norms` was at work."""
        return states * tf.math.rsqrt(tf.reduce_mean(states * states, axis=-1, keepdims=True) + NORM_EPSILON)

    def product(self, states: tf.Tensor, parts: Sequence[Product], precision: str) -> tf.Tensor:
        """Returns float32 [rows, sum of the parts' sizes]."""
        kernel, bias = joined(parts)
        if precision == "fp32":
            return tf.nn.bias_add(tf.matmul(states, kernel), bias)
        low = tf.bfloat16
        product = tf.matmul(tf.cast(states, low), kernel.astype(low.as_numpy_dtype))
        return tf.nn.bias_add(tf.cast(product, tf.float32), bias)

    def single(self, states: tf.Tensor, part: Product) -> tf.Tensor:
        """Returns one product on its own."""
        return self.product(states, [part], self.plan.parts.get(part.name, "fp32"))

    def heads(self, states: tf.Tensor, parts: Sequence[Product], batch: Any, positions: Any) -> list[tf.Tensor]:
        """Returns products split into heads, each [batch, heads, positions, head_size]."""
        results: list[tf.Tensor] = []
        for precision, group in by_precision(parts, self.plan):
            counts = [part.kernel.shape[1] // self.head_size for part in group]
            shape = [batch, positions, sum(counts), self.head_size]
            turned = tf.transpose(tf.reshape(self.product(states, group, precision), shape), [0, 2, 1, 3])
            results += tf.split(turned, counts, axis=1) if len(counts) > 1 else [turned]
        return results

    def attend(
        self, queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor, output: Product
    ) -> tf.Tensor:
        """Returns attention over heads after the output product, [rows, width]."""
        maps = tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True) + bias)
        context = tf.transpose(tf.matmul(maps, values), [0, 2, 1, 3])
        return self.single(tf.reshape(context, [-1, output.kernel.shape[0]]), output)

    def feed_forward(self, states: tf.Tensor, weights: FeedForwardWeights) -> tf.Tensor:
        """Returns the feed-forward block's output, [rows, width]."""
        return self.single(tf.nn.relu(self.single(states, weights.expand)), weights.contract)
