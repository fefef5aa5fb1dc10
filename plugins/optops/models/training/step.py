"""One update of a model: gradients of one batch or of several, clipped, applied by Adam; traced once."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from optops.models.keras import tf
from optops.models.training.adam import Adam
from optops.models.training.settings import Batch, Batches, Loss

SHAPE_SAMPLE = 16


class TrainingStep:
    """Updates a model from batches; the mean of their gradients counts.

    Args:
        model: A tf_keras model whose variables exist.
        loss: See `Loss`; its own variables are trained too.
        gradient_clip: Largest global norm of the gradient.
        signature: A TensorSpec per array that fits every batch; see `common_signature`.
        accumulate: Batches per update; with one, gradients are never kept between calls.

    Attributes:
        variables: State beside the model's that a resumed run needs: the optimizer's and the loss's own.
    """

    def __init__(
        self, model: Any, loss: Loss, gradient_clip: float, signature: Mapping[str, Any], accumulate: int
    ) -> None:
        self._model, self._loss, self._gradient_clip = model, loss, gradient_clip
        beside = list(getattr(loss, "variables", ()))
        self._trained = [*model.trainable_variables, *beside]
        self._optimizer = Adam(self._trained)
        self.variables = [*self._optimizer.variables, *beside]
        kept = self._trained if accumulate > 1 else []
        self._sums = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in kept]
        scalar = tf.TensorSpec([], tf.float32)
        function = self._collect if accumulate > 1 else self._update
        scalars = (scalar,) if accumulate > 1 else (scalar, scalar)
        self.traced = function.get_concrete_function(dict(signature), *scalars)

    def __call__(self, batches: Sequence[Batch], learning_rate: float, progress: float) -> tuple[float, float, Any]:
        """Returns loss, global norm of the gradient before clipping, and other scalars by name, after one update."""
        rate, done = tf.constant(learning_rate, tf.float32), tf.constant(progress, tf.float32)
        tensors = [{name: tf.convert_to_tensor(array) for name, array in batch.items()} for batch in batches]
        if not self._sums:
            (batch,) = tensors
            value, norm, scalars = self._update(batch, done, rate)
            return float(value), float(norm), {name: float(scalar) for name, scalar in scalars.items()}
        found = [self._collect(batch, done) for batch in tensors]
        norm = self._apply_sums(rate, tf.constant(1 / len(tensors), tf.float32))
        means = {name: float(np.mean([scalars[name] for _, scalars in found])) for name in found[0][1]}
        return float(np.mean([value for value, _ in found])), float(norm), means

    def _gradients(self, batch: Any, progress: Any) -> tuple[Any, Any, list[Any]]:
        with tf.GradientTape() as tape:
            result = self._loss(self._model, batch, progress)
            value, scalars = result if isinstance(result, tuple) else (result, {})
        gradients = tape.gradient(value, self._trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # Dense, because the norm of a sparse gradient counts repeated ids wrongly.
        return value, scalars, [tf.convert_to_tensor(gradient) for gradient in gradients]

    def _apply(self, gradients: Sequence[Any], learning_rate: Any) -> Any:
        gradients, norm = tf.clip_by_global_norm(gradients, self._gradient_clip)
        self._optimizer.apply(gradients, learning_rate)
        return norm

    @tf.function(reduce_retracing=True)
    def _update(self, batch: Any, progress: Any, learning_rate: Any) -> Any:
        value, scalars, gradients = self._gradients(batch, progress)
        return value, self._apply(gradients, learning_rate), scalars

    @tf.function(reduce_retracing=True)
    def _collect(self, batch: Any, progress: Any) -> Any:
        value, scalars, gradients = self._gradients(batch, progress)
        for total, gradient in zip(self._sums, gradients, strict=True):
            total.assign_add(gradient)
        return value, scalars

    @tf.function
    def _apply_sums(self, learning_rate: Any, share: Any) -> Any:
        norm = self._apply([total * share for total in self._sums], learning_rate)
        for total in self._sums:
            total.assign(tf.zeros_like(total))
        return norm


def common_signature(batches: Batches) -> dict[str, Any]:
    """Returns a TensorSpec per array that fits every batch, so that the step is traced once.

    The first axis is open, and so is every axis that differs among the first few batches; should a later batch differ
    in yet another axis, the step is traced once more.
    """
    sample = list(islice(batches, SHAPE_SAMPLE))
    specs = {}
    for name, array in sample[0].items():
        shapes = {batch[name].shape for batch in sample}
        sizes = [axis[0] if len(set(axis)) == 1 else None for axis in zip(*shapes, strict=True)]
        specs[name] = tf.TensorSpec([None, *sizes[1:]], array.dtype)
    return specs
