"""First-order importance of attention heads and feed-forward units, over real batches."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.models.keras import tf
from optops.models.training.losses import smoothed_cross_entropy
from optops.models.training.settings import Batch

Importance = Mapping[str, NDArray[np.float64]]
"""Per prunable group, the importance of each of its heads or units."""


def importance(model: Any, batches: Iterable[Batch]) -> dict[str, NDArray[np.float64]]:
    """Returns the mean over examples of |gate * d loss / d gate| for each head and unit.

    To first order that is how much an example's loss (cross-entropy per token) changes if the head or unit is taken
    away. The absolute value is taken per example: the gradient of the mean over many examples vanishes in a trained
    model, whatever a head does for each of them.

    Args:
        model: Has `unit_gates()` (ones by the name of each prunable group) and
            `features(inputs, training, gates).logits`; left as it is.
        batches: With `source`, `target` and `labels`; a few hundred examples do.

    Raises:
        ValueError: If there are no batches, or the importance is not finite.

    Source: Molchanov et al. 2017, section 2.2; Michel et al. 2019, section 4.1, equation 2.
    """
    total: dict[str, NDArray[np.float64]] = {}
    examples = 0
    gradients = _gate_gradients(model)
    for batch in batches:
        tensors = {name: tf.convert_to_tensor(array) for name, array in batch.items()}
        for name, gradient in gradients(tensors).items():
            total[name] = total.get(name, 0.0) + np.abs(gradient.numpy()).sum(axis=0, dtype=np.float64)
        examples += len(batch["labels"])
    if not examples:
        raise ValueError("there are no batches to measure importance on; give some of the training data")
    for name, values in total.items():
        if not np.isfinite(values).all():
            raise ValueError(f"the importance of {name!r} is not finite; train the model before it is pruned")
    return {name: values / examples for name, values in total.items()}


def _gate_gradients(model: Any) -> Any:
    """Returns a traced function from a batch to d loss / d gate, [examples, units] by name, at gates of one."""

    def of_example(example: Any) -> Any:
        row = {name: tensor[None] for name, tensor in example.items()}
        gates = model.unit_gates()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(gates)
            logits = model.features({"source": row["source"], "target": row["target"]}, False, gates).logits
            loss = smoothed_cross_entropy(row["labels"], logits, 0.0)
        return tape.gradient(loss, gates)

    return tf.function(lambda batch: tf.vectorized_map(of_example, batch), reduce_retracing=True)
