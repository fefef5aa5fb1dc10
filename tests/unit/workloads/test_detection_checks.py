"""Label checks of images and boxes: each defect is named with its reason, clean data has none, and no file crashes."""

import json
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from optops.recipe_file import parse_recipe
from optops.workloads.base import load_workload
from optops.workloads.detection.box_checks import find_absent_class
from optops.workloads.detection.boxes import Box
from optops.workloads.detection.classes import class_names
from optops.workloads.detection.image_checks import find_conflicts, near_elsewhere
from optops.workloads.detection.inspection import THUMBNAIL, Look
from optops.workloads.detection.scenes import write_scenes, write_voc
from optops.workloads.detection.settings import DetectionData

DATA = Path(__file__).parents[3] / "../shared/data/detection"
WORKLOAD = load_workload("detection")
SIDE = 64
CHANCE = {"tiny_box", "no_boxes", "absent_class"}
"""What a few scenes drawn at random may have."""

VOC = """
name: scenes
workload: detection
data:
  format: voc
  folder: data
  classes: [disc, triangle, cross]
  images: images
  annotations: annotations
  train: train.txt
  validation: validation.txt
  test: test.txt
model: {input_size: 64}
registry: {name: scenes}
"""


def check(folder, text=VOC):
    """Defects by check, and the outcomes."""
    recipe = parse_recipe(text, folder / "recipe.yaml")
    splits = WORKLOAD.read(recipe.data)
    report = WORKLOAD.check(splits, recipe, folder / "docs")
    found: dict[str, dict[str, str]] = {}
    for defect in report.defects:
        found.setdefault(defect.check, {})[defect.id] = defect.reason
    return found, report


@pytest.fixture
def scenes(tmp_path_factory):
    """Twelve clean scenes of which a test may spoil what it likes."""
    folder = tmp_path_factory.mktemp("checks")
    write_scenes(folder / "data", train=8, validation=2, test=2, seed=4, side=SIDE)
    return folder


def edit(folder, index, change):
    """Changes the annotation of a scene."""
    path = folder / "data" / "annotations" / f"scene_{index:05}.xml"
    tree = ElementTree.parse(path)
    change(tree.getroot())
    tree.write(path)


def set_box(root, **sides):
    place = root.find("object/bndbox")
    for name, value in sides.items():
        place.find(name).text = str(value)


def test_generated_scenes_have_no_defect(scenes):
    found, report = check(scenes)
    assert {name: ids for name, ids in found.items() if name not in CHANCE} == {}
    assert report.quarantine == frozenset()
    assert (scenes / "docs" / "index.html").is_file()


def test_each_defect_of_a_box_is_named_with_the_box(scenes):
    edit(scenes, 0, lambda root: set_box(root, xmin=30, xmax=30))
    edit(scenes, 1, lambda root: set_box(root, xmin=50, xmax=90))
    edit(scenes, 2, lambda root: setattr(root.find("object/name"), "text", "dsic"))
    edit(scenes, 3, lambda root: root.append(root.find("object")))
    edit(scenes, 4, lambda root: setattr(root.find("object/bndbox/ymin"), "text", "12px"))
    edit(scenes, 5, lambda root: root.find("object").remove(root.find("object/bndbox")))
    edit(scenes, 6, lambda root: set_box(root, xmin="nan"))
    edit(scenes, 7, lambda root: set_box(root, xmin=10, xmax=12, ymin=10, ymax=20))
    found, report = check(scenes)
    assert found["no_area"].keys() == {"train/scene_00000"}
    assert found["no_area"]["train/scene_00000"].startswith("box 1, ")
    assert "has no area" in found["no_area"]["train/scene_00000"]
    assert found["outside_image"].keys() == {"train/scene_00001"}
    assert "outside the image of 64 x 64" in found["outside_image"]["train/scene_00001"]
    assert found["unknown_class"].keys() == {"train/scene_00002"}
    assert found["unknown_class"]["train/scene_00002"].startswith("box 1, dsic [")
    assert "is none of disc, triangle, cross; did you mean 'disc'?" in found["unknown_class"]["train/scene_00002"]
    assert found["doubled_box"].keys() == {"train/scene_00003"}
    assert "IoU 1.000" in found["doubled_box"]["train/scene_00003"]
    assert found["malformed"].keys() == {f"train/scene_0000{index}" for index in (4, 5, 6)}
    assert "'12px', which is no number" in found["malformed"]["train/scene_00004"]
    assert "bndbox is missing" in found["malformed"]["train/scene_00005"]
    assert "train/scene_00007" in found["tiny_box"]
    assert report.quarantine == {f"train/scene_0000{index}" for index in range(7)}
    (defect,) = [defect for defect in report.defects if defect.check == "no_area"]
    assert defect.file.endswith("annotations/scene_00000.xml")
    assert "scene_00000" in defect.value


