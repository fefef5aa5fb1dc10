"""Which annotation belongs to which image, whatever lies beside them and however they are called."""

import json

import pytest
from PIL import Image

from optops.workloads.detection.boxes import Box
from optops.workloads.detection.corpus import read_detection
from optops.workloads.detection.scenes import write_voc
from optops.workloads.detection.settings import DetectionData

SIDE = 64
BOX = Box("disc", 16, 16, 48, 48)
SUFFIX = {"voc": ".xml", "yolo": ".txt"}


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (SIDE, SIDE)).save(path)


def write_labels(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".xml":
        write_voc(path, "x", (SIDE, SIDE), [BOX])
    else:
        path.write_text("0 0.5 0.5 0.5 0.5\n")


def write_coco(path, names, written=int):
    """Writes COCO with a box for each image; `written` makes what annotations hold of an id."""
    data = {
        "categories": [{"id": 0, "name": "disc"}],
        "images": [{"id": index, "file_name": name} for index, name in enumerate(names)],
        "annotations": [
            {"image_id": written(index), "category_id": written(0), "bbox": [16, 16, 32, 32]}
            for index in range(len(names))
        ],
    }
    path.write_text(json.dumps(data))


def read(form, folder, **part):
    """The rows of a split."""
    part = {"images": "images", "annotations": "labels"} | part
    data = DetectionData(format=form, folder=str(folder), classes=["disc"], train=part, validation=part, test=part)
    return read_detection(data)["train"]


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_what_macos_lays_beside_annotations_is_none(tmp_path, form):
    for name in ("0", "1"):
        write_image(tmp_path / "images" / f"{name}.png")
        write_labels(tmp_path / "labels" / f"{name}{SUFFIX[form]}")
        (tmp_path / "labels" / f"._{name}{SUFFIX[form]}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
        (tmp_path / "images" / f"._{name}.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    frame = read(form, tmp_path)
    assert list(frame["name"]) == ["0", "1"]
    assert list(frame["boxes"]) == [(BOX,), (BOX,)] and not frame["faults"].map(len).any()


@pytest.mark.parametrize("form", ["voc", "yolo", "coco"])
def test_names_may_be_written_as_on_windows(tmp_path, form):
    names = ["day/0.png", "day/1.png"]
    for name in names:
        write_image(tmp_path / "images" / name)
        for suffix in SUFFIX.values():
            write_labels((tmp_path / "labels" / name).with_suffix(suffix))
    write_coco(tmp_path / "labels.json", [name.replace("/", "\\") for name in names])
    (tmp_path / "list.txt").write_text("C:\\data\\images\\day\\0.png\r\nimages\\day\\1.png\r\nday\\2.png\r\n")
    frame = read(form, tmp_path, annotations="labels.json" if form == "coco" else "labels", list="list.txt")
    assert list(frame["image"][:2]) == [str(tmp_path / "images" / name) for name in names]
    assert list(frame["boxes"]) == [(BOX,), (BOX,), ()]
    assert [bool(content) for content in frame["content"]] == [True, True, False]


def test_a_backslash_that_is_part_of_a_name_stays(tmp_path):
    write_image(tmp_path / "images" / "day\\0.png")
    write_labels(tmp_path / "labels" / "day\\0.txt")
    (tmp_path / "list.txt").write_text("images/day\\0.png")
    (image,) = read("yolo", tmp_path, list="list.txt")["image"]
    assert image.endswith("day\\0.png")


def test_a_coco_name_may_begin_with_its_folder(tmp_path):
    for name in ("0.png", "images/1.png", "2.png"):
        write_image(tmp_path / "coco" / "images" / name)
    names = ["images/0.png", "images/1.png", "coco\\images\\2.png", "other/0.png"]
    write_coco(tmp_path / "labels.json", names)
    frame = read("coco", tmp_path, images="coco/images", annotations="labels.json")
    assert list(frame["name"]) == ["0.png", "images/1.png", "2.png", "other/0.png"]
    assert [bool(content) for content in frame["content"]] == [True, True, True, False]
    assert not frame["faults"].map(len).any()


@pytest.mark.parametrize("written", [int, float, str])
def test_a_coco_id_is_the_same_as_number_and_as_text(written, tmp_path):
    write_image(tmp_path / "images" / "0.png")
    write_coco(tmp_path / "labels.json", ["0.png"], written)
    frame = read("coco", tmp_path, annotations="labels.json")
    assert list(frame["boxes"]) == [(BOX,)] and not frame["faults"].map(len).any()


@pytest.mark.parametrize("name", ["..\\outside.png", "\\\\server\\outside.png"])
def test_no_backslash_leads_out_of_the_folder(tmp_path, name):
    write_image(tmp_path / "images" / "0.png")
    write_image(tmp_path / "outside.png")
    write_coco(tmp_path / "labels.json", [name])
    ((fault,),) = read("coco", tmp_path, annotations="labels.json")["faults"]
    assert "leads out of its folder" in fault


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_an_annotation_may_be_called_as_its_image_with_the_suffix_and_all(tmp_path, form):
    for name in ("0.png", "day/1.jpg"):
        write_image(tmp_path / "images" / name)
        write_labels(tmp_path / "labels" / f"{name}{SUFFIX[form]}")
    frame = read(form, tmp_path)
    assert list(frame["name"]) == ["0", "day/1"]
    assert list(frame["boxes"]) == [(BOX,), (BOX,)] and not frame["faults"].map(len).any()


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_a_second_annotation_of_an_image_is_a_row_of_its_own(tmp_path, form):
    write_image(tmp_path / "images" / "0.png")
    for name in ("0", "0.png"):
        write_labels(tmp_path / "labels" / f"{name}{SUFFIX[form]}")
    frame = read(form, tmp_path)
    assert list(frame["name"]) == ["0", "0.png"]
    assert [file.rpartition("/")[2] for file in frame["file"]] == [f"{n}{SUFFIX[form]}" for n in ("0", "0.png")]


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_images_that_differ_in_their_suffix_alone_may_each_have_an_annotation(tmp_path, form):
    for name in ("0.jpg", "0.png"):
        write_image(tmp_path / "images" / name)
        write_labels(tmp_path / "labels" / f"{name}{SUFFIX[form]}")
    frame = read(form, tmp_path)
    assert [image.rpartition("/")[2] for image in frame["image"]] == ["0.jpg", "0.png"]
    assert [file.rpartition("/")[2] for file in frame["file"]] == [f"{n}{SUFFIX[form]}" for n in ("0.jpg", "0.png")]
    assert not frame["faults"].map(len).any()


def test_images_of_a_corpus_that_are_not_there_go_to_all_splits_for_the_checks_to_name_them(tmp_path):
    write_image(tmp_path / "images" / "0.png")
    write_coco(tmp_path / "corpus.json", [f"images/{number}.png" for number in range(100)])
    fractions = {"train": 0.4, "validation": 0.3, "test": 0.3}
    data = DetectionData(
        format="coco", folder=str(tmp_path), images="images", corpus="corpus.json", fractions=fractions
    )
    splits = read_detection(data)
    assert sum(map(len, splits.values())) == 100 and min(map(len, splits.values())) > 10
