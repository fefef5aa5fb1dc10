"""First-order importance of attention heads and feed-forward units, over real batches."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.models.keras import tf
from optops.models.token_ids import PADDING
from optops.models.training.losses import row_cross_entropy, token_cross_entropy
from optops.models.training.settings import Batch

Importance = Mapping[str, NDArray[np.float64]]
"""Per prunable group, the importance of each of its heads or units."""


Losses = Callable[[Any, Any, Any], Any]
"""Called as `losses(model, batch, gates)`; returns the loss of each example, float32 [examples]."""


def sequence_losses(model: Any, batch: Any, gates: Any) -> Any:
    """Returns the cross-entropy per token of each example, for batches with `source`, `target` and `labels`."""
    labels = batch["labels"]
    logits = model.features({"source": batch["source"], "target": batch["target"]}, False, gates).logits
    tokens = tf.cast(tf.not_equal(labels, PADDING), tf.float32)
    losses = tf.reduce_sum(token_cross_entropy(labels, logits, 0.0) * tokens, axis=1)
    return tf.math.divide_no_nan(losses, tf.reduce_sum(tokens, axis=1))


def class_losses(model: Any, batch: Any, gates: Any) -> Any:
    """Returns the cross-entropy of each example's label, for batches with `ids` and `labels`."""
    return row_cross_entropy(model.features(batch, False, gates).logits, batch["labels"], 0.0)


def importance(
    model: Any, batches: Iterable[Batch], losses: Losses = sequence_losses
) -> dict[str, NDArray[np.float64]]:
    """Returns the mean over examples of |gate * d loss / d gate| for each head and unit.

    To first order that is how much an example's loss changes if the head or unit is taken away. The absolute value is
    taken per example: the gradient of the mean over many examples vanishes in a trained model, whatever a head does for
    each of them.

    Args:
        model: A `Transformer` or a `Bert`; left as it is.
        batches: Real data of integers, with `labels`; a few hundred examples do.
        losses: What an example costs.

    Raises:
        ValueError: If there are no batches, or the importance is not finite.

    Source: Molchanov et al. 2017, section 2.2; Michel et al. 2019, section 4.1, equation 2.
    """
    total: dict[str, NDArray[np.float64]] = {}
    examples = 0
    gradients = _gate_gradients(model, losses)
    for batch in batches:
        tensors = {name: tf.convert_to_tensor(array, tf.int32) for name, array in batch.items()}
        for name, gradient in gradients(tensors).items():
            total[name] = total.get(name, 0.0) + np.abs(gradient.numpy()).sum(axis=0, dtype=np.float64)
        examples += len(batch["labels"])
    if not examples:
        raise ValueError("there are no batches to measure importance on; give some of the training data")
    for name, values in total.items():
        if not np.isfinite(values).all():
            raise ValueError(f"the importance of {name!r} is not finite; train the model before it is pruned")
    return {name: values / examples for name, values in total.items()}


def _gate_gradients(model: Any, losses: Losses) -> Any:
    """Returns a traced function from a batch to d loss / d gate, [examples, units] by name, at gates of one."""

    @tf.function(reduce_retracing=True)
    def of_examples(batch: Any) -> Any:
        gates = _gates_per_example(model, tf.shape(batch["labels"])[0])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(gates)
            loss = tf.reduce_sum(losses(model, batch, gates))
        gradients = tape.gradient(loss, gates)
        return {
            name: tf.reshape(gradient, [-1, gradient.shape[1] * gradient.shape[2]])
            for name, gradient in gradients.items()
        }

    return of_examples


def _gates_per_example(model: Any, examples: Any) -> dict[str, Any]:
    """Returns gates of one for each example: in an attention [examples, heads, 1], elsewhere [examples, 1, units].

    The model multiplies an attention's context [b, t, heads, head size] by `gate[:, None]`, and a feed-forward
    block's hidden units [b, t, units] by the gate; so these broadcast as one gate per head or unit and example.
    """
    return {
        name: tf.ones([examples, units, 1] if name.endswith("attention") else [examples, 1, units])
        for name, units in model.config.units().items()
    }
