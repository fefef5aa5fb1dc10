"""Paths in recipes."""

import os
from collections.abc import Iterator
from pathlib import Path


def resolve_path(value: str, folder: Path | None) -> Path:
    """Returns a path from a recipe: `~` and environment variables expanded, relative to `folder`.

    A variable that is not set stays as written, so that the recipe parses and the missing file is reported by name.

    Raises:
        ValueError: If it begins with the home of a user whom this machine does not have.
    """
    try:
        path = Path(os.path.expandvars(value)).expanduser()
    except RuntimeError:
        raise ValueError(f"{value!r} begins with the home of a user whom this machine does not have") from None
    return path if path.is_absolute() or folder is None else (folder / path).resolve()


def files_below(folder: Path) -> Iterator[Path]:
    """Gives all files in a folder and below, in no order; enters folders that are links, as `Path.rglob` does not.

    Raises:
        ValueError: If a name is no UTF-8, as old archives leave them: no table, log or page can hold it.
    """
    return _files_below(folder, frozenset())


def _files_below(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    place = folder.resolve()
    if place in above:  # a link to a folder that it is in
        return
    try:
        entries = list(folder.iterdir())
    except PermissionError:  # as `Path.rglob` does: the root of a disk has such a folder
        return
    for path in entries:
        if any("\ud800" <= letter <= "\udfff" for letter in path.name):
            raise ValueError(f"{folder}: the name {os.fsencode(path.name)!r} is no UTF-8; rename it")
        if path.is_dir():
            yield from _files_below(path, above | {place})
        elif path.is_file():
            yield path
