"""Chooses the weights a run ends with: the best epoch's, or the mean over the epochs around it if that is as good."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.models.training.checkpoints import CheckpointError, CheckpointFolder
from optops.models.training.settings import (
    EpochRecord,
    History,
    TrainingSettings,
    Validate,
    best_epoch,
)

log = logging.getLogger(__name__)


def window(best: int, last: int, count: int) -> tuple[int, ...]:
    """Returns the successive epochs to average: the best one and those around it, half of `count` after it.

    They are `count`, the last of them if the run ends soon after the best, and fewer if it is one of the first.
    """
    end = min(last, best + count // 2)
    return tuple(range(max(1, end - count + 1), end + 1))


def needed(best: int, last: int, count: int) -> set[int]:
    """Returns the epochs so far that `window` may still ask for, whatever epoch turns out best."""
    around_best = {best, *range(best - count + 1, best + count // 2 + 1)}
    return {epoch for epoch in range(1, last + 1) if epoch in around_best or epoch > last - count + 1}


def mean_weights(checkpoints: Sequence[Sequence[NDArray[Any]]]) -> list[NDArray[Any]]:
    """Returns the mean of several models' weights, array by array, summed in float64.

    Source: Vaswani et al. 2017, section 6.1; Junczys-Dowmunt et al. 2016.
    """
    return [
        np.mean(arrays, axis=0, dtype=np.float64).astype(arrays[0].dtype) for arrays in zip(*checkpoints, strict=True)
    ]


def choose_weights(
    model: Any,
    store: CheckpointFolder,
    records: tuple[EpochRecord, ...],
    validate: Validate,
    settings: TrainingSettings,
) -> History:
    """Leaves in the model the mean of the epochs around the best one, or that one alone, and says which.

    The best of many epochs owes some of its lead to luck, so the mean is not held against it, but must validate better
    than the second best of its own epochs. Where validation rises or falls steeply, that is still close to the best.

    Raises:
        CheckpointError: If the best epoch's checkpoint is damaged.
    """
    best = best_epoch(records)
    validations = {record.epoch: record.validation for record in records}
    epochs, arrays = _intact(store, window(best, records[-1].epoch, settings.average_checkpoints))
    averaged: tuple[int, ...] = ()
    validation = validations[best]
    if len(epochs) > 1:
        model.set_weights(mean_weights(arrays))
        together = float(validate(model))
        values = [validations[epoch] for epoch in epochs]
        # The second best of two is the worse.
        if together > max(sorted(values)[-2], float(np.mean(values))):
            averaged, validation = epochs, together
    if not averaged:
        model.set_weights(store.weights(best))
    return History(records, best, averaged, validation, stopped_early=len(records) < settings.epochs)


def _intact(store: CheckpointFolder, epochs: tuple[int, ...]) -> tuple[tuple[int, ...], list[list[NDArray[Any]]]]:
    """Returns those of the epochs whose weights can be read, with the weights."""
    read = []
    for epoch in epochs:
        try:
            read.append((epoch, store.weights(epoch)))
        except CheckpointError as error:
            log.warning("%s; it is left out of the average", error)
    return tuple(epoch for epoch, _ in read), [weights for _, weights in read]