def test_a_class_without_a_box_to_be_found_is_named_once_a_split():
    crowd = Box("crowd", 0, 0, 9, 9, difficult=True, crowd=True)
    rows = pd.DataFrame({"boxes": [(), (Box("disc", 0, 0, 9, 9), crowd), (Box("flat", 3, 0, 3, 9),)]}, index=[7, 8, 9])
    assert find_absent_class(rows, ("disc",)).empty
    found = find_absent_class(rows, ("disc", "crowd", "flat", "never"))
    assert found.to_dict() == {7: "the split has no box to be found of 'crowd', 'flat', 'never'"}


def test_each_defect_of_an_image_is_named(scenes):
    images = scenes / "data" / "images"
    content = (images / "scene_00000.png").read_bytes()
    (images / "scene_00000.png").write_bytes(content[: len(content) // 2])
    (images / "scene_00001.png").write_bytes(b"")
    (images / "scene_00002.png").unlink()
    edit(scenes, 3, lambda root: setattr(root.find("size/width"), "text", "640"))
    for element in ("object",):
        edit(scenes, 4, lambda root, element=element: [root.remove(one) for one in root.findall(element)])
    (scenes / "data" / "annotations" / "scene_00005.xml").unlink()
    (scenes / "data" / "annotations" / "scene_00006.xml").write_text("<annotation><object>")
    found, _ = check(scenes)
    assert found["unreadable"].keys() == {f"train/scene_0000{index}" for index in (0, 1, 2)}
    assert "truncated" in found["unreadable"]["train/scene_00000"]
    assert "no such file" in found["unreadable"]["train/scene_00002"]
    assert found["wrong_size"] == {"train/scene_00003": "the annotation says 640 x 64, the image has 64 x 64"}
    assert "train/scene_00004" in found["no_boxes"]
    assert "no annotation file" in found["malformed"]["train/scene_00005"]
    assert "no XML" in found["malformed"]["train/scene_00006"]


def test_images_that_stand_twice_are_named_whatever_their_files_are(scenes):
    images, labels = scenes / "data" / "images", scenes / "data" / "annotations"
    # The same pixels in another format, once with the same labels in its split, and once with others in a later one.
    Image.open(images / "scene_00000.png").save(images / "copy.bmp")
    shutil.copy(labels / "scene_00000.xml", labels / "copy.xml")
    Image.open(images / "scene_00001.png").save(images / "other.bmp")
    write_voc(labels / "other.xml", "other.bmp", (SIDE, SIDE), [Box("disc", 1, 1, 20, 20)])
    Image.open(images / "scene_00002.png").save(images / "leak.bmp")
    shutil.copy(labels / "scene_00002.xml", labels / "leak.xml")
    lists = {"train": ["copy", "other"], "test": ["leak"]}
    for split, names in lists.items():
        with (scenes / "data" / f"{split}.txt").open("a") as file:
            file.write("".join(f"{name}\n" for name in names))
    with (scenes / "data" / "validation.txt").open("a") as file:
        file.write("scene_00008\n")  # listed twice
    found, _ = check(scenes)
    assert found["duplicate_image"].keys() == {"train/copy", "train/other", "validation/scene_00008#2"}
    assert found["conflicting_labels"].keys() == {"train/other", "train/scene_00001"}
    assert found["overlap"] == {
        "train/scene_00002": "the same image stands in test, test/leak",
        "test/leak": "the same image stands in train, train/scene_00002",
    }


def test_an_image_that_stands_there_thousands_of_times_with_other_labels_is_named_at_once():
    boxes = [(Box("disc", 0, 0, 9, 9),), (Box("cross", 0, 0, 9, 9),), ()]
    rows = pd.DataFrame({"pixels": "same", "boxes": [boxes[0]] * 10_000 + [boxes[1]] * 10_000 + [boxes[2]] * 2})
    rows["id"] = [f"train/{index}" for index in rows.index]
    found = find_conflicts(rows)
    assert len(found) == len(rows)
    assert found[0] == "labelled otherwise in train/10000, train/10001, train/10002 and 9999 more"
    assert found[20_000] == "labelled otherwise in train/0, train/1, train/2 and 19997 more"
    few = find_conflicts(rows.iloc[[0, 1, 20_000, 20_001]])
    assert few[0] == "labelled otherwise in train/20000, train/20001"


def test_nearly_the_same_image_in_a_later_split_is_a_warning(scenes):
    images = scenes / "data" / "images"
    Image.open(images / "scene_00003.png").save(images / "scene_00010.png".replace("png", "jpg"), quality=70)
    (images / "scene_00010.png").unlink()
    found, report = check(scenes)
    assert found["near_overlap"].keys() == {"train/scene_00003"}
    assert "test/scene_00010" in found["near_overlap"]["train/scene_00003"]
    assert not report.quarantine


def test_near_images_of_a_still_camera_are_named_once_each_and_by_the_nearest():
    random = np.random.default_rng(2)
    view = random.integers(0, 200, (THUMBNAIL, THUMBNAIL))
    frame = pd.DataFrame({"split": ["train"] * 3 + ["test"] * 3, "id": list("abcdef"), "pixels": list("123456")})
    looks = [Look("", 64, 64, name, (view + step).astype(np.uint8)) for step, name in enumerate(frame["pixels"])]
    looks[2] = Look("", 64, 64, "4", looks[3].thumbnail)
    frame.loc[2, "pixels"] = "4"  # the very same as one of the test, which another check names
    looks[4].thumbnail[:4] += 3
    near = near_elsewhere(frame, looks, 3.0)
    assert near[0] == near[1] == "nearly the same image stands in test, d"
    assert near[2] == "nearly the same image stands in test, f"
    assert not near[3:].any()


YOLO = VOC.replace("format: voc", "format: yolo").replace("annotations: annotations", "annotations: labels")


def write_yolo(folder, classes="disc\ntriangle\ncross\n", suffix=".txt"):
    """Twelve scenes with a disc each, as YOLO text."""
    write_scenes(folder / "data", train=8, validation=2, test=2, seed=4, side=SIDE)
    (folder / "data" / "labels").mkdir()
    for path in (folder / "data" / "images").iterdir():
        (folder / "data" / "labels" / f"{path.stem}{suffix}").write_text("0 0.5 0.5 0.4 0.4\n")
    (folder / "data" / "names.txt").write_text(classes)
    return YOLO.replace("[disc, triangle, cross]", "names.txt")


def label_checks(folder, text):
    recipe = parse_recipe(text, folder / "recipe.yaml")
    splits = WORKLOAD.read(recipe.data)
    return WORKLOAD.label_checks(pd.concat([f.assign(split=s) for s, f in splits.items()]), recipe)


def test_a_split_without_a_box_to_be_found_is_refused_with_what_it_has_instead(tmp_path):
    text = write_yolo(tmp_path)
    for number in (10, 11):
        path = tmp_path / "data" / "labels" / f"scene_{number:05}.txt"
        path.rename(path.with_name(f"label_{number}.txt"))
    with pytest.raises(
        ValueError, match=r"the test split has no box.*none of its 2 images has one.*scene_00010\.txt: re"
    ):
        label_checks(tmp_path, text)
    for number in (10, 11):
        (tmp_path / "data" / "labels" / f"scene_{number:05}.txt").write_text("7 0.5 0.5 0.4 0.4\n")
    with pytest.raises(
        ValueError, match=r"its boxes \(2\) are of the classes 'class 7', which `data.classes` does not"
    ):
        label_checks(tmp_path, text)
    for number in (10, 11):
        (tmp_path / "data" / "labels" / f"scene_{number:05}.txt").write_text("one\n")
    with pytest.raises(
        ValueError, match=r"2 of its 2 images have faulty annotations.*scene_00010\.txt: line 1: 1 field"
    ):
        label_checks(tmp_path, text)


def test_a_list_of_classes_in_each_folder_of_labels_is_no_annotation(tmp_path):
    text = write_yolo(tmp_path).replace("train: train.txt", "corpus: {}")
    text = text.replace("  validation: validation.txt\n  test: test.txt\n", "")
    data = tmp_path / "data"
    for number, path in enumerate(sorted((data / "images").iterdir())):
        part = "train" if number < 9 else "val"
        for old in (path, data / "labels" / f"{path.stem}.txt"):
            (old.parent / part).mkdir(exist_ok=True)
            old.rename(old.parent / part / old.name)
            (data / "labels" / part).mkdir(exist_ok=True)
            (data / "labels" / part / "classes.txt").write_text("disc\ntriangle\ncross\n")
    frames = WORKLOAD.read(parse_recipe(text, tmp_path / "recipe.yaml").data)
    assert sum(map(len, frames.values())) == 12


@pytest.mark.parametrize("suffix", [".txt", ".TXT"])
def test_an_annotation_is_found_whatever_the_case_of_its_suffix(tmp_path, suffix):
    text = write_yolo(tmp_path, suffix=suffix)
    frames = WORKLOAD.read(parse_recipe(text, tmp_path / "recipe.yaml").data)
    assert all(frame["boxes"].map(len).eq(1).all() for frame in frames.values())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("names.txt", "disc\n\ncross\n", r"names\.txt: line 2 is empty; give the class a name"),
        ("names.yaml", "names: [disc, '', cross]", r"names\.yaml: class 1 is empty"),
        ("names.yaml", "names: {0: disc, 1: null}", r"names\.yaml: class 1 is empty"),
        ("names.yaml", "names: [disc, 2024-02-30]", r"names\.yaml: no YAML: day is out of range"),
    ],
)
def test_a_class_without_a_name_does_not_shift_the_numbers_of_the_others(tmp_path, file, content, message):
    (tmp_path / file).write_text(content)
    data = {"format": "yolo", "folder": str(tmp_path), "images": "i", "annotations": "a", "corpus": {}}
    with pytest.raises(ValueError, match=message):
        class_names(DetectionData(**data, classes=file))
    (tmp_path / "names.txt").write_text("disc\ncross\n\n \n")
    assert class_names(DetectionData(**data, classes="names.txt")) == ("disc", "cross")


