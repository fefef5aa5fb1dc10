"""The names of the classes: from the recipe, from a file, or from COCO's categories."""

from pathlib import Path
from typing import Any
from unicodedata import normalize

import yaml

from optops.workloads.detection.settings import DetectionData
from optops.workloads.yaml_words import require_words
from optops.yaml_text import load_yaml


def class_names(data: DetectionData) -> tuple[str, ...]:
    """Returns the names of the classes, in the order of their numbers; as labels are read, with composed accents.

    Raises:
        ValueError: If the file of names can not be used; names it.
    """
    return tuple(normalize("NFC", name) for name in _names(data))


def _names(data: DetectionData) -> tuple[str, ...]:
    if isinstance(data.classes, tuple):
        return data.classes
    if data.classes is not None:
        return _read(Path(data.path(data.classes) or ""))
    from optops.workloads.detection.coco import read_categories

    sets = data.sets()
    first = sets.get("train") or sets["corpus"]
    return read_categories(Path(first.annotations or ""))


def _read(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: the names of the classes can not be read: {error}") from None
    is_yaml = path.suffix in (".yaml", ".yml")
    # Blank lines at the end are none of a list; within it, they would number the classes after them anew.
    names = _from_yaml(path, text) if is_yaml else [line.strip() for line in text.rstrip().splitlines()]
    if "" in names:
        place = f"class {names.index('')}" if is_yaml else f"line {names.index('') + 1}"
        raise ValueError(f"{path}: {place} is empty; give the class a name, for the others count from it")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{path}: {'holds no names of classes' if not names else 'names a class twice'}; correct it")
    return tuple(names)


def _from_yaml(path: Path, text: str) -> list[str]:
    try:
        data: Any = load_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: no YAML: {error}") from None
    names = data.get("names") if isinstance(data, dict) else None
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list):
        raise ValueError(f"{path}: `names` is missing, or does not number the classes from 0; write a list of names")
    # What stands for nothing is refused with its place.
    require_words((name for name in names if name is not None), f"{path}: ")
    return ["" if name is None else str(name).strip() for name in names]
