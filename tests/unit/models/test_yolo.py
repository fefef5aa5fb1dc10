"""YOLOv3: the published network, anchors, targets that decode to their boxes, the loss against numpy."""

import numpy as np
import pytest

from optops.models.keras import tf
from optops.models.yolo.anchors import cluster_anchors, shape_overlaps
from optops.models.yolo.decoding import Suppression, decode, suppress
from optops.models.yolo.distillation import objectness_scaled_loss
from optops.models.yolo.loss import ANCHORS, BOX_BLOCK, BOXES, TARGET, yolo_loss
from optops.models.yolo.network import INPUT, STRIDES, YoloSizes, build_yolo
from optops.models.yolo.targets import TARGET_VALUES, make_targets, scale_anchors

SIDE, CLASSES = 64, 3
ANCHOR_SIDES = np.array(
    [[5, 6], [8, 7], [9, 14], [16, 12], [20, 22], [30, 18], [30, 40], [45, 30], [55, 58]], np.float32
)


def random_boxes(random, count, side=SIDE):
    sides = random.uniform(4, 50, (count, 2))
    centres = np.array([random.uniform(s / 2, side - s / 2) for s in sides])
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)


def as_heads(targets):
    """Raw heads that say exactly what the targets want."""
    heads = []
    for target in targets:
        place = np.clip(target[..., :2], 1e-6, 1 - 1e-6)
        logits = np.log(place / (1 - place))
        certain = np.where(target[..., 4:5] > 0, 12.0, -12.0)
        classes = np.where(target[..., TARGET_VALUES:] > 0, 12.0, -12.0)
        head = np.concatenate([logits, target[..., 2:4], certain, classes], axis=-1)
        heads.append(head.reshape(*head.shape[:2], -1)[None].astype(np.float32))
    return heads


@pytest.fixture(scope="module")
def small():
    return build_yolo(YoloSizes(SIDE, CLASSES, 3, width=0.125, depth=0.1))


def batch_of(boxes, labels, image=None):
    targets = make_targets(boxes, labels, ANCHOR_SIDES, SIDE, CLASSES)
    image = np.zeros((1, SIDE, SIDE, 3), np.float32) if image is None else image
    batch = {INPUT: image, BOXES: boxes[None].astype(np.float32), ANCHORS: ANCHOR_SIDES[None]}
    batch |= {TARGET.format(stride=stride): target[None] for stride, target in zip(STRIDES, targets, strict=True)}
    return {name: tf.constant(array) for name, array in batch.items()}


class Says:
    """A model that says what it was given, whatever it sees."""

    def __init__(self, heads):
        self.heads = [tf.constant(head) for head in heads]

    def __call__(self, image, training):
        del image, training
        return self.heads


def test_the_whole_network_is_the_published_one():
    model = build_yolo(YoloSizes(416, 80))
    # 62,001,757 parameters in all, of which 52,608 are the means and variances of the batch norms.
    assert model.count_params() == 62_001_757
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 61_949_149
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    assert len(convolutions) == 75
    assert [tuple(output.shape) for output in model.outputs] == [
        (None, 13, 13, 255),
        (None, 26, 26, 255),
        (None, 52, 52, 255),
    ]


def test_width_and_depth_make_it_smaller_and_widths_stay_multiples_of_8(small):
    assert small.count_params() < 1_000_000
    for layer in small.layers:
        if type(layer).__name__ == "Conv2D" and not layer.name.endswith("_head"):
            assert layer.filters % 8 == 0
    with pytest.raises(ValueError, match="100 is no multiple of 32"):
        build_yolo(YoloSizes(100, 2))


def test_it_survives_its_config(small):
    from optops.models.keras import keras

    copy = keras.Model.from_config(small.get_config())
    copy.set_weights(small.get_weights())
    image = np.random.default_rng(1).random((2, SIDE, SIDE, 3), np.float32)
    for one, other in zip(small(image), copy(image), strict=True):
        np.testing.assert_array_equal(one, other)


def test_anchors_find_the_shapes_that_boxes_have():
    random = np.random.default_rng(2)
    centres = np.array([[10, 10], [20, 60], [80, 30]])
    sides = centres[random.integers(3, size=300)] * random.uniform(0.9, 1.1, (300, 2))
    anchors = cluster_anchors(sides, 3, seed=1)
    assert anchors.tolist() == sorted(anchors.tolist(), key=np.prod)
    np.testing.assert_allclose(anchors, centres[np.argsort(centres.prod(axis=1))], rtol=0.05)
    np.testing.assert_array_equal(anchors, cluster_anchors(sides, 3, seed=1))
    assert shape_overlaps(sides, anchors.astype(np.float64)).max(axis=1).mean() > 0.85


def test_anchors_of_fewer_shapes_than_anchors_are_usable_and_of_none_are_refused():
    anchors = cluster_anchors(np.array([[10.0, 12.0]] * 4), 9, seed=3)
    assert anchors.shape == (9, 2)
    assert (anchors > 0).all()
    with pytest.raises(ValueError, match="no training box with an area"):
        cluster_anchors(np.array([[0.0, 5.0]]), 9, seed=3)


@pytest.mark.parametrize("seed", range(3))
def test_what_the_targets_want_decodes_to_the_boxes(seed):
    random = np.random.default_rng(seed)
    boxes, labels = random_boxes(random, 4), random.integers(CLASSES, size=4)
    targets = make_targets(boxes, labels, ANCHOR_SIDES, SIDE, CLASSES)
    found = suppress(*(part[0] for part in decode(as_heads(targets), ANCHOR_SIDES, SIDE)), Suppression(0.5, 1.0, 100))
    assert 3 <= len(found.boxes) <= 4  # two of them may meet in a cell
    for box, label in zip(found.boxes, found.labels, strict=True):
        nearest = np.abs(boxes - box).sum(axis=1).argmin()
        np.testing.assert_allclose(box, boxes[nearest], atol=1e-3)
        assert label == labels[nearest]


