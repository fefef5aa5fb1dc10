"""The encoder-decoder Transformer: pre-norm, one vocabulary, one embedding for source, target and output."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from optops.models.keras import keras, tf
from optops.models.token_ids import PADDING
from optops.models.transformer.config import MASKED, TransformerConfig
from optops.models.transformer.layers import (
    Attended,
    DecoderLayer,
    EncoderLayer,
    layer_norm,
    sinusoidal_positions,
)


class Features(NamedTuple):
    """What a forward pass saw on its way, for distillation.

    Attributes:
        logits: float32 [b, t, outputs].
        attention: Maps by the name of the attention, for example `decoder_0/cross_attention` [b, heads, t, s].
        values: Values by the name of the attention [b, heads, s, head_size].
        hidden: The residual stream by the name of the layer it left, for example `encoder_0` [b, s, width];
            `source_embedding` and `target_embedding` are what enters the first layers.
    """

    logits: tf.Tensor
    attention: dict[str, tf.Tensor]
    values: dict[str, tf.Tensor]
    hidden: dict[str, tf.Tensor]


class Transformer(keras.Model):
    """Encoder-decoder Transformer (Vaswani et al. 2017) with layer normalisation before each block.

    All variables exist once the constructor returns; their names start with `transformer/` and are part of the
    format in which models are saved.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(name="transformer")
        self.config = config
        self.embedding = keras.layers.Embedding(
            config.vocabulary,
            config.width,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=config.width**-0.5),
            name="embedding",
        )
        shared: dict[str, Any] = {"head_size": config.head_size, "width": config.width, "dropout": config.dropout}
        self.encoder_layers = [
            EncoderLayer(size.heads, size.feed_forward, **shared, name=f"encoder_{index}")
            for index, size in enumerate(config.encoder)
        ]
        self.decoder_layers = [
            DecoderLayer(size.self_heads, size.cross_heads, size.feed_forward, **shared, name=f"decoder_{index}")
            for index, size in enumerate(config.decoder)
        ]
        self.encoder_norm = layer_norm("encoder_norm")
        self.decoder_norm = layer_norm("decoder_norm")
        self.dropout = keras.layers.Dropout(config.dropout)
        self.positions = sinusoidal_positions(config.max_positions, config.width)
        token = tf.ones([1, 1], tf.int32)
        self({"source": token, "target": token})

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Returns logits, float32 [b, t, outputs].

        Args:
            inputs: `source` int32 [b, s], ending in the end id and padded with 0; `target` int32 [b, t], starting
                with the begin id and padded with 0.
            training: Whether dropout is active.
        """
        return self.features(inputs, training).logits

    def features(
        self,
        inputs: Mapping[str, tf.Tensor],
        training: bool = False,
        gates: Mapping[str, tf.Tensor] | None = None,
    ) -> Features:
        """Returns logits, attention maps and hidden states.

        Args:
            inputs: As for a call.
            training: Whether dropout is active.
            gates: Factors on heads and feed-forward units, under the names that `config.units` gives; what has no
                gate counts fully.
        """
        trace = _Trace(gates or {})
        memory = self._encode(inputs["source"], training, trace)
        logits = self._decode(inputs["target"], memory, inputs["source"], training, trace)
        return Features(logits, trace.attention, trace.values, trace.hidden)

    def encode(self, source: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the encoder's output, float32 [b, s, width], for `source` int32 [b, s]."""
        return self._encode(source, training, _Trace({}))

    def decode(self, target: tf.Tensor, memory: tf.Tensor, source: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns logits [b, t, outputs] for `target` int32 [b, t], given what `encode` made of `source`."""
        return self._decode(target, memory, source, training, _Trace({}))

    def embed(self, ids: tf.Tensor, first_position: Any = 0) -> tf.Tensor:
        """Returns embeddings plus positions, float32 [b, t, width], for ids int32 [b, t] that start at a position."""
        length = tf.shape(ids)[1]
        positions = tf.constant(self.positions)[first_position : first_position + length]
        return self.embedding(ids) * self.config.width**0.5 + positions

    def project(self, states: tf.Tensor) -> tf.Tensor:
        """Returns logits [b, t, outputs] for normalised decoder states [b, t, width]."""
        return tf.einsum("btw,vw->btv", states, self.embedding.embeddings[: self.config.outputs])

    def _encode(self, source: tf.Tensor, training: bool, trace: "_Trace") -> tf.Tensor:
        bias = padding_bias(source)
        states = self.dropout(self.embed(source), training=training)
        trace.hidden["source_embedding"] = states
        for layer in self.encoder_layers:
            name = layer.name
            states, attended = layer(
                states,
                bias,
                head_gate=trace.gates.get(f"{name}/self_attention"),
                unit_gate=trace.gates.get(f"{name}/feed_forward"),
                training=training,
            )
            trace.note(name, states, self_attention=attended)
        return self.encoder_norm(states)

    def _decode(
        self, target: tf.Tensor, memory: tf.Tensor, source: tf.Tensor, training: bool, trace: "_Trace"
    ) -> tf.Tensor:
        self_bias, cross_bias = causal_bias(tf.shape(target)[1]), padding_bias(source)
        states = self.dropout(self.embed(target), training=training)
        trace.hidden["target_embedding"] = states
        for layer in self.decoder_layers:
            name = layer.name
            states, to_itself, to_source = layer(
                states,
                memory,
                self_bias,
                cross_bias,
                self_gate=trace.gates.get(f"{name}/self_attention"),
                cross_gate=trace.gates.get(f"{name}/cross_attention"),
                unit_gate=trace.gates.get(f"{name}/feed_forward"),
                training=training,
            )
            trace.note(name, states, self_attention=to_itself, cross_attention=to_source)
        return self.project(self.decoder_norm(states))


class _Trace:
    def __init__(self, gates: Mapping[str, tf.Tensor]) -> None:
        self.gates = gates
        self.attention: dict[str, tf.Tensor] = {}
        self.values: dict[str, tf.Tensor] = {}
        self.hidden: dict[str, tf.Tensor] = {}

    def note(self, layer: str, states: tf.Tensor, **attentions: Attended) -> None:
        self.hidden[layer] = states
        for kind, attended in attentions.items():
            self.attention[f"{layer}/{kind}"], self.values[f"{layer}/{kind}"] = attended


def padding_bias(ids: tf.Tensor) -> tf.Tensor:
    """Returns what to add to attention scores so that padding is not attended to, float32 [b, 1, 1, s]."""
    return tf.cast(tf.equal(ids, PADDING), tf.float32)[:, None, None, :] * MASKED


def causal_bias(length: Any) -> tf.Tensor:
    """Returns what to add to attention scores so that no position sees a later one, float32 [length, length]."""
    return (1.0 - tf.linalg.band_part(tf.ones([length, length]), -1, 0)) * MASKED
