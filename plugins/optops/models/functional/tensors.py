"""Names for the tensors of a functional model, and which of its layers int8 can run."""

from typing import Any

from optops.models.functional.calls import nodes_of
from optops.models.keras import keras, tf

_L = keras.layers
QUANTIZABLE = (_L.Conv1D, _L.Conv2D, _L.DepthwiseConv2D, _L.Conv2DTranspose, _L.Dense)
"""Layers that runtimes can execute in int8."""


def named_tensors(model: Any) -> dict[str, Any]:
    """Returns the tensors of a flat functional model, inputs first, then in the order of computation.

    A tensor is called as the layer that gives it; what else that layer gives, as further outputs or in further calls,
    is called `name:1`, `name:2` and so on.

    Args:
        model: As `fold_batch_norms` returns it.
    """
    named: dict[str, Any] = dict(zip(model.input_names, model.inputs, strict=True))
    given: dict[str, int] = {}
    for node in nodes_of(model):
        for tensor in tf.nest.flatten(node.outputs):
            name = node.layer.name
            place = given[name] = given.get(name, -1) + 1
            named[f"{name}:{place}" if place else name] = tensor
    return named
