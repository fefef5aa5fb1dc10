"""What a pruner hands on: ever smaller models, each to be trained before the next is cut from it."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Step(NamedTuple):
    """A model from which a share has been removed, to be trained in place before the next step takes more from it.

    Attributes:
        ratio: Share removed in all.
        model: What is left.
        after_update: Keeps the model as pruned while it trains; see `fit`.
    """

    ratio: float
    model: Any
    after_update: Callable[[], Any] = lambda: None