def test_a_class_whose_name_yaml_reads_as_true_or_false_is_refused_with_the_remedy(tmp_path):
    data = {"format": "yolo", "folder": str(tmp_path), "images": "i", "annotations": "a", "corpus": {}}
    (tmp_path / "names.yaml").write_text("names: [yes, no]")
    with pytest.raises(ValueError, match=r"names\.yaml: class True is no text: YAML reads bare yes.* put them in quot"):
        class_names(DetectionData(**data, classes="names.yaml"))
    (tmp_path / "names.yaml").write_text("names: ['yes', 'no']")
    assert class_names(DetectionData(**data, classes="names.yaml")) == ("yes", "no")


def test_names_in_a_file_that_look_like_numbers_are_as_they_are_written(tmp_path):
    data = {"format": "yolo", "folder": str(tmp_path), "images": "i", "annotations": "a", "corpus": {}}
    (tmp_path / "names.yaml").write_text("names: {0: 00000, 1: 00010, 2: 1_000, 3: 12:30}")
    assert class_names(DetectionData(**data, classes="names.yaml")) == ("00000", "00010", "1_000", "12:30")
    (tmp_path / "names.yaml").write_text("names: [1.10, a]")
    with pytest.raises(ValueError, match=r"names\.yaml: class 1\.1 is no text.* put them in quotes"):
        class_names(DetectionData(**data, classes="names.yaml"))


