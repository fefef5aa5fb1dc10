"""What a training run is told, what it reports while it runs, and what it hands back."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import takewhile
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

Batch: TypeAlias = Mapping[str, NDArray[Any]]
"""Arrays by name; the first axis of each is the example."""

Loss: TypeAlias = Callable[[Any, Any, Any], Any]
"""Called as `loss(model, batch, progress)` while the step is traced, with the share of all steps done, a scalar in
[0, 1]; returns a scalar, or (scalar, scalars to report by name). A loss with weights of its own, a learned projection
for example, lists them as `variables`: they are trained and kept in checkpoints with the model's."""

Validate: TypeAlias = Callable[[Any], float]
"""Called as `validate(model)` after each epoch; higher is better."""

Schedule = Literal["inverse_square_root", "cosine"]
TrainingPrecision = Literal["fp32", "bf16"]


class Batches(Protocol):
    """The batches of one epoch: they can be counted before they are made."""

    def __len__(self) -> int:
        """Returns the number of batches."""

    def __iter__(self) -> Iterator[Batch]:
        """Makes the batches, in order."""


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        epochs: Most passes over the data.
        learning_rate: The peak, reached at the end of the warm-up.
        schedule: What follows the warm-up: decay with the inverse square root of the step (Vaswani et al. 2017,
            section 5.3), which suits training until it stops improving, or a half cosine down to zero after the last
            step (Loshchilov & Hutter 2017), which suits a fixed number of epochs.
        warmup_steps: Steps of linear rise from zero to the peak; a quarter of all steps if these are fewer.
        batch_tokens: Tokens per batch, counted on the longer side with its padding.
        accumulate: Batches whose mean gradient makes one step: larger steps than the memory holds at once.
        replicas: Parts of a batch whose gradients are computed side by side, each on its share of the cores. Sizes of
            models that train on a CPU leave cores idle otherwise.
        precision: Of products while training and of what stands between them, the loss too: fp32, or bf16, which is
            faster on processors that compute with it (AMX, AVX-512 BF16) and less exact. Weights and their updates are
            fp32 in any case.
        label_smoothing: Share of the target distribution that is spread over the vocabulary, in [0, 1).
        patience: Epochs without a better validation before training stops, counted after the warm-up; not with the
            cosine schedule, whose last epochs bring most.
        average_checkpoints: Epochs around the best one whose weights are averaged at the end; 1 means none.
        gradient_clip: Largest global norm of the gradient.
        seed: Everything random follows from it.
    """

    epochs: int
    learning_rate: float = 1e-3
    schedule: Schedule = "inverse_square_root"
    warmup_steps: int = 400
    batch_tokens: int = 4096
    accumulate: int = 1
    replicas: int = 2
    precision: TrainingPrecision = "fp32"
    label_smoothing: float = 0.1
    patience: int = 5
    average_checkpoints: int = 5
    gradient_clip: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_tokens", "accumulate", "replicas", "patience", "average_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "gradient_clip"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a number above 0")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; it must be at least 0")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it must be in [0, 1)")
        for name, choices in (("schedule", get_args(Schedule)), ("precision", get_args(TrainingPrecision))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")


@dataclass(frozen=True)
class Progress:
    """Where a training run is.

    Attributes:
        epoch: The running epoch, from 1.
        epochs: Most epochs there will be.
        step: Steps done in this epoch.
        steps_in_epoch: Steps of this epoch.
        loss: Mean since the last report; of the whole epoch once `validation` is of it.
        examples_per_second: As `loss`, without the time that validation takes.
        learning_rate: Of the last step.
        validation: Of this epoch once it is known, else of the one before; None in the first.
    """

    epoch: int
    epochs: int
    step: int
    steps_in_epoch: int
    loss: float
    examples_per_second: float
    learning_rate: float
    validation: float | None


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to.

    Attributes:
        epoch: From 1.
        step: Steps done since the start of the run.
        loss: Mean over the epoch's steps.
        validation: What `validate` said after it.
        scalars: Mean over the epoch's steps of what the loss reports by name.
        seconds: Wall time, validation included; left out of comparisons.
    """

    epoch: int
    step: int
    loss: float
    validation: float
    scalars: Mapping[str, float]
    seconds: float = field(compare=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "EpochRecord":
        """Reads what `dataclasses.asdict` made of a record."""
        return cls(**{name.name: data[name.name] for name in fields(cls)})


@dataclass(frozen=True)
class History:
    """What a training run came to; the model holds the chosen weights.

    Attributes:
        records: One per epoch.
        best_epoch: The epoch that validated best.
        averaged: Epochs whose mean the model holds; empty if it holds the best epoch's weights, since the mean
            validated no better than the second best of its epochs.
        validation: Of the chosen weights.
        stopped_early: Whether `patience` ran out before the last epoch.
    """

    records: tuple[EpochRecord, ...]
    best_epoch: int
    averaged: tuple[int, ...]
    validation: float
    stopped_early: bool

    @property
    def chosen(self) -> str:
        """Says which weights the model holds."""
        if self.averaged:
            return f"mean of epochs {self.averaged[0]} to {self.averaged[-1]}"
        return f"epoch {self.best_epoch}"


def best_epoch(records: tuple[EpochRecord, ...]) -> int:
    """Returns the epoch that validated best; the earliest of equals.

    Of those before the metric first moved it is the last: a detector that finds nothing yet has a precision of 0
    however long it trains, and who trained longest is nearest to where it moves.
    """
    still = sum(1 for _ in takewhile(lambda record: record.validation == records[0].validation, records))
    return max(records[still - 1 :], key=lambda record: (record.validation, -record.epoch)).epoch


def out_of_patience(records: tuple[EpochRecord, ...], settings: TrainingSettings, warmup: int) -> bool:
    """Returns whether training is to stop, after a warm-up of some steps: without a better validation for too long."""
    if settings.schedule == "cosine" or not records:
        return False
    best = best_epoch(records)
    return sum(record.epoch > best and record.step > warmup for record in records) >= settings.patience
