"""Reads detection data: one row an image, whatever the format; defects become columns, for the label checks to name."""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from unicodedata import normalize

import pandas as pd

from optops.workloads.detection.annotation import Annotation
from optops.workloads.detection.classes import class_names
from optops.workloads.detection.coco import read_coco
from optops.workloads.detection.settings import DetectionData, ImageSet
from optops.workloads.detection.voc import read_voc
from optops.workloads.detection.yolo import read_yolo
from optops.workloads.images import SUFFIXES, image_files, is_file, place_of, visible_files, with_slashes
from optops.workloads.splits import SPLIT_NAMES
from optops.workloads.splitting import assign_splits

_CLASS_LIST = re.compile(r"^(.*\S)\s+-?[01]$")
"""A line of a VOC list for one class: the image, and whether the class is in it."""


def read_detection(data: DetectionData) -> dict[str, pd.DataFrame]:
    """Reads all examples, by split.

    Returns:
        Frames with `id`, `file` (of the annotation), `line`, `image` (path), `name` (of the image, within its
        folder), `boxes` (tuple of `Box`), `faults` (tuple of sentences), `width` and `height` (as the annotation
        says, 0 if it does not), `content` (digest of the image file).

    Raises:
        ValueError: If a folder, list or JSON file can not be used.
    """
    classes = class_names(data)
    frames = {name: _read_set(data.format, part, classes) for name, part in data.sets().items()}
    for name, frame in frames.items():
        # An image that a list names twice stands there twice, and a label check says so.
        again = frame.groupby("name").cumcount()
        ids = [
            f"{name}/{image}#{n + 1}" if n else f"{name}/{image}" for image, n in zip(frame["name"], again, strict=True)
        ]
        frames[name] = frame.assign(id=ids)
    if "corpus" in frames:
        corpus = frames.pop("corpus")
        # Images that are not there are not all the same one: each goes by its name, for the checks to name it.
        contents = corpus["content"].where(corpus["content"] != "", corpus["name"])
        splits = assign_splits(contents, data.shares(), data.fractions.seed)
        frames |= {name: corpus[splits == name].reset_index(drop=True) for name in data.shares()}
    return {name: frames[name] for name in SPLIT_NAMES}


def example_digests(frame: pd.DataFrame) -> "pd.Series[str]":
    """Returns a digest of each image and its labels."""
    rows = zip(frame["content"], frame["boxes"], frame["faults"], frame["width"], frame["height"], strict=True)
    listed = [hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16] for row in rows]
    return pd.Series(listed, index=frame.index, dtype=str)


