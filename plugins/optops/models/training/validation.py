"""What a training run may be validated with where there is no better measure."""

from collections.abc import Iterable
from typing import Any

from optops.models.keras import tf
from optops.models.token_ids import PADDING
from optops.models.training.losses import smoothed_cross_entropy
from optops.models.training.settings import Batches, Validate


def held_out_likelihood(batches: Batches) -> Validate:
    """Returns the measure to give to `fit` as `validate`: the mean log-likelihood of the labels' tokens.

    Args:
        batches: Held-out data with `source`, `target` and `labels`, for example `PairBatches(...)(1)`.
    """
    held_out = [{name: tf.constant(array) for name, array in batch.items()} for batch in batches]
    if not held_out:
        raise ValueError("there are no held-out batches to validate on; give some")

    return lambda model: -mean_cross_entropy(model, held_out)


def mean_cross_entropy(model: Any, batches: Iterable[Any]) -> float:
    """Returns the cross-entropy per token of the labels, without dropout and smoothing.

    Args:
        model: An encoder-decoder model; see `sequence_loss`.
        batches: Tensors `source`, `target` and `labels` by name.
    """
    total, tokens = 0.0, 0
    for batch in batches:
        logits = model({"source": batch["source"], "target": batch["target"]}, training=False)
        count = int(tf.math.count_nonzero(batch["labels"] != PADDING))
        total += float(smoothed_cross_entropy(batch["labels"], logits, 0.0)) * count
        tokens += count
    return total / tokens
