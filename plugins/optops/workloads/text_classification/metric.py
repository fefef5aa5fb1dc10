"""Accuracy and macro F1 from counts by example, which can be resampled."""

from collections.abc import Sequence

import numpy as np


def class_statistics(predictions: Sequence[str], labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Returns per-example counts, int64 (examples, 1 + 3 * classes).

    Columns: 1; then by class whether it was predicted and right, whether it was predicted, whether it is the label. A
    label that is no class counts as an example that nothing gets right, and so does a prediction that is none: an
    older model may know other classes.

    Args:
        predictions: The predicted classes.
        labels: The labels.
        classes: All of them.

    Raises:
        ValueError: If there are not as many predictions as labels.
    """
    if len(predictions) != len(labels):
        raise ValueError(f"{len(predictions)} predictions but {len(labels)} labels")
    columns = np.array(classes, dtype=object)
    predicted = np.array(predictions, dtype=object)[:, None] == columns
    actual = np.array(labels, dtype=object)[:, None] == columns
    ones = np.ones((len(labels), 1), bool)
    return np.concatenate([ones, predicted & actual, predicted, actual], axis=1).astype(np.int64)


def accuracy(statistics: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns the share of examples that are right, in percent, for each row of weights.

    Args:
        statistics: From `class_statistics`.
        weights: How often each example counts, shape (resamples, examples); once each if None.

    Returns:
        float64 (resamples,), or (1,) without weights.
    """
    examples, right, _, _ = _sums(statistics, weights)
    share: np.ndarray = 100 * right.sum(axis=1) / np.maximum(examples, 1)
    return share


def macro_f1(statistics: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns the mean over classes of the harmonic mean of precision and recall, in percent, for each row of weights.

    A class that is neither predicted nor anybody's label counts as 0.

    Args:
        statistics: From `class_statistics`.
        weights: See `accuracy`.

    Returns:
        float64 (resamples,), or (1,) without weights.
    """
    _, right, predicted, actual = _sums(statistics, weights)
    each = 2 * right / np.maximum(predicted + actual, 1)
    mean: np.ndarray = 100 * each.mean(axis=1)
    return mean


def _sums(statistics: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    counts = statistics.astype(np.float64)
    sums = counts.sum(axis=0)[None, :] if weights is None else weights.astype(np.float64) @ counts
    right, predicted, actual = np.split(sums[:, 1:], 3, axis=1)
    return sums[:, 0], right, predicted, actual
