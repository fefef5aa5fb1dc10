"""The label-smoothed cross-entropy against a float64 reference, value and gradient."""

import numpy as np
import pytest

from optops.models.keras import tf
from optops.models.training.losses import smoothed_cross_entropy, token_accuracy

LABELS = np.array([[3, 1, 0], [2, 0, 0]], np.int32)
LOGITS = np.random.default_rng(0).normal(scale=3, size=(2, 3, 5))


def reference(labels, logits, smoothing):
    """Returns mean cross-entropy per token and its gradient, with the target written out."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    target = (1 - smoothing) * np.eye(logits.shape[-1])[labels] + smoothing / logits.shape[-1]
    mask = (labels != 0)[..., None]
    count = mask.sum()
    return -(target * log_p * mask).sum() / count, (np.exp(log_p) - target) * mask / count


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_value_and_gradient_equal_the_reference(smoothing, scale):
    logits = tf.constant(LOGITS * scale, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = smoothed_cross_entropy(tf.constant(LABELS), logits, smoothing)
    expected, gradient = reference(LABELS, LOGITS * scale, smoothing)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(tape.gradient(value, logits).numpy(), gradient, atol=1e-6)


def test_what_stands_at_padding_does_not_count():
    changed = LOGITS.copy()
    changed[LABELS == 0] = 50
    values = [float(smoothed_cross_entropy(LABELS, tf.constant(x, tf.float32), 0.1)) for x in (LOGITS, changed)]
    assert values[0] == values[1]


def test_a_batch_of_padding_alone_has_no_loss():
    assert float(smoothed_cross_entropy(np.zeros((2, 3), np.int32), tf.constant(LOGITS, tf.float32), 0.1)) == 0


def test_accuracy_counts_tokens_but_not_padding():
    logits = 10 * np.eye(5, dtype=np.float32)[np.array([[3, 2, 4], [2, 1, 1]])]
    assert float(token_accuracy(LABELS, tf.constant(logits))) == pytest.approx(2 / 3)
