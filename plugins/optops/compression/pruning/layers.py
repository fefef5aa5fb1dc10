"""Leaves out whole layers of a Transformer: those that it misses least."""

from collections.abc import Iterable, Sequence
from typing import Any

from optops.models.keras import tf
from optops.models.training.settings import Batch
from optops.models.training.validation import mean_cross_entropy
from optops.models.transformer.slicing import keep_layers


def drop_layers(model: Any, *, encoder: int = 0, decoder: int = 0, batches: Iterable[Batch]) -> Any:
    """Returns a shallower Transformer; train it further with `fit`, or with `distill` from the whole model.

    Layers go one after the other: each time the one without which the loss on the batches is lowest, as measured by
    leaving each out. The residual stream makes a layer's absence a small change, and what one layer is worth depends on
    the others, so it is measured anew after each.

    Args:
        model: A `Transformer`; left as it is.
        encoder: Encoder layers to leave out.
        decoder: Decoder layers to leave out.
        batches: Real data with `source`, `target` and `labels`; a few hundred examples do.

    Raises:
        ValueError: If a stack would be left without a layer, or there are no batches.
    """
    data = [{name: tf.convert_to_tensor(array) for name, array in batch.items()} for batch in batches]
    if not data:
        raise ValueError("there are no batches to measure the loss on; give some of the training data")
    for stack, count in (("encoder", encoder), ("decoder", decoder)):
        layers = len(getattr(model.config, stack))
        if not 0 <= count < layers:
            raise ValueError(f"drop_layers: {count} of {layers} {stack} layers to leave out; at least one must stay")
        for _ in range(count):
            model = _without_least_missed(model, stack, data)
    return model


def _without_least_missed(model: Any, stack: str, data: Sequence[Any]) -> Any:
    layers = range(len(getattr(model.config, stack)))
    shallower = [keep_layers(model, **{stack: [kept for kept in layers if kept != left_out]}) for left_out in layers]
    return min(shallower, key=lambda candidate: mean_cross_entropy(candidate, data))
