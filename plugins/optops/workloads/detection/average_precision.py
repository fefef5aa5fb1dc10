"""COCO's average precision from per-image matches, so that a bootstrap over images accumulates it again.

Matching is pycocotools' own; accumulation is its 101-point interpolation, with a weight for each image. A mean of
per-image values would be another, wrong figure.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from optops.workloads.detection.boxes import Box

OVERLAPS: Final = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2))
"""IoU thresholds of COCO's mAP; the first is that of mAP@0.5."""
RECALLS: Final = np.linspace(0, 1, 101)
MOST_DETECTIONS: Final = 100
"""Of an image and class, as pycocotools cuts them, and of an image in all that a detector is judged by."""

_PADDING, _TRUTH, _DETECTION = 0.0, 1.0, 2.0
_KIND, _CLASS, _SCORE, _FIRST = 0, 1, 2, 3
_BLOCK_VALUES = 4_000_000


def detection_statistics(
    predictions: Sequence[Sequence[Mapping[str, Any]]], truths: Sequence[Sequence[Box]], classes: Sequence[str]
) -> NDArray[np.float64]:
    """Returns what average precision is made of, image by image.

    Args:
        predictions: Of each image: `box` (corners), `class` and `score`; a model may know classes that the data does
            not have, and what it finds of them counts for nothing.
        truths: The labelled boxes of each image; those without area, or of an unknown class, count for nothing.
        classes: Names of the classes.

    Returns:
        Shape (images, rows, 3 + thresholds), padded with zeros. A row is either the number of boxes to find of a
        class (1, class, number, 0 ...), or a detection (2, class, score, 1 for right and 0 for wrong at each
        threshold); one that counts neither way is NaN there.
    """
    numbers = {name: index for index, name in enumerate(classes)}
    usable = [[box for box in boxes if box.has_area and box.label in numbers] for boxes in truths]
    known = [[one for one in found if one["class"] in numbers] for found in predictions]
    rows: list[list[list[float]]] = [[] for _ in truths]
    for match in _matches(known, usable, numbers):
        image, label = int(match["image_id"]), float(match["category_id"])
        found = rows[image]
        if wanted := int(np.sum(~np.asarray(match["gtIgnore"], bool))):
            found.append([_TRUTH, label, float(wanted), *[0.0] * len(OVERLAPS)])
        right = np.asarray(match["dtMatches"], np.float64) > 0
        outcome = np.where(np.asarray(match["dtIgnore"], bool), np.nan, right)
        found += [
            [_DETECTION, label, float(score), *column]
            for score, column in zip(match["dtScores"], outcome.T.tolist(), strict=True)
        ]
    statistics = np.full((len(rows), max(map(len, rows), default=0) or 1, _FIRST + len(OVERLAPS)), _PADDING)
    for index, found in enumerate(rows):
        if found:
            statistics[index, : len(found)] = found
    return statistics


def mean_average_precision(
    statistics: NDArray[np.float64], weights: NDArray[Any] | None = None, thresholds: int = 1
) -> NDArray[np.float64]:
    """Returns the mean over classes of average precision, in percent, for each row of weights.

    Args:
        statistics: From `detection_statistics`.
        weights: How often each image counts, shape (resamples, images); once each if None.
        thresholds: Of how many of `OVERLAPS` the mean is taken: 1 for mAP@0.5, all for COCO's mAP.

    Returns:
        Shape (resamples,), or (1,); 0 where nothing is to be found. Classes without boxes to find are left out.
    """
    counts = np.ones((1, len(statistics))) if weights is None else np.asarray(weights, np.float64)
    total, classes = np.zeros((2, len(counts)))
    for label in np.unique(statistics[..., _CLASS][statistics[..., _KIND] == _TRUTH]):
        of_class = statistics[..., _CLASS] == label
        truths = np.where(of_class & (statistics[..., _KIND] == _TRUTH), statistics[..., _SCORE], 0).sum(axis=1)
        wanted = counts @ truths
        images, places = np.nonzero(of_class & (statistics[..., _KIND] == _DETECTION))
        detections = statistics[images, places]
        order = np.argsort(-detections[:, _SCORE], kind="stable")
        images, detections = images[order], detections[order]
        for threshold in range(thresholds):
            right = detections[:, _FIRST + threshold]
            counted = ~np.isnan(right)
            total += _average_precision(counts, wanted, images[counted], right[counted]) / thresholds
        classes += wanted > 0
    return 100 * np.divide(total, classes, out=np.zeros(len(counts)), where=classes > 0)


