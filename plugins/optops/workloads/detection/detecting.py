"""Runs a detector over images: letterbox in, boxes in pixels of the given images out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optops.models.yolo.decoding import Detections, Suppression, decode, suppress
from optops.models.yolo.network import INPUT
from optops.workloads.detection.average_precision import MOST_DETECTIONS
from optops.workloads.detection.detector import Detector
from optops.workloads.detection.letterbox import letterbox, out_of_letterbox
from optops.workloads.images import ImageError, image_of_input, open_image

if TYPE_CHECKING:
    from PIL.Image import Image

    from optops.runtimes.base import Executable

BATCH = 8
JUDGED_FROM = 0.01
"""Least score of boxes that a detector is judged by: average precision wants the uncertain ones too."""
REPORT_EVERY = 64

Prediction = list[dict[str, Any]]
"""Boxes of one image, best first: `box` [left, top, right, bottom] in its pixels, `class`, `score`."""


def predict_files(
    executable: "Executable",
    paths: Sequence[str],
    detector: Detector,
    report: Callable[[str], None] | None = None,
) -> list[Prediction]:
    """Returns what a detector is judged by: what is found in image files, whatever of it would be served.

    Those are the `MOST_DETECTIONS` best boxes of an image, all classes together, as COCO's rules have it, down to low
    scores; nothing in an image that can not be read.
    """
    judged = Suppression(JUDGED_FROM, detector.overlap, MOST_DETECTIONS)
    found: list[Prediction] = []
    with ThreadPoolExecutor(2) as pool:
        # Lazily in groups: decoded images of a whole split would not fit into memory.
        for group in _groups(paths, BATCH):
            squares = list(pool.map(lambda path: _square_of_file(Path(path), detector.input_size), group))
            found += _detect(executable, squares, detector, judged)
            if report is not None and len(found) % REPORT_EVERY < BATCH:
                report(f"{len(found)} of {len(paths)} images")
    return found


def serve_images(executable: "Executable", inputs: Sequence[Any], detector: Detector) -> list[Prediction]:
    """Returns what is found in images as they are given to a served model.

    Raises:
        ValueError: If one is no image; names it.
    """
    found: list[Prediction] = []
    for group in _groups(list(enumerate(inputs)), BATCH):
        images = [image_of_input(value, index) for index, value in group]
        squares = [_square(image, detector.input_size) for image in images]
        found += _detect(executable, squares, detector, detector.suppression)
    return found


def calls(paths: Iterable[str], detector: Detector, batch: int) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Gives calls of an executable, of so many images each; images that can not be read are left out."""
    squares = (_square_of_file(Path(path), detector.input_size) for path in paths)
    readable = (pixels for pixels, size in squares if size is not None)
    for group in _groups(readable, batch):
        if len(group) == batch:
            yield {INPUT: _as_input(group)}


def _square_of_file(path: Path, side: int) -> tuple[NDArray[np.uint8], tuple[int, int] | None]:
    try:
        return _square(open_image(path), side)
    except ImageError:
        return np.zeros((side, side, 3), np.uint8), None


def _square(image: "Image", side: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    return letterbox(image, side), image.size


def _as_input(squares: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return np.stack(squares).astype(np.float32) / np.float32(255)


def _detect(
    executable: "Executable",
    squares: Sequence[tuple[NDArray[np.uint8], tuple[int, int] | None]],
    detector: Detector,
    settings: Suppression,
) -> list[Prediction]:
    outputs = executable({INPUT: _as_input([pixels for pixels, _ in squares])})
    boxes, scores = decode(list(outputs.values()), detector.anchor_array, detector.input_size)
    return [
        [] if size is None else _as_prediction(suppress(boxes[index], scores[index], settings), size, detector)
        for index, (_, size) in enumerate(squares)
    ]


def _as_prediction(found: Detections, size: tuple[int, int], detector: Detector) -> Prediction:
    places = out_of_letterbox(found.boxes, size, detector.input_size)
    return [
        {"box": [round(float(v), 2) for v in box], "class": detector.classes[label], "score": round(float(score), 6)}
        for box, label, score in zip(places, found.labels, found.scores, strict=True)
    ]


def _groups(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    iterator = iter(items)
    while group := tuple(item for _, item in zip(range(size), iterator)):  # noqa: B905 - the range ends a group
        yield group


def same_detections(
    ours: Sequence[Mapping[str, Any]],
    theirs: Sequence[Mapping[str, Any]],
    *,
    least_score: float = 0.1,
    score_margin: float = 0.02,
    overlap: float = 0.9,
) -> bool:
    """Returns whether two predictions of an image are the same but for rounding.

    Each box that scores `least_score` or more has its own counterpart of its class on the other side: it overlaps by
    `overlap` or more and scores the same within `score_margin`.
    """
    return _covers(ours, theirs, least_score, score_margin, overlap) and _covers(
        theirs, ours, least_score, score_margin, overlap
    )


def _covers(
    wanted: Sequence[Mapping[str, Any]],
    given: Sequence[Mapping[str, Any]],
    least_score: float,
    margin: float,
    overlap: float,
) -> bool:
    from optops.workloads.detection.boxes import overlaps

    judged = [one for one in wanted if one["score"] >= least_score]
    if not judged:
        return True
    if not given:
        return False
    common = overlaps(*(np.array([one["box"] for one in side], np.float64) for side in (judged, given)))
    labels = np.array([[one["class"] == other["class"] for other in given] for one in judged])
    scores = np.abs(np.array([one["score"] for one in judged])[:, None] - [other["score"] for other in given])
    matches = (common >= overlap) & labels & (scores <= margin)
    return bool(matches.any(axis=1).all())
