"""Residual networks for image classification, ResNet-18 and ResNet-50, of stock Keras layers."""

from dataclasses import dataclass
from typing import Any, Literal

from optops.models.keras import keras

INPUT, OUTPUT = "image", "logits"
WIDTHS = (64, 128, 256, 512)
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
WIDENING = 4
"""How many times as wide a bottleneck's output is as its inside."""

ROUNDED_TO = 8
MOMENTUM = 0.9


@dataclass(frozen=True)
class ResNetSizes:
    """Sizes of the network.

    Attributes:
        classes: Number of classes.
        image_size: Height and width of the images.
        depth: 18 or 50.
        width: Multiplies the published widths; they stay multiples of 8.
        small_stem: Whether it starts with one 3 x 3 convolution, at full size, for small images.
    """

    classes: int
    image_size: int = 224
    depth: Literal[18, 50] = 18
    width: float = 1.0
    small_stem: bool = False


def build_resnet(sizes: ResNetSizes) -> Any:
    """Returns a freshly initialised functional model: `image` in, 0 to 1, RGB; `logits` [batch, classes] out.

    Of a stage's first block, the 3 x 3 convolution has the stride.

    Source: He et al. 2016, table 1 and figure 5; their section 4.2 for the small stem.
    """
    image = keras.Input((sizes.image_size, sizes.image_size, 3), name=INPUT)
    stem = _rounded(WIDTHS[0] * sizes.width)
    if sizes.small_stem:
        values = _convolution(image, stem, 3, 1, "stem")
    else:
        values = _convolution(image, stem, 7, 2, "stem")
        values = keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(values)
    block = _plain_block if sizes.depth == 18 else _bottleneck
    for stage, (width, count) in enumerate(zip(WIDTHS, BLOCKS[sizes.depth], strict=True)):
        for number in range(count):
            stride = 2 if stage and not number else 1
            values = block(values, _rounded(width * sizes.width), stride, f"stage_{stage}_block_{number}")
    values = keras.layers.GlobalAveragePooling2D(name="pool")(values)
    logits = keras.layers.Dense(sizes.classes, name=OUTPUT)(values)
    return keras.Model(image, logits, name=f"resnet_{sizes.depth}")


def _plain_block(inputs: Any, width: int, stride: int, name: str) -> Any:
    values = _convolution(inputs, width, 3, stride, f"{name}_first")
    values = _convolution(values, width, 3, 1, f"{name}_second", relu=False)
    return _added(inputs, values, stride, name)


def _bottleneck(inputs: Any, width: int, stride: int, name: str) -> Any:
    values = _convolution(inputs, width, 1, 1, f"{name}_narrow")
    values = _convolution(values, width, 3, stride, f"{name}_middle")
    values = _convolution(values, WIDENING * width, 1, 1, f"{name}_wide", relu=False)
    return _added(inputs, values, stride, name)


def _added(inputs: Any, values: Any, stride: int, name: str) -> Any:
    if stride != 1 or inputs.shape[-1] != values.shape[-1]:
        inputs = _convolution(inputs, values.shape[-1], 1, stride, f"{name}_shortcut", relu=False)
    summed = keras.layers.Add(name=f"{name}_sum")([inputs, values])
    return keras.layers.ReLU(name=f"{name}_relu")(summed)


def _convolution(inputs: Any, width: int, kernel: int, stride: int, name: str, relu: bool = True) -> Any:
    values = keras.layers.Conv2D(
        width, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(inputs)
    values = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(values)
    return keras.layers.ReLU(name=f"{name}_act")(values) if relu else values


def _rounded(width: float) -> int:
    return max(ROUNDED_TO, round(width / ROUNDED_TO) * ROUNDED_TO)
