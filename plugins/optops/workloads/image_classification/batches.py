"""Batches of labelled images, mirrored and moved at random."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from optops.models.resnet import INPUT
from optops.models.training.settings import Batch
from optops.workloads.image_cache import ImageCache

LABELS = "labels"


@dataclass(frozen=True)
class ImageBatches:
    """Epoch -> shuffled batches, the same for the same seed and epoch.

    Attributes:
        images: By number, uint8 [side, side, 3].
        labels: int32 [images].
        batch: Images of a batch.
        mirrored: Whether half of them are mirrored left to right.
        shifted: Most pixels that an image is moved by; what comes in is its mirrored edge.
        seed: Another one gives another order.
    """

    images: ImageCache
    labels: NDArray[np.int32]
    batch: int
    mirrored: bool
    shifted: int
    seed: int

    def __call__(self, epoch: int) -> "ImageEpoch":
        """Returns the batches of an epoch."""
        return ImageEpoch(self, epoch)


@dataclass(frozen=True)
class ImageEpoch:
    """The batches of one epoch: `image` float32 [images, side, side, 3], 0 to 1, and `labels` int32 [images]."""

    settings: ImageBatches
    epoch: int

    def __len__(self) -> int:
        """Returns the number of batches."""
        return ceil(len(self.settings.labels) / self.settings.batch)

    def __iter__(self) -> Iterator[Batch]:
        """Makes the batches."""
        settings = self.settings
        random = np.random.default_rng([settings.seed, self.epoch])
        order = random.permutation(len(settings.labels))
        for start in range(0, len(order), settings.batch):
            chosen = order[start : start + settings.batch]
            images = np.stack([self._varied(image, random) for image in settings.images.all(chosen.tolist())])
            yield {INPUT: images.astype(np.float32) / 255, LABELS: settings.labels[chosen]}

    def _varied(self, image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        reach, side = self.settings.shifted, len(image)
        if self.settings.mirrored and random.integers(2):
            image = image[:, ::-1]
        if reach:
            down, right = random.integers(0, 2 * reach + 1, 2)
            wide = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
            image = wide[down : down + side, right : right + side]
        return image
