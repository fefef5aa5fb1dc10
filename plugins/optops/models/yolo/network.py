"""YOLOv3 on Darknet-53 (Redmon & Farhadi 2018, sections 2.3, 2.4), a functional Keras model of any width and depth."""

import math
from dataclasses import dataclass
from typing import Any, Final

from optops.models.keras import keras

STRIDES: Final = (32, 16, 8)
"""Pixels of the input that a cell of each scale stands for, in the order of the model's outputs."""
BOX_VALUES: Final = 5
"""What a head says of a box before its classes: x, y, width, height, objectness."""
INPUT: Final = "image"

_STAGES: Final = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
"""Channels and residual blocks of Darknet-53."""
_SLOPE: Final = 0.1
_PRIOR: Final = 0.01


@dataclass(frozen=True)
class YoloSizes:
    """What a network is made from.

    Attributes:
        input_size: Side of the square input, pixels; a multiple of 32.
        classes: Number of classes.
        anchors: Anchors of each scale.
        width: Channels, as a share of the published network's; rounded to multiples of 8.
        depth: Residual blocks, as a share of the published network's; at least one a stage.
    """

    input_size: int
    classes: int
    anchors: int = 3
    width: float = 1.0
    depth: float = 1.0

    def channels(self, published: int) -> int:
        """Returns how many channels a layer has that has `published` ones in the paper."""
        return max(8, round(published * self.width / 8) * 8)

    def blocks(self, published: int) -> int:
        """Returns how many residual blocks a stage has."""
        return max(1, round(published * self.depth))


def build_yolo(sizes: YoloSizes) -> Any:
    """Returns a network with fresh weights.

    Its input `image` is float32 [batch, side, side, 3] from 0 to 1. Its outputs are the raw heads of the three scales,
    float32 [batch, side / stride, side / stride, anchors * (5 + classes)], coarsest first.

    Raises:
        ValueError: If the input size is no multiple of 32.
    """
    if sizes.input_size % STRIDES[0]:
        raise ValueError(f"input_size {sizes.input_size} is no multiple of {STRIDES[0]}; choose one")
    image = keras.Input((sizes.input_size, sizes.input_size, 3), name=INPUT)
    fine, middle, x = _darknet(image, sizes)
    outputs = []
    for index, (channels, lateral) in enumerate(((512, None), (256, middle), (128, fine))):
        scale = f"stride{STRIDES[index]}"
        if lateral is not None:
            x = _unit(x, sizes.channels(channels), 1, f"{scale}_lateral")
            x = keras.layers.UpSampling2D(2, name=f"{scale}_up")(x)
            x = keras.layers.Concatenate(name=f"{scale}_concat")([x, lateral])
        x, head = _head(x, channels, sizes, scale)
        outputs.append(head)
    model = keras.Model(image, outputs, name="yolov3")
    _expect_background(model, sizes)
    return model


def _expect_background(model: Any, sizes: YoloSizes) -> None:
    """Lets a fresh network expect few objects, so that the first steps are not spent on unlearning them.

    The bias of objectness is that of a probability of 0.01, as Lin et al. (2017, section 3.3) start their classifiers.
    """
    for stride in STRIDES:
        layer = model.get_layer(f"stride{stride}_head")
        kernel, bias = layer.get_weights()
        bias[BOX_VALUES - 1 :: BOX_VALUES + sizes.classes] = -math.log((1 - _PRIOR) / _PRIOR)
        layer.set_weights([kernel, bias])


def _darknet(image: Any, sizes: YoloSizes) -> tuple[Any, Any, Any]:
    """Returns the features at strides 8, 16 and 32."""
    features = []
    x = _unit(image, sizes.channels(32), 3, "stem")
    for stage, (channels, blocks) in enumerate(_STAGES, start=1):
        x = _unit(x, sizes.channels(channels), 3, f"stage{stage}_down", strides=2)
        for block in range(1, sizes.blocks(blocks) + 1):
            name = f"stage{stage}_block{block}"
            inner = _unit(x, sizes.channels(channels // 2), 1, f"{name}_squeeze")
            inner = _unit(inner, sizes.channels(channels), 3, f"{name}_expand")
            x = keras.layers.Add(name=f"{name}_add")([x, inner])
        features.append(x)
    return features[2], features[3], features[4]


def _head(x: Any, channels: int, sizes: YoloSizes, scale: str) -> tuple[Any, Any]:
    """Returns what goes on to the next scale, and the raw head."""
    for index in range(1, 6):
        wide = index % 2 == 0
        x = _unit(x, sizes.channels(2 * channels if wide else channels), 3 if wide else 1, f"{scale}_neck{index}")
    head = _unit(x, sizes.channels(2 * channels), 3, f"{scale}_wide")
    values = sizes.anchors * (BOX_VALUES + sizes.classes)
    return x, keras.layers.Conv2D(values, 1, kernel_initializer="he_normal", name=f"{scale}_head")(head)


def _unit(x: Any, channels: int, kernel: int, name: str, strides: int = 1) -> Any:
    """Convolution, batch norm and leaky ReLU."""
    padding = "same"
    if strides > 1:
        # Darknet pads both sides; TensorFlow's `same` would pad one.
        x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        padding = "valid"
    x = keras.layers.Conv2D(
        channels,
        kernel,
        strides,
        padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.LeakyReLU(_SLOPE, name=f"{name}_relu")(x)
