"""Inputs whose examples differ in length, which no array can hold."""

from typing import Any

from optops.models.keras import tf


def refuse_ragged(model: Any) -> None:
    """Refuses a model of Keras 2 or 3 with a ragged input, which both export as a padded one without a word.

    Padding would count as values, and what is compared with would be another model than the one that was brought.

    Raises:
        ValueError: Names the first such input and what to do.
    """
    for tensor in tf.nest.flatten(getattr(model, "inputs", None) or []):
        if isinstance(getattr(tensor, "type_spec", None), tf.RaggedTensorSpec) or getattr(tensor, "ragged", False):
            raise ValueError(
                f"input {tensor.name!r} of model {model.name!r} is ragged, which an array can not be: export a "
                "SavedModel that takes a padded array and makes it ragged itself, for example by "
                "`tf.RaggedTensor.from_tensor(x, padding=0)`"
            )
