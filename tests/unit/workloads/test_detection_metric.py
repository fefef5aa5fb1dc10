"""mAP against pycocotools' own accumulation, on random and on real data, and against published figures."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from optops.workloads.detection import average_precision
from optops.workloads.detection.average_precision import detection_statistics, mean_average_precision
from optops.workloads.detection.boxes import Box

DATA = Path(__file__).parents[3] / "../shared/data/detection"
CLASSES = ("a", "b", "c")


def random_images(seed, images=30, classes=CLASSES, crowds=False, digits=1):
    """Boxes with detections near them, some doubled, some of nothing; scores of one digit have ties."""
    random = np.random.default_rng(seed)
    truths, predictions = [], []
    for _ in range(images):
        boxes, found = [], []
        for _ in range(random.integers(0, 6)):
            left, top = random.uniform(0, 80, 2)
            width, height = random.uniform(5, 40, 2)
            crowd = bool(crowds and random.random() < 0.2)
            label = str(random.choice(classes))
            boxes.append(Box(label, left, top, left + width, top + height, crowd, crowd))
            for _ in range(random.integers(0, 3)):
                place = np.array(boxes[-1][1:5]) + random.normal(0, 3, 4)
                place[2:] = np.maximum(place[2:], place[:2] + 1)
                label = boxes[-1].label if random.random() < 0.8 else str(random.choice(classes))
                found.append({"box": place.tolist(), "class": label, "score": round(float(random.random()), digits)})
        for _ in range(random.integers(0, 3)):
            left, top = random.uniform(0, 80, 2).tolist()
            label = str(random.choice(classes))
            found.append({"box": [left, top, left + 9, top + 9], "class": label, "score": float(random.random())})
        truths.append(boxes)
        predictions.append(found)
    return predictions, truths


def reference(predictions, truths, classes, repeats=None):
    """AP@0.5 and AP of pycocotools alone; `repeats` says how often each image stands in the data."""
    repeats = np.ones(len(truths), int) if repeats is None else repeats
    chosen = np.repeat(np.arange(len(truths)), repeats)

    def dataset(entries):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(len(chosen))],
            "categories": [{"id": i + 1} for i in range(len(classes))],
            "annotations": [{**entry, "id": i + 1} for i, entry in enumerate(entries)],
        }
        coco.createIndex()
        return coco

    def entry(image, label, place, **more):
        left, top, right, bottom = place
        size = [right - left, bottom - top]
        where = {"bbox": [left, top, *size], "area": size[0] * size[1]}
        return {"image_id": image, "category_id": classes.index(label) + 1, "iscrowd": 0, **where, **more}

    with contextlib.redirect_stdout(io.StringIO()):
        given = [
            entry(i, b.label, b[1:5], iscrowd=int(b.crowd)) for i, image in enumerate(chosen) for b in truths[image]
        ]
        found = [
            entry(i, p["class"], p["box"], score=p["score"])
            for i, image in enumerate(chosen)
            for p in predictions[image]
        ]
        evaluation = COCOeval(dataset(given), dataset(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * evaluation.stats[1], 100 * evaluation.stats[0]


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_equals_pycocotools_on_random_boxes(seed, crowds):
    predictions, truths = random_images(seed, crowds=crowds)
    statistics = detection_statistics(predictions, truths, CLASSES)
    at_half, over_all = reference(predictions, truths, CLASSES)
    assert 0 < at_half < 100
    assert mean_average_precision(statistics)[0] == pytest.approx(at_half, abs=1e-9)
    assert mean_average_precision(statistics, thresholds=10)[0] == pytest.approx(over_all, abs=1e-9)


def test_a_resample_equals_pycocotools_on_images_that_stand_there_so_often():
    predictions, truths = random_images(7, images=20, digits=9)
    weights = np.random.default_rng(1).multinomial(20, [1 / 20] * 20, size=6)
    found = mean_average_precision(detection_statistics(predictions, truths, CLASSES), weights)
    expected = [reference(predictions, truths, CLASSES, row)[0] for row in weights]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_it_is_not_the_mean_of_what_single_images_reach():
    predictions, truths = random_images(3)
    statistics = detection_statistics(predictions, truths, CLASSES)
    single = np.mean([mean_average_precision(statistics[i : i + 1])[0] for i in range(len(truths))])
    assert abs(single - mean_average_precision(statistics)[0]) > 1


def test_a_class_that_no_image_of_a_resample_has_is_left_out():
    truths = [[Box("a", 0, 0, 10, 10)], [Box("b", 0, 0, 10, 10)]]
    predictions = [[{"box": [0, 0, 10, 10], "class": "a", "score": 0.9}], []]
    statistics = detection_statistics(predictions, truths, CLASSES)
    np.testing.assert_allclose(mean_average_precision(statistics, np.array([[1, 1], [2, 0], [0, 2]])), [50, 100, 0])


def test_nothing_to_find_and_nothing_found_is_zero_and_finite():
    statistics = detection_statistics([[], []], [[], []], CLASSES)
    assert statistics.shape[0] == 2
    assert mean_average_precision(statistics, np.ones((3, 2))).tolist() == [0, 0, 0]


def test_what_is_difficult_counts_neither_way():
    easy, difficult = Box("a", 0, 0, 10, 10), Box("a", 50, 50, 90, 90, difficult=True)
    found = [
        {"box": [50, 50, 90, 90], "class": "a", "score": 0.9},
        {"box": [0, 0, 10, 10], "class": "a", "score": 0.8},
    ]
    statistics = detection_statistics([found], [[easy, difficult]], CLASSES)
    assert mean_average_precision(statistics)[0] == pytest.approx(100)
    missed = detection_statistics([found[1:]], [[easy, difficult]], CLASSES)
    assert mean_average_precision(missed)[0] == pytest.approx(100)
    wrong = detection_statistics([found], [[easy]], CLASSES)
    assert mean_average_precision(wrong)[0] == pytest.approx(50)


def test_a_difficult_box_may_be_found_again_and_again_but_by_its_whole():
    truths = [[Box("a", 0, 0, 10, 10), Box("a", 50, 50, 90, 90, difficult=True)]]
    again = [
        {"box": [50, 50, 90, 90], "class": "a", "score": 0.9},
        {"box": [50, 50, 90, 88], "class": "a", "score": 0.85},
        {"box": [0, 0, 10, 10], "class": "a", "score": 0.8},
    ]
    assert mean_average_precision(detection_statistics([again], truths, CLASSES))[0] == pytest.approx(100)
    # A corner of it is another thing; of a crowd it would be a part.
    corner = [{"box": [50, 50, 60, 60], "class": "a", "score": 0.9}, again[-1]]
    assert mean_average_precision(detection_statistics([corner], truths, CLASSES))[0] == pytest.approx(50)
    crowds = [[truths[0][0], truths[0][1]._replace(crowd=True)]]
    assert mean_average_precision(detection_statistics([corner], crowds, CLASSES))[0] == pytest.approx(100)


def test_boxes_without_area_and_of_unknown_classes_count_for_nothing():
    truths = [[Box("a", 0, 0, 10, 10), Box("a", 5, 5, 5, 5), Box("z", 0, 0, 9, 9)]]
    found = [[{"box": [0, 0, 10, 10], "class": "a", "score": 0.9}]]
    assert mean_average_precision(detection_statistics(found, truths, CLASSES))[0] == pytest.approx(100)


def test_detections_of_classes_that_the_data_does_not_have_count_for_nothing():
    predictions, truths = random_images(3)
    more = [[*found, {"box": [0, 0, 9, 9], "class": "elsewhere", "score": 0.99}] for found in predictions]
    assert np.array_equal(
        detection_statistics(more, truths, CLASSES), detection_statistics(predictions, truths, CLASSES)
    )


@pytest.mark.skipif(not (DATA / "map_sample").is_dir(), reason="../shared/data is absent")
def test_matches_give_the_published_average_precision_of_a_sample(monkeypatch):
    # 24.5687 % over all points at IoU 0.3 (Padilla et al., Object-Detection-Metrics, sample 2), boxes in whole pixels.
    monkeypatch.setattr(average_precision, "OVERLAPS", (0.3,))

    def read(kind):
        files = sorted((DATA / "map_sample" / kind).glob("*.txt"))
        rows = [[line.split() for line in path.read_text().splitlines()] for path in files]
        return [[[float(value) for value in row[1:]] for row in lines] for lines in rows]

    def corners(left, top, width, height):
        return [left, top, left + width + 1, top + height + 1]

    truths = [[Box("a", *corners(*row)) for row in image] for image in read("groundtruths")]
    found = [
        [{"box": corners(*row[1:]), "class": "a", "score": row[0]} for row in image] for image in read("detections")
    ]
    statistics = detection_statistics(found, truths, ("a",))
    rows = statistics.reshape(-1, statistics.shape[-1])
    wanted = rows[rows[:, 0] == 1, 2].sum()
    detections = rows[rows[:, 0] == 2]
    detections = detections[np.argsort(-detections[:, 2], kind="stable")]
    hits = np.cumsum(detections[:, 3])
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    every_point = float(np.sum(np.diff([0, *hits / wanted]) * envelope))
    assert wanted == 15 and len(detections) == 24
    assert every_point == pytest.approx(0.245687, abs=5e-7)
