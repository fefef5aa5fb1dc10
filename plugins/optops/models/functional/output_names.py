"""Names of a functional model's outputs, as an export by Keras gives them where it has names."""

from collections.abc import Mapping
from typing import Any

from optops.models.keras import tf


def output_names(model: Any) -> list[str]:
    """Returns what the outputs of a functional or sequential model are called, in the order of `model.outputs`.

    They are the keys where the model gives a dictionary of tensors, and else the names of the layers that make them.
    """
    outputs = model._nested_outputs
    if isinstance(outputs, Mapping) and not any(map(tf.nest.is_nested, outputs.values())):
        return [str(key) for key in sorted(outputs)]  # the order of `tf.nest`
    return list(model.output_names)
