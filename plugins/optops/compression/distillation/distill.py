"""Trains a student on what its teacher predicts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from optops.compression.distillation.losses import DistillationSettings, distillation_loss
from optops.models.training import History, Progress, TrainingSettings, fit
from optops.models.training.settings import Batches, Validate


def distill(
    teacher: Any,
    student: Any,
    *,
    batches: Callable[[int], Batches],
    validate: Validate,
    settings: TrainingSettings,
    distillation: DistillationSettings,
    checkpoints: Path,
    report: Callable[[Progress], None] = lambda progress: None,
    saved: Callable[[Path], None] = lambda checkpoint: None,
) -> History:
    """Trains `student` with the word-level distillation loss; resumable like `fit`, whose arguments these are.

    For sequence-level distillation, let the targets in `batches` be those of `teacher_targets`; the two add up (Kim &
    Rush 2016, table 1).

    Args:
        teacher: Same inputs and vocabulary as the student; left as it is.
        student: Trained in place; any sizes.
        batches: Gives the batches of an epoch, with `source`, `target` and `labels`.
        validate: Called as `validate(student)`; higher is better.
        settings: How to train.
        distillation: Weight and temperature of the teacher's distribution.
        checkpoints: Folder of this run's checkpoints.
        report: Called about every two seconds.
        saved: Called with each complete checkpoint's folder.
    """
    return fit(
        student,
        batches=batches,
        loss=distillation_loss(teacher, distillation, settings.label_smoothing),
        validate=validate,
        settings=settings,
        checkpoints=checkpoints,
        report=report,
        saved=saved,
    )
