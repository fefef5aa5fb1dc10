"""Cuts what matters least out of a model, whatever kind it is; the result is to be fine-tuned."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

from optops.compression.pruning.channels.batch_norm import measure_batch_norms
from optops.compression.pruning.channels.criteria import Criterion, batch_norm_scale, l2_norm
from optops.compression.pruning.channels.prune import prune_channels
from optops.compression.pruning.importance import importance
from optops.compression.pruning.selection import select_by_kind
from optops.models.keras import keras
from optops.models.transformer.model import Transformer
from optops.models.transformer.slicing import shrink


def prune(
    model: Any,
    *,
    ratio: float | None = None,
    heads: float | None = None,
    feed_forward: float | None = None,
    batches: Iterable[Any] = (),
    criterion: Criterion = l2_norm,
) -> Any:
    """Returns a smaller model without what matters least: heads and units of a Transformer, channels of other models.

    What is left keeps its weights; train it further with `fit`, or with `distill` from the unpruned model.

    Args:
        model: A `Transformer`, or a functional or sequential Keras model; left as it is.
        ratio: Of a functional or sequential model, share of all channels to remove, in [0, 1); see `prune_channels`.
        heads: Of a `Transformer`, share of all heads to remove, in [0, 1); every attention keeps at least one.
        feed_forward: Of a `Transformer`, share of all feed-forward units to remove, in [0, 1); every layer keeps a
            multiple of 16.
        batches: A few hundred examples of real data. For a `Transformer`, with `source`, `target` and `labels`, to
            measure importance on; for others inputs, on which batch norms are measured anew, or none.
        criterion: What a channel matters.

    Raises:
        TypeError: If the model is none of these.
        ValueError: If a ratio is missing, of the other kind of model, or out of range, or there are no batches for a
            `Transformer`.
    """
    if isinstance(model, Transformer):
        if heads is None or feed_forward is None or ratio is not None:
            raise ValueError("prune: a Transformer takes `heads` and `feed_forward`, and no `ratio`")
        return shrink(model, select_by_kind(importance(model, batches), heads, feed_forward))
    if ratio is None or heads is not None or feed_forward is not None:
        raise ValueError("prune: a functional model takes `ratio`, and neither `heads` nor `feed_forward`")
    remaining = iter(batches)
    first = next(remaining, None)
    inputs = first if criterion is batch_norm_scale else None
    smaller = prune_channels(model, ratio, criterion=criterion, inputs=inputs)
    if first is not None and any(isinstance(layer, keras.layers.BatchNormalization) for layer in smaller.submodules):
        measure_batch_norms(smaller, chain([first], remaining))
    return smaller
