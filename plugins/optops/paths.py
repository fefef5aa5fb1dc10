"""Paths in recipes."""

import os
from pathlib import Path


def resolve_path(value: str, folder: Path | None) -> Path:
    """Returns a path from a recipe: `~` and environment variables expanded, relative to `folder`.

    A variable that is not set stays as written, so that the recipe parses and the missing file is reported by name.
    """
    path = Path(os.path.expandvars(value)).expanduser()
    return path if path.is_absolute() or folder is None else (folder / path).resolve()
