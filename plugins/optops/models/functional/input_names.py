"""Names of a functional model's inputs that every format can have: SavedModel's signature is the strictest."""

import re
from typing import Any

from optops.models.keras import keras, tf


def served_name(name: str) -> str:
    """Returns an input's name as a SavedModel's signature can have it."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def with_served_names(model: Any) -> Any:
    """Returns the model, or a copy of other input names: what is trained on is called as what is served.

    Args:
        model: A functional or sequential model. Keras lets `in-put` and `input.1` be names, a signature does not.

    Returns:
        A model of the same layers and weights, with the inputs in the same order. A name that another layer has
        already gets further `_`.
    """
    taken = {layer.name for layer in model.layers} | set(model.input_names)
    inputs = []
    for layer in model._input_layers:
        name = served_name(layer.name)
        while name != layer.name and name in taken:
            name += "_"
        taken.add(name)
        inputs.append(keras.layers.InputLayer.from_config(layer.get_config() | {"name": name}).output)
    if [tensor.name for tensor in inputs] == model.input_names:
        return model
    renamed = keras.models.clone_model(model, input_tensors=inputs)
    renamed.set_weights(model.get_weights())
    # Of inputs that were given as a dictionary, the clone would keep the old names as keys.
    outputs = tf.nest.pack_sequence_as(model.output, renamed.outputs)
    return keras.Model(inputs, outputs, name=model.name)
