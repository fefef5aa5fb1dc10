"""What a functional model learns from the outputs of another one, for every workload whose models are functional."""

from collections.abc import Mapping, Sequence
from typing import Any

from optops.models.functional.batches import model_outputs
from optops.models.functional.output_names import output_names
from optops.models.keras import tf
from optops.models.training.settings import Loss

LEAST_SPREAD = 1e-3
"""Least variance of a teacher's outputs in a batch, as a share of the outputs' mean square."""
TINY = 1e-12


def teacher_loss(teacher: Any) -> Loss:
    """Returns the squared error against a teacher's outputs, in units of their variance; the mean over outputs.

    Where the values of a batch hardly vary, a single one for example, a thousandth of the mean square of both models'
    outputs stands for the variance: no batch counts for more than some thousand others. Outputs that are no
    floating-point numbers, a class for example, have no gradient and are left out.

    Args:
        teacher: A functional model; a batch holds its inputs under their names.

    Raises:
        ValueError: When it is called, if no output is left.
    """

    def loss(model: Any, batch: Any, progress: Any) -> Any:
        del progress
        wanted, found = model_outputs(teacher, batch, training=False), model_outputs(model, batch, training=True)
        pairs = [pair for pair in zip(wanted, found, strict=True) if all(each.dtype.is_floating for each in pair)]
        if not pairs:
            given = ", ".join(
                f"{name} {each.dtype.name}" for name, each in zip(output_names(model), found, strict=True)
            )
            raise ValueError(
                f"nothing can be learnt from a teacher whose outputs have no gradient; the model gives {given}: give "
                "it an output of floating-point numbers too, the probabilities that a class is made from for example"
            )
        errors = []
        for one, other in pairs:
            size = tf.reduce_mean(tf.square(one) + tf.square(tf.stop_gradient(other)))
            spread = tf.maximum(tf.math.reduce_variance(one), tf.maximum(LEAST_SPREAD * size, TINY))
            errors.append(tf.reduce_mean(tf.math.squared_difference(one, other)) / spread)
        return tf.add_n(errors) / len(errors)

    return loss


def check_outputs(teacher: Any, student: Any) -> None:
    """Refuses a functional student that does not give what its teacher gives.

    Raises:
        ValueError: If they have outputs of other names or shapes; lists them.
    """
    wanted, found = (_output_shapes(model) for model in (teacher, student))
    same = len(wanted) == len(found) and all(
        name == other and shape.is_compatible_with(other_shape)
        for (name, shape), (other, other_shape) in zip(wanted, found, strict=True)
    )
    if not same:
        given = [", ".join(f"{name} {shape}".strip() for name, shape in outputs) for outputs in (wanted, found)]
        raise ValueError(
            f"distill: the teacher gives {given[0]}, the student {given[1]}; give the student the teacher's outputs"
        )


def _output_shapes(model: Any) -> list[tuple[str, Any]]:
    """Returns the shapes of a functional model's outputs, as `model_outputs` orders them, with their names if any."""
    outputs = model._nested_outputs
    if isinstance(outputs, dict):
        return [(name, outputs[name].shape) for name in sorted(outputs)]
    return [("", tensor.shape) for tensor in model.outputs]


def mixed_loss(soft: Loss, hard: Loss | None, alpha: float) -> Loss:
    """Returns `alpha * soft + (1 - alpha) * hard`, or one of them alone where the other one counts for nothing.

    What the two report by name is reported (of equal names, what the hard one says), and weights of their own learn.
    They share one pass through the model, if they call it with the same arguments.
    """
    if hard is None or alpha == 1:
        return soft
    return hard if alpha == 0 else _MixedLoss(soft, hard, alpha)


class _MixedLoss:
    def __init__(self, soft: Loss, hard: Loss, alpha: float) -> None:
        self._soft, self._hard, self._alpha = soft, hard, alpha
        self.variables: Sequence[Any] = [*getattr(soft, "variables", ()), *getattr(hard, "variables", ())]

    def __call__(self, model: Any, batch: Any, progress: Any) -> Any:
        # Two passes would take twice as long, differ in their dropout, and move the batch norms' statistics twice.
        model = _CalledOnce(model)
        soft, of_soft = _value_and_scalars(self._soft(model, batch, progress))
        hard, of_hard = _value_and_scalars(self._hard(model, batch, progress))
        value, scalars = self._alpha * soft + (1 - self._alpha) * hard, {**of_soft, **of_hard}
        return (value, scalars) if scalars else value


class _CalledOnce:
    """A model that answers the same arguments with what it gave for them before."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._answers: list[tuple[list[Any], Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        asked = tf.nest.flatten((args, kwargs))
        for known, answer in self._answers:
            if len(known) == len(asked) and all(one is other for one, other in zip(known, asked, strict=True)):
                return answer
        answer = self._model(*args, **kwargs)
        self._answers.append((asked, answer))
        return answer


def _value_and_scalars(result: Any) -> tuple[Any, Mapping[str, Any]]:
    return result if isinstance(result, tuple) else (result, {})
