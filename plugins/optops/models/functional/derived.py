"""Layers that keep values which they derive from their weights."""

from typing import Any

from optops.models.keras import keras

_DERIVE = (keras.layers.Normalization, keras.layers.Discretization)


def derive_anew(model: Any) -> None:
    """Lets the layers of a model derive anew what they keep, once weights have been assigned.

    A `Normalization` computes with the mean that it read from its weights when it was built or adapted, a
    `Discretization` with bins. Keras itself forgets the bins when it reads a file.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, _DERIVE) and layer.built:
            layer.finalize_state()
