"""The steps in which a BERT is pruned: layers once, then heads and units ratio by ratio."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from optops.compression.pruning.importance import class_losses
from optops.compression.pruning.steps import PruningData, Step
from optops.compression.pruning.units import UnitPruning, unit_steps
from optops.models.bert.model import Bert
from optops.models.bert.slicing import keep_layers
from optops.models.keras import tf


class BertPruning(UnitPruning, Protocol):
    """What the pruner reads of the recipe's section `prune`."""

    @property
    def layers(self) -> int:
        """Layers to leave out."""


def prune_steps(model: Bert, settings: BertPruning, data: PruningData, report: Callable[[str], None]) -> Iterator[Step]:
    """Gives one smaller model for each ratio at which something goes.

    Args:
        model: Left as it is.
        settings: The recipe's section.
        data: Says what matters.
        report: Gets lines for people.
    """
    # A student of one layer has none to spare.
    smaller = drop_layers(model, min(settings.layers, model.config.depth - 1), data.batches)
    if smaller.config.depth < model.config.depth:
        report(f"{smaller.config.depth} of {model.config.depth} layers are left")
    yield from unit_steps(smaller, settings, data.batches, model.count_params(), report)


def drop_layers(model: Bert, count: int, batches: Sequence[Any]) -> Bert:
    """Returns a shallower model, left to be trained further.

    Layers go one after the other: each time the one without which the loss on the batches is lowest. Of layers that run
    several times, each runs once less at a time, until no more than `count` are gone.

    Args:
        model: Left as it is.
        count: Layers to leave out, fewer than there are.
        batches: With `ids` and `labels`; a few hundred examples do.

    Raises:
        ValueError: If no layer would be left, or there are no batches.
    """
    if not 0 <= count < model.config.depth:
        raise ValueError(f"drop_layers: {count} of {model.config.depth} layers to leave out; at least one must stay")
    if count and not batches:
        raise ValueError("there are no batches to measure the loss on; give some of the training data")
    wanted = model.config.depth - count
    while model.config.depth > wanted:
        layers = range(len(model.config.encoder))
        if model.config.repeats > 1:
            if len(layers) > model.config.depth - wanted:
                break
            model = keep_layers(model, layers, model.config.repeats - 1)
            continue
        shallower = [keep_layers(model, [kept for kept in layers if kept != left_out]) for left_out in layers]
        model = min(shallower, key=lambda candidate: _mean_loss(candidate, batches))
    return model


def _mean_loss(model: Bert, batches: Sequence[Any]) -> float:
    losses = [float(tf.reduce_sum(class_losses(model, _tensors(batch), None))) for batch in batches]
    return sum(losses) / sum(len(batch["labels"]) for batch in batches)


def _tensors(batch: Any) -> dict[str, Any]:
    return {name: tf.convert_to_tensor(array) for name, array in batch.items()}
