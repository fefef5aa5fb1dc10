"""Lowers a BERT to a rewritten TensorFlow graph: constants, joined products, two-dimensional states."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from optops.graph.bert_serving import executable_info, load_trained
from optops.graph.lowering import Lowering, check_plan
from optops.graph.tensorflow_graph import count_nodes
from optops.graph.transformer_tensorflow_blocks import SMALL_ATTENTIONS, Blocks
from optops.models.bert.model import ACTIVATIONS, NORM_EPSILON, pool
from optops.models.bert.weights import BertWeights, read_weights
from optops.models.keras import tf
from optops.models.transformer.model import padding_bias
from optops.models.transformer.weights import EncoderLayerWeights, Norm
from optops.precision import PrecisionPlan
from optops.runtimes.tensorflow import SAVED_MODEL

NOTES = [
    "weights are constants; position and segment embeddings are added up",
    "query, key and value are one product; queries are scaled in their weights",
    SMALL_ATTENTIONS,
]


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a rewritten SavedModel for runtime `tensorflow`.

    Raises:
        LoweringError: If the plan does not fit the model.
    """
    model, serving = load_trained(trainable)
    check_plan(plan, model)
    rewritten = _Rewritten(read_weights(model), plan)
    function = tf.function(rewritten.serve, input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")])
    signature = function.get_concrete_function()
    tf.saved_model.save(tf.Module(), str(folder / SAVED_MODEL), signatures={"serving_default": signature})
    facts: dict[str, float | str] = {
        "nodes": count_nodes(signature.graph.as_graph_def()),
        "parts_bf16": sum(precision == "bf16" for precision in plan.parts.values()),
    }
    executable_info("tensorflow", plan.precision, model.config, serving, facts).save(folder)
    return Lowering(facts, NOTES + [f"{name} stays in fp32: {why}" for name, why in sorted(plan.notes.items())])


@dataclass(frozen=True)
class _Rewritten:
    weights: BertWeights
    plan: PrecisionPlan

    def serve(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `probabilities` float32 [b, classes] for `ids` int32 [b, s]."""
        weights, config = self.weights, self.weights.config
        blocks = Blocks(self.plan, config.head_size)
        batch, length = tf.shape(ids)[0], tf.shape(ids)[1]
        embedded = tf.gather(tf.constant(weights.tokens), ids) + tf.constant(weights.positions)[:length]
        states = _norm(tf.reshape(embedded, [-1, config.embeddings]), weights.embedding_norm)
        if weights.projection is not None:
            states = blocks.single(states, weights.projection)
        bias = padding_bias(ids)
        # A layer that runs several times is a function, so that its constants are stored once.
        run = {id(layer): tf.function(partial(self._layer, blocks, layer)) for layer in weights.layers}
        for layer in weights.layers:
            states = run[id(layer)](states, bias, batch, length)
        states = tf.reshape(states, [batch, length, config.width])
        pooled = tf.tanh(blocks.single(pool(states, ids, config.pooling), weights.pooler))
        return {"probabilities": tf.nn.softmax(blocks.single(pooled, weights.classifier))}

    def _layer(
        self,
        blocks: Blocks,
        layer: EncoderLayerWeights,
        states: tf.Tensor,
        bias: tf.Tensor,
        batch: tf.Tensor,
        length: tf.Tensor,
    ) -> tf.Tensor:
        attention = layer.attention
        parts = [attention.query, attention.key, attention.value]
        queries, keys, values = blocks.heads(states, parts, batch, length)
        states = _norm(states + blocks.attend(queries, keys, values, bias, attention.output), layer.attention_norm)
        hidden = blocks.single(states, layer.feed_forward.expand)
        hidden = ACTIVATIONS[self.weights.config.activation](hidden)
        return _norm(states + blocks.single(hidden, layer.feed_forward.contract), layer.feed_forward_norm)


def _norm(states: tf.Tensor, norm: Norm) -> tf.Tensor:
    centred = states - tf.reduce_mean(states, axis=-1, keepdims=True)
    variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
    return centred * tf.math.rsqrt(variance + NORM_EPSILON) * norm.scale + norm.offset
