"""What a functional model takes of a training batch, and what it gives for it."""

from typing import Any

from optops.models.keras import tf


def model_inputs(model: Any, batch: Any) -> Any:
    """Returns what a functional model takes of a batch, arranged as it takes it: a dictionary may have keys of its own.

    Args:
        model: Functional or sequential.
        batch: Holds the inputs under their names (`model.input_names`), beside others.

    Raises:
        ValueError: If the batch lacks an input; names it.
    """
    for name in model.input_names:
        if name not in batch:
            raise ValueError(
                f"the training batches hold {', '.join(sorted(batch))}, but not the model's input {name!r}; "
                "a workload whose models are functional names its arrays as the models name their inputs"
            )
    found = [batch[name] for name in model.input_names]
    return found[0] if len(found) == 1 else tf.nest.pack_sequence_as(model._nested_inputs, found)


def model_outputs(model: Any, batch: Any, *, training: bool) -> list[Any]:
    """Returns a functional model's outputs for a batch, in the order of `model.outputs`.

    What is floating-point is float32, whatever the model computes in: squares overflow in half precision.

    Args:
        model: Functional or sequential.
        batch: See `model_inputs`.
        training: Whether it is called as in training.
    """
    outputs = tf.nest.flatten(model(model_inputs(model, batch), training=training))
    return [tf.cast(output, tf.float32) if output.dtype.is_floating else output for output in outputs]