def test_hostile_xml_is_a_defect_and_is_not_expanded(scenes):
    bomb = '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]><annotation><filename>&y;</filename></annotation>'
    (scenes / "data" / "annotations" / "scene_00000.xml").write_text(bomb)
    found, _ = check(scenes)
    assert "document type" in found["malformed"]["train/scene_00000"]


def test_images_of_any_mode_pass(scenes):
    for index, mode in enumerate(("L", "P", "CMYK", "RGBA", "I;16", "1")):
        path = scenes / "data" / "images" / f"scene_{index:05}.png"
        image = Image.open(path)
        path.unlink()
        if mode == "I;16":
            Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257).save(path)
        else:
            image.convert(mode).save(path.with_suffix(".tif" if mode == "CMYK" else ".png"))
    found, _ = check(scenes)
    assert not found.keys() - CHANCE


def test_a_picture_of_12_bits_in_a_file_of_16_is_named(scenes):
    for index, levels in enumerate((1, 16, 257)):
        path = scenes / "data" / "images" / f"scene_{index:05}.png"
        grey = np.asarray(Image.open(path).convert("L"), np.uint16)
        path.unlink()
        Image.fromarray(grey * levels).save(path.with_suffix(".tif"))
    found, report = check(scenes)
    assert found["dark_16_bit"].keys() == {"train/scene_00000", "train/scene_00001"}
    assert "no pixel of its 16 bits is above 4,095" in found["dark_16_bit"]["train/scene_00001"]
    assert not report.quarantine & found["dark_16_bit"].keys()


