"""The layers of the Transformer in their stock form: separate query, key, value and output products."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from optops.models.keras import keras, tf

NORM_EPSILON = 1e-6


def sinusoidal_positions(length: int, width: int) -> np.ndarray:
    """Returns the position table, float32 [length, width]: sines in the first half, cosines in the second.

    Source: Vaswani et al. 2017, section 3.5, as tensor2tensor has it: frequencies end at 1 / 10,000 itself, and sines
    and cosines are not interleaved, which is immaterial.
    """
    half = width // 2
    frequencies = np.exp(-np.log(10_000.0) * np.arange(half) / max(half - 1, 1))
    angles = np.arange(length)[:, None] * frequencies[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def layer_norm(name: str) -> keras.layers.LayerNormalization:
    """Returns a layer normalisation over the last axis."""
    return keras.layers.LayerNormalization(epsilon=NORM_EPSILON, name=name)


class Attended(NamedTuple):
    """What an attention saw, for distillation.

    Attributes:
        maps: float32 [b, heads, t, s].
        values: float32 [b, heads, s, head_size].
    """

    maps: tf.Tensor
    values: tf.Tensor


class Attention(keras.layers.Layer):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2).

    Args:
        heads: Number of heads.
        head_size: Size of each.
        width: Size of what comes in and out.
        name: Name of the layer, part of its weights' names.
    """

    def __init__(self, heads: int, head_size: int, width: int, name: str) -> None:
        super().__init__(name=name)
        self.heads, self.head_size = heads, head_size
        self.query = keras.layers.Dense(heads * head_size, name="query")
        self.key = keras.layers.Dense(heads * head_size, name="key")
        self.value = keras.layers.Dense(heads * head_size, name="value")
        self.output_product = keras.layers.Dense(width, name="output")

    def call(
        self, states: tf.Tensor, memory: tf.Tensor, bias: tf.Tensor, gate: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Attended]:
        """Attends from `states` [b, t, width] to `memory` [b, s, width].

        Args:
            states: Where the queries come from.
            memory: Where keys and values come from.
            bias: Added to the scores; broadcastable to [b, heads, t, s].
            gate: Factors on the heads, [heads].

        Returns:
            What is added to the residual stream [b, t, width], and what was attended to.
        """
        keys, values = self.keys_and_values(memory)
        added, maps = self.attend(self.queries(states), keys, values, bias, gate)
        return added, Attended(maps, values)

    def queries(self, states: tf.Tensor) -> tf.Tensor:
        """Returns scaled queries [b, heads, t, head_size]."""
        return self._split(self.query(states)) * self.head_size**-0.5

    def keys_and_values(self, memory: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns keys and values, each [b, heads, s, head_size]."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def attend(
        self, queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor, gate: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns output [b, t, width] and maps [b, heads, t, s] for queries, keys and values split in heads."""
        maps = tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True) + bias)
        context = tf.transpose(tf.matmul(maps, values), [0, 2, 1, 3])
        if gate is not None:
            context *= gate[:, None]
        shape = tf.shape(context)
        return self.output_product(tf.reshape(context, [shape[0], shape[1], self.heads * self.head_size])), maps

    def _split(self, projected: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(projected)
        return tf.transpose(tf.reshape(projected, [shape[0], shape[1], self.heads, self.head_size]), [0, 2, 1, 3])


class FeedForward(keras.layers.Layer):
    """Two products with an activation between them.

    Args:
        units: Hidden units.
        width: Size of what comes in and out.
        name: Name of the layer, part of its weights' names.
        activation: Of the hidden units.
    """

    def __init__(
        self, units: int, width: int, name: str, activation: Callable[[tf.Tensor], tf.Tensor] = tf.nn.relu
    ) -> None:
        super().__init__(name=name)
        self.expand = keras.layers.Dense(units, activation=activation, name="expand")
        self.contract = keras.layers.Dense(width, name="contract")

    def call(self, states: tf.Tensor, gate: tf.Tensor | None = None) -> tf.Tensor:
        """Returns what is added to the residual stream [b, t, width]; `gate` [units] are factors on hidden units."""
        hidden = self.expand(states)
        return self.contract(hidden if gate is None else hidden * gate)


class EncoderLayer(keras.layers.Layer):
    """Pre-norm self-attention and feed-forward block.

    Args:
        heads: Attention heads.
        feed_forward: Hidden units.
        head_size: Size of a head.
        width: Size of the residual stream.
        dropout: Rate on what each block adds.
        name: Name of the layer, part of its weights' names.
    """

    def __init__(self, heads: int, feed_forward: int, head_size: int, width: int, dropout: float, name: str) -> None:
        super().__init__(name=name)
        self.self_attention_norm = layer_norm("self_attention_norm")
        self.self_attention = Attention(heads, head_size, width, "self_attention")
        self.feed_forward_norm = layer_norm("feed_forward_norm")
        self.feed_forward = FeedForward(feed_forward, width, "feed_forward")
        self.dropout = keras.layers.Dropout(dropout)

    def call(
        self,
        states: tf.Tensor,
        bias: tf.Tensor,
        head_gate: tf.Tensor | None = None,
        unit_gate: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, Attended]:
        """Returns the next states [b, s, width] and what the attention saw."""
        normed = self.self_attention_norm(states)
        added, attended = self.self_attention(normed, normed, bias, head_gate)
        states += self.dropout(added, training=training)
        added = self.feed_forward(self.feed_forward_norm(states), unit_gate)
        return states + self.dropout(added, training=training), attended


class DecoderLayer(keras.layers.Layer):
    """Pre-norm self-attention, attention over the source, and feed-forward block.

    Args:
        self_heads: Heads of the self-attention.
        cross_heads: Heads of the attention over the source.
        feed_forward: Hidden units.
        head_size: Size of a head.
        width: Size of the residual stream.
        dropout: Rate on what each block adds.
        name: Name of the layer, part of its weights' names.
    """

    def __init__(
        self,
        self_heads: int,
        cross_heads: int,
        feed_forward: int,
        head_size: int,
        width: int,
        dropout: float,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self.self_attention_norm = layer_norm("self_attention_norm")
        self.self_attention = Attention(self_heads, head_size, width, "self_attention")
        self.cross_attention_norm = layer_norm("cross_attention_norm")
        self.cross_attention = Attention(cross_heads, head_size, width, "cross_attention")
        self.feed_forward_norm = layer_norm("feed_forward_norm")
        self.feed_forward = FeedForward(feed_forward, width, "feed_forward")
        self.dropout = keras.layers.Dropout(dropout)

    def call(
        self,
        states: tf.Tensor,
        memory: tf.Tensor,
        self_bias: tf.Tensor,
        cross_bias: tf.Tensor,
        self_gate: tf.Tensor | None = None,
        cross_gate: tf.Tensor | None = None,
        unit_gate: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, Attended, Attended]:
        """Returns the next states [b, t, width] and what self-attention and attention over the source saw."""
        normed = self.self_attention_norm(states)
        added, to_itself = self.self_attention(normed, normed, self_bias, self_gate)
        states += self.dropout(added, training=training)
        added, to_source = self.cross_attention(self.cross_attention_norm(states), memory, cross_bias, cross_gate)
        states += self.dropout(added, training=training)
        added = self.feed_forward(self.feed_forward_norm(states), unit_gate)
        return states + self.dropout(added, training=training), to_itself, to_source
