"""What int8 does to each layer by itself: its noise, its mean error, and the arithmetic that it would take over."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.compression.quantization.functional.calibrate import decibels_of
from optops.compression.quantization.functional.network import (
    READ_ONCE,
    Network,
    channel_axes,
    kernel_of,
    output_channels_axis,
    with_kernel,
    without_activation,
)
from optops.compression.quantization.functional.rounded import round_tensor
from optops.compression.quantization.rounding import Range, grid_of, round_weights
from optops.models.functional.calls import Call
from optops.models.keras import keras, tf

FEWEST_OUTPUTS = 16
"""Outputs of a channel from which a mean error is told apart from what these examples happen to give."""


@dataclass
class LayerRecord:
    """What was measured on one layer.

    Attributes:
        macs: Multiply-accumulates of its calls for one example, on average.
        moved: Values that its calls take and give, likewise.
        outputs: How many values per channel were compared.
        power: Sum of the squared outputs before the activation.
        noise: Sum of the squared errors.
        errors: Sum of the errors (float less int8) of each channel.
    """

    macs: float = 0.0
    moved: float = 0.0
    outputs: int = 0
    power: float = 0.0
    noise: float = 0.0
    errors: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def is_corrected(self) -> bool:
        """Whether enough was compared to correct the biases."""
        return self.outputs >= FEWEST_OUTPUTS

    @property
    def correction(self) -> tuple[float, ...]:
        """What added to each channel's bias makes the mean error vanish; nothing if too little was compared."""
        return tuple((self.errors / self.outputs).tolist()) if self.is_corrected else ()

    @property
    def decibels(self) -> float:
        """The ratio of signal to noise of the outputs, with the bias corrected if it is, in dB."""
        if not self.is_corrected:
            return decibels_of(self.power, self.noise)
        corrected = self.noise - float(np.square(self.errors).sum()) / self.outputs
        # The mean error was fitted on these outputs: on others it is off by its own error, and their spread is larger.
        corrected *= (self.outputs + 1) / (self.outputs - 1)
        # What is left after a subtraction may be rounding of its own.
        return decibels_of(self.power, corrected if corrected > 1e-12 * self.noise else 0.0)

    @property
    def note(self) -> str:
        """Says that the mean error stays, and what to do; empty if it is corrected."""
        if self.is_corrected:
            return ""
        return (
            f"bias not corrected: each channel gave {self.outputs} of the {FEWEST_OUTPUTS} outputs that tell its mean "
            "error; calibrate on more examples"
        )


def measure_layers(
    network: Network, batches: Iterable[Any], ranges: Mapping[str, Range], levels: int
) -> dict[str, LayerRecord]:
    """Compares each layer that int8 can run with its int8 form, on the inputs that it has in the float network.

    The mean error of a channel (biases by rounded weights and clipped activations) is what bias correction takes away
    (Nagel et al. 2019, section 4.2; measured on data instead of derived from batch norms).

    Args:
        network: The network.
        batches: Its inputs.
        ranges: Of all inputs of these layers, by name.
        levels: See `weight_scales`.

    Raises:
        ValueError: If a weight or an output is not finite, which names the layer, or there are no batches.
    """
    twins = {name: _Twin.of(layer, levels) for name, layer in network.quantizable.items()}
    records = {name: LayerRecord() for name in twins}
    examples = 0

    def call_layer(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        twin = twins.get(call.layer.name)
        if twin is None:
            return call.layer(*args, **kwargs)
        value = args[0] if args else kwargs["inputs"]
        grid = grid_of(ranges[network.names[call.inputs[0]]])
        with without_activation(twin.layer):
            exact = twin.layer(value)
            with with_kernel(twin.layer, twin.rounded):
                rounded = twin.layer(round_tensor(value, grid))
        records[call.layer.name].moved += float(tf.size(value))
        twin.compare(records[call.layer.name], exact, rounded)
        return twin.activation(exact)

    for piece in network.pieces(batches):
        examples += len(next(iter(piece.values())))
        network.run(piece, call_layer)
    if not examples:
        raise ValueError(READ_ONCE)
    for record in records.values():
        record.macs /= examples
        record.moved /= examples
    return records


@dataclass(frozen=True)
class _Twin:
    """A layer, its rounded weights, and its activation as a layer, which lets a mask pass."""

    layer: Any
    rounded: Any
    activation: Any
    macs_per_output: float

    @classmethod
    def of(cls, layer: Any, levels: int) -> "_Twin":
        bad = sum(np.count_nonzero(~np.isfinite(weight)) for weight in layer.get_weights())
        if bad:
            raise ValueError(
                f"layer {layer.name!r}: {bad} of its weights are NaN or infinite; train the model anew before it is "
                "quantised"
            )
        kernel = kernel_of(layer).numpy()
        rounded = tf.constant(round_weights(kernel, channel_axes(layer), levels))
        activation = keras.layers.Activation(layer.activation, dtype=layer.dtype)
        return cls(layer, rounded, activation, _macs_per_output(layer, kernel))

    def compare(self, record: LayerRecord, exact: Any, rounded: Any) -> None:
        """Adds one call to a layer's record."""
        values = exact.numpy()
        errors = values - rounded.numpy()
        axis = output_channels_axis(self.layer, values.ndim)
        others = tuple(number for number in range(values.ndim) if number != axis)
        sums = errors.sum(axis=others, dtype=np.float64)
        record.errors = record.errors + sums if record.outputs else sums
        record.outputs += errors.size // errors.shape[axis]
        record.power += float(np.vdot(values, values))
        record.noise += float(np.vdot(errors, errors))
        if not np.isfinite(record.power + record.noise):
            raise ValueError(
                f"layer {self.layer.name!r}: its outputs are not finite, or too large to be squared in float32; "
                "look at the weights and the calibration data"
            )
        record.macs += values.size * self.macs_per_output
        record.moved += values.size


def _macs_per_output(layer: Any, kernel: NDArray[Any]) -> float:
    """Returns how many products go into one output."""
    if isinstance(layer, keras.layers.Conv2DTranspose):
        # Each input meets the whole kernel; there are as many outputs as inputs times the strides.
        return float(kernel.size / kernel.shape[2] / np.prod(layer.strides))
    return float(kernel.size / np.prod([kernel.shape[axis] for axis in channel_axes(layer)]))
