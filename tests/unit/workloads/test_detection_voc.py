"""What an XML file says of an image: whatever tool has written it, and nothing if it is no annotation."""

from unicodedata import normalize

import pytest

from optops.workloads.detection.annotation import Annotation
from optops.workloads.detection.boxes import Box
from optops.workloads.detection.classes import class_names
from optops.workloads.detection.settings import DetectionData
from optops.workloads.detection.voc import read_voc

BODY = (
    "<size><width>64</width><height>48</height></size><object><name>disc</name>"
    "<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>31</ymax></bndbox></object>"
)


def read(folder, content):
    path = folder / "0.xml"
    path.write_text(content, encoding="utf-8")
    return read_voc(path)


@pytest.mark.parametrize("space", ["", ' xmlns="http://example.org/voc"', ' xmlns:a="http://example.org/voc"'])
def test_a_namespace_hides_no_object(tmp_path, space):
    expected = Annotation((Box("disc", 5, 6, 30, 31),), (), 64, 48)
    assert read(tmp_path, f"<annotation{space}>{BODY}</annotation>") == expected


def test_a_prefix_of_a_namespace_hides_no_object(tmp_path):
    tagged = BODY.replace("</", "|").replace("<", "<a:").replace("|", "</a:")
    found = read(tmp_path, f'<a:annotation xmlns:a="http://example.org/voc">{tagged}</a:annotation>')
    assert found == Annotation((Box("disc", 5, 6, 30, 31),), (), 64, 48)


@pytest.mark.parametrize("root", ["html", "annotations", "object"])
def test_what_is_no_annotation_is_no_image_without_objects(tmp_path, root):
    (fault,) = read(tmp_path, f"<{root}>{BODY}</{root}>").faults
    assert fault == f"the file is no annotation: its root is <{root}>; expected <annotation>"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_class_is_the_same_whether_its_accents_are_characters_of_their_own(tmp_path, form):
    classes = DetectionData(format="voc", classes=[normalize("NFD", "Lösung")], images="i", annotations="a", corpus={})
    body = BODY.replace("disc", normalize(form, "Lösung"))
    (box,) = read(tmp_path, f"<annotation>{body}</annotation>").boxes
    assert (box.label,) == class_names(classes) == (normalize("NFC", "Lösung"),)
