"""Trains a student on what its teacher predicts."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optops.compression.distillation.losses import DistillationLoss, DistillationSettings
from optops.models.training import History, Progress, TrainingSettings, fit
from optops.models.training.settings import Batches, Validate


def distill(
    teacher: Any,
    student: Any,
    batches: Callable[[int], Batches],
    *,
    validate: Validate,
    settings: TrainingSettings,
    distillation: DistillationSettings | None = None,
    checkpoints: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    saved: Callable[[Path], None] = lambda checkpoint: None,
) -> History:
    """Trains `student` on what `teacher` predicts and on the labels; resumable like `fit`, whose arguments these are.

    For sequence-level distillation, let the targets in `batches` be those of `teacher_targets`; the two add up (Kim &
    Rush 2016, table 1).

    Args:
        teacher: Same inputs and vocabulary as the student; left as it is.
        student: Trained in place; any sizes.
        batches: Gives the batches of an epoch, with `source`, `target` and `labels`; a `PairBatches` for example.
        validate: Called as `validate(student)`; higher is better. `held_out_likelihood` makes one of pairs.
        settings: How to train.
        distillation: Weights of the parts of the loss; half teacher, half labels and no features if None.
        checkpoints: Folder of this run's checkpoints; if None, a temporary one, and a killed run starts again.
        report: Called about every two seconds.
        saved: Called with each complete checkpoint's folder.

    Raises:
        ValueError: If features of such a teacher and student can not be compared.
    """
    loss = DistillationLoss(teacher, student, distillation or DistillationSettings(), settings.label_smoothing)
    with ExitStack() as stack:
        folder = checkpoints or Path(stack.enter_context(TemporaryDirectory(prefix="optops-distill-")))
        return fit(
            student,
            batches=batches,
            loss=loss,
            validate=validate,
            settings=settings,
            checkpoints=folder,
            report=report,
            saved=saved,
        )
