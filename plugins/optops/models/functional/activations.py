"""Activations within layers, as layers of their own."""

from collections.abc import Collection
from typing import Any

from optops.models.functional.calls import Calls
from optops.models.functional.full_precision import in_full_precision
from optops.models.functional.tensors import QUANTIZABLE
from optops.models.keras import keras

WITHIN = ("linear", "relu", "relu6")
"""Activations that runtimes compute along with the layer, in int8 too."""


def activation_weights(layer: Any) -> list[Any]:
    """Returns those of a layer's weights that belong to its activation: a PReLU, for example."""
    activation = getattr(layer, "activation", None)
    return list(activation.weights) if isinstance(activation, keras.layers.Layer) else []


def split_activations(calls: Calls, outputs: Collection[int]) -> dict[Any, Any]:
    """Returns, for each layer that int8 can run but not with its activation, a layer that computes the activation.

    Layers that give an output of the model keep theirs: the output is named after them, and it is not rounded. An
    activation with weights becomes a layer in any case.

    Args:
        calls: Of the model.
        outputs: Numbers of the tensors that it gives, before any layers that do nothing.
    """
    leaving = {call.layer for call in calls.calls if not set(call.outputs).isdisjoint(outputs)}
    used = set(calls.names.values())
    found: dict[Any, Any] = {}
    for layer, name in calls.names.items():
        splits = type(layer) in (*QUANTIZABLE, keras.layers.SeparableConv2D)
        if splits and (layer not in leaving or activation_weights(layer)):
            activation = layer.activation
            if isinstance(activation, keras.layers.Layer):
                kind, config = type(activation), activation.get_config()
            elif getattr(activation, "__name__", "") not in WITHIN:
                kind, config = keras.layers.Activation, {"activation": activation}
            else:
                continue
            own = f"{name}_activation"
            while own in used:
                own += "_"
            used.add(own)
            found[layer] = kind(**{**config, "name": own, "dtype": in_full_precision(layer.get_config()["dtype"])})
    return found
