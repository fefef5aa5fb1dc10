"""How much a network's outputs change when a single layer runs in int8."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.compression.quantization.functional.network import (
    READ_ONCE,
    Arrays,
    Network,
    channel_axes,
    kernel_of,
    with_kernel,
)
from optops.compression.quantization.functional.placement import placement
from optops.compression.quantization.functional.rounded import RoundTensor
from optops.compression.quantization.rounding import Range, round_weights
from optops.models.keras import tf

EXAMPLES = 4
TINY = 1e-30


def output_errors(
    network: Network,
    batches: Iterable[Any],
    layers: Iterable[str],
    ranges: Mapping[str, Range],
    levels: int,
    examples: int = EXAMPLES,
) -> dict[str, float]:
    """Returns for each layer the squared error of the outputs when it alone runs in int8, as a share of their variance.

    One run of the network for each layer and example: cheap beside a measurement of quality.

    Args:
        network: The network.
        batches: Its inputs, of which the first examples are taken.
        layers: Names of the layers to try.
        ranges: Of all tensors, by name.
        levels: See `weight_scales`.
        examples: How many are run, one by one.

    Raises:
        ValueError: If there are no batches.
    """
    pieces = list(islice(_examples(network, batches), examples))
    if not pieces:
        raise ValueError(READ_ONCE)
    exact = [_outputs(network, piece, {}) for piece in pieces]
    spreads = [_spread(given) for given in zip(*exact, strict=True)]
    errors = {}
    for name in layers:
        layer = network.quantizable[name]
        rounded = tf.constant(round_weights(kernel_of(layer).numpy(), channel_axes(layer), levels))
        roundings = {tensor: RoundTensor.after(tensor, ranges[tensor]) for tensor in placement(network, {name})}
        with with_kernel(layer, rounded):
            found = [_outputs(network, piece, roundings) for piece in pieces]
        changes = [
            _squared_error(one, other) / spread
            for wanted, given in zip(exact, found, strict=True)
            for one, other, spread in zip(wanted, given, spreads, strict=True)
        ]
        errors[name] = float(np.mean(changes))
    return errors


def _squared_error(wanted: NDArray[Any], given: NDArray[Any]) -> float:
    """Returns the mean squared error of numbers that are finite; infinite where those that are not differ.

    What is masked may be minus infinity in both; what rounding breaks is so in one.
    """
    finite = np.isfinite(wanted) & np.isfinite(given)
    if not np.array_equal(wanted[~finite], given[~finite], equal_nan=True):
        return np.inf
    return float(np.mean(np.square(wanted[finite] - given[finite]))) if finite.any() else 0.0


def _spread(values: Iterable[NDArray[Any]]) -> float:
    finite = np.concatenate([value[np.isfinite(value)] for value in values])
    return max(float(np.var(finite)), TINY) if finite.size else TINY


def _examples(network: Network, batches: Iterable[Any]) -> Iterator[Arrays]:
    """Gives the examples of batches one by one, if the model takes them so."""
    fixed = any(tensor.shape[0] is not None for tensor in network.model.inputs)
    for batch in batches:
        arrays = network.arrays(batch)
        for place in range(1 if fixed else len(next(iter(arrays.values())))):
            yield arrays if fixed else {name: array[place : place + 1] for name, array in arrays.items()}


def _outputs(network: Network, piece: Arrays, roundings: Mapping[str, RoundTensor]) -> list[NDArray[Any]]:
    """Returns the outputs of the network with some tensors rounded where they are read."""

    def read(number: int, value: Any) -> Any:
        rounding = roundings.get(network.names[number])
        return value if rounding is None else rounding(value)

    given = network.run(piece, lambda call, args, kwargs: call.layer(*args, **kwargs), read)
    return [np.asarray(value, np.float64) for value in given]
