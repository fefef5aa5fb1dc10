"""Reads Pascal VOC XML (Everingham et al. 2010). The files are hostile input: no document type, a bounded size."""

from pathlib import Path
from unicodedata import normalize
from xml.etree import ElementTree

from optops.workloads.detection.annotation import Annotation, FaultyValueError, number
from optops.workloads.detection.boxes import Box

SIZE_LIMIT = 16 << 20
ROOT = "annotation"
SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path) -> Annotation:
    """Returns what an XML file says; coordinates are taken as they are written. What is wrong becomes a fault."""
    try:
        root = _parse(path)
    except (FaultyValueError, OSError) as error:
        return Annotation(faults=(str(error),))
    boxes: list[Box] = []
    faults: list[str] = []
    for index, element in enumerate(root.iterfind("object"), start=1):
        try:
            boxes.append(_box(element))
        except FaultyValueError as error:
            faults.append(f"object {index}: {error}")
    width, height = (_size(root, side, faults) for side in ("width", "height"))
    return Annotation(tuple(boxes), tuple(faults), width, height)


def _parse(path: Path) -> ElementTree.Element:
    if path.stat().st_size > SIZE_LIMIT:
        raise FaultyValueError(f"the file has {path.stat().st_size:,} bytes, more than {SIZE_LIMIT:,}")
    content = path.read_bytes()
    if not content.strip():
        raise FaultyValueError("the file is empty")
    parser = ElementTree.XMLParser(target=_PlainTree())  # noqa: S314 - it refuses document types
    try:
        parser.feed(content)
        root: ElementTree.Element = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FaultyValueError(f"the file is no XML that is read: {error}") from None
    if root.tag != ROOT:
        raise FaultyValueError(f"the file is no annotation: its root is <{root.tag}>; expected <{ROOT}>")
    return root


class _PlainTree(ElementTree.TreeBuilder):
    """Builds elements without their namespaces; refuses document types, whose entities can grow without bound."""

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        return super().start(_local(tag), attrs)

    def end(self, tag: str, /) -> ElementTree.Element:
        return super().end(_local(tag))

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError(f"it has a document type ({name}), which annotations do not need; remove it")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _size(root: ElementTree.Element, side: str, faults: list[str]) -> int:
    text = root.findtext(f"size/{side}")
    if text is None:
        return 0
    try:
        return int(number(text, f"size: {side}"))
    except FaultyValueError as error:
        faults.append(str(error))
        return 0


def _box(element: ElementTree.Element) -> Box:
    label = normalize("NFC", element.findtext("name") or "").strip()
    if not label:
        raise FaultyValueError("its name is missing")
    place = element.find("bndbox")
    if place is None:
        raise FaultyValueError(f"{label}: bndbox is missing")
    left, top, right, bottom = (number(place.findtext(side), f"{label}: {side}") for side in SIDES)
    return Box(label, left, top, right, bottom, difficult=(element.findtext("difficult") or "").strip() == "1")