def test_a_rotated_image_is_as_large_as_it_is_shown_and_the_reason_says_so(scenes):
    path = scenes / "data" / "images" / "scene_00000.png"
    image = Image.open(path).resize((80, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    path.unlink()
    image.save(path.with_suffix(".jpg"), exif=exif)
    write_voc(scenes / "data" / "annotations" / "scene_00000.xml", "x", (80, 40), [Box("disc", 1, 50, 30, 79)])
    found, _ = check(scenes)
    assert found["wrong_size"]["train/scene_00000"].endswith("without its EXIF rotation")
    assert "outside_image" not in found


def test_tiny_and_huge_images_are_judged_without_a_crash(scenes):
    images, labels = scenes / "data" / "images", scenes / "data" / "annotations"
    for index, size in ((0, (1, 1)), (1, (10_000, 10_000)), (2, (20_000, 20_000))):
        Image.new("1", size).save(images / f"scene_{index:05}.png")
        write_voc(labels / f"scene_{index:05}.xml", "x", size, [Box("disc", 0, 0, size[0], size[1])])
    found, _ = check(scenes)
    assert found["unreadable"].keys() == {"train/scene_00002"}
    assert "train/scene_00000" in found["tiny_box"]


def test_coco_json_is_read_and_its_defects_become_rows(tmp_path):
    write_scenes(tmp_path / "data", train=6, validation=2, test=2, seed=4, side=SIDE)
    splits = {"train": range(6), "validation": range(6, 8), "test": range(8, 10)}
    for split, numbers in splits.items():
        data = {
            "categories": [{"id": 7, "name": "disc"}, {"id": 9, "name": "cross"}],
            "images": [{"id": n, "file_name": f"scene_{n:05}.png", "width": SIDE, "height": SIDE} for n in numbers],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 7, "bbox": [5, 6, 20, 10], "iscrowd": 0} for n in numbers
            ],
        }
        if split == "train":
            wrong = [
                {"image_id": 0, "category_id": 7, "bbox": [5, 6, 20]},
                {"image_id": 99, "category_id": 7, "bbox": [5, 6, 20, 10]},
                {"image_id": 1, "category_id": 8, "bbox": [30, 6, 20, 10]},
                {"image_id": 2, "category_id": 9, "bbox": [30, 6, 0, 10]},
                {"image_id": 3, "category_id": 9, "bbox": [30, 6, None, 10]},
                "nonsense",
            ]
            data["images"].append({"id": 50, "file_name": "../../outside.png"})
            data["annotations"] += wrong
        (tmp_path / "data" / f"{split}.json").write_text(json.dumps(data))
    text = """
name: coco
workload: detection
data: {format: coco, folder: data, images: images, train: train.json, validation: validation.json, test: test.json}
model: {input_size: 64}
registry: {name: coco}
"""
    recipe = parse_recipe(text, tmp_path / "recipe.yaml")
    frames = WORKLOAD.read(recipe.data)
    assert frames["train"]["boxes"].iloc[4] == (Box("disc", 5, 6, 25, 16),)
    found, _ = check(tmp_path, text)
    assert {"train/scene_00000.png", "train/scene_00003.png", "train/image 99"} <= found["malformed"].keys()
    assert "leads out of its folder" in found["malformed"]["train/images[6]"]
    assert len(found["malformed"]) == 5  # and what is no object at all
    assert found["unknown_class"].keys() == {"train/scene_00001.png"}
    assert found["no_area"].keys() == {"train/scene_00002.png"}


