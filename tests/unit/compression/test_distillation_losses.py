"""The word-level distillation loss against a float64 reference."""

import numpy as np
import pytest

from optops.compression.distillation.losses import DistillationSettings, distillation_loss, soft_loss
from optops.models.keras import tf

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


def total(alpha, temperature, smoothing):
    def model(logits):
        return lambda inputs, training: constant(logits)

    loss = distillation_loss(model(TEACHER), DistillationSettings(alpha, temperature), smoothing)
    value, scalars = loss(model(STUDENT), {"source": LABELS, "target": LABELS, "labels": constant_labels()})
    return float(value), {name: float(scalar) for name, scalar in scalars.items()}


def constant_labels():
    return tf.constant(LABELS)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
def test_the_soft_loss_equals_the_reference(temperature):
    value = soft_loss(constant_labels(), constant(STUDENT), constant(TEACHER), temperature)
    assert float(value) == pytest.approx(soft_reference(temperature), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
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
    [(1.5, 1.0, "alpha is 1.5"), (0.5, 0.0, "temperature is 0.0; it must be above")],
)
def test_impossible_settings_are_refused(alpha, temperature, message):
    with pytest.raises(ValueError, match=message):
        DistillationSettings(alpha, temperature)
