"""Rounding within TensorFlow: what the runtimes' QuantizeLinear and DequantizeLinear compute, as a Keras layer."""

from typing import Any

from optops.compression.quantization.rounding import STEPS, Grid, Range, grid_of
from optops.models.keras import keras, tf


def round_tensor(values: Any, grid: Grid) -> Any:
    """Returns a tensor rounded to a grid, as `Grid.round` does an array."""
    zero = tf.constant(grid.zero_point, tf.float32)
    scale = tf.constant(grid.scale, tf.float32)
    steps = tf.clip_by_value(tf.round(values / scale) + zero, 0.0, float(STEPS))
    return (steps - zero) * scale


class RoundTensor(keras.layers.Layer):
    """Rounds a tensor to 8 bits.

    Args:
        limits: The range that 8 bits are spent on.
        kwargs: Name and type, as for every layer.
    """

    def __init__(self, limits: Range, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        low, high = limits
        self.limits = (float(low), float(high))

    def call(self, inputs: Any) -> Any:
        """Returns the rounded tensor."""
        return round_tensor(inputs, grid_of(self.limits))

    def get_config(self) -> dict[str, Any]:
        """Returns what the constructor takes."""
        return {**super().get_config(), "limits": list(self.limits)}
