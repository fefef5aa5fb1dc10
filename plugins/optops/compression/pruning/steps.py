"""What a pruner is handed, and what it hands on: ever smaller models, each trained before the next is cut from it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Batch = Any
MOST_BYTES = 2**30
"""Of the arrays that importance is measured on: they are held at once."""


@dataclass(frozen=True)
class PruningData:
    """What a pruner may look at.

    Attributes:
        batches: A few batches of training examples, to measure importance on.
        everything: Gives all batches that are learnt from.
        loss: The training loss, called as `loss(model, batch, progress)`.
    """

    batches: list[Batch]
    everything: Callable[[], Iterable[Batch]]
    loss: Callable[[Any, Batch, Any], Any]


def first_batches(batches: Iterable[Batch], examples: int, most_bytes: int = MOST_BYTES) -> list[Batch]:
    """Returns the batches up to the one that completes so many examples or bytes; no further one is made.

    Args:
        batches: Arrays by name; the first axis of each is the example.
        examples: That suffice.
        most_bytes: Beyond which no batch is added.
    """
    taken: list[Batch] = []
    for batch in batches:
        taken.append(batch)
        examples -= max(len(array) for array in batch.values())
        most_bytes -= sum(array.nbytes for array in batch.values())
        if examples <= 0 or most_bytes <= 0:
            break
    return taken


@dataclass(frozen=True)
class Step:
    """A model to be trained in place before the pruner goes on with it.

    Attributes:
        ratio: Share removed in all; 0 for a model that is only prepared for pruning and is no candidate.
        model: What is left.
        after_update: Keeps the model as pruned while it trains; see `fit`.
        penalty: Added to the loss while it trains: called without arguments, returns a scalar tensor.
        epochs: How long it trains, if not as long as the recipe says for pruned models.
    """

    ratio: float
    model: Any
    after_update: Callable[[], Any] = lambda: None
    penalty: Callable[[], Any] | None = None
    epochs: int | None = None


class PenalizedLoss:
    """A training loss with a penalty added.

    Args:
        loss: See `Loss` of `optops.models.training`.
        penalty: Called without arguments; returns a scalar tensor.

    Attributes:
        variables: The loss's own, which are trained too.
    """

    def __init__(self, loss: Callable[[Any, Batch, Any], Any], penalty: Callable[[], Any]) -> None:
        self.variables = tuple(getattr(loss, "variables", ()))
        self._loss, self._penalty = loss, penalty

    def __call__(self, model: Any, batch: Batch, progress: Any) -> Any:
        """Returns the sum, and by name what the loss reports beside it, and the penalty."""
        result = self._loss(model, batch, progress)
        value, scalars = result if isinstance(result, tuple) else (result, {})
        penalty = self._penalty()
        return value + penalty, {**scalars, "penalty": penalty}
