"""Cuts the least important heads and units out of a Transformer; the result is to be fine-tuned."""

from collections.abc import Iterable
from typing import Any

from optops.compression.pruning.importance import importance
from optops.compression.pruning.selection import select_by_kind
from optops.models.training.settings import Batch
from optops.models.transformer.slicing import shrink


def prune(model: Any, *, heads: float, feed_forward: float, batches: Iterable[Batch]) -> Any:
    """Returns a smaller Transformer without the heads and feed-forward units that matter least.

    What is left keeps its weights; train it further with `fit`, or with `distill` from the unpruned model.

    Args:
        model: A `Transformer`; left as it is.
        heads: Share of all attention heads to remove, in [0, 1); every attention keeps at least one.
        feed_forward: Share of all feed-forward units to remove, in [0, 1); every layer keeps a multiple of 16.
        batches: Real data to measure importance on, with `source`, `target` and `labels`; a few hundred examples do.

    Raises:
        ValueError: If a ratio is out of range, or there are no batches.
    """
    return shrink(model, select_by_kind(importance(model, batches), heads, feed_forward))
