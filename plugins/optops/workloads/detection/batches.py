"""Batches of training images with the targets of YOLOv3; the same for the same seed and epoch."""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optops.models.training.settings import Batch
from optops.models.yolo.loss import ANCHORS, BOXES, TARGET
from optops.models.yolo.network import INPUT, STRIDES
from optops.models.yolo.targets import make_targets
from optops.workloads.detection.augmentation import LEAST_SIDE, augment
from optops.workloads.detection.detector import Detector
from optops.workloads.detection.letterbox import shrink
from optops.workloads.detection.settings import Augmentation
from optops.workloads.detection.training_images import TrainingImage, training_images
from optops.workloads.image_cache import ImageCache
from optops.workloads.images import ImageError, open_image

if TYPE_CHECKING:
    import pandas as pd

BATCH_BYTES = 1 << 30
_KEPT_SIZE = 1.3
"""How much larger than the network's input images are kept, so that enlarging them does not blur."""

log = logging.getLogger(__name__)


class ImageBatches:
    """Gives the batches of an epoch when called with it.

    Args:
        examples: Columns `image` and `boxes`. Images that can not be read are left out, and so are boxes without area
            or of unknown classes.
        detector: Its classes, anchors and input size.
        batch: Most images of a batch.
        augmentation: How images are varied.
        seed: With the epoch, decides on order and variants.

    Raises:
        ValueError: If no image or box is left, or a batch would not fit into memory.
    """

    def __init__(
        self, examples: "pd.DataFrame", detector: Detector, batch: int, augmentation: Augmentation, seed: int
    ) -> None:
        self.detector, self.batch, self.augmentation, self.seed = detector, batch, augmentation, seed
        values = detector.input_size**2 * 3
        if batch * values * np.dtype(np.float32).itemsize > BATCH_BYTES:
            most = BATCH_BYTES // (values * np.dtype(np.float32).itemsize)
            raise ValueError(
                f"a batch of {batch} images of {detector.input_size} pixels does not fit into memory: "
                f"`batch_tokens` is the number of images here; write 8, or {most} at most"
            )
        self.images = training_images(examples, detector.classes)
        if not self.images:
            raise ValueError("no training image can be read; look at what check_labels says")
        if len(self.images) < len(examples):
            log.warning("%d training images can not be read and are left out", len(examples) - len(self.images))
        _check_boxes(self.images, detector.input_size)
        self._pixels = ImageCache(self._decode)

    def __call__(self, epoch: int) -> "EpochOfImages":
        """Returns the batches of one epoch; the same for the same seed and epoch."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        # Even batches: batch norm makes little of a last one with an image or two.
        return EpochOfImages(self, epoch, np.array_split(order, -(-len(order) // self.batch)))

    def make(self, epoch: int, group: NDArray[np.int64], pool: ThreadPoolExecutor) -> Batch:
        """Returns one batch."""
        side, classes = self.detector.input_size, len(self.detector.classes)
        anchors = self.detector.anchor_array
        variants = list(pool.map(lambda index: self._variant(epoch, int(index)), group))
        targets = [make_targets(boxes, labels, anchors, side, classes) for _, boxes, labels in variants]
        boxes = np.zeros((len(group), max(1, *(len(boxes) for _, boxes, _ in variants)), 4), np.float32)
        for index, (_, placed, _) in enumerate(variants):
            boxes[index, : len(placed)] = placed
        stacked = {
            TARGET.format(stride=stride): np.stack([target[scale] for target in targets])
            for scale, stride in enumerate(STRIDES)
        }
        image = np.stack([pixels for pixels, _, _ in variants]).astype(np.float32) / np.float32(255)
        # The loss is a function of the batch alone, so the anchors go with it.
        return {INPUT: image, **stacked, BOXES: boxes, ANCHORS: np.tile(anchors, (len(group), 1, 1))}

    def _variant(self, epoch: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.intp]]:
        pixels = self._pixels(index)
        image = self.images[index]  # without boxes by now if its pixels can not be read
        height, width = pixels.shape[:2]
        random = np.random.default_rng((self.seed, epoch, index))
        boxes = image.boxes * np.array([width, height] * 2)
        varied, placed, kept = augment(pixels, boxes, self.detector.input_size, self.augmentation, random)
        return varied, placed, image.labels[kept]

    def _decode(self, index: int) -> NDArray[np.uint8]:
        side = self.detector.input_size
        try:
            return np.asarray(shrink(open_image(self.images[index].path), round(_KEPT_SIZE * side)))
        except ImageError as error:
            # Its header could be read, its pixels can not: a plain image without objects takes its place.
            log.warning("%s: %s", self.images[index].path, error)
            self.images[index] = replace(self.images[index], boxes=np.zeros((0, 4)), labels=np.zeros(0, np.intp))
            return np.full((side, side, 3), 128, np.uint8)


@dataclass(frozen=True)
class EpochOfImages:
    """The batches of one epoch; each is made when its turn comes, while the one before is learnt from."""

    batches: ImageBatches
    epoch: int
    groups: list[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool, ThreadPoolExecutor(1) as ahead:
            waiting = [ahead.submit(self.batches.make, self.epoch, self.groups[0], pool)]
            for group in self.groups[1:]:
                waiting.append(ahead.submit(self.batches.make, self.epoch, group, pool))
                yield waiting.pop(0).result()
            yield waiting.pop().result()


def _check_boxes(images: Sequence[TrainingImage], side: int) -> None:
    """Says how many boxes are too small to be labels in the square that the network sees, before it is varied.

    Raises:
        ValueError: If all of them are, or there is none.
    """
    too_small = np.asarray((np.concatenate([image.sides(side) for image in images]) < LEAST_SIDE).any(axis=1))
    count, small = len(too_small), int(too_small.sum())
    if not count:
        raise ValueError(
            f"none of the {len(images)} training images has a box with an area whose class is known; look at what "
            "check_labels says"
        )
    if not small:
        return
    says = (
        f"{small} of {count} training boxes are smaller than {LEAST_SIDE:g} pixels at input_size {side} and can not be "
        "learnt, but count when the model is judged; raise `model.input_size`, or cut the images into tiles"
    )
    if small == count:
        raise ValueError(says)
    log.warning(says)
