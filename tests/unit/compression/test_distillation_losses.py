"""The word-level distillation loss against a float64 reference."""

import numpy as np
import pytest

from optops.compression.distillation.losses import DistillationLoss, DistillationSettings, beta_at, soft_loss
from optops.models.keras import tf
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Features, Transformer

LABELS = np.array([[3, 1, 0], [2, 0, 0]], np.int32)
RANDOM = np.random.default_rng(0)
STUDENT, TEACHER = RANDOM.normal(scale=2, size=(2, 2, 3, 5))


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def soft_reference(temperature):
    teacher, student = softmax(TEACHER / temperature), softmax(STUDENT / temperature)
    mask = LABELS != 0
    return temperature**2 * ((teacher * np.log(teacher / student)).sum(-1) * mask).sum() / mask.sum()


def hard_reference(smoothing):
    target = (1 - smoothing) * np.eye(5)[LABELS] + smoothing / 5
    mask = LABELS != 0
    return -((target * np.log(softmax(STUDENT))).sum(-1) * mask).sum() / mask.sum()


def constant(array):
    return tf.constant(array, tf.float32)


class Model:
    """A model whose logits are what they are."""

    def __init__(self, logits):
        self.logits = logits

    def features(self, inputs, training):
        return Features(constant(self.logits), {}, {}, {})


def total(alpha, temperature, smoothing):
    student = Model(STUDENT)
    loss = DistillationLoss(Model(TEACHER), student, DistillationSettings(alpha, temperature), smoothing)
    batch = {"source": LABELS, "target": LABELS, "labels": constant_labels()}
    value, scalars = loss(student, batch, tf.constant(0.0))
    return float(value), {name: float(scalar) for name, scalar in scalars.items()}


def constant_labels():
    return tf.constant(LABELS)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0, 0.01, 100.0])
def test_the_soft_loss_equals_the_reference(temperature):
    value = soft_loss(constant_labels(), constant(STUDENT), constant(TEACHER), temperature)
    assert float(value) == pytest.approx(soft_reference(temperature), rel=1e-3 if temperature > 10 else 1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1e-24, 1e20, float("nan")])
def test_a_temperature_at_which_nothing_is_learnt_is_refused(temperature):
    with pytest.raises(ValueError, match=r"temperature is .*; it must be from 0\.01 to 100"):
        DistillationSettings(temperature=temperature)


@pytest.mark.parametrize("temperature", [1.0, 3.0, 0.01])
def test_its_gradient_is_the_difference_of_the_softened_distributions(temperature):
    logits = constant(STUDENT)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = soft_loss(constant_labels(), logits, constant(TEACHER), temperature)
    mask = (LABELS != 0)[..., None]
    expected = temperature * (softmax(STUDENT / temperature) - softmax(TEACHER / temperature)) * mask / mask.sum()
    np.testing.assert_allclose(tape.gradient(value, logits).numpy(), expected, atol=1e-6)


def test_a_student_equal_to_its_teacher_has_no_soft_loss_and_no_gradient():
    logits = constant(TEACHER)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = soft_loss(constant_labels(), logits, logits, 2.0)
    assert float(value) == 0
    np.testing.assert_allclose(tape.gradient(value, logits).numpy(), 0, atol=1e-7)


def test_no_gradient_flows_into_the_teacher():
    logits = constant(TEACHER)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = soft_loss(constant_labels(), constant(STUDENT), logits, 2.0)
    assert tape.gradient(value, logits) is None


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_and_hard_loss_are_weighted_by_alpha(alpha, smoothing):
    value, scalars = total(alpha, 2.0, smoothing)
    assert scalars["soft"] == pytest.approx(soft_reference(2.0), rel=1e-5)
    assert scalars["hard"] == pytest.approx(hard_reference(smoothing), rel=1e-5)
    assert value == pytest.approx(alpha * soft_reference(2.0) + (1 - alpha) * hard_reference(smoothing), rel=1e-5)


@pytest.mark.parametrize(
    ("alpha", "temperature", "message"),
    [(1.5, 1.0, "alpha is 1.5"), (0.5, 0.0, "temperature is 0.0; it must be from")],
)
def test_impossible_settings_are_refused(alpha, temperature, message):
    with pytest.raises(ValueError, match=message):
        DistillationSettings(alpha, temperature)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": -1.0}, "beta is -1.0"),
        ({"beta_until": 0.0}, "beta_until is 0.0; it must be above 0"),
        ({"features": "layer"}, "features is 'layer'; choose one of layers, relations"),
    ],
)
def test_impossible_feature_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DistillationSettings(**changes)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 3.0), (0.25, 1.5), (0.5, 0.0), (1.0, 0.0)])
def test_the_weight_of_the_features_falls_to_zero_in_a_straight_line(progress, expected):
    settings = DistillationSettings(beta=3.0, beta_until=0.5)
    assert float(beta_at(settings, tf.constant(progress))) == pytest.approx(expected)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 2.0), (0.75, 0.5)])
def test_the_features_are_added_with_their_weight(progress, weight):
    sizes = {"vocabulary": 12, "width": 16, "heads": 2, "feed_forward": 16, "decoder_layers": 1, "dropout": 0.0}
    teacher, student = (Transformer(TransformerConfig.uniform(encoder_layers=layers, **sizes)) for layers in (2, 1))
    loss = DistillationLoss(teacher, student, DistillationSettings(alpha=0.5, beta=2.0), 0.1)
    value, scalars = loss(
        student, {"source": LABELS, "target": LABELS, "labels": constant_labels()}, tf.constant(progress)
    )
    expected = 0.5 * scalars["soft"] + 0.5 * scalars["hard"] + weight * scalars["features"]
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    assert float(scalars["features"]) > 0