COCO = """
name: coco
workload: detection
data: {format: coco, folder: data, images: images, train: train.json, validation: validation.json, test: test.json}
model: {input_size: 64}
registry: {name: coco}
"""


def write_coco(folder, change=lambda data: None):
    """Ten scenes with a disc each, in three files of which the first is changed."""
    write_scenes(folder / "data", train=6, validation=2, test=2, seed=4, side=SIDE)
    for split, numbers in {"train": range(6), "validation": range(6, 8), "test": range(8, 10)}.items():
        data = {
            "categories": [{"id": 7, "name": "disc"}, {"id": 9, "name": "cross"}],
            "images": [{"id": n, "file_name": f"scene_{n:05}.png"} for n in numbers],
            "annotations": [{"image_id": n, "category_id": 7, "bbox": [5, 6, 20, 10]} for n in numbers],
        }
        if split == "train":
            change(data)
        (folder / "data" / f"{split}.json").write_text(json.dumps(data))


def test_whole_numbers_that_a_table_wrote_with_a_point_are_ids(tmp_path):
    def change(data):
        data["annotations"].append({"image_id": 0.0, "category_id": 9.0, "bbox": [30, 30, 20, 20]})

    write_coco(tmp_path, change)
    recipe = parse_recipe(COCO, tmp_path / "recipe.yaml")
    boxes = WORKLOAD.read(recipe.data)["train"]["boxes"].iloc[0]
    assert [box.label for box in boxes] == ["disc", "cross"]


def test_the_classes_of_coco_json_are_looked_up_once_until_the_file_changes(tmp_path):
    write_coco(tmp_path)
    data = parse_recipe(COCO, tmp_path / "recipe.yaml").data
    assert class_names(data) == ("disc", "cross")
    path = tmp_path / "data" / "train.json"
    written, status = path.read_text(), path.stat()
    path.write_text(" " * len(written))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert class_names(data) == ("disc", "cross")
    path.write_text(written.replace("disc", "ring and disc"))
    assert class_names(data) == ("ring and disc", "cross")
    path.unlink()
    with pytest.raises(ValueError, match=r"train\.json: no JSON that is read"):
        class_names(data)


