"""Cuts what matters least out of a model, whatever kind it is; the result is to be fine-tuned."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from optops.compression.pruning.channels.batch_norm import measure_batch_norms
from optops.compression.pruning.channels.criteria import Criterion, batch_norm_scale, l2_norm
from optops.compression.pruning.channels.prune import prune_channels
from optops.compression.pruning.importance import Losses, class_losses, importance, sequence_losses
from optops.compression.pruning.selection import select_by_kind
from optops.models.bert import slicing as bert_slicing
from optops.models.bert.model import Bert
from optops.models.keras import keras
from optops.models.transformer import slicing as transformer_slicing
from optops.models.transformer.model import Transformer

_CUT_BY_UNITS: dict[type, tuple[Losses, Callable[..., Any]]] = {
    Transformer: (sequence_losses, transformer_slicing.shrink),
    Bert: (class_losses, bert_slicing.shrink),
}


def prune(
    model: Any,
    *,
    ratio: float | None = None,
    heads: float | None = None,
    feed_forward: float | None = None,
    batches: Iterable[Any] = (),
    criterion: Criterion = l2_norm,
    multiple: int = 8,
    floor: float = 0.1,
    whole: Any = None,
) -> Any:
    """Returns a smaller model without what matters least: heads and units of a Transformer or BERT, channels of others.

    What is left keeps its weights; train it further with `fit`, or with `distill` from the unpruned model.

    Args:
        model: A `Transformer`, a `Bert`, or a functional or sequential Keras model; left as it is.
        ratio: Of a functional or sequential model, share of all channels to remove, in [0, 1); see `prune_channels`.
        heads: Of a `Transformer` or `Bert`, share of all heads to remove, in [0, 1); every attention keeps one.
        feed_forward: Of these, share of all feed-forward units to remove, in [0, 1); every layer keeps a multiple of
            16.
        batches: A few hundred examples of real data. To measure importance on, for a `Transformer` with `source`,
            `target` and `labels`, for a `Bert` with `ids` and `labels`; for others inputs, on which batch norms are
            measured anew, or none.
        criterion: What a channel matters.
        multiple: Numbers of channels stay multiples of it; a group of tied channels keeps so many at least.
        floor: Share of every group of tied channels that stays in any case.
        whole: What `model` was before it was pruned the first time, if it was: the model of whose heads, units or
            channels the shares are.

    Raises:
        TypeError: If the model is none of these.
        ValueError: If a ratio is missing, of the other kind of model, or out of range, there are no batches for a
            `Transformer` or `Bert`, or no channel goes because of `multiple` and `floor`.
    """
    if type(model) in _CUT_BY_UNITS:
        if heads is None or feed_forward is None or ratio is not None:
            raise ValueError(f"prune: a {type(model).__name__} takes `heads` and `feed_forward`, and no `ratio`")
        losses, shrink = _CUT_BY_UNITS[type(model)]
        units = None if whole is None else whole.config.units()
        return shrink(model, select_by_kind(importance(model, batches, losses), heads, feed_forward, units))
    if ratio is None or heads is not None or feed_forward is not None:
        raise ValueError("prune: a functional model takes `ratio`, and neither `heads` nor `feed_forward`")
    remaining = iter(batches)
    first = next(remaining, None)
    inputs = first if criterion is batch_norm_scale else None
    smaller = prune_channels(
        model, ratio, criterion=criterion, multiple=multiple, floor=floor, inputs=inputs, whole=whole
    )
    if first is not None and any(isinstance(layer, keras.layers.BatchNormalization) for layer in smaller.submodules):
        measure_batch_norms(smaller, chain([first], remaining))
    return smaller
