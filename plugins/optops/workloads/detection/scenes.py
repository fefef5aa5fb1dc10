"""Drawn scenes with labelled shapes: detection data as large as wanted, free to use.

It lets the pipeline be tried, tested and shown without any data set. Discs, triangles and crosses of any colour lie on
a textured ground, over one another and over the edge, in light and shade, with noise: a small network learns them in
minutes, and a damaged one visibly loses.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from optops.workloads.detection.boxes import Box

if TYPE_CHECKING:
    from PIL.Image import Image

SHAPES: Final = ("disc", "triangle", "cross")
SPLITS: Final = ("train", "validation", "test")
FOLDERS: Final = ("images", "annotations")

_OVERSAMPLED: Final = 2
_LEAST_SEEN: Final = 0.4
"""Share of a shape that must be seen: what is hidden more is drawn over before it is labelled."""
_BACKDROP_DOTS: Final = 6
_LEAST_CONTRAST: Final = 70.0
"""Distance of a shape's colour from the ground's, on average over red, green and blue."""

Random = np.random.Generator


def draw_scene(seed: int, side: int = 96) -> tuple["Image", list[Box]]:
    """Returns a scene and the boxes of what can be seen in it.

    Args:
        seed: Same seed, same scene, on every machine.
        side: Of the square image, pixels.
    """
    from PIL import Image

    random = np.random.default_rng(seed)
    large = side * _OVERSAMPLED
    canvas = _ground(random, large)
    ground = canvas.mean(axis=(0, 1))
    owner = np.full((large, large), -1)
    names: list[str] = []
    areas: list[int] = []
    for _ in range(int(random.integers(2, 7))):
        name = SHAPES[int(random.integers(len(SHAPES)))]
        window, mask = _shape(name, random, large)
        below = owner[window]
        # One that would hide another is left out.
        hidden = np.bincount(below[mask & (below >= 0)], minlength=len(names))
        seen = [np.count_nonzero(owner == index) - hidden[index] for index in range(len(names))]
        if any(rest < _LEAST_SEEN * area for rest, area in zip(seen, areas, strict=True)) or not mask.any():
            continue
        colours = random.uniform(0, 255, (8, 3))
        contrast = np.abs(colours - ground).mean(axis=1)
        best = (
            int(np.argmax(contrast > _LEAST_CONTRAST)) if contrast.max() > _LEAST_CONTRAST else int(contrast.argmax())
        )
        canvas[window][mask] = _faded(random, colours[best], mask.shape)[mask]
        below[mask] = len(names)
        names.append(name)
        areas.append(int(np.count_nonzero(mask)))
    boxes = [_seen_box(name, owner == index) for index, name in enumerate(names)]
    pixels = canvas.reshape(side, _OVERSAMPLED, side, _OVERSAMPLED, 3).mean(axis=(1, 3))
    pixels = pixels * _light(random, side)[..., None] + random.normal(0, random.uniform(2, 10), pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), boxes


def write_scenes(folder: Path, *, train: int, validation: int, test: int, seed: int, side: int = 96) -> None:
    """Writes scenes as Pascal VOC: `images/`, `annotations/` and a list for each split.

    Args:
        folder: Created when missing; files of these names in it are replaced.
        train: Number of training images.
        validation: Number of validation images.
        test: Number of test images.
        seed: Same seed, same files.
        side: Of the square images, pixels.
    """
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    seeds = np.random.SeedSequence(seed).generate_state(train + validation + test, np.uint64)
    start = 0
    for split, size in zip(SPLITS, (train, validation, test), strict=True):
        names = [f"scene_{index:05}" for index in range(start, start + size)]
        for index, name in enumerate(names, start=start):
            image, boxes = draw_scene(int(seeds[index]), side)
            image.save(folder / "images" / f"{name}.png", compress_level=1)
            write_voc(folder / "annotations" / f"{name}.xml", f"{name}.png", image.size, boxes)
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        start += size


def write_voc(path: Path, image: str, size: tuple[int, int], boxes: list[Box]) -> None:
    """Writes the boxes of one image as Pascal VOC XML.

    Args:
        path: Of the XML file.
        image: Name of the image's file.
        size: Its width and height.
        boxes: In its pixels.
    """
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = image
    sides = ElementTree.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
        ElementTree.SubElement(sides, name).text = str(value)
    for box in boxes:
        entry = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(entry, "name").text = box.label
        ElementTree.SubElement(entry, "difficult").text = str(int(box.difficult))
        place = ElementTree.SubElement(entry, "bndbox")
        for name, side in zip(("xmin", "ymin", "xmax", "ymax"), box[1:5], strict=True):
            ElementTree.SubElement(place, name).text = f"{side:g}"
    ElementTree.indent(root)
    path.write_text(ElementTree.tostring(root, encoding="unicode") + "\n", encoding="utf-8")


def _ground(random: Random, large: int) -> NDArray[np.float32]:
    """A dull colour that fades into another, with dots that are no shapes to find."""
    canvas = _faded(random, random.uniform(64, 192, 3), (large, large))
    rows, columns = np.ogrid[:large, :large]
    for _ in range(int(random.integers(_BACKDROP_DOTS + 1))):
        row, column = random.uniform(0, large, 2)
        dot = (rows - row) ** 2 + (columns - column) ** 2 < (large * random.uniform(0.005, 0.02)) ** 2
        canvas[dot] = random.uniform(0, 255, 3)
    return canvas


def _faded(random: Random, colour: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float32]:
    """A colour that fades into a lighter or darker one in some direction."""
    slope = random.uniform(-0.3, 0.3, 2)
    rows, columns = (np.linspace(-0.5, 0.5, size) for size in shape)
    share = 1 + slope[0] * rows[:, None] + slope[1] * columns
    faded: NDArray[np.float32] = (share[..., None] * colour).astype(np.float32)
    return faded


def _shape(name: str, random: Random, large: int) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Returns a window of the canvas and which of its pixels a shape of some size, place and turn covers."""
    radius = large * random.uniform(0.08, 0.2)
    row, column = random.uniform(0.05, 0.95, 2) * large
    angle, narrow = random.uniform(0, 2 * math.pi), random.uniform(0.25, 0.4)
    window = tuple(slice(max(0, int(c - 1.5 * radius)), int(c + 1.5 * radius) + 1) for c in (row, column))
    rows, columns = np.ogrid[window[0].start : min(window[0].stop, large), window[1].start : min(window[1].stop, large)]
    across = (columns - column) * math.cos(angle) + (rows - row) * math.sin(angle)
    along = (rows - row) * math.cos(angle) - (columns - column) * math.sin(angle)
    if name == "disc":
        covered = across**2 + along**2 < (0.8 * radius) ** 2
    elif name == "triangle":
        # Within three half planes at a third of a turn to one another.
        turns = [math.pi * (0.5 + 2 * third / 3) for third in range(3)]
        covered = np.all([across * math.cos(t) + along * math.sin(t) < radius / 2 for t in turns], axis=0)
    else:
        inside = np.maximum(abs(across), abs(along)) < radius
        covered = inside & (np.minimum(abs(across), abs(along)) < narrow * radius)
    return (window[0], window[1]), np.asarray(covered, np.bool_)


def _seen_box(name: str, mask: NDArray[np.bool_]) -> Box:
    """The box of what can be seen, in whole pixels of the image."""
    rows, columns = (np.nonzero(mask.any(axis=axis))[0] for axis in (1, 0))
    left, top = (float(places[0] // _OVERSAMPLED) for places in (columns, rows))
    right, bottom = (float(places[-1] // _OVERSAMPLED + 1) for places in (columns, rows))
    return Box(name, left, top, right, bottom)


def _light(random: Random, side: int) -> NDArray[np.float64]:
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    slope = random.uniform(-0.5, 0.5, 2)
    light: NDArray[np.float64] = random.uniform(0.7, 1.1) + slope[0] * rows + slope[1] * columns
    return light
