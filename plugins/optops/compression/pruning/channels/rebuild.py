"""Makes a smaller Keras model without some channels: the same layers, fewer of their weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.compression.pruning.channels.atoms import Atoms
from optops.compression.pruning.channels.graph import ChannelGraph, input_slot
from optops.models.keras import keras

COUNTED = ("filters", "units", "output_dim")
"""Settings that count the channels that a layer makes."""

Kept = Callable[[Atoms], NDArray[np.int64]]
"""Returns the places of those of some atoms that stay."""


def without_channels(model: Any, graph: ChannelGraph, removed: set[int]) -> Any:
    """Returns a model without some channels and with the weights of the rest.

    It computes what `model` does with everything that reads a removed channel set to zero there.

    Args:
        model: Functional or sequential; left as it is.
        graph: Of this model.
        removed: Atoms of the graph's groups; all that is tied to one goes with it.

    Raises:
        ValueError: If one of them must stay, or a layer would be left without a channel.
    """
    ties = graph.trace.ties
    for atom in removed:
        if reason := ties.reason(atom):
            raise ValueError(f"without_channels: channel {atom} must stay: {reason}")
    gone = set(ties.roots(np.array(sorted(removed), np.int64)).tolist())

    def kept(atoms: Atoms) -> NDArray[np.int64]:
        return np.flatnonzero([root not in gone for root in ties.roots(atoms).tolist()])

    copies: dict[Any, Any] = {}

    def copy(layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            return keras.models.clone_model(layer, _inputs(layer, graph, kept), copy)
        copies[layer] = type(layer).from_config(_config(layer, graph, kept))
        return copies[layer]

    smaller = keras.models.clone_model(model, clone_function=copy)
    for layer, smaller_layer in copies.items():
        smaller_layer.set_weights(_arrays(layer, graph, kept))
    return smaller


def _config(layer: Any, graph: ChannelGraph, kept: Kept) -> dict[str, Any]:
    config: dict[str, Any] = layer.get_config()
    out, shape = (graph.trace.slots.get((layer, slot)) for slot in ("out", "shape"))
    for setting in COUNTED:
        if out is not None and setting in config:
            config[setting] = len(kept(out))
            if not config[setting]:
                raise ValueError(f"without_channels: {layer.name} would be left without a channel")
    if shape is not None and config["target_shape"][-1] != -1:
        config["target_shape"] = (*config["target_shape"][:-1], len(kept(shape)))
    return config


def _inputs(model: Any, graph: ChannelGraph, kept: Kept) -> list[Any]:
    """Returns inputs for a copy of a model that is a layer of another."""
    made = []
    for number, tensor in enumerate(model.inputs):
        shape = list(tensor.shape[1:])
        slot = graph.trace.slots.get((model, input_slot(number)))
        if slot is not None:
            shape[-1] = len(kept(slot))
        made.append(keras.Input(shape, dtype=tensor.dtype, name=model.input_names[number]))
    return made


def _arrays(layer: Any, graph: ChannelGraph, kept: Kept) -> list[NDArray[Any]]:
    arrays = {id(variable): variable.numpy() for variable in layer.weights}
    for weight in graph.trace.weights.get(layer, ()):
        for axis, atoms in weight.axes.items():
            arrays[id(weight.variable)] = np.take(arrays[id(weight.variable)], kept(atoms), axis)
    return list(arrays.values())
