"""Images through an executable: decoded, resized, answered in batches."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optops.models.resnet import INPUT, OUTPUT
from optops.workloads.images import ImageError, open_image, pixels_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from optops.runtimes.base import Executable

CLASSES_FILE = "classes.json"
BATCH = 32


@dataclass(frozen=True)
class Classes:
    """What a model's assets say of how it is used.

    Attributes:
        names: Of the classes, in the order of the model's outputs.
        image_size: Height and width that images are resized to.
    """

    names: tuple[str, ...]
    image_size: int

    def save(self, assets: Path) -> None:
        """Writes them into a folder of assets."""
        (assets / CLASSES_FILE).write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, assets: Path) -> "Classes":
        """Reads what `save` wrote."""
        data = json.loads((assets / CLASSES_FILE).read_text(encoding="utf-8"))
        return cls(tuple(data["names"]), data["image_size"])


def fit_image(image: "Image", size: int) -> NDArray[np.uint8]:
    """Returns an image as RGB of `size` x `size` pixels, uint8, resized bilinearly whatever its shape."""
    from PIL import Image

    square = Image.fromarray(pixels_of(image, "RGB")).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(square, np.uint8)


def load_image(file: str, size: int) -> NDArray[np.uint8]:
    """Returns the image in a file; see `fit_image`.

    Raises:
        ImageError: If it can not be used; names the file and why.
    """
    try:
        return fit_image(open_image(Path(file)), size)
    except (ImageError, OSError) as error:
        raise ImageError(
            f"{file}: {error}; mend or remove it (`check_labels.quarantine` leaves such images out of training)"
        ) from None


def model_input(images: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    """Returns a call of the executable for images of one size."""
    return {INPUT: (np.stack(images) / 255).astype(np.float32)}


def classify(
    executable: "Executable", images: Iterable[NDArray[np.uint8]], report: Callable[[int], None] = lambda done: None
) -> NDArray[np.float64]:
    """Returns the probabilities of the classes, [images, classes]; a batch of images is in memory at a time."""
    found: list[NDArray[np.float64]] = []
    remaining = iter(images)
    while batch := list(islice(remaining, BATCH)):
        logits = executable(model_input(batch))[OUTPUT].astype(np.float64)
        with np.errstate(invalid="ignore"):  # an infinite logit makes NaN, which is no class
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        found.append(powers / powers.sum(axis=1, keepdims=True))
        report(sum(map(len, found)))
    return np.concatenate(found)
