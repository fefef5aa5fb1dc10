"""The steps in which heads and feed-forward units go, ratio by ratio, of a Transformer as of a BERT."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from optops.compression.pruning.prune import prune
from optops.compression.pruning.steps import Batch, Step


class UnitPruning(Protocol):
    """What is read of the recipe's section `prune`."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Shares of heads and units to remove in all, of the layers that stay; rising."""

    @property
    def heads(self) -> bool:
        """Whether heads go, too."""


def unit_steps(
    whole: Any, settings: UnitPruning, batches: list[Batch], parameters: int, report: Callable[[str], None]
) -> Iterator[Step]:
    """Gives one smaller model for each ratio at which something goes.

    Args:
        whole: A `Transformer` or `Bert` without the layers that go; left as it is.
        settings: The recipe's section.
        batches: To measure importance on.
        parameters: Of the model before anything went.
        report: Gets lines for people.
    """
    smaller, before = whole, parameters
    for ratio in settings.ratios:
        heads = ratio if settings.heads else 0.0
        smaller = prune(smaller, heads=heads, feed_forward=ratio, batches=batches, whole=whole)
        report(f"{smaller.count_params():,} of {parameters:,} parameters left at {ratio:g}")
        if smaller.count_params() < before:
            yield Step(ratio, smaller)
        before = smaller.count_params()
