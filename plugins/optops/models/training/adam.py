"""Adam with one fused operation per variable."""

from collections.abc import Sequence
from typing import Any

from optops.models.keras import tf

BETA_1, BETA_2, EPSILON = 0.9, 0.98, 1e-9


class Adam:
    """Adam with the constants of Vaswani et al. 2017, section 5.3.

    The optimizer of tf_keras builds some forty operations per variable: for a Transformer that is more of the step's
    graph than the model, so that tracing takes twice as long and each update three times.

    Args:
        trained: The variables to update.

    Source: Kingma & Ba 2015, the form before section 2.1.
    """

    def __init__(self, trained: Sequence[Any]) -> None:
        self._trained = list(trained)
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False, name="adam_step")
        self._first = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in trained]
        self._second = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in trained]

    @property
    def variables(self) -> list[Any]:
        """Returns all state, in a fixed order: the count of updates, first and second moments."""
        return [self._step, *self._first, *self._second]

    def apply(self, gradients: Sequence[Any], learning_rate: Any) -> None:
        """Updates the variables with dense gradients, one each, in their order, and keeps them to their constraints."""
        step = tf.cast(self._step.assign_add(1), tf.float32)
        first_power, second_power = tf.pow(BETA_1, step), tf.pow(BETA_2, step)
        slots = zip(self._trained, self._first, self._second, gradients, strict=True)
        for variable, first, second, gradient in slots:
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=first_power,
                beta2_power=second_power,
                lr=learning_rate,
                beta1=BETA_1,
                beta2=BETA_2,
                epsilon=EPSILON,
                grad=gradient,
            )
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))
