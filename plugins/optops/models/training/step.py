"""One update of a model: gradients of one batch or of several, clipped, applied by Adam; traced once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np

from optops.models.keras import tf
from optops.models.training.adam import Adam
from optops.models.training.settings import Batch, Batches, Loss, TrainingSettings

SHAPE_SAMPLE = 16
BFLOAT16_PRODUCTS = "auto_mixed_precision_onednn_bfloat16"


class TrainingStep:
    """Updates a model from batches; the mean of their gradients counts.

    Args:
        model: A tf_keras model whose variables exist.
        loss: See `Loss`; its own variables are trained too.
        signature: A TensorSpec per array that fits every batch; see `common_signature`.
        settings: Of these `accumulate`, `replicas`, `precision` and `gradient_clip` count.
        after_update: Called after each update, while the step is traced.

    Attributes:
        variables: State beside the model's that a resumed run needs: the optimizer's and the loss's own.
    """

    def __init__(
        self,
        model: Any,
        loss: Loss,
        signature: Mapping[str, Any],
        settings: TrainingSettings,
        after_update: Callable[[], Any] = lambda: None,
    ) -> None:
        self._model, self._loss, self._settings, self._after_update = model, loss, settings, after_update
        beside = list(getattr(loss, "variables", ()))
        self._trained = [*model.trainable_variables, *beside]
        self._optimizer = Adam(self._trained)
        self.variables = [*self._optimizer.variables, *beside]
        # With one batch per update, gradients are never kept between calls.
        kept = self._trained if settings.accumulate > 1 else []
        self._sums = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in kept]
        scalar = tf.TensorSpec([], tf.float32)
        function = self._collect if kept else self._update
        scalars = (scalar,) if kept else (scalar, scalar)
        self.traced = function.get_concrete_function(dict(signature), *scalars)

    def __call__(self, batches: Sequence[Batch], learning_rate: float, progress: float) -> tuple[float, float, Any]:
        """Returns loss, global norm of the gradient before clipping, and other scalars by name, after one update."""
        rate, done = tf.constant(learning_rate, tf.float32), tf.constant(progress, tf.float32)
        tensors = [{name: tf.convert_to_tensor(array) for name, array in batch.items()} for batch in batches]
        with _products_in(self._settings.precision):
            return self._run(tensors, rate, done)

    def _run(self, tensors: Sequence[Any], rate: Any, done: Any) -> tuple[float, float, Any]:
        if not self._sums:
            (batch,) = tensors
            value, norm, scalars = self._update(batch, done, rate)
            return float(value), float(norm), {name: float(scalar) for name, scalar in scalars.items()}
        found = [self._collect(batch, done) for batch in tensors]
        norm = self._apply_sums(rate, tf.constant(1 / len(tensors), tf.float32))
        means = {name: float(np.mean([scalars[name] for _, scalars in found])) for name in found[0][1]}
        return float(np.mean([value for value, _ in found])), float(norm), means

    def _gradients(self, batch: Any, progress: Any) -> tuple[Any, Any, list[Any]]:
        """Returns loss, scalars and gradients: means over the replicas, each counting by its examples."""
        count = self._settings.replicas
        if count == 1:
            return self._gradients_of(batch, progress)
        examples = tf.shape(next(iter(batch.values())))[0]
        # A replica past the last example sees that one again, at no weight: every loss would have to bear no examples.
        starts = [tf.minimum(index, examples - 1) for index in range(count)]
        parts = [{name: array[start::count] for name, array in batch.items()} for start in starts]
        sizes = [tf.maximum((examples - index + count - 1) // count, 0) for index in range(count)]
        shares = [tf.cast(size / examples, tf.float32) for size in sizes]
        found = [self._gradients_of(part, progress) for part in parts]

        def mean(values: Sequence[Any]) -> Any:
            return tf.add_n([value * share for value, share in zip(values, shares, strict=True)])

        scalars = {name: mean([scalars[name] for _, scalars, _ in found]) for name in found[0][1]}
        gradients = [mean(each) for each in zip(*(gradients for _, _, gradients in found), strict=True)]
        return mean([value for value, _, _ in found]), scalars, gradients

    def _gradients_of(self, batch: Any, progress: Any) -> tuple[Any, Any, list[Any]]:
        with tf.GradientTape() as tape:
            result = self._loss(self._model, batch, progress)
            value, scalars = result if isinstance(result, tuple) else (result, {})
            # Of a model whose last layer computes in half precision it is a number in half precision.
            value = tf.cast(value, tf.float32)
        scalars = {name: tf.cast(scalar, tf.float32) for name, scalar in scalars.items()}
        gradients = tape.gradient(value, self._trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # Dense, because the norm of a sparse gradient counts repeated ids wrongly.
        return value, scalars, [tf.convert_to_tensor(gradient) for gradient in gradients]

    def _apply(self, gradients: Sequence[Any], learning_rate: Any) -> Any:
        gradients, norm = tf.clip_by_global_norm(gradients, self._settings.gradient_clip)
        self._optimizer.apply(gradients, learning_rate)
        self._after_update()
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


@contextmanager
def _products_in(precision: str) -> Iterator[None]:
    """Lets what runs inside compute its products in bfloat16, if asked; weights and their updates stay float32.

    TensorFlow's graph optimiser chooses the operations: what stands between two products, norms and losses among it,
    goes with them. It is switched back, since validation and export run in the same process.
    """
    if precision == "fp32":
        yield
        return
    tf.config.optimizer.set_experimental_options({BFLOAT16_PRODUCTS: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({BFLOAT16_PRODUCTS: False})


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
