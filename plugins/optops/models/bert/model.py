"""BERT (Devlin et al. 2019) and ALBERT (Lan et al. 2020) as text classifiers: post-norm encoder, pooler, classes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from optops.models.bert.config import SEGMENTS, Activation, BertConfig
from optops.models.keras import keras, tf
from optops.models.token_ids import PADDING
from optops.models.transformer.layers import Attended, Attention, FeedForward
from optops.models.transformer.model import Features, padding_bias

NORM_EPSILON = 1e-12
EMBEDDING_DEVIATION = 0.02
ACTIVATIONS: dict[Activation, Callable[[tf.Tensor], tf.Tensor]] = {
    "gelu": partial(tf.nn.gelu, approximate=False),
    "gelu_tanh": partial(tf.nn.gelu, approximate=True),
    "relu": tf.nn.relu,
}


def layer_norm(name: str) -> keras.layers.LayerNormalization:
    """Returns a layer normalisation over the last axis, with BERT's epsilon."""
    return keras.layers.LayerNormalization(epsilon=NORM_EPSILON, name=name)


class Embeddings(keras.layers.Layer):
    """The sum of token, position and segment embeddings, normalised, and projected if the sizes differ.

    Args:
        config: Sizes of the model.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(name="embeddings")
        self.config = config
        self.norm = layer_norm("norm")
        self.dropout = keras.layers.Dropout(config.dropout)
        factorised = config.embedding_width is not None
        self.projection = keras.layers.Dense(config.width, name="projection") if factorised else None

    def build(self, shape: Any) -> None:
        """Makes the three tables."""
        rows = {"token": self.config.vocabulary, "position": self.config.max_positions, "segment": SEGMENTS}
        self.token, self.position, self.segment = (
            self.add_weight(
                name=name,
                shape=[count, self.config.embeddings],
                initializer=keras.initializers.TruncatedNormal(stddev=EMBEDDING_DEVIATION),
            )
            for name, count in rows.items()
        )
        super().build(shape)

    def call(self, ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns float32 [b, s, width] for ids int32 [b, s] of one text a row: all tokens are of segment 0."""
        embedded = tf.gather(self.token, ids) + self.position[: tf.shape(ids)[1]] + self.segment[0]
        embedded = self.dropout(self.norm(embedded), training=training)
        return embedded if self.projection is None else self.projection(embedded)


class BertLayer(keras.layers.Layer):
    """Self-attention and feed-forward block, each followed by the norm of its residual sum.

    Args:
        heads: Attention heads.
        feed_forward: Hidden units.
        config: The other sizes.
        name: Name of the layer, part of its weights' names.
    """

    def __init__(self, heads: int, feed_forward: int, config: BertConfig, name: str) -> None:
        super().__init__(name=name)
        self.self_attention = Attention(heads, config.head_size, config.width, "self_attention")
        self.self_attention_norm = layer_norm("self_attention_norm")
        activation = ACTIVATIONS[config.activation]
        self.feed_forward = FeedForward(feed_forward, config.width, "feed_forward", activation)
        self.feed_forward_norm = layer_norm("feed_forward_norm")
        self.dropout = keras.layers.Dropout(config.dropout)

    def call(
        self,
        states: tf.Tensor,
        bias: tf.Tensor,
        head_gate: tf.Tensor | None = None,
        unit_gate: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, Attended]:
        """Returns the next states [b, s, width] and what the attention saw."""
        added, attended = self.self_attention(states, states, bias, head_gate)
        states = self.self_attention_norm(states + self.dropout(added, training=training))
        added = self.feed_forward(states, unit_gate)
        return self.feed_forward_norm(states + self.dropout(added, training=training)), attended


class Bert(keras.Model):
    """A text classifier.

    All variables exist once the constructor returns; their names start with `bert/` and are part of the format in
    which models are saved.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(name="bert")
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder_layers = [
            BertLayer(size.heads, size.feed_forward, config, f"encoder_{index}")
            for index, size in enumerate(config.encoder)
        ]
        self.pooler = keras.layers.Dense(config.width, activation="tanh", name="pooler")
        self.classifier = keras.layers.Dense(config.classes, name="classifier")
        self.dropout = keras.layers.Dropout(config.dropout)
        self({"ids": tf.fill([1, 1], config.separator)})

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Returns logits, float32 [b, classes].

        Args:
            inputs: `ids` int32 [b, s], padded with 0.
            training: Whether dropout is active.
        """
        return self.features(inputs, training).logits

    def features(
        self,
        inputs: Mapping[str, tf.Tensor],
        training: bool = False,
        gates: Mapping[str, tf.Tensor] | None = None,
    ) -> Features:
        """Returns logits, attention maps and hidden states; layers are numbered as they run, from `encoder_0` on.

        Args:
            inputs: As for a call.
            training: Whether dropout is active.
            gates: Factors on heads and feed-forward units, under the names that `config.units` gives; what has no
                gate counts fully.
        """
        ids, gates = inputs["ids"], gates or {}
        bias = padding_bias(ids)
        states = self.embeddings(ids, training=training)
        hidden = {"source_embedding": states}
        attention: dict[str, tf.Tensor] = {}
        values: dict[str, tf.Tensor] = {}
        for index in range(self.config.depth):
            layer = self.encoder_layers[index // self.config.repeats]
            states, attended = layer(
                states,
                bias,
                head_gate=gates.get(f"{layer.name}/self_attention"),
                unit_gate=gates.get(f"{layer.name}/feed_forward"),
                training=training,
            )
            hidden[f"encoder_{index}"] = states
            attention[f"encoder_{index}/self_attention"], values[f"encoder_{index}/self_attention"] = attended
        return Features(self.classify(states, ids, training), attention, values, hidden)

    def encode(self, ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the states after the last layer, float32 [b, s, width]."""
        return self.features({"ids": ids}, training).hidden[f"encoder_{self.config.depth - 1}"]

    def classify(self, states: tf.Tensor, ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns logits [b, classes] for the encoder's states [b, s, width]."""
        pooled = self.pooler(pool(states, ids, self.config.pooling))
        return self.classifier(self.dropout(pooled, training=training))


def pool(states: tf.Tensor, ids: tf.Tensor, pooling: str) -> tf.Tensor:
    """Returns the first token's state or the mean over those that are not padding, [b, width]."""
    if pooling == "first":
        return states[:, 0]
    there = tf.cast(tf.not_equal(ids, PADDING), tf.float32)[:, :, None]
    return tf.math.divide_no_nan(tf.reduce_sum(states * there, axis=1), tf.reduce_sum(there, axis=1))
