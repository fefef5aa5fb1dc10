"""YOLOv3 and a super-resolution network as large as they were published, whole and with half of their channels."""

from functools import partial
from typing import Any

import numpy as np
from networks import SEED, Arrays, Network

from optops.models.super_resolution import INPUT as LOW
from optops.models.super_resolution import UpscalerSizes, build_upscaler
from optops.models.yolo.network import INPUT as IMAGE
from optops.models.yolo.network import YoloSizes, build_yolo
from optops.workloads.super_resolution.textures import draw_texture

WHOLE, HALF = "whole", "half of the channels"
FORMS = [(runtime, precision) for runtime in ("onnxruntime", "openvino") for precision in ("fp32", "int8")]
CANDIDATES = {WHOLE: FORMS, HALF: FORMS}
YOLO = YoloSizes(input_size=416, classes=80)
UPSCALER, SIDE = UpscalerSizes(scale=2, blocks=16, channels=64), 128
CALIBRATED = 4


def networks() -> list[Network]:
    """Returns both networks at full size."""
    return [yolo(YOLO), super_resolution(UPSCALER, SIDE)]


def yolo(sizes: YoloSizes) -> Network:
    """Returns YOLOv3 of some size, for one image at a time."""
    images = [{IMAGE: picture} for picture in _pictures(sizes.input_size)]
    name = f"YOLOv3, {sizes.input_size} x {sizes.input_size}, {sizes.classes} classes"
    build = partial(_whole_and_half, build_yolo, sizes, images)
    return Network(name, "functional", build, CANDIDATES, {"batch 1": images[0]}, images)


def super_resolution(sizes: UpscalerSizes, side: int) -> Network:
    """Returns a network that enlarges images of some side, one at a time."""
    images = [{LOW: picture.mean(axis=-1, keepdims=True)} for picture in _pictures(side)]
    name = f"Super-resolution x{sizes.scale}, {sizes.blocks} blocks of {sizes.channels} channels, {side} x {side}"
    build = partial(_whole_and_half, build_upscaler, sizes, images)
    return Network(name, "functional", build, CANDIDATES, {"batch 1": images[0]}, images)


def _pictures(side: int) -> list[np.ndarray]:
    """Returns drawn textures, float32 [1, side, side, 3], 0 to 1."""
    drawn = (draw_texture(np.random.default_rng([SEED, number]), side) for number in range(CALIBRATED))
    return [picture[None].astype(np.float32) / 255 for picture in drawn]


def _whole_and_half(build: Any, sizes: Any, images: list[Arrays]) -> dict[str, Any]:
    from optops.compression import measure_batch_norms, prune_channels
    from optops.models.keras import keras

    keras.utils.set_random_seed(SEED)
    whole = build(sizes)
    # Batch norms of fresh statistics would let the values grow from block to block, as no trained network does.
    measure_batch_norms(whole, images)
    # Fresh weights say nothing of importance: their norms would choose wide layers, so every layer gives half.
    half = prune_channels(whole, 0.5, floor=0.5)
    measure_batch_norms(half, images)
    return {WHOLE: whole, HALF: half}
