"""What channels without a scale still say: a constant, which what reads them can take into its bias."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.compression.pruning.channels.graph import ChannelGraph
from optops.compression.pruning.channels.layers import Weight
from optops.models.keras import keras

Biases = dict[Any, NDArray[np.float64]]
"""By layer, what is to be added to its bias, one number for each of its channels."""


def constant_contributions(model: Any, graph: ChannelGraph, removed: set[int], inputs: Any) -> Biases:
    """Returns what removed channels add to the layers that read them once their batch norms' scales are zero.

    Such a channel is its batch norm's offset, through whatever follows: the same everywhere, so what it adds to a
    product is the same everywhere, too. Whether it is, is measured: an offset that passes a zero padding is not. A
    convolution that pads its own input is left out, for at the border it reads fewer of them.

    Args:
        model: The model; left as it is. What reads channels inside a nested model is left out.
        graph: Of the model.
        removed: Atoms that are to be removed.
        inputs: A batch that the model takes; two examples do.
    """
    readers = [layer for layer in graph.trace.weights if _reads_all(layer) and _called_once(model, layer)]
    if not readers:
        return {}
    probe = keras.Model(model.inputs, [layer.input for layer in readers])
    gone = set(graph.trace.ties.roots(np.array(sorted(removed), np.int64)).tolist())
    with _without_scales(graph, gone):
        # Inputs under keys would be taken by the names of their layers, which the model may not have them under.
        read = probe(model._flatten_to_reference_inputs(inputs), training=False)
    found: Biases = {}
    for layer, values in zip(readers, read if len(readers) > 1 else [read], strict=True):
        channels = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
        atoms = graph.trace.ties.roots(graph.trace.slots[layer, "in"]).tolist()
        constant = [place for place, root in enumerate(atoms) if root in gone and np.ptp(channels[:, place]) == 0]
        kernel = layer.kernel.numpy().astype(np.float64)
        each = kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0)
        if constant:
            found[layer] = channels[0, constant] @ each[constant]
    return found


def _reads_all(layer: Any) -> bool:
    """Returns whether a layer's product reads every channel at each of its places, with no padding among them."""
    if isinstance(layer, keras.layers.Dense):
        return True
    plain = type(layer) in (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    return plain and layer.groups == 1 and (layer.padding == "valid" or set(layer.kernel_size) == {1})


def _called_once(model: Any, layer: Any) -> bool:
    return layer in model.layers and len(layer.inbound_nodes) == 1


@contextmanager
def _without_scales(graph: ChannelGraph, gone: set[int]) -> Iterator[None]:
    """Sets the scales of removed channels to zero, for as long as it lasts."""
    scales: list[tuple[Weight, NDArray[Any]]] = [
        (weight, weight.variable.numpy())
        for weights in graph.trace.weights.values()
        for weight in weights
        if weight.role == "gamma"
    ]
    try:
        for weight, values in scales:
            there = [root not in gone for root in graph.trace.ties.roots(weight.axes[0]).tolist()]
            weight.variable.assign(values * np.asarray(there, values.dtype))
        yield
    finally:
        for weight, values in scales:
            weight.variable.assign(values)
