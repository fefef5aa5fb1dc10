"""The baseline: a Transformer as its authors would serve it, a SavedModel with beam search over a growing cache."""

from pathlib import Path
from typing import Any

from optops.graph.lowering import Lowering, LoweringError
from optops.graph.tensorflow_graph import count_nodes
from optops.graph.transformer_serving import executable_info, load_trained, tensor_limits
from optops.models.keras import tf
from optops.models.token_ids import BEGIN, END, PADDING
from optops.models.transformer.config import MASKED
from optops.models.transformer.model import Transformer, padding_bias
from optops.models.transformer.search import SearchSettings
from optops.precision import PrecisionPlan
from optops.runtimes.tensorflow import SAVED_MODEL

IMPOSSIBLE = float("-inf")


def export(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes the unchanged model as an executable for runtime `tensorflow`.

    Raises:
        LoweringError: If the plan asks for anything but fp32.
    """
    if plan.precision != "fp32":
        raise LoweringError(f"the stock export runs in fp32, not in {plan.precision}; lower it to a runtime instead")
    model, settings = load_trained(trainable)
    search = StockSearch(model, settings)
    signature = search.serve.get_concrete_function()
    # Saved with its variables only: Keras would trace every layer once more, for callers that do not exist.
    module = tf.Module()
    module.weights = model.weights
    tf.saved_model.save(module, str(folder / SAVED_MODEL), signatures={"serving_default": signature})
    facts: dict[str, float | str] = {"nodes": count_nodes(signature.graph.as_graph_def())}
    executable_info("tensorflow", "fp32", model.config, settings, facts).save(folder)
    return Lowering(facts, ["the model's own layers, beam search in tf.while_loop"])


class StockSearch:
    """Batched beam search over the layers of a model; see `SearchSettings` for its rules.

    Args:
        model: The trained model.
        settings: Beam, length penalty, limits.
    """

    def __init__(self, model: Transformer, settings: SearchSettings) -> None:
        self.model, self.settings = model, settings

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")], autograph=False)
    def serve(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `ids` int32 [b, out] and `scores` float32 [b] for source ids int32 [b, s]."""
        limits = tensor_limits(self.settings, tf.math.count_nonzero(ids, axis=1))
        memory = self._cross_memory(ids)
        state = self._start(tf.shape(ids)[0], tf.reduce_max(limits))

        def running(state: dict[str, Any]) -> tf.Tensor:
            return tf.logical_not(tf.reduce_all(state["done"]))

        def step(state: dict[str, Any]) -> tuple[dict[str, Any]]:
            return (self._step(state, memory, limits),)

        (state,) = tf.while_loop(running, step, (state,), shape_invariants=(self._invariants(),))
        longest = tf.reduce_max(tf.math.count_nonzero(state["best_ids"], axis=1))
        return {"ids": state["best_ids"][:, :longest], "scores": state["best_score"]}

    def _cross_memory(self, ids: tf.Tensor) -> tuple[tf.Tensor, list[tuple[tf.Tensor, tf.Tensor]]]:
        beam = self.settings.beam
        states = tf.repeat(self.model.encode(ids), beam, axis=0)
        bias = tf.repeat(padding_bias(ids), beam, axis=0)
        return bias, [layer.cross_attention.keys_and_values(states) for layer in self.model.decoder_layers]

    def _start(self, batch: tf.Tensor, longest: tf.Tensor) -> dict[str, Any]:
        beam, config = self.settings.beam, self.model.config
        return {
            "step": tf.constant(0),
            "tokens": tf.fill([batch, beam, 1], BEGIN),
            "alive": tf.tile([[0.0] + [IMPOSSIBLE] * (beam - 1)], [batch, 1]),
            "cache": [
                tuple(tf.zeros([batch * beam, size.self_heads, 0, config.head_size]) for _ in range(2))
                for size in config.decoder
            ],
            "best_ids": tf.zeros([batch, longest], tf.int32),
            "best_score": tf.fill([batch], IMPOSSIBLE),
            "finished": tf.zeros([batch], tf.int32),
            "done": tf.zeros([batch], tf.bool),
        }

    def _invariants(self) -> dict[str, Any]:
        beam, config = self.settings.beam, self.model.config
        shape = tf.TensorShape
        return {
            "step": shape([]),
            "tokens": shape([None, beam, None]),
            "alive": shape([None, beam]),
            "cache": [(shape([None, size.self_heads, None, config.head_size]),) * 2 for size in config.decoder],
            "best_ids": shape([None, None]),
            "best_score": shape([None]),
            "finished": shape([None]),
            "done": shape([None]),
        }

    def _step(self, state: dict[str, Any], memory: Any, limits: tf.Tensor) -> dict[str, Any]:
        beam, vocabulary = self.settings.beam, self.model.config.outputs
        log_probabilities, cache = self._next(state, memory)
        last = state["step"] + 1 >= limits
        only_end = tf.one_hot(END, vocabulary, on_value=0.0, off_value=IMPOSSIBLE)
        scores = state["alive"][:, :, None] + tf.reshape(log_probabilities, [-1, beam, vocabulary])
        scores = tf.where(last[:, None, None], scores + only_end, scores)
        scores, index = tf.math.top_k(tf.reshape(scores, [-1, beam * vocabulary]), 2 * beam)
        parents, tokens = index // vocabulary, index % vocabulary
        ends = tf.equal(tokens, END) & tf.math.is_finite(scores)
        state = self._finish(state, scores, parents, ends & (tf.range(2 * beam) < beam))

        alive, chosen = tf.math.top_k(tf.where(ends, IMPOSSIBLE, scores), beam)
        parents, tokens = (tf.gather(values, chosen, batch_dims=1) for values in (parents, tokens))
        written = tf.concat([tf.gather(state["tokens"], parents, batch_dims=1), tokens[:, :, None]], axis=2)
        rows = tf.reshape(parents + tf.range(tf.shape(parents)[0])[:, None] * beam, [-1])
        reachable = alive[:, 0] / self._penalty(limits)
        done = last | (state["finished"] >= beam) | (reachable <= state["best_score"])
        return {
            **state,
            "step": state["step"] + 1,
            "tokens": written,
            "alive": alive,
            "cache": [(tf.gather(keys, rows), tf.gather(values, rows)) for keys, values in cache],
            "done": state["done"] | done,
        }

    def _next(self, state: dict[str, Any], memory: Any) -> tuple[tf.Tensor, list[tuple[tf.Tensor, tf.Tensor]]]:
        model = self.model
        states = model.embed(tf.reshape(state["tokens"][:, :, -1], [-1, 1]), state["step"])
        bias, cross = memory
        cache = []
        for layer, (past_keys, past_values), cross_keys_values in zip(
            model.decoder_layers, state["cache"], cross, strict=True
        ):
            normed = layer.self_attention_norm(states)
            keys, values = layer.self_attention.keys_and_values(normed)
            keys, values = tf.concat([past_keys, keys], axis=2), tf.concat([past_values, values], axis=2)
            cache.append((keys, values))
            states += layer.self_attention.attend(layer.self_attention.queries(normed), keys, values, 0.0)[0]
            queries = layer.cross_attention.queries(layer.cross_attention_norm(states))
            cross_keys, cross_values = cross_keys_values
            states += layer.cross_attention.attend(queries, cross_keys, cross_values, bias)[0]
            states += layer.feed_forward(layer.feed_forward_norm(states))
        logits = model.project(model.decoder_norm(states))[:, 0]
        never = tf.reduce_sum(tf.one_hot([PADDING, BEGIN], model.config.outputs), axis=0) * MASKED
        return tf.nn.log_softmax(logits + never), cache

    def _finish(
        self, state: dict[str, Any], scores: tf.Tensor, parents: tf.Tensor, finishing: tf.Tensor
    ) -> dict[str, Any]:
        length = state["step"] + 1
        normalised = tf.where(finishing, scores / self._penalty(length), IMPOSSIBLE)
        rank = tf.argmax(normalised, axis=1, output_type=tf.int32)
        score = tf.reduce_max(normalised, axis=1)
        better = (score > state["best_score"]) & ~state["done"]
        parent = tf.gather(parents, rank, batch_dims=1)
        written = tf.gather(state["tokens"], parent, batch_dims=1)[:, 1:]
        room = tf.shape(state["best_ids"])[1] - length
        ids = tf.pad(tf.concat([written, tf.fill([tf.shape(written)[0], 1], END)], axis=1), [[0, 0], [0, room]])
        return {
            **state,
            "best_ids": tf.where(better[:, None], ids, state["best_ids"]),
            "best_score": tf.where(better, score, state["best_score"]),
            "finished": state["finished"] + tf.reduce_sum(tf.cast(finishing, tf.int32), axis=1),
        }

    def _penalty(self, lengths: tf.Tensor) -> tf.Tensor:
        return ((5.0 + tf.cast(lengths, tf.float32)) / 6.0) ** self.settings.length_penalty
