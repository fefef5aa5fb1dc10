"""The blocks of a Transformer as TensorFlow operations on folded weights: few, two-dimensional, fusible."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optops.models.keras import tf
from optops.models.transformer.layers import NORM_EPSILON
from optops.models.transformer.weights import FeedForwardWeights, Product, by_precision, joined
from optops.precision import PrecisionPlan

FEW_SCORES = 8192
"""Up to so many, products and softmax of an attention take less time than what oneDNN does before."""
SMALL_ATTENTIONS = f"attentions of up to {FEW_SCORES} scores and all transposes by operations that oneDNN does not take"


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
            turned = _swapped(tf.reshape(self.product(states, group, precision), shape))
            results += tf.split(turned, counts, axis=1) if len(counts) > 1 else [turned]
        return results

    def attend(
        self, queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor, output: Product
    ) -> tf.Tensor:
        """Returns attention over heads after the output product, [rows, width]."""
        scores = tf.size(queries, tf.int64) * tf.shape(keys, tf.int64)[2] // self.head_size
        context = tf.cond(
            scores <= FEW_SCORES,
            lambda: _attend_small(queries, keys, values, bias),
            lambda: _attend(queries, keys, values, bias),
        )
        context = _swapped(context)
        return self.single(tf.reshape(context, [-1, output.kernel.shape[0]]), output)

    def feed_forward(self, states: tf.Tensor, weights: FeedForwardWeights) -> tf.Tensor:
        """Returns the feed-forward block's output, [rows, width]."""
        return self.single(tf.nn.relu(self.single(states, weights.expand)), weights.contract)


def _swapped(x: tf.Tensor) -> tf.Tensor:
    """Returns a tensor with its middle axes exchanged; oneDNN's transpose takes 20 us more, this op is not its."""
    return tf.einsum("abcd->acbd", x)


def _attend(queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return tf.matmul(tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True) + bias), values)


def _attend_small(queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns what `_attend` does, by operations that TensorFlow does not hand to oneDNN: 20 us less for each."""
    scores = tf.raw_ops.BatchMatMulV3(x=queries, y=keys, adj_y=True, Tout=tf.float32) + bias
    return tf.raw_ops.BatchMatMulV3(x=tf.exp(tf.nn.log_softmax(scores)), y=values, Tout=tf.float32)