def test_decoding_does_not_depend_on_the_order_of_the_outputs():
    heads = as_heads(make_targets(np.array([[8.0, 8, 40, 40]]), np.array([1]), ANCHOR_SIDES, SIDE, CLASSES))
    for one, other in zip(decode(heads, ANCHOR_SIDES, SIDE), decode(heads[::-1], ANCHOR_SIDES, SIDE), strict=True):
        np.testing.assert_array_equal(one, other)


def test_suppression_keeps_the_best_of_each_class():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [30, 30, 40, 40]], np.float32)
    scores = np.array([[0.8, 0], [0.9, 0], [0, 0.7], [0.2, np.nan]], np.float32)
    found = suppress(boxes, scores, Suppression(0.1, 0.5, 100))
    assert found.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.2])
    assert len(suppress(boxes, scores, Suppression(0.1, 0.5, 1)).boxes) == 1
    assert len(suppress(boxes, scores, Suppression(0.95, 0.5, 100)).boxes) == 0


def reference_loss(heads, boxes, targets):
    """The loss in float64 numpy, cell by cell."""

    def entropy(target, logit):
        return np.logaddexp(0, logit) - target * logit

    total = 0.0
    for head, target, anchors, stride in zip(heads, targets, scale_anchors(ANCHOR_SIDES), STRIDES, strict=True):
        cells = head.shape[1]
        values = head[0].astype(np.float64).reshape(cells, cells, 3, -1)
        for row, column, anchor in np.ndindex(cells, cells, 3):
            said, wanted = values[row, column, anchor], target[row, column, anchor].astype(np.float64)
            centre = (1 / (1 + np.exp(-said[:2])) + (column, row)) * stride
            sides = np.exp(said[2:4]) * anchors[anchor]
            corners = np.concatenate([centre - sides / 2, centre + sides / 2])
            best = 0.0
            for box in boxes:
                common = np.prod(np.maximum(np.minimum(corners[2:], box[2:]) - np.maximum(corners[:2], box[:2]), 0))
                union = sides.prod() + np.prod(box[2:] - box[:2]) - common
                best = max(best, common / union)
            if wanted[4]:
                total += wanted[5] * entropy(wanted[:2], said[:2]).sum()
                total += wanted[5] * ((wanted[2:4] - said[2:4]) ** 2).sum() / 2
                total += entropy(1, said[4]) + entropy(wanted[TARGET_VALUES:], said[5:]).sum()
            elif best < 0.5:
                total += entropy(0, said[4])
    return total


@pytest.mark.parametrize("count", [5, BOX_BLOCK, BOX_BLOCK + 5])
def test_the_loss_equals_a_plain_one_in_numpy_however_many_boxes_there_are(count):
    random = np.random.default_rng(5)
    boxes, labels = random_boxes(random, count), random.integers(CLASSES, size=count)
    batch = batch_of(boxes, labels)
    targets = [batch[TARGET.format(stride=stride)][0].numpy() for stride in STRIDES]
    heads = [random.normal(0, 1, (1, SIDE // s, SIDE // s, 3 * (5 + CLASSES))).astype(np.float32) for s in STRIDES]
    found = float(yolo_loss()(Says(heads), batch, 0.0))
    assert found == pytest.approx(reference_loss(heads, boxes, targets), rel=1e-5)


def test_the_loss_is_least_where_the_heads_say_the_targets():
    random = np.random.default_rng(6)
    boxes, labels = random_boxes(random, 3), random.integers(CLASSES, size=3)
    batch = batch_of(boxes, labels)
    targets = [batch[TARGET.format(stride=stride)][0].numpy() for stride in STRIDES]
    right = as_heads(targets)
    wrong = [head + random.normal(0, 0.5, head.shape).astype(np.float32) for head in right]
    assert float(yolo_loss()(Says(right), batch, 0.0)) < float(yolo_loss()(Says(wrong), batch, 0.0))


def test_images_without_boxes_have_a_finite_loss(small):
    image = np.random.default_rng(4).random((1, SIDE, SIDE, 3), np.float32)
    batch = batch_of(np.zeros((0, 4)), np.zeros(0, np.intp), image)
    batch[BOXES] = tf.zeros((1, 1, 4))
    with tf.GradientTape() as tape:
        value = yolo_loss()(small, batch, 0.0)
    gradients = tape.gradient(value, small.trainable_variables)
    assert np.isfinite(float(value))
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients if gradient is not None)


def test_a_teacher_teaches_nothing_to_its_equal_and_objects_before_background():
    boxes = np.array([[8.0, 8, 40, 40]])
    batch = batch_of(boxes, np.array([1]))
    heads = as_heads([batch[TARGET.format(stride=stride)][0].numpy() for stride in STRIDES])
    teacher = Says(heads)
    loss = objectness_scaled_loss(teacher)
    assert float(loss(Says(heads), batch, 0.0)) == pytest.approx(0, abs=1e-4)

    def with_classes_moved(where):
        moved = []
        for head in heads:
            values = head.reshape(*head.shape[:3], 3, -1).copy()
            there = values[..., 4] > 0
            values[..., 5:] += np.where((there if where == "object" else ~there)[..., None], 3.0, 0.0)
            moved.append(values.reshape(head.shape).astype(np.float32))
        return float(loss(Says(moved), batch, 0.0))

    assert with_classes_moved("object") > 100 * max(with_classes_moved("background"), 1e-6)
