"""Trains a student on what its teacher predicts."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optops.compression.distillation.losses import ClassDistillationLoss, DistillationLoss, DistillationSettings
from optops.compression.distillation.outputs import check_outputs, mixed_loss, teacher_loss
from optops.models.bert.model import Bert
from optops.models.training import History, Progress, TrainingSettings, fit
from optops.models.training.settings import Batches, Loss, Validate
from optops.models.transformer.model import Transformer


def distill(
    teacher: Any,
    student: Any,
    batches: Callable[[int], Batches],
    *,
    validate: Validate,
    settings: TrainingSettings,
    distillation: DistillationSettings | None = None,
    loss: Loss | None = None,
    checkpoints: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    saved: Callable[[Path], None] = lambda checkpoint: None,
) -> History:
    """Trains `student` on what `teacher` predicts and on the labels; resumable like `fit`, whose arguments these are.

    For sequence-level distillation, let the targets in `batches` be those of `teacher_targets`; the two add up (Kim &
    Rush 2016, table 1).

    Args:
        teacher: A `Transformer`, a `Bert`, or a functional or sequential Keras model; same inputs and outputs as the
            student, and left as it is.
        student: Trained in place; any sizes.
        batches: Gives the batches of an epoch. For a `Transformer`, with `source`, `target` and `labels`, by a
            `PairBatches` for example; for a `Bert`, with `ids` and `labels`, by a `TextBatches`. For others, with the
            model's inputs under their names and what `loss` reads.
        validate: Called as `validate(student)`; higher is better. `held_out_likelihood` makes one of pairs.
        settings: How to train.
        distillation: Weights of the parts of the loss; half teacher, half labels and no features if None. Functional
            and sequential models learn from their teacher's outputs (`teacher_loss`) and know `alpha` alone.
        loss: Of the labels, for functional and sequential models; without it they learn from the teacher alone.
        checkpoints: Folder of this run's checkpoints; if None, a temporary one, and a killed run starts again.
        report: Called about every two seconds.
        saved: Called with each complete checkpoint's folder.

    Raises:
        ValueError: If features or outputs of such a teacher and student can not be compared, or a setting is for other
            models.
    """
    parts = distillation or DistillationSettings()
    learnt = _learnt(teacher, student, parts, settings.label_smoothing, loss)
    with ExitStack() as stack:
        folder = checkpoints or Path(stack.enter_context(TemporaryDirectory(prefix="optops-distill-")))
        return fit(
            student,
            batches=batches,
            loss=learnt,
            validate=validate,
            settings=settings,
            checkpoints=folder,
            report=report,
            saved=saved,
        )


def _learnt(teacher: Any, student: Any, parts: DistillationSettings, label_smoothing: float, loss: Loss | None) -> Loss:
    """Returns the loss of a student of this kind."""
    kind = type(student)
    if kind in _LOSSES:
        if loss is not None:
            raise ValueError(f"distill: a {kind.__name__} has a loss of its own; leave out `loss`")
        if type(teacher) is not kind:
            raise ValueError(f"distill: a {kind.__name__} learns from a {kind.__name__}, not {type(teacher).__name__}")
        return _LOSSES[kind](teacher, student, parts, label_smoothing)
    if parts.beta or parts.temperature != 1:
        raise ValueError("distill: `beta` and `temperature` are for Transformers and BERTs; others have `alpha` alone")
    check_outputs(teacher, student)
    return mixed_loss(teacher_loss(teacher), loss, parts.alpha)


_LOSSES: dict[type, Callable[[Any, Any, DistillationSettings, float], Loss]] = {
    Transformer: DistillationLoss,
    Bert: ClassDistillationLoss,
}
