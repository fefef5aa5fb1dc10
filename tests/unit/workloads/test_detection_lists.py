"""Which images the lists of splits mean, wherever their paths start and however they are written."""

import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from optops.recipe_file import parse_recipe
from optops.workloads.base import load_workload
from optops.workloads.detection.boxes import Box
from optops.workloads.detection.corpus import read_detection
from optops.workloads.detection.scenes import write_scenes, write_voc
from optops.workloads.detection.settings import DetectionData

SIDE = 64
WORKLOAD = load_workload("detection")
YOLO = """
name: scenes
workload: detection
data:
  format: yolo
  folder: data
  classes: [disc, triangle, cross]
  images: images
  annotations: labels
  train: train.txt
  validation: validation.txt
  test: test.txt
model: {input_size: 64}
registry: {name: scenes}
"""


def test_a_list_may_name_images_from_the_root_of_the_data_set_or_of_the_disk(tmp_path):
    write_scenes(tmp_path / "scenes", train=4, validation=2, test=2, seed=4, side=SIDE)
    data = tmp_path / "data"
    for split, numbers in {"train2017": range(4), "val2017": range(4, 8)}.items():
        (data / "images" / split).mkdir(parents=True)
        (data / "labels" / split).mkdir(parents=True)
        for number in numbers:
            name = f"scene_{number:05}"
            shutil.copy(tmp_path / "scenes" / "images" / f"{name}.png", data / "images" / split)
            (data / "labels" / split / f"{name}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    lines = {
        "train": [f"./images/train2017/scene_{number:05}.png" for number in range(4)],
        "validation": [f"/datasets/coco/images/val2017/scene_{number:05}.png" for number in (4, 5)],
        "test": ["val2017/scene_00006", "images/val2017/scene_00007.png", "images/val2017/scene_00099.png"],
    }
    for split, listed in lines.items():
        (data / f"{split}.txt").write_text("\n".join(listed))
    frames = WORKLOAD.read(parse_recipe(YOLO, tmp_path / "recipe.yaml").data)
    assert list(frames["train"]["name"]) == [f"train2017/scene_{number:05}" for number in range(4)]
    assert list(frames["validation"]["name"]) == ["val2017/scene_00004", "val2017/scene_00005"]
    assert list(frames["test"]["name"]) == ["val2017/scene_00006", "val2017/scene_00007", "scene_00099"]
    for frame in frames.values():
        there = frame[frame["name"] != "scene_00099"]
        assert there["boxes"].map(len).eq(1).all() and (there["content"] != "").all()


