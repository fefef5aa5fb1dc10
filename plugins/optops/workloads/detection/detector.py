"""What a detector needs beside its weights: `detector.json` in its assets."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optops.models.yolo.anchors import cluster_anchors
from optops.models.yolo.decoding import Suppression
from optops.models.yolo.network import STRIDES
from optops.workloads.detection.augmentation import LEAST_SIDE
from optops.workloads.detection.settings import DetectionModel
from optops.workloads.detection.training_images import training_images

if TYPE_CHECKING:
    import pandas as pd

DETECTOR_FILE = "detector.json"


@dataclass(frozen=True)
class Detector:
    """How images go in and boxes come out.

    Attributes:
        classes: Names, by number.
        anchors: Width and height in pixels of the input, smallest first.
        input_size: Side of the square input, pixels.
        score_threshold: Boxes that score less are not served.
        overlap: Of two boxes of a class that overlap by more (IoU), the better one is kept.
        most: Most boxes of an image that are served.
    """

    classes: tuple[str, ...]
    anchors: tuple[tuple[float, float], ...]
    input_size: int
    score_threshold: float
    overlap: float
    most: int

    @property
    def anchor_array(self) -> NDArray[np.float32]:
        """The anchors, float32 [anchors, 2]."""
        return np.array(self.anchors, np.float32)

    @property
    def suppression(self) -> Suppression:
        """Which boxes are served."""
        return Suppression(self.score_threshold, self.overlap, self.most)

    def save(self, assets: Path) -> None:
        """Writes `detector.json`."""
        (assets / DETECTOR_FILE).write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, assets: Path) -> "Detector":
        """Reads `detector.json`.

        Raises:
            ValueError: If it is missing or is none; names it.
        """
        path = assets / DETECTOR_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            anchors = tuple((float(width), float(height)) for width, height in data.pop("anchors"))
            return cls(classes=tuple(data.pop("classes")), anchors=anchors, **data)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}: no description of a detector: {error}; take the assets of its model") from error


def make_detector(model: DetectionModel, classes: tuple[str, ...], examples: "pd.DataFrame", seed: int) -> Detector:
    """Returns a detector whose anchors are clustered from those boxes of training examples that are learnt.

    Raises:
        ValueError: If there is none.
    """
    images = training_images(examples, classes)
    sides = np.concatenate([np.zeros((0, 2)), *(image.sides(model.input_size) for image in images)])
    learnt = sides[(sides >= LEAST_SIDE).all(axis=1)]
    # Where all are too small, training says so, and what to do.
    anchors = cluster_anchors(learnt if len(learnt) else sides, model.anchors_per_scale * len(STRIDES), seed)
    pairs = tuple((round(float(width), 2), round(float(height), 2)) for width, height in anchors)
    return Detector(classes, pairs, model.input_size, **model.serving.model_dump())
