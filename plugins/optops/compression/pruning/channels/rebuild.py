"""Makes a smaller Keras model without some channels: the same layers, fewer of their weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.compression.pruning.channels.atoms import Atoms
from optops.compression.pruning.channels.constants import Biases
from optops.compression.pruning.channels.graph import ChannelGraph, input_slot
from optops.models.functional.calls import is_nested
from optops.models.functional.copies import WRAPPERS, give_weights, made_again, settings_of, wrapped_again
from optops.models.functional.derived import derive_anew
from optops.models.keras import keras

COUNTED = ("filters", "units", "output_dim")
"""Settings that count the channels that a layer makes."""


def without_channels(model: Any, graph: ChannelGraph, removed: set[int], biases: Biases | None = None) -> Any:
    """Returns a model without some channels and with the weights of the rest.

    It computes what `model` does with everything that reads a removed channel set to zero there.

    Args:
        model: Functional or sequential; left as it is.
        graph: Of this model.
        removed: Atoms of the graph's groups; all that is tied to one goes with it.
        biases: Added to the biases of layers; see `constant_contributions`.

    Raises:
        TypeError: If a layer can not be copied.
        ValueError: If one of them must stay, or a layer would be left without a channel.
    """
    ties = graph.trace.ties
    for atom in removed:
        if reason := ties.reason(atom):
            raise ValueError(f"without_channels: channel {atom} must stay: {reason}")
    cut = _Cut(graph, set(ties.roots(np.array(sorted(removed), np.int64)).tolist()), biases or {})
    copies: dict[Any, Any] = {}

    def copy(layer: Any) -> Any:
        # Nested models and wrappers may share a layer or a model with each other and with the one that they are in.
        if layer not in copies:
            copies[layer] = copied(layer)
        return copies[layer]

    def copied(layer: Any) -> Any:
        if getattr(layer, "symbol", None) == "einsum":
            raise TypeError(
                f"{layer.name}: Keras loses the tensors of tf.einsum when it copies a model, as when it loads one; "
                "call it within a layer of your own"
            )
        if is_nested(layer):
            return keras.models.clone_model(layer, cut.inputs(layer), copy)
        config = cut.config(layer)
        wraps = type(layer) in WRAPPERS
        return wrapped_again(layer, config, copy(layer.layer)) if wraps else made_again(layer, config)

    smaller = keras.models.clone_model(model, clone_function=copy)
    for layer, smaller_layer in copies.items():
        if not is_nested(layer):
            give_weights(smaller_layer, layer, cut.arrays(layer))
    derive_anew(smaller)
    return smaller


def mask_channels(graph: ChannelGraph, removed: set[int]) -> None:
    """Sets to zero, in the model itself, what reads a channel: what a model without it is held against.

    Args:
        graph: Of the model; its weights are changed.
        removed: As for `without_channels`.
    """
    ties = graph.trace.ties
    gone = ties.roots(np.array(sorted(removed), np.int64))
    for weights in graph.trace.weights.values():
        for weight in weights:
            values = weight.variable.numpy()
            for axis, atoms in weight.axes.items():
                if weight.role == "kernel" and axis != weight.produces:
                    np.moveaxis(values, axis, 0)[np.isin(ties.roots(atoms), gone)] = 0
            weight.variable.assign(values)


@dataclass(frozen=True)
class _Cut:
    """What becomes of layers without the atoms that are gone."""

    graph: ChannelGraph
    gone: set[int]
    biases: Biases

    def kept(self, atoms: Atoms) -> NDArray[np.int64]:
        """Returns the places of those of some atoms that stay."""
        return np.flatnonzero([root not in self.gone for root in self.graph.trace.ties.roots(atoms).tolist()])

    def config(self, layer: Any) -> dict[str, Any]:
        """Returns a layer's settings."""
        config = settings_of(layer)
        out, shape = (self.graph.trace.slots.get((layer, slot)) for slot in ("out", "shape"))
        for setting in COUNTED:
            if out is not None and setting in config:
                config[setting] = len(self.kept(out))
                if not config[setting]:
                    raise ValueError(f"without_channels: {layer.name} would be left without a channel")
        if shape is not None:
            config["target_shape"] = (*config["target_shape"][:-1], len(self.kept(shape)))
        if layer in self.biases:
            config["use_bias"] = True
        return config

    def inputs(self, model: Any) -> list[Any]:
        """Returns inputs for a model that is a layer of another."""
        made = []
        for number, tensor in enumerate(model.inputs):
            shape = list(tensor.shape[1:])
            slot = self.graph.trace.slots.get((model, input_slot(number)))
            if slot is not None:
                shape[-1] = len(self.kept(slot))
            made.append(keras.Input(shape, dtype=tensor.dtype, name=model.input_names[number]))
        return made

    def arrays(self, layer: Any) -> list[NDArray[Any]]:
        """Returns the values of a layer's weights."""
        if layer not in self.graph.trace.weights:
            # A vocabulary is among them, which is no variable.
            found: list[NDArray[Any]] = layer.get_weights()
            return found
        arrays = {id(variable): variable.numpy() for variable in layer.weights}
        for weight in self.graph.trace.weights.get(layer, ()):
            for axis, atoms in weight.axes.items():
                arrays[id(weight.variable)] = np.take(arrays[id(weight.variable)], self.kept(atoms), axis)
        if layer not in self.biases:
            return list(arrays.values())
        added = self.biases[layer][self.kept(self.graph.trace.slots[layer, "out"])].astype(np.float32)
        if layer.bias is not None:
            arrays[id(layer.bias)] = arrays[id(layer.bias)] + added
            return list(arrays.values())
        # Keras makes a bias right after the kernel, before what the activation has of its own.
        kernel = arrays.pop(id(layer.kernel))
        return [kernel, added, *arrays.values()]