@pytest.mark.parametrize("listed", ["twin.jpg", "images/twin.png"])
@pytest.mark.parametrize("form", ["voc", "yolo", "coco"])
def test_of_images_that_differ_in_their_suffix_alone_a_list_gives_the_one_that_it_names(tmp_path, form, listed):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for name in ("twin.jpg", "twin.png", "other.png"):
        Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "images" / name)
    write_voc(tmp_path / "labels" / "twin.xml", "twin", (SIDE, SIDE), [Box("disc", 16, 16, 48, 48)])
    (tmp_path / "labels" / "twin.txt").write_text("0 0.5 0.5 0.5 0.5")
    names = ("twin.jpg", "twin.png", "other.png")
    coco = {
        "categories": [{"id": 0, "name": "disc"}],
        "images": [{"id": index, "file_name": name} for index, name in enumerate(names)],
        "annotations": [{"image_id": index, "category_id": 0, "bbox": [16, 16, 32, 32]} for index in range(3)],
    }
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    (tmp_path / "list.txt").write_text(listed)
    labels = "labels.json" if form == "coco" else "labels"
    data = {"format": form, "folder": str(tmp_path), "images": "images", "classes": ["disc"]}
    one, both = {"annotations": labels, "list": "list.txt"}, {"annotations": labels}
    frames = read_detection(DetectionData(**data, train=one, validation=both, test=both))
    (image,) = frames["train"]["image"]
    assert image.endswith(f"images/{Path(listed).name}")
    assert list(frames["train"]["boxes"]) == [(Box("disc", 16, 16, 48, 48),)]
    faults = {Path(image).name: faults for image, faults in frames["test"][["image", "faults"]].itertuples(index=False)}
    suffix = {"voc": "xml", "yolo": "txt"}.get(form)
    told = (f"twin.{suffix} is the annotation of twin.jpg, too; rename one of the two",) if suffix else ()
    assert (faults["twin.jpg"], faults["twin.png"]) == ((), told)


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("form", ["voc", "yolo", "coco"])
def test_a_name_is_found_whether_its_accents_are_characters_of_their_own_or_not(tmp_path, form, stored):
    disk, listed = (unicodedata.normalize(kind, "größe") for kind in (stored, "NFD" if stored == "NFC" else "NFC"))
    box = Box("disc", 16, 16, 48, 48)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "images" / f"{disk}.png")
    write_voc(tmp_path / "labels" / f"{disk}.xml", "x", (SIDE, SIDE), [box])
    (tmp_path / "labels" / f"{disk}.txt").write_text("0 0.5 0.5 0.5 0.5")
    coco = {
        "categories": [{"id": 0, "name": "disc"}],
        "images": [{"id": 0, "file_name": f"{listed}.png"}],
        "annotations": [{"image_id": 0, "category_id": 0, "bbox": [16, 16, 32, 32]}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    (tmp_path / "list.txt").write_text(f"images/{listed}.png", encoding="utf-8")
    part = {"annotations": "labels.json" if form == "coco" else "labels", "list": "list.txt"}
    data = {"format": form, "folder": str(tmp_path), "images": "images", "classes": ["disc"]}
    frame = read_detection(DetectionData(**data, train=part, validation=part, test=part))["train"]
    assert list(frame["boxes"]) == [(box,)]
    assert frame["image"].map(os.path.isfile).all()


@pytest.mark.parametrize("start", ["", "set/", "../", "/"])
@pytest.mark.parametrize("form", ["voc", "yolo", "coco"])
def test_a_list_gives_no_image_of_the_same_name_in_another_folder(tmp_path, form, start):
    start = f"{tmp_path}/" if start == "/" else start
    for folder, name in (("cam1", "0"), ("cam1", "1"), ("cam2", "1")):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (SIDE, SIDE)).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "labels").mkdir()
    for name in ("0", "1"):
        write_voc(tmp_path / "labels" / f"{name}.xml", "x", (SIDE, SIDE), [Box("disc", 16, 16, 48, 48)])
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5")
    coco = {
        "categories": [{"id": 0, "name": "disc"}],
        "images": [{"id": index, "file_name": f"{index}.png"} for index in range(2)],
        "annotations": [{"image_id": index, "category_id": 0, "bbox": [16, 16, 32, 32]} for index in range(2)],
    }
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    (tmp_path / "list.txt").write_text(f"{start}cam1/0.png\n{start}cam2/1.png\n")
    part = {"annotations": "labels.json" if form == "coco" else "labels", "list": "list.txt"}
    data = {"format": form, "folder": str(tmp_path), "images": "cam1", "classes": ["disc"]}
    frame = read_detection(DetectionData(**data, train=part, validation=part, test=part))["train"]
    assert list(frame["boxes"]) == [(Box("disc", 16, 16, 48, 48),), ()]
    assert list(frame["image"].map(os.path.isfile)) == [True, False]
    assert frame["id"].iloc[1].removesuffix(".png").endswith("/cam2/1")
    (tmp_path / "list.txt").write_text("cam2/1.png\n")  # where there is such a file
    with pytest.raises(ValueError, match="from the folder of the images or with its name in it"):
        read_detection(DetectionData(**data, train=part, validation=part, test=part))
    shutil.rmtree(tmp_path / "cam2")
    (tmp_path / "list.txt").write_text("cam2/0.png\ncam2/1.png\n")  # where `cam1` was called otherwise
    renamed = read_detection(DetectionData(**data, train=part, validation=part, test=part))["train"]
    assert list(renamed["image"].map(os.path.isfile)) == [True, True]
