"""What a super-resolution network learns by: absolute errors, against the images or against a teacher."""

from typing import Any

from optops.compression.distillation.outputs import mixed_loss
from optops.models.keras import tf
from optops.models.super_resolution import INPUT, OUTPUT
from optops.models.training.settings import Loss


def absolute_error(model: Any, batch: Any, progress: Any) -> Any:
    """Returns the mean absolute error against the large patches (Lim et al. 2017, section 3.3)."""
    del progress
    return tf.reduce_mean(tf.abs(model(batch[INPUT], training=True) - batch[OUTPUT]))


def taught_error(teacher: Any, alpha: float) -> Loss:
    """Returns `alpha` times the error against what a teacher makes of a patch, the rest of it against the patch.

    Both are absolute errors in the same units, so that `alpha` means what it says.
    """

    def against_teacher(model: Any, batch: Any, progress: Any) -> Any:
        del progress
        wanted = teacher(batch[INPUT], training=False)
        return tf.reduce_mean(tf.abs(model(batch[INPUT], training=True) - wanted))

    return mixed_loss(against_teacher, absolute_error, alpha)
