"""Batches of squares cut out of images at random, turned and mirrored: what a super-resolution network learns from."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.models.super_resolution import INPUT, OUTPUT
from optops.models.training.settings import Batch
from optops.workloads.array_store import ArrayStore
from optops.workloads.super_resolution.loading import Example, load_high_luma, load_low, load_pixels
from optops.workloads.super_resolution.quality import luma
from optops.workloads.super_resolution.resizing import resize, shrink, to_bytes

MEMORY_BYTES = 1 << 30
"""Of decoded training images that stay in memory in any case."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LumaPair:
    """A training image: `low` float16 [h, w], 0 to 255, and `high` uint8 [scale h, scale w]."""

    low: NDArray[np.float16]
    high: NDArray[np.uint8]


def load_pairs(
    examples: Sequence[Example], scale: int, patch: int, smaller_copies: Sequence[float] = ()
) -> list[LumaPair]:
    """Reads the images that are trained on, once; those smaller than a patch are left out.

    Beyond `MEMORY_BYTES` they lie on the disk: a patch is a small part of an image, not worth decoding all of it.

    Raises:
        ValueError: If an image can not be read, none is large enough, or the disk has no room for them.
    """
    store, small = ArrayStore(MEMORY_BYTES), 0
    kept: list[LumaPair] = []
    for pair in (pair for example in examples for pair in _forms(example, scale, smaller_copies)):
        if min(pair.low.shape) * scale >= patch:
            kept.append(LumaPair(store.keep(pair.low), store.keep(pair.high)))
        else:
            small += 1
    if small:
        logger.info("%d of %d training images are smaller than a patch of %d", small, small + len(kept), patch)
    if not kept:
        raise ValueError(f"no training image is as large as a patch of {patch} pixels; lower `data.patch`")
    return kept


def _forms(example: Example, scale: int, smaller_copies: Sequence[float]) -> Iterator[LumaPair]:
    if example["low"]:
        low = luma(load_low(example, scale))
        high = load_high_luma(example, scale)[: low.shape[0] * scale, : low.shape[1] * scale]
        yield LumaPair(low.astype(np.float16), high)
        return
    whole = load_pixels(example["high"])
    for factor in (1.0, *smaller_copies):
        height, width = int(whole.shape[0] * factor), int(whole.shape[1] * factor)
        image = whole if factor == 1 else to_bytes(resize(whole, height, width, factor))
        low = luma(shrink(image, scale))
        if low.size:
            high = to_bytes(luma(image[: low.shape[0] * scale, : low.shape[1] * scale]))
            yield LumaPair(low.astype(np.float16), high)


@dataclass(frozen=True)
class PatchBatches:
    """Epoch -> batches of patches, the same for the same seed and epoch; a patch is as likely to lie anywhere.

    Attributes:
        pairs: The images.
        scale: How many times as large `high` is.
        patch: Side of a patch, in pixels of `high`.
        count: Patches of an epoch.
        batch: Patches of a batch.
        seed: Another one gives other patches.
    """

    pairs: Sequence[LumaPair]
    scale: int
    patch: int
    count: int
    batch: int
    seed: int

    def __call__(self, epoch: int) -> "PatchEpoch":
        """Returns the batches of an epoch."""
        return PatchEpoch(self, epoch)


@dataclass(frozen=True)
class PatchEpoch:
    """The batches of one epoch: `low` and `high`, float32 [patches, side, side, 1], 0 to 1."""

    settings: PatchBatches
    epoch: int

    def __len__(self) -> int:
        """Returns the number of batches."""
        return ceil(self.settings.count / self.settings.batch)

    def __iter__(self) -> Iterator[Batch]:
        """Makes the batches."""
        settings = self.settings
        random = np.random.default_rng([settings.seed, self.epoch])
        side = settings.patch // settings.scale
        places = np.array([np.prod(np.array(pair.low.shape) - side + 1) for pair in settings.pairs], np.float64)
        chosen = random.choice(len(places), settings.count, p=places / places.sum())
        for start in range(0, settings.count, settings.batch):
            cut = [
                self._patch(settings.pairs[number], random, side) for number in chosen[start : start + settings.batch]
            ]
            yield {
                name: np.stack([patch[place] for patch in cut])[..., None].astype(np.float32) / 255
                for place, name in enumerate((INPUT, OUTPUT))
            }

    def _patch(self, pair: LumaPair, random: np.random.Generator, side: int) -> tuple[NDArray[Any], NDArray[Any]]:
        top, left = (int(random.integers(size - side + 1)) for size in pair.low.shape)
        turns, mirrored = int(random.integers(4)), bool(random.integers(2))
        scale = self.settings.scale
        low = pair.low[top : top + side, left : left + side]
        high = pair.high[top * scale : (top + side) * scale, left * scale : (left + side) * scale]

        def turn(values: NDArray[Any]) -> NDArray[Any]:
            turned = np.rot90(values, turns)
            return turned[:, ::-1] if mirrored else turned

        return turn(low), turn(high)


def patches_to_cover(pairs: Sequence[LumaPair], patch: int) -> int:
    """Returns how many patches have as many pixels as the images."""
    return max(1, round(sum(pair.high.size for pair in pairs) / patch**2))