def _read_set(form: str, part: ImageSet, classes: Sequence[str]) -> pd.DataFrame:
    folder, labels = Path(part.images or ""), Path(part.annotations or "")
    found = _coco(folder, labels, part) if form == "coco" else _files(form, folder, labels, part, classes)
    rows = [
        (str(file), line, str(image), name, labelled.boxes, labelled.faults, labelled.width, labelled.height)
        for name, image, file, line, labelled in found
    ]
    columns = ["file", "line", "image", "name", "boxes", "faults", "width", "height"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(content=[_digest(Path(image)) for image in frame["image"]])


Found = Iterable[tuple[str, Path, Path, int, Annotation]]
"""Name of the image, its path, the annotation's file and line, and what it says."""


def _coco(folder: Path, labels: Path, part: ImageSet) -> Found:
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; name the folder that holds the images")
    entries = [(_within(folder, name), annotation) for name, annotation in read_coco(labels)]
    images = _by_stem(name for name, _ in entries)
    listed = dict(_listed(Path(part.list), images, labels, _called(folder))) if part.list else {}
    wanted = {images[meant] for meant in listed.values() if meant} if part.list else set(images.values())
    for index, (name, annotation) in enumerate(entries, start=1):
        if name in wanted:
            yield name, place_of(folder, name), labels, index, annotation
    for line in (line for line, meant in listed.items() if meant is None):
        name = _unknown(line, images)
        yield name, place_of(folder, name), labels, 1, Annotation(faults=(f"{labels.name} does not name it",))


def _within(folder: Path, name: str) -> str:
    """Returns the name of an image from its folder on: `file_name` may begin with what the folder is called.

    What is there as it is written is meant so.
    """
    parts = PurePath(with_slashes(name)).parts
    if len(parts) == 1 or is_file(place_of(folder, name)):
        return name
    for count in range(len(parts) - 1, 0, -1):
        rest = "/".join(parts[count:])
        if folder.resolve().parts[-count:] == parts[:count] and is_file(place_of(folder, rest)):
            return rest
    return name


def _files(form: str, folder: Path, labels: Path, part: ImageSet, classes: Sequence[str]) -> Found:
    if not labels.is_dir():
        raise ValueError(f"{labels} is no folder; name the folder that holds the annotations")
    suffix = ".xml" if form == "voc" else ".txt"
    images = _by_stem(str(path.relative_to(folder)) for path in image_files(folder))
    files = sorted(path for path in visible_files(labels) if path.suffix.lower() == suffix)
    annotated = _by_image({_stem(str(path.relative_to(labels))): path for path in files}, images)
    if not annotated:
        raise ValueError(f"{labels} holds no {suffix} file; name the folder that holds the annotations")
    if part.list:
        known = images.keys() | annotated.keys()
        listed = _listed(Path(part.list), known, folder, _called(folder, labels))
        names = [meant or _stem(_unknown(line, known)) for line, meant in listed]
    else:
        # An annotation without an image is a defect to name, but not a list of classes that lies among them.
        alone = [name for name in annotated if name not in images and not _lists_classes(form, name)]
        names = sorted([*images, *alone])
    read: Callable[[Path, Path], Annotation] = (
        (lambda path, image: read_voc(path)) if form == "voc" else (lambda path, image: read_yolo(path, image, classes))
    )
    owners: dict[Path, str] = {}
    for name in names:
        image = folder / images.get(name, name)
        file = annotated.get(name) or annotated.get(_stem(name)) or labels / f"{name}{suffix}"
        if _lacks(form, file):
            annotation = Annotation(faults=("there is no annotation file",))
        elif owners.setdefault(file, name) != name:
            other = images.get(owners[file], owners[file])
            annotation = Annotation(faults=(f"{file.name} is the annotation of {other}, too; rename one of the two",))
        else:
            annotation = read(file, image)
        yield name, image, file, 1, annotation


def _lists_classes(form: str, name: str) -> bool:
    return form == "yolo" and Path(name).name == "classes"


def _lacks(form: str, file: Path) -> bool:
    # YOLO labels an image without objects by no file at all.
    return form == "voc" and not is_file(file)


def _by_image(annotated: Mapping[str, Path], images: Mapping[str, str]) -> dict[str, Path]:
    """Returns annotations by the key of their image, if one is called exactly so: `beach.jpg.txt` of `beach.jpg`."""
    keys = {str(_path(name)): key for key, name in images.items()}
    found: dict[str, Path] = {}
    for name, path in annotated.items():
        key = name if name in images else keys.get(name, name)
        # Of two annotations of one image, what stands under its stem counts; the other stays to be named.
        found[name if key in annotated else key] = path
    return found


def _by_stem(names: Iterable[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name in names:
        # Two images that differ in nothing but the suffix: the second keeps it in its name.
        found[str(_path(name)) if found.get(_stem(name), name) != name else _stem(name)] = name
    return found


def _called(*folders: Path) -> frozenset[str]:
    return frozenset(normalize("NFC", one.name) for folder in folders for one in (folder, folder.resolve()))


def _listed(path: Path, known: Collection[str], place: Path, folders: Collection[str]) -> list[tuple[str, str | None]]:
    """Reads the list of a split.

    Args:
        path: The list.
        known: Names of images and annotations, without suffix but for the second image of one name: `beach 1` may be
            one of them, or `beach` of a class.
        place: Where that is known from.
        folders: What the folders of images and annotations are called.

    Returns:
        Each line and which image it means, if any.

    Raises:
        ValueError: If it can not be read, is empty, or is of other images.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: the list of images can not be read: {error}") from None
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise ValueError(f"{path}: the list of images is empty")
    ends = [_known_end(line, known) for line in lines]
    # The folder may be called otherwise where the list was made: all lines begin alike then, and no file is there.
    renamed = len({before for before, name in ends if name}) == 1 and not is_file(path.parent / lines[0])
    listed = [
        (line, name if renamed or _leads_to(before, folders) else None)
        for line, (before, name) in zip(lines, ends, strict=True)
    ]
    if not any(meant for _, meant in listed):
        raise ValueError(
            f"{path}: none of its {len(lines)} lines names an image of {place}; the first is {lines[0]!r:.80}. Write "
            "the path of an image in each line, from the folder of the images or with its name in it, and nothing else"
        )
    return listed


def _known_end(line: str, known: Collection[str]) -> tuple[tuple[str, ...], str | None]:
    """Returns the longest end of a line's path that is known, with or without suffix, after what is before it."""
    for named in (line, _named(line)):
        parts = _path(named).parts
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            for name in (end, _stem(end)):
                if name in known:
                    return parts[:start], name
    return (), None


def _leads_to(before: tuple[str, ...], folders: Collection[str]) -> bool:
    """Returns whether the beginning of a path ends in the images' folder, wherever it starts: at the root for example.

    In `cam2/3.png`, the end `3.png` is no image of a folder `cam1`.
    """
    return not before or before[-1] in {*folders, "/", ".."}


def _unknown(line: str, known: Collection[str]) -> str:
    """Returns what to call the image of a line that means none: by its last part, unless another is called so."""
    path = _path(_named(line))
    # Whatever it is, it lies within the folder of the images.
    inner = "/".join(part for part in path.parts if part not in ("/", ".."))
    return inner if _stem(path.name) in known else path.name


def _named(line: str) -> str:
    """Returns the name in a line of a list, which may be one for a class."""
    return _CLASS_LIST.sub(r"\1", line)


def _path(name: str) -> PurePath:
    """Returns a name as a path, written here or on Windows."""
    # A letter with its accent is one character or two: what looks the same is one name.
    return PurePath(with_slashes(normalize("NFC", name)))


def _stem(name: str) -> str:
    path = _path(name)
    return str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES | {".xml", ".txt"} else str(path)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except (OSError, ValueError):
        # A name that no file can have is one of those, too.
        return ""