def test_a_category_is_the_same_whether_its_accents_are_characters_of_their_own(tmp_path):
    write_coco(tmp_path, lambda data: data["categories"].append({"id": 12, "name": "Lo\u0308sung"}))
    assert class_names(parse_recipe(COCO, tmp_path / "recipe.yaml").data)[-1] == "L\u00f6sung"


def test_two_categories_of_one_id_are_refused(tmp_path):
    write_coco(tmp_path, lambda data: data["categories"].append({"id": 7, "name": "square"}))
    with pytest.raises(ValueError, match="category 7 is both 'disc' and 'square'; give each an id of its own"):
        WORKLOAD.read(parse_recipe(COCO, tmp_path / "recipe.yaml").data)


def test_names_and_numbers_that_nothing_can_have_are_defects(tmp_path):
    def change(data):
        for number, name in ((50, "x" * 300 + ".png"), (51, "a\0.png"), (52, "a\ud800.png")):
            data["images"].append({"id": number, "file_name": name})
        data["annotations"][0]["bbox"] = [10**400, 1, 2, 3]

    write_coco(tmp_path, change)
    found, _ = check(tmp_path, COCO)
    assert {f"train/{'x' * 300}.png", "train/a\0.png"} <= found["unreadable"].keys()
    assert "images[8] has no `file_name`" in found["malformed"]["train/images[8]"]
    assert "which is no number" in found["malformed"]["train/scene_00000.png"]


def test_a_list_may_name_images_that_end_in_a_digit_of_their_own(scenes):
    for folder, suffix in (("images", "png"), ("annotations", "xml")):
        for number in range(2):
            path = scenes / "data" / folder / f"scene_0000{number}.{suffix}"
            path.rename(path.with_name(f"scene {number}.{suffix}"))
    # As in a list for one class, with whether the class is in the image; two are named so themselves.
    lines = ["scene 0", "scene 1", *(f"scene_0000{number} 1" for number in range(2, 8))]
    (scenes / "data" / "train.txt").write_text("\n".join(lines))
    frame = WORKLOAD.read(parse_recipe(VOC, scenes / "recipe.yaml").data)["train"]
    assert list(frame["name"]) == ["scene 0", "scene 1", *(f"scene_0000{number}" for number in range(2, 8))]
    assert not frame["faults"].map(len).any()


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_a_line_that_is_longer_than_any_name_is_a_defect_and_a_list_of_such_lines_is_refused(scenes, form):
    text = VOC
    if form == "yolo":
        text = write_yolo(scenes)
    line = "images/scene_00000.png " + " ".join(["10,20,30,40,0"] * 40)
    recipe = parse_recipe(text, scenes / "recipe.yaml")
    (scenes / "data" / "train.txt").write_text(f"scene_00001\n{line}\n")
    frame = WORKLOAD.read(recipe.data)["train"]
    assert list(frame["content"] == "") == [False, True]
    (scenes / "data" / "train.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"train\.txt: none of its 1 lines names an image of .*images; the first"):
        WORKLOAD.read(recipe.data)


def test_what_a_list_names_and_coco_json_does_not_is_a_defect(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "data" / "train.txt").write_text(
        "./data/images/scene_00000.png\nscene_00001\nimages/scene_00004.png\nimages/scene_00007.png\n"
    )
    text = COCO.replace("train: train.json", "train: {annotations: train.json, list: train.txt}")
    frame = WORKLOAD.read(parse_recipe(text, tmp_path / "recipe.yaml").data)["train"]
    assert list(frame["name"]) == [f"scene_{number:05}.png" for number in (0, 1, 4, 7)]
    found, _ = check(tmp_path, text)
    assert found["malformed"].keys() == {"train/scene_00007.png"}
    assert "train.json does not name it" in found["malformed"]["train/scene_00007.png"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: shutil.rmtree(data / "images"), "images does not exist"),
        (lambda data: shutil.rmtree(data / "annotations"), "annotations is no folder"),
        (lambda data: (data / "train.txt").write_text(""), "list of images is empty"),
        (lambda data: (data / "train.txt").unlink(), "can not be read"),
    ],
)
def test_data_of_no_use_is_refused_by_name(scenes, spoil, message):
    spoil(scenes / "data")
    recipe = parse_recipe(VOC, scenes / "recipe.yaml")
    with pytest.raises(ValueError, match=message):
        WORKLOAD.read(recipe.data)


