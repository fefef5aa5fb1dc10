"""Where a network is rounded to 8 bits: such that runtimes stay in int8 from layer to layer."""

from collections.abc import Collection, Mapping
from typing import Any

from optops.compression.quantization.functional.network import Network
from optops.models.functional.calls import Call
from optops.models.keras import keras

_L = keras.layers
MOVING = (
    *(_L.MaxPooling1D, _L.MaxPooling2D, _L.Flatten, _L.Reshape, _L.Permute, _L.RepeatVector),
    *(_L.ZeroPadding1D, _L.ZeroPadding2D, _L.Cropping1D, _L.Cropping2D, _L.UpSampling1D),
    *(_L.GlobalMaxPooling1D, _L.GlobalMaxPooling2D),
)
"""Layers that move or select values: what they give lies on the grid of what they take."""
MOVING_FUNCTIONS = ("nn.depth_to_space", "nn.space_to_depth", "reshape", "identity", "nn.max_pool2d")
COMPUTING = (
    *(_L.Add, _L.Multiply, _L.Concatenate, _L.LeakyReLU, _L.ReLU),
    *(_L.AveragePooling1D, _L.AveragePooling2D, _L.GlobalAveragePooling1D, _L.GlobalAveragePooling2D),
)
"""Other layers that runtimes execute in int8."""
COMPUTING_FUNCTIONS = (
    *("__operators__.add", "math.add", "math.multiply", "concat"),
    *("nn.relu", "nn.relu6", "nn.leaky_relu", "math.sigmoid"),
)
MEANS = (_L.GlobalAveragePooling1D, _L.GlobalAveragePooling2D)
RECTIFIERS = ("relu", "relu6")
ELEMENTWISE = ("relu", "relu6", "leaky_relu", "elu", "sigmoid", "hard_sigmoid", "tanh", "swish", "silu", "gelu")
ACTIVATIONS = ("linear", "relu", "relu6", "leaky_relu", "sigmoid")


def placement(network: Network, chosen: Collection[str]) -> set[str]:
    """Returns the names of the tensors that are rounded if some layers run in int8.

    These are what the layers take and give, and what lies between them where only layers do that have kernels for
    int8. What a mean over all places reads is rounded like what a layer takes, for the mean averages the errors. What a
    rectifier alone reads is not rounded before it, but after: runtimes run both as one. What only leaves the model
    stays as it is.

    Args:
        network: The network.
        chosen: Names of the layers that run in int8.
    """
    readers = network.calls.readers()
    after, before = _after(network, chosen), _before(network, chosen, readers)
    rounded: set[int] = set()
    for call in network.calls.calls:
        if call.layer.name in chosen:
            given = after_rectifier(call.outputs[0], readers)
            goes_on = any(reader.layer.name in chosen or before[reader] for reader in readers.get(given, []))
            rounded |= {call.inputs[0], given} if goes_on or not can_give_float(call, readers) else {call.inputs[0]}
        elif runs_in_int8(call) and after[call] and before[call]:
            rounded |= {*call.inputs, *call.outputs}
    names = {network.names[n] for n in rounded if readers.get(n) and after_rectifier(n, readers) == n}
    return names & network.floats


def after_rectifier(number: int, readers: Mapping[int, list[Call]]) -> int:
    """Returns a tensor, or what a rectifier makes of it if nothing else reads it."""
    while len(taking := readers.get(number, [])) == 1 and is_rectifier(taking[0].layer):
        (number,) = taking[0].outputs
    return number


def can_give_float(call: Call, readers: Mapping[int, list[Call]]) -> bool:
    """Returns whether runtimes have a kernel for a layer that takes int8 and gives float.

    They have for dense products, unless they rectify them at once: of more than two axes, these are reshaped between.
    """
    within = getattr(call.layer.activation, "__name__", "") in RECTIFIERS
    rectified = within or after_rectifier(call.outputs[0], readers) != call.outputs[0]
    return isinstance(call.layer, _L.Dense) and not (rectified and call.node.outputs.shape.rank == 2)


def follow_ranges(network: Network, ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Returns ranges in which layers that only move values give what they take, so that no rounding is between."""
    found = dict(ranges)
    for call in network.calls.calls:
        if _moves(call):
            source, target = network.names[call.inputs[0]], network.names[call.outputs[0]]
            if source in found and target in found:
                found[target] = found[source]
    return found


def runs_in_int8(call: Call) -> bool:
    """Returns whether runtimes have an int8 kernel for a call that has no weights."""
    symbol = getattr(call.layer, "symbol", None)
    if symbol:
        return symbol in COMPUTING_FUNCTIONS or _moves(call)
    if isinstance(call.layer, _L.Activation):
        return getattr(call.layer.activation, "__name__", "") in ACTIVATIONS
    return type(call.layer) in COMPUTING or _moves(call)


def _moves(call: Call) -> bool:
    symbol = getattr(call.layer, "symbol", None)
    if symbol:
        return symbol in MOVING_FUNCTIONS
    if isinstance(call.layer, _L.UpSampling2D):
        return bool(call.layer.interpolation == "nearest")
    return type(call.layer) in MOVING


def is_rectifier(layer: Any) -> bool:
    """Returns whether a layer does nothing but clip at zero, and maybe at a largest value."""
    if isinstance(layer, _L.ReLU):
        return not float(layer.negative_slope) and not float(layer.threshold)
    if isinstance(layer, _L.Activation):
        return getattr(layer.activation, "__name__", "") in RECTIFIERS
    return getattr(layer, "symbol", None) in {"nn.relu", "nn.relu6"}


def is_activation(layer: Any) -> bool:
    """Returns whether a layer does nothing but apply to each number a function that OpenVINO joins to a product."""
    if isinstance(layer, _L.Activation):
        return getattr(layer.activation, "__name__", "") in ELEMENTWISE
    symbol = getattr(layer, "symbol", None) or ""
    return type(layer) in (_L.ReLU, _L.LeakyReLU, _L.ELU) or symbol.rpartition(".")[2] in ELEMENTWISE


def is_sum(layer: Any) -> bool:
    """Returns whether a layer adds what it takes."""
    return type(layer) is _L.Add or getattr(layer, "symbol", None) in {"__operators__.add", "math.add"}


def _after(network: Network, chosen: Collection[str]) -> dict[Call, bool]:
    """Returns for each call whether what it takes comes from a layer in int8, through layers with kernels for int8."""
    reached: set[int] = set()
    found = {}
    for call in network.calls.calls:
        found[call] = call.layer.name in chosen or (runs_in_int8(call) and bool(reached.intersection(call.inputs)))
        if found[call]:
            reached |= set(call.outputs)
    return found


def _before(network: Network, chosen: Collection[str], readers: Mapping[int, list[Call]]) -> dict[Call, bool]:
    """Returns for each call whether what it gives goes to a layer in int8, through layers with kernels for int8."""
    found: dict[Call, bool] = {}
    for call in reversed(network.calls.calls):
        takers = [reader for number in call.outputs for reader in readers.get(number, [])]
        leads = any(found[reader] or isinstance(reader.layer, MEANS) for reader in takers)
        found[call] = call.layer.name in chosen or (runs_in_int8(call) and leads)
    return found
