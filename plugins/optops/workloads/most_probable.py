"""Which class a classifier takes an example for."""

from collections.abc import Sequence

import numpy as np


def most_probable(probabilities: np.ndarray, classes: Sequence[str]) -> list[str | None]:
    """Returns the most probable class of each example; None where a probability is NaN, which tells nothing.

    Args:
        probabilities: [examples, classes].
        classes: In the order of the model's outputs.
    """
    # The largest of NaNs would be the first: class 0, which an example may well be.
    untold = np.isnan(probabilities).any(axis=1)
    chosen = probabilities.argmax(axis=1)
    return [None if none else classes[number] for number, none in zip(chosen, untold, strict=True)]
