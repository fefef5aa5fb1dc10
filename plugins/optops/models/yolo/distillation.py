"""What a smaller YOLOv3 learns from a larger one with the same anchors and classes."""

from typing import Any

from optops.models.keras import tf
from optops.models.training.settings import Loss
from optops.models.yolo.loss import ANCHORS, heads_of
from optops.models.yolo.network import BOX_VALUES, STRIDES


def objectness_scaled_loss(teacher: Any, temperature: float = 1.0) -> Loss:
    """Returns the distance of a model's heads from a teacher's: the mean over images of the sum over cells and anchors.

    Objectness is learnt everywhere; boxes and classes are weighted by the teacher's objectness, so that what it says of
    the background is not learnt (objectness scaled distillation, Mehta & Ozturk 2018, "Object detection at 200 frames
    per second"). Cross-entropy with the teacher's probabilities, and half the squared error of the sides' logarithms,
    as in the loss of the labels.

    Args:
        teacher: Left as it is.
        temperature: Divides the logits of objectness and classes; the cross-entropy is multiplied by its square.
    """

    def loss(model: Any, batch: Any, progress: Any) -> Any:
        del progress
        each = int(batch[ANCHORS].shape[1]) // len(STRIDES)
        wanted = heads_of(teacher, batch, training=False)
        found = heads_of(model, batch, training=True)
        return tf.add_n([_distance(one, other, each) for one, other in zip(wanted, found, strict=True)])

    def _distance(wanted: Any, found: Any, each: int) -> Any:
        shape = [tf.shape(wanted)[0], -1, each, int(wanted.shape[-1]) // each]
        wanted, found = tf.stop_gradient(tf.reshape(wanted, shape)), tf.reshape(found, shape)
        there = tf.sigmoid(wanted[..., 4])
        place = tf.reduce_sum(_soft(wanted[..., :2], found[..., :2], 1.0), axis=-1)
        sides = tf.reduce_sum(tf.math.squared_difference(wanted[..., 2:4], found[..., 2:4]), axis=-1) / 2
        classes = tf.reduce_sum(_soft(wanted[..., BOX_VALUES:], found[..., BOX_VALUES:], temperature), axis=-1)
        objectness = _soft(wanted[..., 4], found[..., 4], temperature)
        return tf.reduce_mean(tf.reduce_sum(objectness + there * (place + sides + classes), axis=[1, 2]))

    return loss


def _soft(wanted: Any, found: Any, temperature: float) -> Any:
    """Cross-entropy with a teacher's probabilities, less the least it can be: 0 where both say the same."""
    target = tf.sigmoid(wanted / temperature)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=wanted / temperature)
    cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=found / temperature)
    return (cross - entropy) * temperature**2
