"""Why an annotation gives another size than its image has."""

import pytest
from PIL import Image

from optops.workloads.detection.checks import detection_checks
from optops.workloads.detection.corpus import read_detection
from optops.workloads.detection.image_checks import find_wrong_size
from optops.workloads.detection.settings import DetectionData, Thresholds

VOC = (
    "<annotation><size><width>{}</width><height>{}</height></size><object><name>disc</name>"
    "<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>31</ymax></bndbox></object></annotation>"
)
EXCHANGED = "the annotation says 40 x 80, the image has 80 x 40: width and height are exchanged"
ROTATED = "the annotation says 80 x 40, the image has 40 x 80: the annotation is of the image without its EXIF rotation"


@pytest.mark.parametrize(
    ("orientation", "said", "reason"),
    [
        (None, (40, 80), EXCHANGED),
        (1, (40, 80), EXCHANGED),
        (6, (80, 40), ROTATED),
        (6, (40, 80), None),
        (None, (80, 41), "the annotation says 80 x 41, the image has 80 x 40"),
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "tif", "png"])
def test_exif_is_blamed_for_what_it_has_turned_alone(tmp_path, suffix, orientation, said, reason):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    Image.new("RGB", (80, 40)).save(tmp_path / "images" / f"0.{suffix}", exif=exif)
    (tmp_path / "0.xml").write_text(VOC.format(*said))
    part = {"images": str(tmp_path / "images"), "annotations": str(tmp_path)}
    data = DetectionData(format="voc", folder=".", classes=["disc"], train=part, validation=part, test=part)
    frame = read_detection(data)["train"].assign(split="train")
    rows, _ = detection_checks(frame, ["disc"], Thresholds())
    assert list(find_wrong_size(rows)) == ([reason] if reason else [])
