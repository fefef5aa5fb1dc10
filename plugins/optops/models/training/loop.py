"""The training loop: traces one step, runs the epochs, goes on after the last checkpoint, keeps the best weights."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from optops.models.training.averaging import choose_weights, needed
from optops.models.training.checkpoints import CheckpointError, CheckpointFolder, State
from optops.models.training.randomness import reseed, unrepeatable_operations, use_generators
from optops.models.training.schedule import learning_rate_at, warmup_steps
from optops.models.training.settings import (
    Batch,
    Batches,
    EpochRecord,
    History,
    Loss,
    Progress,
    TrainingSettings,
    Validate,
    best_epoch,
    out_of_patience,
)
from optops.models.training.step import TrainingStep, common_signature

REPORT_SECONDS = 2.0
log = logging.getLogger(__name__)


class TrainingDivergedError(ArithmeticError):
    """The loss or its gradient became NaN or infinite, or validation NaN."""


def fit(
    model: Any,
    *,
    batches: Callable[[int], Batches],
    loss: Loss,
    validate: Validate,
    settings: TrainingSettings,
    checkpoints: Path,
    report: Callable[[Progress], None] = lambda progress: None,
    saved: Callable[[Path], None] = lambda checkpoint: None,
    after_update: Callable[[], Any] = lambda: None,
) -> History:
    """Trains a model and leaves in it the weights of the epoch that validates best, or the mean of those around it.

    Killed at any moment and called again with the same arguments, it goes on after the last complete checkpoint and
    ends with what an uninterrupted run ends with.

    Args:
        model: A tf_keras model whose variables exist; its dropout layers are switched to generators with a state that
            can be set.
        batches: Gives the batches of an epoch (from 1); the same ones for the same epoch.
        loss: Called as `loss(model, batch, progress)` with tensors; gives a scalar, or (scalar, scalars to report by
            name); see `Loss`.
        validate: Called as `validate(model)` after each epoch; higher is better.
        settings: How to train.
        checkpoints: Folder of this run's checkpoints; empty, or from an earlier attempt at the same run.
        report: Called about every two seconds and at the end of each epoch.
        saved: Called with each complete checkpoint's folder, also with the one a retry starts from.
        after_update: Called after each update of the weights while the step is traced, to restrict them: `sparsify`
            gives one. It has no state of its own, since checkpoints would not keep it.

    Raises:
        TrainingDivergedError: If loss or gradient is NaN or infinite, or validation NaN; checkpoints are left as they
            were.
        CheckpointError: If a checkpoint can't be written, or belongs to another run.
        ValueError: If there are no batches, or no weight of the model is trainable.
    """
    trainer = _Trainer(model, batches, loss, settings, report, after_update)
    store = CheckpointFolder(checkpoints)
    records = trainer.restore(store)
    if records:
        saved(store.path(records[-1].epoch))
    while len(records) < settings.epochs and not out_of_patience(records, settings, trainer.warmup):
        records = (*records, trainer.run_epoch(len(records) + 1, validate, records))
        path = trainer.save(store, records)
        keep = needed(best_epoch(records), len(records), settings.average_checkpoints)
        store.discard(keep=keep, resumable={len(records) - 1, len(records)})
        saved(path)
    return choose_weights(model, store, records, validate, settings)


class _Trainer:
    """A model, its optimizer and the traced step, on their way through the epochs."""

    def __init__(
        self,
        model: Any,
        batches: Callable[[int], Batches],
        loss: Loss,
        settings: TrainingSettings,
        report: Callable[[Progress], None],
        after_update: Callable[[], Any],
    ) -> None:
        self.model, self.batches, self.settings, self.report = model, batches, settings, report
        first = batches(1)
        if not len(first):
            raise ValueError("the first epoch has no batches; there is nothing to train on")
        if not model.trainable_variables:
            raise ValueError(f"no weight of model {model.name!r} is trainable; set `model.trainable = True`")
        self.total_steps = -(-len(first) // settings.accumulate) * settings.epochs
        self.warmup = warmup_steps(settings, self.total_steps)
        if self.warmup < settings.warmup_steps:
            log.warning(
                "training has %d steps in all: its warm-up takes %d of them, not %d; lower batch_tokens or raise "
                "epochs if it learns too little",
                self.total_steps,
                self.warmup,
                settings.warmup_steps,
            )
        self.step = 0
        use_generators(model)
        signature = common_signature(first)
        self.train_step = TrainingStep(model, loss, signature, settings, after_update)
        if names := unrepeatable_operations(self.train_step.traced):
            log.warning("a resumed run will differ: the state of these random operations can't be saved: %s", names)

    def restore(self, store: CheckpointFolder) -> tuple[EpochRecord, ...]:
        """Takes over the last intact checkpoint and returns the records up to it; () if there is none."""
        found = store.latest()
        if found is None:
            return ()
        state, weights, optimizer = found
        if state.settings != self.settings:
            raise CheckpointError(
                f"{store.folder}: its checkpoints are from a run with other settings: {state.settings}, now "
                f"{self.settings}; use an empty folder"
            )
        assign(self.model.weights, weights, store.path(state.epoch))
        assign(self.train_step.variables, optimizer, store.path(state.epoch))
        self.step = state.step
        log.info("training goes on after epoch %d (step %d)", state.epoch, state.step)
        return state.records

    def save(self, store: CheckpointFolder, records: tuple[EpochRecord, ...]) -> Path:
        """Writes the checkpoint of the epoch just done."""
        state = State(records[-1].epoch, self.step, records, self.settings)
        optimizer = [variable.numpy() for variable in self.train_step.variables]
        return store.save(state, self.model.get_weights(), optimizer)

    def run_epoch(self, epoch: int, validate: Validate, records: tuple[EpochRecord, ...]) -> EpochRecord:
        """Trains one epoch and validates."""
        started = time.monotonic()
        reseed(self.model, self.settings.seed, epoch)
        batches, together = self.batches(epoch), self.settings.accumulate
        steps = -(-len(batches) // together)
        meter = _Meter(epoch, self.settings.epochs, steps, records[-1].validation if records else None)
        waiting = iter(batches)
        while group := list(islice(waiting, together)):
            rate = learning_rate_at(self.step + 1, self.settings, self.total_steps)
            meter.add(self._run_step(group, rate), sum(examples_in(batch) for batch in group), rate)
            if meter.due():
                self.report(meter.progress())
        trained = meter.whole()
        validation = float(validate(self.model))
        if np.isnan(validation):
            raise TrainingDivergedError(
                f"validation after epoch {epoch} is NaN: the model gives numbers that are not finite, or what judges "
                f"it does; lower learning_rate, or make it a number, higher being better"
            )
        self.report(replace(trained, validation=validation))
        means = meter.means()
        seconds = time.monotonic() - started
        return EpochRecord(epoch, self.step, means.pop("loss"), validation, means, seconds)

    def _run_step(self, batches: Sequence[Batch], rate: float) -> dict[str, float]:
        """Runs one step and returns its loss and other scalars."""
        value, norm, scalars = self.train_step(batches, rate, self.step / self.total_steps)
        self.step += 1
        if not (np.isfinite(value) and np.isfinite(norm)):
            raise TrainingDivergedError(
                f"step {self.step}: the loss is {value} and its gradient's norm {norm} at learning rate "
                f"{rate:.3g}; lower learning_rate, raise warmup_steps or lower gradient_clip, or look for bad "
                f"values in the data. The checkpoints are untouched"
            )
        return {"loss": value, **scalars}


class _Meter:
    """Means and speed of one epoch, and of the time since the last report."""

    def __init__(self, epoch: int, epochs: int, steps: int, validation: float | None) -> None:
        self.epoch, self.epochs, self.steps, self.validation = epoch, epochs, steps, validation
        self.sums: dict[str, float] = defaultdict(float)
        self.step = self.examples = 0
        self.rate = 0.0
        self.started_at = time.monotonic()
        self._start_interval()

    def _start_interval(self) -> None:
        self.reported_at, self.steps_before, self.examples_before = time.monotonic(), self.step, self.examples
        self.loss_before = self.sums["loss"]

    def add(self, scalars: Mapping[str, float], examples: int, rate: float) -> None:
        """Counts one step."""
        self.step += 1
        self.examples += examples
        self.rate = rate
        for name, value in scalars.items():
            self.sums[name] += value

    def means(self) -> dict[str, float]:
        """Returns the means over the epoch so far."""
        return {name: total / self.step for name, total in self.sums.items()}

    def due(self) -> bool:
        """Returns whether it is time for a report."""
        return time.monotonic() - self.reported_at >= REPORT_SECONDS

    def progress(self) -> Progress:
        """Returns what has happened since the last call, of which there is at least one step."""
        loss = (self.sums["loss"] - self.loss_before) / (self.step - self.steps_before)
        progress = self._progress(loss, self.examples - self.examples_before, self.reported_at)
        self._start_interval()
        return progress

    def whole(self) -> Progress:
        """Returns what has happened since the epoch began."""
        return self._progress(self.means()["loss"], self.examples, self.started_at)

    def _progress(self, loss: float, examples: int, since: float) -> Progress:
        return Progress(
            epoch=self.epoch,
            epochs=self.epochs,
            step=self.step,
            steps_in_epoch=self.steps,
            loss=loss,
            examples_per_second=examples / max(time.monotonic() - since, 1e-9),
            learning_rate=self.rate,
            validation=self.validation,
        )


def examples_in(batch: Batch) -> int:
    """Returns the number of examples of a batch."""
    return len(next(iter(batch.values())))


def assign(variables: Any, arrays: Any, source: Path) -> None:
    """Gives variables the values of a checkpoint.

    Raises:
        CheckpointError: If number or shapes differ.
    """
    if len(variables) != len(arrays):
        raise CheckpointError(
            f"{source}: holds {len(arrays)} arrays, the model and its optimizer want {len(variables)}; it is from "
            f"another model: use an empty folder"
        )
    for variable, array in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != array.shape:
            raise CheckpointError(
                f"{source}: {variable.name} has shape {array.shape}, the model wants {tuple(variable.shape)}; it is "
                f"from another model: use an empty folder"
            )
        variable.assign(array)
