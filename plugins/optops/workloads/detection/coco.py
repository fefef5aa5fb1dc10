"""Reads COCO JSON (Lin et al. 2014): one file for all images of a split."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, TypeGuard
from unicodedata import normalize

from optops.workloads.detection.annotation import Annotation, FaultyValueError, number
from optops.workloads.detection.boxes import Box
from optops.workloads.images import with_slashes

_NUMBER = re.compile(r"0|-?[1-9][0-9]*")
"""A whole number as JSON writes it."""


@dataclass
class _Image:
    name: str
    boxes: list[Box] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    width: int = 0
    height: int = 0

    @property
    def labels(self) -> tuple[str, Annotation]:
        return self.name, Annotation(tuple(self.boxes), tuple(self.faults), self.width, self.height)


def read_categories(path: Path) -> tuple[str, ...]:
    """Returns the names of the categories, in the order of the file; kept in memory until the file changes.

    Raises:
        ValueError: As `read_coco` does.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"{path}: no JSON that is read: {error}") from None
    return _read_categories(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read_categories(path: Path, changed: int, size: int) -> tuple[str, ...]:
    # A metric asks for the classes again and again, and a file may have a million boxes.
    del changed, size
    return tuple(dict.fromkeys(_categories(path, _parse(path)["categories"]).values()))


def read_coco(path: Path) -> Sequence[tuple[str, Annotation]]:
    """Returns what a file says; what is wrong with single entries becomes a fault of their image.

    Returns:
        Name of the file and labels of each image, in the order of `images`; then what belongs to no image.

    Raises:
        ValueError: If it is no JSON, lacks one of its three lists, or a category has no name; names the file.
    """
    data = _parse(path)
    categories = _categories(path, data["categories"])
    images: dict[str, _Image] = {}
    for index, entry in enumerate(data["images"]):
        image = _image(index, entry)
        key = _key(entry.get("id")) if isinstance(entry, dict) else f"images[{index}]"
        if key in images:
            image.faults.append(f"images[{index}]: its id {key} is another image's too")
            key = f"images[{index}]"
        images[key] = image
    for index, entry in enumerate(data["annotations"]):
        key = _key(entry.get("image_id")) if isinstance(entry, dict) else f"annotations[{index}]"
        if key not in images:
            images[key] = _Image(f"image {key}", faults=[f"image_id {key} is none of `images`"])
        try:
            images[key].boxes.append(_box(entry, categories))
        except FaultyValueError as error:
            images[key].faults.append(f"annotations[{index}]: {error}")
    return [image.labels for image in images.values()]


def _parse(path: Path) -> dict[str, list[Any]]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON that is read: {error}") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise ValueError(
                f"{path}: the list `{key}` is missing; COCO JSON has `images`, `annotations`, `categories`"
            )
    return data  # type: ignore[no-any-return]


def _categories(path: Path, entries: list[Any]) -> dict[str, str]:
    names: dict[str, str] = {}
    for entry in entries:
        if not isinstance(entry, dict) or "id" not in entry or not _is_text(entry.get("name")):
            raise ValueError(f"{path}: the category {entry!r:.60} has no `id` and `name`; correct it")
        # A letter with its accent is one character or two: what looks the same is one name.
        key, name = _key(entry["id"]), normalize("NFC", entry["name"])
        if names.setdefault(key, name) != name:
            raise ValueError(f"{path}: category {key} is both {names[key]!r} and {name!r}; give each an id of its own")
    return names


def _image(index: int, entry: Any) -> _Image:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    if not _is_text(name):
        return _Image(f"images[{index}]", faults=[f"images[{index}] has no `file_name`"])
    path = PurePath(with_slashes(name))
    if path.is_absolute() or ".." in path.parts:
        return _Image(f"images[{index}]", faults=[f"images[{index}]: `file_name` {name!r:.80} leads out of its folder"])
    image = _Image(name)
    for side in ("width", "height"):
        if entry.get(side) is not None:
            try:
                setattr(image, side, int(number(entry[side], side)))
            except FaultyValueError as error:
                image.faults.append(f"images[{index}]: {error}")
    return image


def _is_text(value: Any) -> TypeGuard[str]:
    """Returns whether a value is text that can be written: JSON may hold half a character."""
    return isinstance(value, str) and bool(value) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _key(value: Any) -> str:
    """Returns an id as text, so that anything a file holds can be looked up.

    3.0 and "3" are 3: tables write numbers so, and tools that name images by their id.
    """
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return value
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def _box(entry: Any, categories: Mapping[str, str]) -> Box:
    if not isinstance(entry, dict):
        raise FaultyValueError(f"it is {entry!r:.40}; expected an object")
    if entry.get("category_id") is None:
        raise FaultyValueError("category_id is missing")
    category = _key(entry["category_id"])
    label = categories.get(category, f"category {category}")
    place = entry.get("bbox")
    if not isinstance(place, list) or len(place) != 4:
        raise FaultyValueError(f"{label}: bbox is {place!r:.40}; expected [left, top, width, height]")
    names = ("left", "top", "width", "height")
    left, top, width, height = (number(value, f"{label}: {name}") for value, name in zip(place, names, strict=True))
    crowd = entry.get("iscrowd") in (1, True)
    return Box(label, left, top, left + width, top + height, difficult=crowd, crowd=crowd)
