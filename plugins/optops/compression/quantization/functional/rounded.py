"""Rounding within TensorFlow: what the runtimes' QuantizeLinear and DequantizeLinear compute, and can learn through."""

from typing import Any, Self

from optops.compression.quantization.rounding import STEPS, Grid, Range, grid_of
from optops.models.keras import keras, tf


def round_tensor(values: Any, grid: Grid) -> Any:
    """Returns a tensor rounded to a grid, as `Grid.round` does an array.

    The gradient passes as if nothing were rounded, but not where values are clipped (the straight-through estimator:
    Bengio et al. 2013, section 4; for quantised networks Jacob et al. 2018, section 3).
    """

    @tf.custom_gradient
    def rounded(exact: Any) -> Any:
        zero = tf.constant(grid.zero_point, tf.float32)
        scale = tf.constant(grid.scale, tf.float32)
        steps = tf.clip_by_value(tf.round(exact / scale) + zero, 0.0, float(STEPS))

        def gradient(upstream: Any) -> Any:
            inside = (exact >= -zero * scale) & (exact <= (STEPS - zero) * scale)
            return tf.where(inside, upstream, tf.zeros_like(upstream))

        return (steps - zero) * scale, gradient

    return rounded(values)


def round_kernel(kernel: Any, channels: tuple[int, ...], levels: int) -> Any:
    """Returns a kernel as int8 keeps it, as `round_weights` does an array; all of the gradient passes: none is clipped.

    Args:
        kernel: A tensor of float32, any shape.
        channels: The axes that count output channels.
        levels: See `weight_scales`.
    """

    @tf.custom_gradient
    def rounded(exact: Any) -> Any:
        others = [axis for axis in range(exact.shape.rank) if axis not in channels]
        largest = tf.reduce_max(tf.abs(exact), axis=others, keepdims=True)
        scales = tf.where(largest > 0, largest / levels, tf.ones_like(largest))
        steps = tf.clip_by_value(tf.round(exact / scales), -float(levels), float(levels))
        return steps * scales, lambda upstream: upstream

    return rounded(tf.convert_to_tensor(kernel))


class RoundTensor(keras.layers.Layer):
    """Rounds a tensor to 8 bits, and lets its mask pass: what reads it leaves out the same places.

    Args:
        limits: The range that 8 bits are spent on.
        kwargs: Name and type, as for every layer.
    """

    def __init__(self, limits: Range, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        low, high = limits
        self.limits = (float(low), float(high))
        self.supports_masking = True

    @classmethod
    def after(cls, tensor: str, limits: Range) -> Self:
        """Returns the layer that rounds a tensor, called after it."""
        # `conv2d_1` is the name of another layer than that which gives `conv2d:1`. The type is not left to a global
        # policy.
        return cls(limits, name=f"{tensor.replace(':', '.')}_rounded", dtype="float32")

    def call(self, inputs: Any) -> Any:
        """Returns the rounded tensor."""
        return round_tensor(inputs, grid_of(self.limits))

    def get_config(self) -> dict[str, Any]:
        """Returns what the constructor takes."""
        return {**super().get_config(), "limits": list(self.limits)}
