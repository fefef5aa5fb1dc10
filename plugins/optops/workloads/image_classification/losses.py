"""What a classifier learns by: its labels, and a teacher's distribution."""

from typing import Any

from optops.compression.distillation.losses import soft_loss
from optops.compression.distillation.outputs import mixed_loss
from optops.models.keras import tf
from optops.models.resnet import INPUT
from optops.models.training.losses import token_cross_entropy
from optops.models.training.settings import Loss
from optops.workloads.image_classification.batches import LABELS


def label_loss(smoothing: float) -> Loss:
    """Returns the mean cross-entropy against labels smoothed over the classes (Szegedy et al. 2016, section 7)."""

    def loss(model: Any, batch: Any, progress: Any) -> Any:
        del progress
        logits = model(batch[INPUT], training=True)
        # A class is a sequence of one token to that function.
        return tf.reduce_mean(token_cross_entropy(batch[LABELS][:, None], logits[:, None], smoothing))

    return loss


def taught_loss(teacher: Any, *, alpha: float, temperature: float, smoothing: float) -> Loss:
    """Returns `alpha` times the softened divergence from a teacher (Hinton et al. 2015), the rest of the label loss."""

    def soft(model: Any, batch: Any, progress: Any) -> Any:
        del progress
        wanted, found = teacher(batch[INPUT], training=False), model(batch[INPUT], training=True)
        counted = tf.ones_like(batch[LABELS])[:, None]
        return soft_loss(counted, found[:, None], wanted[:, None], temperature)

    return mixed_loss(soft, label_loss(smoothing), alpha)
