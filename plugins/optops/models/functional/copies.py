"""Copies of layers, made from their settings: those of one's own too, which Keras does not find by their names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.models.keras import keras

WRAPPERS = (keras.layers.TimeDistributed, keras.layers.SpectralNormalization)
"""Layers that are made of another one, their `layer`, and of settings."""
_OBJECTS = ("_initializer", "_regularizer", "_constraint")


def settings_of(layer: Any) -> dict[str, Any]:
    """Returns the config that makes a layer again, with functions and objects of one's own as they are.

    In a config they are names, by which they are found if they are registered.
    """
    config: dict[str, Any] = layer.get_config()
    for key in config:
        value = getattr(layer, key, None)
        if callable(value) and (key == "activation" or key.endswith(_OBJECTS)) and not _is_found(key, value):
            config[key] = value
    if type(layer) in WRAPPERS:
        config["layer"]["config"] = settings_of(layer.layer)
    return config


def _is_found(key: str, value: Any) -> bool:
    """Returns whether Keras makes a setting again from what the config has of it."""
    if key == "activation":
        return isinstance(value, keras.layers.Layer)
    return bool(type(value).__module__.partition(".")[0] == keras.__name__)


def made_again(layer: Any, config: Mapping[str, Any]) -> Any:
    """Returns a layer of the same kind.

    Args:
        layer: Whose kind it is of.
        config: Its settings, or others.

    Raises:
        TypeError: If Keras does not find what a setting names.
    """
    if type(layer) in WRAPPERS:
        return wrapped_again(layer, config, made_again(layer.layer, config["layer"]["config"]))
    try:
        return type(layer).from_config(dict(config))
    except (TypeError, ValueError) as error:
        reason = str(error).rpartition("Exception encountered: ")[2]
        raise TypeError(
            f"{layer.name} ({type(layer).__name__}) can not be made again from its settings: {reason}\nA function or "
            "class of your own in them is found by its name, within keras.utils.custom_object_scope({name: it})"
        ) from error


def wrapped_again(layer: Any, config: Mapping[str, Any], inner: Any) -> Any:
    """Returns what `made_again` does of one of `WRAPPERS`, with another layer within it."""
    return type(layer)(inner, **{key: value for key, value in config.items() if key != "layer"})


def give_weights(copy: Any, layer: Any, arrays: Sequence[NDArray[np.generic]]) -> None:
    """Sets the weights of a layer's copy, and freezes within it what is frozen within the layer.

    Keras lists weights that learn before those that are frozen, and what is frozen within a layer is none of its
    settings.

    Args:
        copy: Built; made from the settings of `layer`.
        layer: That it is a copy of; left as it is.
        arrays: Values in the order of the weights of `layer`.
    """
    # An activation that became a layer of its own is last, and missing in the copy.
    for own, copied in zip(layer._flatten_layers(), copy._flatten_layers(), strict=False):
        # Past Keras, which would change those within a layer, too.
        copied._trainable = own._trainable
    copy.set_weights(arrays)
