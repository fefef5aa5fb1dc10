"""Beam search in one `tf.while_loop`, with as few operations a step as exactness allows."""

from typing import Any

import numpy as np

from optops.graph.transformer_serving import tensor_limits
from optops.graph.transformer_tensorflow_blocks import Blocks
from optops.graph.transformer_tensorflow_topk import grouped_top_k, padded_vocabulary
from optops.models.keras import tf
from optops.models.token_ids import BEGIN, END, PADDING
from optops.models.transformer.config import MASKED
from optops.models.transformer.search import SearchSettings
from optops.models.transformer.weights import DecoderLayerWeights, TransformerWeights, own_ancestry
from optops.precision import PrecisionPlan

IMPOSSIBLE = float("-inf")


class RewrittenSearch:
    """The whole translation as one traced function over constants; see `SearchSettings` for the rules.

    Args:
        weights: With their norms folded.
        plan: Type of each product.
        settings: Beam, length penalty, limits.
    """

    def __init__(self, weights: TransformerWeights, plan: PrecisionPlan, settings: SearchSettings) -> None:
        self.weights, self.settings = weights, settings
        self.blocks = Blocks(plan, weights.head_size)
        self.projection = padded_vocabulary(weights.projection)
        self.width = weights.embedding.shape[1]
        self.penalties = settings.penalty(np.arange(settings.max_length + 1)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")], autograph=False)
    def serve(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `ids` int32 [b, out] and `scores` float32 [b] for source ids int32 [b, s]."""
        limits = tensor_limits(self.settings, tf.math.count_nonzero(ids, axis=1))
        reachable = tf.gather(self.penalties, limits)
        cross_bias, cross = self._encode(ids)
        longest = tf.reduce_max(limits)
        state = self._start(tf.shape(ids)[0], longest)

        def step(state: dict[str, Any]) -> tuple[dict[str, Any]]:
            return (self._step(state, cross_bias, cross, limits, reachable, longest),)

        (state,) = tf.while_loop(lambda state: state["running"], step, (state,), shape_invariants=(self._invariants(),))
        return self._result(state)

    def _result(self, state: dict[str, Any]) -> dict[str, tf.Tensor]:
        lengths = state["best_length"]
        longest = tf.reduce_max(lengths)
        end = tf.one_hot(lengths - 1, longest, on_value=END, off_value=PADDING, dtype=tf.int32)
        return {"ids": state["best_ids"][:, :longest] + end, "scores": state["best_score"]}

    def _encode(self, ids: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        blocks, shape = self.blocks, tf.shape(ids)
        batch, length = shape[0], shape[1]
        bias = tf.cast(tf.equal(ids, PADDING), tf.float32)[:, None, None, :] * MASKED
        embedded = tf.gather(self.weights.embedding, ids) + tf.constant(self.weights.positions)[:length]
        states = tf.reshape(embedded, [-1, self.width])
        for layer in self.weights.encoder:
            attention = layer.attention
            parts = [attention.query, attention.key, attention.value]
            queries, keys, values = blocks.heads(blocks.norm(states), parts, batch, length)
            states += blocks.attend(queries, keys, values, bias, attention.output)
            states += blocks.feed_forward(blocks.norm(states), layer.feed_forward)
        parts = [part for layer in self.weights.decoder for part in (layer.cross.key, layer.cross.value)]
        return bias, blocks.heads(blocks.norm(states), parts, batch, length)

    def _start(self, batch: tf.Tensor, longest: tf.Tensor) -> dict[str, Any]:
        beam = self.settings.beam
        return {
            "position": tf.constant(0),
            "running": tf.constant(True),
            "tokens": tf.fill([batch * beam], BEGIN),
            "alive": tf.tile([[0.0] + [IMPOSSIBLE] * (beam - 1)], [batch, 1]),
            "written": tf.zeros([batch, beam, 0], tf.int32),
            "ancestry": tf.zeros([batch, 1, beam, 0]),
            "cache": [
                tf.zeros([batch, layer.attention.heads, 0, self.weights.head_size])
                for layer in self.weights.decoder
                for _ in range(2)
            ],
            "best_ids": tf.zeros([batch, longest], tf.int32),
            "best_length": tf.zeros([batch], tf.int32),
            "best_score": tf.fill([batch], IMPOSSIBLE),
            "finished": tf.zeros([batch], tf.int32),
            "done": tf.zeros([batch], tf.bool),
        }

    def _invariants(self) -> dict[str, Any]:
        beam, shape = self.settings.beam, tf.TensorShape
        return {
            "position": shape([]),
            "running": shape([]),
            "tokens": shape([None]),
            "alive": shape([None, beam]),
            "written": shape([None, beam, None]),
            "ancestry": shape([None, 1, beam, None]),
            "cache": [
                shape([None, layer.attention.heads, None, self.weights.head_size])
                for layer in self.weights.decoder
                for _ in range(2)
            ],
            "best_ids": shape([None, None]),
            "best_length": shape([None]),
            "best_score": shape([None]),
            "finished": shape([None]),
            "done": shape([None]),
        }

    def _step(
        self,
        state: dict[str, Any],
        cross_bias: tf.Tensor,
        cross: list[tf.Tensor],
        limits: tf.Tensor,
        reachable: tf.Tensor,
        longest: tf.Tensor,
    ) -> dict[str, Any]:
        beam = self.settings.beam
        length = state["position"] + 1
        batch = tf.shape(limits)[0]
        itself = tf.broadcast_to(own_ancestry(beam), [batch, 1, beam, beam])
        ancestry = tf.concat([state["ancestry"], itself], axis=3)
        logits, cache = self._decode(state, ancestry, cross_bias, cross)
        scores, tokens, parents, end_scores = self._continuations(logits, state["alive"])
        last = length >= limits
        ends = tf.equal(tokens, END)
        state = self._finish(state, scores, parents, ends[:, :beam], end_scores, last, length, longest)

        alive, chosen = tf.math.top_k(tf.where(ends, IMPOSSIBLE, scores), beam)
        parents, tokens = tf.gather(parents, chosen, batch_dims=1), tf.gather(tokens, chosen, batch_dims=1)
        written = tf.gather(state["written"], parents, batch_dims=1)
        beaten = alive[:, 0] / reachable <= state["best_score"]
        done = state["done"] | last | (state["finished"] >= beam) | beaten
        return {
            **state,
            "position": length,
            "running": ~tf.reduce_all(done),
            "tokens": tf.reshape(tokens, [-1]),
            "alive": alive,
            "written": tf.concat([written, tokens[:, :, None]], axis=2),
            "ancestry": tf.gather(ancestry[:, 0], parents, batch_dims=1)[:, None],
            "cache": cache,
            "done": done,
        }

    def _decode(
        self, state: dict[str, Any], ancestry: tf.Tensor, cross_bias: tf.Tensor, cross: list[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns logits [batch * beam, vocabulary] and the grown cache."""
        blocks, cache = self.blocks, []
        states = tf.gather(self.weights.embedding, state["tokens"])
        states += tf.gather(self.weights.positions, state["position"])
        for index, layer in enumerate(self.weights.decoder):
            pair = slice(2 * index, 2 * index + 2)
            states, grown = self._decoder_layer(states, layer, state["cache"][pair], ancestry, cross_bias, cross[pair])
            cache += grown
        return blocks.single(blocks.norm(states), self.projection), cache

    def _decoder_layer(
        self,
        states: tf.Tensor,
        layer: DecoderLayerWeights,
        past: list[tf.Tensor],
        ancestry: tf.Tensor,
        cross_bias: tf.Tensor,
        cross: list[tf.Tensor],
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        blocks, beam, attention = self.blocks, self.settings.beam, layer.attention
        parts = [attention.query, attention.key, attention.value]
        queries, *new = blocks.heads(blocks.norm(states), parts, -1, beam)
        keys, values = (tf.concat(pair, axis=2) for pair in zip(past, new, strict=True))
        states += blocks.attend(queries, keys, values, ancestry, attention.output)
        (queries,) = blocks.heads(blocks.norm(states), [layer.cross.query], -1, beam)
        states += blocks.attend(queries, cross[0], cross[1], cross_bias, layer.cross.output)
        return states + blocks.feed_forward(blocks.norm(states), layer.feed_forward), [keys, values]

    def _continuations(self, logits: tf.Tensor, alive: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns scores, tokens and parents of the best `2 * beam`, and the scores of ending now [batch, beam]."""
        beam, wanted = self.settings.beam, 2 * self.settings.beam
        best, tokens = grouped_top_k(logits, wanted)
        # The log-sum-exp, from the one op that has a fast kernel: the best id's logit minus its log-probability.
        likeliest = tf.gather(tf.nn.softmax(logits), tokens[:, :1], batch_dims=1)
        so_far = tf.reshape(alive, [-1, 1]) + tf.math.log(likeliest) - best[:, :1]
        scores, ranks = tf.math.top_k(tf.reshape(best + so_far, [-1, beam * wanted]), wanted)
        tokens = tf.gather(tf.reshape(tokens, [-1, beam * wanted]), ranks, batch_dims=1)
        end_scores = tf.reshape(logits[:, END : END + 1] + so_far, [-1, beam])
        return scores, tokens, ranks // wanted, end_scores

    def _finish(
        self,
        state: dict[str, Any],
        scores: tf.Tensor,
        parents: tf.Tensor,
        finishing: tf.Tensor,
        end_scores: tf.Tensor,
        last: tf.Tensor,
        length: tf.Tensor,
        longest: tf.Tensor,
    ) -> dict[str, Any]:
        beam = self.settings.beam
        ending = tf.where(finishing, scores[:, :beam], IMPOSSIBLE)
        ending = tf.where(last[:, None], end_scores, ending) / tf.gather(self.penalties, length)
        rank = tf.argmax(ending, axis=1, output_type=tf.int32)
        score = tf.reduce_max(ending, axis=1)
        better = (score > state["best_score"]) & ~state["done"]
        parent = tf.where(last, rank, tf.gather(parents, rank, batch_dims=1))
        ids = tf.gather(state["written"], parent, batch_dims=1)
        ids = tf.pad(ids, [[0, 0], [0, longest - state["position"]]])
        return {
            **state,
            "best_ids": tf.where(better[:, None], ids, state["best_ids"]),
            "best_length": tf.where(better, length, state["best_length"]),
            "best_score": tf.where(better, score, state["best_score"]),
            "finished": state["finished"] + tf.reduce_sum(tf.cast(finishing, tf.int32), axis=1),
        }
