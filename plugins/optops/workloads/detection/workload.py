"""The workload `detection`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from optops.recipe import Recipe
from optops.sections import Teaching, Train
from optops.workloads.base import Report, Sections, Workload, section
from optops.workloads.detection.settings import (
    CHECKS,
    IGNORED,
    STARTING_VALUES,
    DetectionData,
    DetectionDistill,
    DetectionModel,
    Thresholds,
)
from optops.workloads.functional import ChannelPrune
from optops.workloads.splits import SPLIT_NAMES, within_folder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from optops.models.training.settings import Batches, Loss
    from optops.runtimes.base import Executable
    from optops.workloads.detection.boxes import Box
    from optops.workloads.label_checks import RowCheck


ARCHITECTURE = "functional"
PATHS = frozenset({"images", "annotations", "classes", *SPLIT_NAMES, "corpus"})
"""Keys of the section `data` that may be a path."""
CALLS = 16
"""Different calls that a cell is measured on, at most."""


class DetectionWorkload(Workload):
    """An image in, boxes with classes and scores out; mean average precision."""

    name = "detection"
    metric_name = "mAP@0.5"
    examples_name = "images"
    demo_examples = 1_000

    def sections(self) -> Sections:
        """Returns the models of the recipe's sections."""
        return Sections(
            DetectionData,
            DetectionModel,
            Thresholds,
            CHECKS,
            distill=DetectionDistill,
            prune=ChannelPrune,
            starting_values=STARTING_VALUES,
            ignored=IGNORED,
        )

    # Data

    def files(self, data: BaseModel) -> Mapping[str, Path]:
        """Returns all folders, lists and JSON files, by key below `data`."""
        settings = section(DetectionData, data)
        found: dict[str, Path] = {}
        for name, part in settings.sets().items():
            for key in ("images", "annotations", "list"):
                path: str | None = getattr(part, key)
                # What all splits share is named once.
                shared = key != "list" and path == settings.path(getattr(settings, key))
                if path is not None:
                    found[key if shared else f"{name}.{key}"] = Path(path)
        if isinstance(settings.classes, str):
            found["classes"] = Path(settings.path(settings.classes) or "")
        return found

    def relocate(self, data: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """Returns the section with everything taken from another folder: there it lies as in this one."""
        moved = {key: _within(value) if key in PATHS else value for key, value in data.items()}
        for name in (*SPLIT_NAMES, "corpus"):
            if isinstance(moved.get(name), Mapping):
                moved[name] = {key: _within(value) for key, value in moved[name].items()}
        return {**moved, "folder": folder}

    def read(self, data: BaseModel) -> "dict[str, pd.DataFrame]":
        """Reads all images and labels, by split."""
        from optops.workloads.detection.corpus import read_detection

        return read_detection(section(DetectionData, data))

    def digests(self, examples: "pd.DataFrame") -> "pd.Series[str]":
        """Returns a digest of each image with its labels."""
        from optops.workloads.detection.corpus import example_digests

        return example_digests(examples)

    def label_checks(self, examples: "pd.DataFrame", recipe: Recipe) -> "tuple[pd.DataFrame, Sequence[RowCheck]]":
        """Checks each image and its boxes."""
        from optops.workloads.detection.checks import detection_checks
        from optops.workloads.detection.classes import class_names

        classes = class_names(section(DetectionData, recipe.data))
        return detection_checks(examples, classes, section(Thresholds, recipe.check_labels.thresholds))

    def foreseen_defects(self, examples: "pd.DataFrame", recipe: Recipe) -> "Iterator[tuple[str, pd.Series[str]]]":
        """Names the images that are not there; a split without a box is refused."""
        from optops.workloads.detection.classes import class_names
        from optops.workloads.detection.split_boxes import refuse_splits_without_boxes
        from optops.workloads.missing_files import find_missing_files

        yield "unreadable", find_missing_files(examples["image"])
        refuse_splits_without_boxes(examples, class_names(section(DetectionData, recipe.data)))

    def write_demo(self, folder: Path, examples: int, seed: int) -> None:
        """Writes drawn scenes, as Pascal VOC: a tenth for validation, three tenths for the test."""
        from optops.workloads.detection.scenes import write_scenes

        validation, test = round(examples * 0.1), round(examples * 0.3)
        write_scenes(folder, train=examples - validation - test, validation=validation, test=test, seed=seed)

    # Training

    def prepare(self, recipe: Recipe, examples: "pd.DataFrame", assets: Path) -> None:
        """Clusters the anchors and writes what the detector needs beside its weights."""
        from optops.workloads.detection.classes import class_names
        from optops.workloads.detection.detector import make_detector

        classes = class_names(section(DetectionData, recipe.data))
        make_detector(section(DetectionModel, recipe.model), classes, examples, recipe.seed).save(assets)

    def build(self, recipe: Recipe, assets: Path) -> tuple[str, Any]:
        """Returns a fresh YOLOv3."""
        from optops.models.keras import keras
        from optops.models.yolo.network import YoloSizes, build_yolo
        from optops.workloads.detection.detector import Detector

        model, detector = section(DetectionModel, recipe.model), Detector.load(assets)
        keras.utils.set_random_seed(recipe.seed)
        classes, anchors = len(detector.classes), model.anchors_per_scale
        return ARCHITECTURE, build_yolo(YoloSizes(model.input_size, classes, anchors, model.width, model.depth))

    def batches(
        self, recipe: Recipe, examples: "pd.DataFrame", assets: Path, train: Train
    ) -> "Callable[[int], Batches]":
        """Returns epoch -> batches of varied images with their targets; `batch_tokens` is the images of a batch."""
        from optops.workloads.detection.batches import ImageBatches
        from optops.workloads.detection.detector import Detector

        augmentation = section(DetectionData, recipe.data).augmentation
        return ImageBatches(examples, Detector.load(assets), train.batch_tokens, augmentation, recipe.seed)

    def loss(self, train: Train) -> "Loss":
        """Returns the published loss of YOLOv3."""
        from optops.models.yolo.loss import yolo_loss

        return yolo_loss(train.label_smoothing)

    def student(self, recipe: Recipe, teacher: Any) -> Any:
        """Returns a fresh network with the channels and blocks that the recipe changes."""
        from optops.models.keras import keras
        from optops.models.yolo.network import BOX_VALUES, YoloSizes, build_yolo

        assert isinstance(recipe.distill, DetectionDistill)
        model = section(DetectionModel, recipe.model)
        sizes = model.model_copy(update=recipe.distill.student)
        classes = teacher.outputs[0].shape[-1] // model.anchors_per_scale - BOX_VALUES
        keras.utils.set_random_seed(recipe.seed)
        return build_yolo(YoloSizes(model.input_size, classes, model.anchors_per_scale, sizes.width, sizes.depth))

    def distillation_loss(self, teacher: Any, student: Any, teaching: Teaching) -> "Loss":
        """Returns `alpha * L_teacher + (1 - alpha) * L_labels`, the former scaled by the teacher's objectness."""
        from optops.compression.distillation.outputs import mixed_loss
        from optops.models.yolo.distillation import objectness_scaled_loss

        del student
        soft = objectness_scaled_loss(teacher, teaching.temperature)
        return mixed_loss(soft, self.loss(teaching.train), teaching.alpha)

    # Quality

    def predict(
        self, executable: "Executable", examples: "pd.DataFrame", assets: Path, report: Report | None = None
    ) -> list[Any]:
        """Returns the 100 best boxes of each image, down to low scores; none in an image that can not be read."""
        from optops.workloads.detection.detecting import predict_files
        from optops.workloads.detection.detector import Detector

        return predict_files(executable, list(examples["image"]), Detector.load(assets), report)

    def statistics(self, predictions: Sequence[Any], examples: "pd.DataFrame", data: BaseModel) -> "np.ndarray":
        """Returns the matches that average precision is made of."""
        from optops.workloads.detection.average_precision import detection_statistics
        from optops.workloads.detection.classes import class_names

        truths = [_in_image(boxes, image) for boxes, image in zip(examples["boxes"], examples["image"], strict=True)]
        return detection_statistics(predictions, truths, class_names(section(DetectionData, data)))

    def metric(self, statistics: "np.ndarray", weights: "np.ndarray | None" = None) -> "np.ndarray":
        """Returns mAP at IoU 0.5, 0 to 100."""
        from optops.workloads.detection.average_precision import mean_average_precision

        return mean_average_precision(statistics, weights)

    def figures(self, statistics: "np.ndarray") -> dict[str, float]:
        """Returns COCO's mAP, the mean over IoU 0.5 to 0.95."""
        from optops.workloads.detection.average_precision import OVERLAPS, mean_average_precision

        return {"mAP@0.5:0.95": float(mean_average_precision(statistics, thresholds=len(OVERLAPS))[0])}

    def agreement(self, ours: Sequence[Any], theirs: Sequence[Any]) -> float:
        """Returns the share of images in which the same boxes are found, but for rounding."""
        from optops.workloads.detection.detecting import same_detections

        same = sum(same_detections(one, other) for one, other in zip(ours, theirs, strict=True))
        return same / max(len(ours), 1)

    def metric_signature(self, data: BaseModel) -> str:
        """Returns what was computed over which classes, and pycocotools' version."""
        from importlib.metadata import version

        from optops.workloads.detection.classes import class_names

        # They may stand in a file: what changes there changes the metric, and nothing else says so.
        classes = class_names(section(DetectionData, data))
        return (
            "mAP in percent, IoU 0.5, 101 recalls, at most 100 boxes of an image, cut at its edges, none difficult "
            f"or crowd, over those of {len(classes)} classes that have boxes: {', '.join(classes)}; "
            f"pycocotools {version('pycocotools')}"
        )

    # Serving and timing

    def benchmark_inputs(
        self, examples: "pd.DataFrame", assets: Path, batch: int, seed: int
    ) -> "list[dict[str, np.ndarray]]":
        """Returns calls of images drawn from the examples."""
        from optops.workloads.detection.detecting import calls
        from optops.workloads.detection.detector import Detector

        number = min(CALLS, max(1, len(examples) // batch))
        drawn = examples.sample(number * batch, replace=number * batch > len(examples), random_state=seed)
        return list(islice(calls(drawn["image"], Detector.load(assets), batch), number))

    def calibration_inputs(self, examples: "pd.DataFrame", assets: Path) -> "Iterator[dict[str, np.ndarray]]":
        """Gives the images one at a time."""
        from optops.workloads.detection.detecting import calls
        from optops.workloads.detection.detector import Detector

        yield from calls(examples["image"], Detector.load(assets), 1)

    def serve(self, executable: "Executable", assets: Path, inputs: Sequence[Any]) -> list[Any]:
        """Finds objects in images: bytes of an image file, the same as base64, or a uint8 array."""
        from optops.workloads.detection.detecting import serve_images
        from optops.workloads.detection.detector import Detector

        return serve_images(executable, inputs, Detector.load(assets))

    def input_example(self, examples: "pd.DataFrame") -> list[Any]:
        """Returns an image as base64."""
        from optops.workloads.images import base64_of, inspect_image

        for image in map(Path, examples["image"]):
            if image.is_file() and not inspect_image(image).problem:
                return [base64_of(image.read_bytes())]
        return []


def _in_image(boxes: "Sequence[Box]", image: str) -> "Sequence[Box]":
    """Returns boxes as they are learnt and found: cut at the image's edges."""
    from optops.workloads.detection.boxes import cut_at_edges
    from optops.workloads.images import ImageError, image_size

    try:
        return cut_at_edges(boxes, image_size(Path(image)))
    except ImageError:
        return boxes


def _within(value: Any) -> Any:
    return within_folder(value) if isinstance(value, str) else value
