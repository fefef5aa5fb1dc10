"""The published loss of YOLOv3 (Redmon & Farhadi 2018, sections 2.1 and 2.2; the weights of boxes as in Darknet)."""

from typing import Any

from optops.models.keras import tf
from optops.models.training.settings import Loss
from optops.models.yolo.network import BOX_VALUES, INPUT, STRIDES
from optops.models.yolo.targets import TARGET_VALUES, scale_anchors

IGNORED_ABOVE = 0.5
BOX_BLOCK = 32
"""Labelled boxes that are held against all predictions at once: a bound on memory where images have hundreds."""
TARGET = "target{stride}"
BOXES = "boxes"
ANCHORS = "anchors"


def yolo_loss(label_smoothing: float = 0.0) -> Loss:
    """Returns the loss: the mean over images of the sum over cells and anchors.

    Binary cross-entropy for objectness, classes and the place within the cell; half the squared error for the
    logarithms of the sides; boxes weighted by 2 - w * h. A prediction that overlaps with a box by more than 0.5 without
    being the one that the box belongs to is not told that it is none.

    A batch holds, beside the image, `target32`, `target16` and `target8` (`make_targets`, stacked); `boxes`, float32
    [images, boxes, 4], corners in pixels of the input, padded with zeros; and `anchors`, float32 [images, anchors, 2],
    smallest first, pixels of the input, the same for every image.

    Args:
        label_smoothing: Share of the classes' targets that is moved towards one half.
    """

    def loss(model: Any, batch: Any, progress: Any) -> Any:
        del progress
        heads = heads_of(model, batch, training=True)
        parts = [
            _scale_loss(head, batch[TARGET.format(stride=stride)], batch[BOXES], own, stride, label_smoothing)
            for head, own, stride in zip(heads, scale_anchors(batch[ANCHORS][0]), STRIDES, strict=True)
        ]
        return tf.add_n(parts)

    return loss


def heads_of(model: Any, batch: Any, *, training: bool) -> list[Any]:
    """Returns a model's heads for a batch, coarsest first, in whatever order the model has them."""
    return sorted(tf.nest.flatten(model(batch[INPUT], training=training)), key=lambda head: int(head.shape[1]))


def _scale_loss(head: Any, target: Any, boxes: Any, anchors: Any, stride: int, smoothing: float) -> Any:
    count, cells = int(anchors.shape[0]), int(head.shape[1])
    values = int(head.shape[-1]) // count
    head = tf.reshape(head, [-1, cells, cells, count, values])
    there, weight = target[..., 4], target[..., 4] * target[..., 5]
    place = _cross_entropy(target[..., :2], head[..., :2])
    sides = tf.math.squared_difference(target[..., 2:4], head[..., 2:4]) / 2
    box = _per_image(weight * tf.reduce_sum(place + sides, axis=-1))
    free = tf.cast(_best_overlap(head, boxes, anchors, stride) < IGNORED_ABOVE, tf.float32)
    objectness = _per_image(_cross_entropy(there, head[..., 4]) * tf.maximum(there, free))
    wanted = target[..., TARGET_VALUES:] * (1 - smoothing) + smoothing / 2
    classes = _per_image(there * tf.reduce_sum(_cross_entropy(wanted, head[..., BOX_VALUES:]), axis=-1))
    return box + objectness + classes


def _cross_entropy(target: Any, logits: Any) -> Any:
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits)


def _per_image(values: Any) -> Any:
    return tf.reduce_mean(tf.reduce_sum(values, axis=[1, 2, 3]))


def _best_overlap(head: Any, boxes: Any, anchors: Any, stride: int) -> Any:
    """Returns the largest IoU of each predicted box with a labelled one, [images, cells, cells, anchors]."""
    # Stopped before the loop, too, which would keep all that it goes through for a gradient.
    head, cells = tf.stop_gradient(head), head.shape[1]
    steps = tf.range(cells, dtype=tf.float32)
    corner = tf.stack(tf.meshgrid(steps, steps), axis=-1)[None, :, :, None]
    centre = (tf.sigmoid(head[..., :2]) + corner) * stride
    # Far beyond any box, a side would overflow while the network is fresh.
    sides = tf.exp(tf.clip_by_value(head[..., 2:4], -10.0, 10.0)) * anchors
    least, most, areas = centre - sides / 2, centre + sides / 2, tf.reduce_prod(sides, -1)[..., None]
    number = tf.shape(boxes)[1]

    def with_block(start: Any, best: Any) -> tuple[Any, Any]:
        block = boxes[:, None, None, None, start : start + BOX_BLOCK]
        # Axis by axis, for a last dimension of two is slow.
        width, height = (
            tf.nn.relu(
                tf.minimum(most[..., axis, None], block[..., 2 + axis])
                - tf.maximum(least[..., axis, None], block[..., axis])
            )
            for axis in range(2)
        )
        common = width * height
        union = areas + tf.reduce_prod(block[..., 2:] - block[..., :2], -1) - common
        return start + BOX_BLOCK, tf.maximum(best, tf.reduce_max(common / tf.maximum(union, 1e-9), axis=-1))

    none = tf.zeros_like(areas[..., 0])
    _, best = tf.while_loop(lambda start, _: start < number, with_block, (0, none), parallel_iterations=1)
    return tf.stop_gradient(best)
