"""Layers that keep values which they derive from their weights."""

from typing import Any

from optops.models.keras import keras


def derive_anew(model: Any) -> None:
    """Lets the layers of a model derive anew what they keep, once weights have been assigned.

    A `Normalization` computes with the mean that it read from its weights when it was built or adapted.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization) and layer.built:
            layer.finalize_state()
