"""Folders of images, or pairs of folders: found, named, split; nothing is decoded here."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from unicodedata import normalize

import pandas as pd

from optops.workloads.images import image_files
from optops.workloads.splitting import assign_splits
from optops.workloads.super_resolution.settings import ImageFolders

COLUMNS = ("id", "file", "line", "high", "low", "pair", "digest")


def find_images(name: str, folders: ImageFolders, scale: int) -> pd.DataFrame:
    """Finds the images of one split; whether they can be used is the checks' work.

    Args:
        name: Of the split, or `corpus`.
        folders: With absolute paths.
        scale: Low-resolution images may be called `NAMExSCALE`.

    Returns:
        One row an image, in the order of names: `id` (NAME/PATH below the folder), `file`, `line` (1), `high` and
        `low` (paths; empty if there is none), `pair` (whether low-resolution images are given), `digest`.

    Raises:
        ValueError: If a folder is missing or holds no image, or two images that should be paired have one name.
    """
    paired = folders.low is not None
    highs = _by_name(Path(folders.high), paired)
    lows = _by_name(Path(folders.low), paired) if folders.low is not None else {}
    lows = _without_scale(lows, highs, scale)
    rows = []
    for path in sorted({*highs, *lows}):
        high, low = highs.get(path), lows.get(path)
        file = high or low
        assert file is not None
        rows.append(
            {
                "id": f"{name}/{path}",
                "file": str(file),
                "line": 1,
                "high": str(high or ""),
                "low": str(low or ""),
                "pair": paired,
                "digest": _digest([path for path in (high, low) if path]),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def split_images(frame: pd.DataFrame, fractions: Mapping[str, float], seed: int) -> dict[str, pd.DataFrame]:
    """Splits images by what stands in their files; equal ones stay together."""
    chosen = assign_splits(frame["digest"], fractions, seed)
    return {name: frame[chosen == name] for name in fractions}


def _by_name(folder: Path, paired: bool) -> dict[str, Path]:
    """Returns the images below a folder by their path without the suffix of the format, if no other is called so."""
    found: dict[str, Path] = {}
    for path in image_files(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if paired:
            # Of a pair, one may come from macOS, where a letter with its accent is two characters.
            name = normalize("NFC", name)
        elif name in found:
            name = path.relative_to(folder).as_posix()
        if name in found:
            raise _ambiguous(path, found[name])
        found[name] = path
    return found


def _without_scale(lows: Mapping[str, Path], highs: Collection[str], scale: int) -> dict[str, Path]:
    """Returns low-resolution images by the name of their large one."""
    found: dict[str, Path] = {}
    for path, low in lows.items():
        # `NAMExSCALE` belongs to NAME, unless a large image is called so itself.
        name = path if path in highs else path.removesuffix(f"x{scale}")
        if name in found:
            raise _ambiguous(low, found[name])
        found[name] = low
    return found


def _ambiguous(one: Path, other: Path) -> ValueError:
    return ValueError(f"{one} and {other} have one name, so nobody knows which is meant; rename or remove one of them")


def _digest(files: list[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]