def _average_precision(
    counts: NDArray[np.float64], wanted: NDArray[np.float64], images: NDArray[np.intp], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns average precision for each row of weights; 0 where nothing is wanted or found."""
    result = np.zeros(len(counts))
    block = max(1, _BLOCK_VALUES // max(len(images), 1))
    for start in range(0, len(counts) if len(images) else 0, block):
        weight = counts[start : start + block][:, images]
        hits, found = np.cumsum(weight * right, axis=1), np.cumsum(weight, axis=1)
        precision = np.divide(hits, found, out=np.zeros_like(hits), where=found > 0)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for row, number in enumerate(wanted[start : start + block]):
            if number > 0:
                reached = np.searchsorted(hits[row] / number, RECALLS, side="left")
                known = reached < len(images)
                result[start + row] = envelope[row, reached[known]].sum() / len(RECALLS)
    return result


def _matches(
    predictions: Sequence[Sequence[Mapping[str, Any]]], truths: Sequence[Sequence[Box]], numbers: Mapping[str, int]
) -> Iterator[Mapping[str, Any]]:
    """Gives pycocotools' matches of one image and class after the other."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    class Evaluation(COCOeval):
        """Leaves out what is difficult, and all that is found of it, as VOC does; of crowds, COCO's overlap alone."""

        def computeIoU(self, image: int, category: int) -> Any:  # noqa: N802 - overrides
            # What pycocotools calls a crowd may be found more than once, and overlaps by the share of what is found.
            truths = self._gts[image, category]
            for box in truths:
                box["iscrowd"] = box["crowd"]
            found = super().computeIoU(image, category)
            for box in truths:
                box["iscrowd"] = box["ignore"]
            return found

    def dataset(annotations: list[dict[str, Any]]) -> Any:
        coco = COCO()
        coco.dataset = {
            "images": [{"id": index} for index in range(len(truths))],
            "categories": [{"id": index, "name": name} for name, index in numbers.items()],
            "annotations": [{**entry, "id": index} for index, entry in enumerate(annotations, start=1)],
        }
        coco.createIndex()
        return coco

    # pycocotools tells about its progress on the standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = Evaluation(
            dataset([_truth(image, box, numbers) for image, boxes in enumerate(truths) for box in boxes]),
            dataset([_found(image, one, numbers) for image, found in enumerate(predictions) for one in found]),
            "bbox",
        )
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, np.inf]], ["all"]
        evaluation.params.maxDets = [MOST_DETECTIONS]
        evaluation.params.iouThrs = np.array(OVERLAPS)
        evaluation.evaluate()
    yield from (match for match in evaluation.evalImgs if match is not None)


def _truth(image: int, box: Box, numbers: Mapping[str, int]) -> dict[str, Any]:
    place = [box.left, box.top, box.right - box.left, box.bottom - box.top]
    return {
        "image_id": image,
        "category_id": numbers[box.label],
        "bbox": place,
        "area": place[2] * place[3],
        "iscrowd": int(box.difficult or box.crowd),
        "crowd": int(box.crowd),
    }


def _found(image: int, prediction: Mapping[str, Any], numbers: Mapping[str, int]) -> dict[str, Any]:
    left, top, right, bottom = prediction["box"]
    place = [left, top, right - left, bottom - top]
    return {
        "image_id": image,
        "category_id": numbers[prediction["class"]],
        "bbox": place,
        "area": place[2] * place[3],
        "score": prediction["score"],
        "iscrowd": 0,
    }
