"""Labelled images: found by folder or CSV file, named, split; nothing is decoded here."""

import csv
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pandas as pd

from optops.workloads.images import image_files, is_file, place_of
from optops.workloads.splitting import assign_splits

COLUMNS = ("id", "file", "line", "label", "digest")


def find_images(name: str, place: Path) -> pd.DataFrame:
    """Finds the images of one split; whether they can be used is the checks' work.

    Args:
        name: Of the split, or `corpus`.
        place: A folder with a folder for each class, or a CSV file with the columns `file` and `label`.

    Returns:
        One row an image: `id` (NAME/PATH below the place), `file`, `line` (in the CSV file; 1 in folders), `label`,
        `digest` (of file and label; of a file that is not there its name counts).

    Raises:
        ValueError: If the place is missing, holds no image, or lacks a column.
    """
    listed = _from_csv(place) if _is_list(place) else _from_folders(place)
    base = place.parent if _is_list(place) else place
    rows = []
    for path, line, label in listed:
        shown = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
        rows.append((f"{name}/{shown}", str(path), line, label, _digest(path, label)))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if frame.empty:
        raise ValueError(f"{place} names no image; it needs lines below its header")
    # A file that is listed twice is two examples: the line tells them apart.
    repeated = frame["id"].duplicated(keep=False)
    frame.loc[repeated, "id"] += ":" + frame["line"][repeated].astype(str)
    return frame


def listed_images(place: Path) -> Iterator[Path]:
    """Gives the images that a CSV file names, whether they are there or not; none for a folder.

    Raises:
        ValueError: If the file is no CSV file or lacks a column.
    """
    if _is_list(place):
        yield from (path for path, _, _ in _from_csv(place))


def split_images(frame: pd.DataFrame, fractions: Mapping[str, float], seed: int) -> dict[str, pd.DataFrame]:
    """Splits images by what stands in their files; equal ones stay together, whatever their labels."""
    contents = frame["file"].map(lambda file: _digest(Path(file), ""))
    chosen = assign_splits(contents, fractions, seed)
    return {name: frame[chosen == name] for name in fractions}


def _is_list(place: Path) -> bool:
    return place.suffix.lower() == ".csv"


def _from_folders(folder: Path) -> Iterator[tuple[Path, int, str]]:
    for path in image_files(folder):
        inner = path.relative_to(folder)
        if len(inner.parts) < 2:
            raise ValueError(f"{path} lies in no folder of a class; put it into {folder}/CLASS/, or name a CSV file")
        # A letter with its accent is two characters on disks from macOS, and one in recipes.
        yield path, 1, normalize("NFC", inner.parts[0])


def _from_csv(path: Path) -> Iterator[tuple[Path, int, str]]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; name a CSV file with the columns `file` and `label`")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or ())
            missing = [column for column in ("file", "label") if column not in header]
            if missing:
                raise ValueError(
                    f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(header) or 'none'}. Its first "
                    "line must name `file` and `label`, parted by a comma"
                )
            for row in reader:
                _refuse_odd(path, reader.line_num, row, len(header))
                label = normalize("NFC", row["label"] or "").strip()
                yield place_of(path.parent, row["file"] or ""), reader.line_num, label
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from None


def _refuse_odd(path: Path, line: int, row: Mapping[str | None, Any], columns: int) -> None:
    """Refuses a record of several lines, which a quote that is not closed makes of them, or of too many fields."""
    extra = row.get(None) or []
    if extra:
        raise ValueError(
            f"{path}:{line} has {columns + len(extra)} fields, the header has {columns}; put quotes round a field with "
            "a comma in it"
        )
    broken = next((value for value in row.values() if value and "\n" in value), None)
    if broken is not None:
        raise ValueError(
            f"{path}:{line}: a field of this record goes over several lines and begins {broken[:40]!r}; close its quote"
        )


def _digest(path: Path, label: str) -> str:
    total = hashlib.sha256(f"{label}\n".encode())
    if is_file(path):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    else:
        # Files that are not there are not the same one, or one split of a corpus would get them all.
        total.update(path.name.encode())
    return total.hexdigest()[:16]