BCCD = """
name: bccd
workload: detection
data:
  format: voc
  folder: {folder}
  classes: [RBC, WBC, Platelets]
  images: JPEGImages
  annotations: Annotations
  train: ImageSets/Main/train.txt
  validation: ImageSets/Main/val.txt
  test: ImageSets/Main/test.txt
model: {{}}
registry: {{name: bccd}}
"""


@pytest.mark.skipif(not (DATA / "bccd").is_dir(), reason="../shared/data is absent")
def test_defects_of_real_data_are_those_that_a_plain_count_finds(tmp_path):
    found, _ = check(tmp_path, BCCD.format(folder=(DATA / "bccd").resolve()))
    expected: dict[str, set[str]] = {"no_area": set(), "doubled_box": set(), "outside_image": set()}
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        for line in (DATA / "bccd" / "ImageSets" / "Main" / f"{name}.txt").read_text().split():
            root = ElementTree.parse(DATA / "bccd" / "Annotations" / f"{line}.xml").getroot()
            width, height = (int(root.find(f"size/{side}").text) for side in ("width", "height"))
            boxes = []
            for entry in root.iter("object"):
                sides = [float(entry.find(f"bndbox/{side}").text) for side in ("xmin", "ymin", "xmax", "ymax")]
                boxes.append((entry.find("name").text, *sides))
            for index, (label, left, top, right, bottom) in enumerate(boxes):
                if right <= left or bottom <= top:
                    expected["no_area"].add(f"{split}/{line}")
                if min(left, top) < -1 or right > width + 1 or bottom > height + 1:
                    expected["outside_image"].add(f"{split}/{line}")
                for other_label, *other in boxes[:index]:
                    across = min(right, other[2]) - max(left, other[0])
                    along = min(bottom, other[3]) - max(top, other[1])
                    if label == other_label and across > 0 and along > 0:
                        union = (right - left) * (bottom - top) + (other[2] - other[0]) * (other[3] - other[1])
                        if across * along / (union - across * along) > 0.9:
                            expected["doubled_box"].add(f"{split}/{line}")
    assert len(expected["no_area"]) == 2
    for name, ids in expected.items():
        assert set(found.get(name, {})) == ids, name
    assert not found.keys() & {"malformed", "unknown_class", "unreadable", "wrong_size"}


@pytest.mark.skipif(not (DATA / "coco_val64").is_dir(), reason="../shared/data is absent")
def test_yolo_text_of_real_data_is_read_in_pixels_and_clean():
    text = f"""
name: coco64
workload: detection
data:
  format: yolo
  folder: {(DATA / "coco_val64").resolve()}
  classes: class_names.yaml
  corpus: {{images: images, annotations: labels}}
  fractions: {{train: 0.6, validation: 0.2, test: 0.2}}
model: {{}}
registry: {{name: coco64}}
"""
    recipe = parse_recipe(text, Path("recipe.yaml"))
    frames = WORKLOAD.read(recipe.data)
    together = pd.concat(frames.values())
    assert len(together) == 64
    assert sum(map(len, together["boxes"])) == 440
    assert min(len(frame) for frame in frames.values()) >= 4
    first = together[together["name"] == "000000000139"].iloc[0]
    width, height = Image.open(first["image"]).size
    given = (DATA / "coco_val64" / "labels" / "000000000139.txt").read_text().splitlines()[0].split()
    cx, cy, w, h = (float(v) * s for v, s in zip(given[1:], (width, height) * 2, strict=True))
    assert first["boxes"][0].label == "tv" or int(given[0]) != 62
    np.testing.assert_allclose(first["boxes"][0][1:5], [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], atol=1e-3)
    assert not together["faults"].map(len).any()
