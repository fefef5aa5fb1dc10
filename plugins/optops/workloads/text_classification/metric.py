"""Accuracy and macro F1 from what each example was taken for and what it is, which can be resampled."""

from collections.abc import Sequence

import numpy as np

NONE = -1


def class_statistics(predictions: Sequence[str | None], labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Returns what accuracy and macro F1 follow from, int32 (examples, 3).

    Columns: the number of the predicted class, the number of the label, how many classes there are. A label that is no
    class, -1, counts as an example that nothing gets right, and so does a prediction that is none: an older model may
    know other classes.

    Args:
        predictions: The predicted classes, None where a model tells none.
        labels: The labels.
        classes: All of them.

    Raises:
        ValueError: If there are not as many predictions as labels.
    """
    if len(predictions) != len(labels):
        raise ValueError(f"{len(predictions)} predictions but {len(labels)} labels")
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)}
    rows = [
        (numbers.get(prediction, NONE), numbers.get(label, NONE), len(classes))
        for prediction, label in zip(predictions, labels, strict=True)
    ]
    return np.array(rows, np.int32).reshape(len(labels), 3)


def accuracy(statistics: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns the share of examples that are right, in percent, for each row of weights.

    Args:
        statistics: From `class_statistics`.
        weights: How often each example counts, shape (resamples, examples); once each if None.

    Returns:
        float64 (resamples,), or (1,) without weights.
    """
    weights = _once_each(statistics) if weights is None else weights
    share: np.ndarray = 100 * weights[:, _right(statistics)].sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
    return share


def macro_f1(statistics: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns the mean over classes of the harmonic mean of precision and recall, in percent, for each row of weights.

    The mean is over the classes that occur, as label or prediction: of one that does not, nothing is known. Without any
    it is 0.

    Args:
        statistics: From `class_statistics`.
        weights: See `accuracy`.

    Returns:
        float64 (resamples,), or (1,) without weights.
    """
    predicted, actual = statistics[:, 0], statistics[:, 1]
    classes, right = int(statistics[:, 2].max(initial=1)), _right(statistics)

    def count(numbers: np.ndarray, chosen: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return np.bincount(numbers[chosen], counts[chosen], classes)

    def score(counts: np.ndarray) -> float:
        either = count(predicted, predicted != NONE, counts) + count(actual, actual != NONE, counts)
        occurring = either > 0
        return (
            float((2 * count(actual, right, counts)[occurring] / either[occurring]).mean()) if occurring.any() else 0.0
        )

    return 100 * np.array([score(counts) for counts in (_once_each(statistics) if weights is None else weights)])


def _right(statistics: np.ndarray) -> np.ndarray:
    right: np.ndarray = (statistics[:, 0] == statistics[:, 1]) & (statistics[:, 1] != NONE)
    return right


def _once_each(statistics: np.ndarray) -> np.ndarray:
    return np.ones((1, len(statistics)), np.int64)
