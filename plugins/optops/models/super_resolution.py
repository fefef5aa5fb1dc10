"""A residual network that enlarges images, of stock layers: SRResNet's blocks, a sub-pixel convolution."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from optops.models.keras import keras, tf

INPUT, OUTPUT = "low", "high"
KERNEL = 3
MOMENTUM = 0.9


@dataclass(frozen=True)
class UpscalerSizes:
    """Sizes of the network.

    Attributes:
        scale: How many times as large the output is.
        blocks: Residual blocks.
        channels: Channels of every convolution but the last.
        batch_norm: Whether batch norms follow the convolutions of the body.
        residual_scaling: What a block's result is multiplied with before it is added; wide networks need less than 1.
        colours: Channels of the images.
    """

    scale: int
    blocks: int
    channels: int
    batch_norm: bool = True
    residual_scaling: float = 1.0
    colours: int = 1

    @property
    def reach(self) -> int:
        """How many pixels of the input around a pixel its results depend on."""
        # One convolution at the start, two in each block, one after them, one that makes the sub-pixels.
        return (KERNEL // 2) * (2 * self.blocks + 3)


def build_upscaler(sizes: UpscalerSizes) -> Any:
    """Returns a freshly initialised functional model: `low` in, `high` out, [batch, height, width, colours].

    What is learnt is added to the input's pixels, each repeated `scale` times along both axes. All convolutions work
    on the small image; the last one makes the pixels of the large one, side by side as channels.

    Source: Ledig et al. 2017 (SRResNet), section 2.1, for the blocks with batch norm; Lim et al. 2017 (EDSR), section
    3, for the scaling of residuals and for no activation after the sum; Shi et al. 2016, section 3.2, for the
    sub-pixel convolution at the end.
    """
    low = keras.Input((None, None, sizes.colours), name=INPUT)
    head = _convolution(sizes.channels, "head")(low)
    body = head
    for number in range(sizes.blocks):
        body = _block(body, sizes, f"block_{number}")
    body = _normalised(_convolution(sizes.channels, "body_convolution")(body), sizes, "body_norm")
    body = keras.layers.Add(name="body_sum")([body, head])
    small_weights = keras.initializers.RandomNormal(stddev=1e-3)
    pixels = sizes.colours * sizes.scale**2
    tail = _convolution(pixels, "sub_pixels", kernel_initializer=small_weights)(body)
    # Sub-pixel k of colour c stands at k * colours + c: that many copies of the input, pixel by pixel, fit.
    repeated = keras.layers.Concatenate(name="repeated_input")([low] * sizes.scale**2)
    tail = keras.layers.Add(name="sub_pixels_sum")([tail, repeated])
    enlarged = tf.nn.depth_to_space(tail, sizes.scale)
    high = keras.layers.Activation("linear", name=OUTPUT)(enlarged)
    return keras.Model(low, high, name="upscaler")


def take_blocks(student: Any, teacher: Any) -> None:
    """Gives a student the weights of a teacher of the same channels: evenly spaced blocks, and all the rest.

    Args:
        student: A network of `build_upscaler`; changed in place.
        teacher: Another one with the same channels, colours, scale and batch norms; left as it is.

    Raises:
        ValueError: If a layer of theirs has other shapes.
    """
    mine, theirs = _blocks(student), _blocks(teacher)
    chosen = np.linspace(0, theirs - 1, mine).round().astype(int)
    for layer in student.layers:
        name = layer.name
        if name.startswith("block_"):
            _, number, part = name.split("_", 2)
            name = f"block_{chosen[int(number)]}_{part}"
        layer.set_weights(teacher.get_layer(name).get_weights() if layer.weights else [])


def _block(inputs: Any, sizes: UpscalerSizes, name: str) -> Any:
    values = _normalised(_convolution(sizes.channels, f"{name}_first")(inputs), sizes, f"{name}_first_norm")
    values = keras.layers.ReLU(name=f"{name}_relu")(values)
    values = _normalised(_convolution(sizes.channels, f"{name}_second")(values), sizes, f"{name}_second_norm")
    if sizes.residual_scaling != 1:
        values = tf.math.multiply(values, sizes.residual_scaling)
    return keras.layers.Add(name=f"{name}_sum")([inputs, values])


def _convolution(channels: int, name: str, **settings: Any) -> Any:
    return keras.layers.Conv2D(channels, KERNEL, padding="same", name=name, **settings)


def _normalised(values: Any, sizes: UpscalerSizes, name: str) -> Any:
    return keras.layers.BatchNormalization(momentum=MOMENTUM, name=name)(values) if sizes.batch_norm else values


def _blocks(model: Any) -> int:
    return sum(layer.name.startswith("block_") and layer.name.endswith("_sum") for layer in model.layers)
