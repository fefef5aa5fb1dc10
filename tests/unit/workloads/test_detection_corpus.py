"""Which annotation belongs to which image, whatever lies beside them and however they are called."""

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


def read(form, folder, **part):
    """The rows of a split."""
    part = {"images": "images", "annotations": "labels"} | part
    data = DetectionData(format=form, folder=str(folder), classes=["disc"], train=part, validation=part, test=part)
    return read_detection(data, 1)["train"]


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
