"""Reads examples from `.npz` files: one row an example, its arrays looked up when they are needed."""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from optops.runtimes.base import dtype_name
from optops.workloads.arrays.settings import ArrayData
from optops.workloads.splits import SPLIT_NAMES
from optops.workloads.splitting import assign_splits

Arrays = Mapping[str, np.ndarray]


class ArraysError(ValueError):
    """Arrays that can not be used; the message names the file, what is wrong and what to do."""


def read_splits(data: ArrayData) -> dict[str, pd.DataFrame]:
    """Reads all examples, by split.

    Columns: `id` (file and row), `file`, `line` (the row, from 1), `path`, `row`, `digest` (of all its arrays) and
    `input_digest` (of its inputs).

    Raises:
        ArraysError: If a file can not be used.
    """
    paths = data.paths()
    frames = {name: _read(path, data.labels) for name, path in paths.items()}
    if len({path.name for path in paths.values()}) < len(paths):
        frames = {name: frame.assign(id=f"{name}/" + frame["id"]) for name, frame in frames.items()}
    if "corpus" in frames:
        corpus = frames.pop("corpus")
        wanted = data.shares()
        # What has the same inputs stays in one split.
        chosen = assign_splits(corpus["input_digest"], wanted, data.fractions.seed)
        frames |= {name: corpus[chosen == name].reset_index(drop=True) for name in wanted}
    return {name: frames[name] for name in SPLIT_NAMES}


def arrays_of(examples: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns all arrays of the examples, inputs and labels, in their order; each [examples, ...]."""
    paths = list(dict.fromkeys(examples["path"]))
    if not paths:
        return {}
    files = {path: load(path) for path in paths}
    rows = [files[path][0] for path in paths]
    names = list(rows[0])
    which, row = examples["path"].to_numpy(), examples["row"].to_numpy()
    if len(paths) == 1:
        return {name: rows[0][name][row] for name in names}
    return {
        name: np.stack([files[path][0][name][index] for path, index in zip(which, row, strict=True)]) for name in names
    }


def load(path: str) -> tuple[Arrays, int]:
    """Returns a file's arrays and their common length; kept in memory until the file changes.

    Raises:
        ArraysError: If it is no `.npz` file, holds objects, or its arrays differ in length.
    """
    file = Path(path)
    if not file.is_file():
        raise ArraysError(f"{path} does not exist; put the file there or change `data` in the recipe")
    status = file.stat()
    return _load(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _load(path: str, changed: int, size: int) -> tuple[Arrays, int]:
    del changed, size
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is a .npy file, one array without a name")
        with archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ArraysError(
            f"{path} can not be read as an .npz file without objects ({error}); write it with "
            "`numpy.savez(path, labels=..., NAME=...)`, NAME being the model's input"
        ) from error
    if not arrays:
        raise ArraysError(f"{path} holds no arrays; give it the model's inputs and the labels by name")
    arrays = {name: _decoded(path, name, array) for name, array in arrays.items()}
    lengths = {name: len(array) if array.ndim else None for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or None in lengths.values():
        raise ArraysError(
            f"{path}: the arrays' lengths are {lengths}; the first axis of each must be the example (pad examples that "
            "differ in length: a model with ragged inputs needs a signature that takes them padded)"
        )
    return arrays, int(next(iter(lengths.values())) or 0)


def _decoded(path: str, name: str, array: np.ndarray) -> np.ndarray:
    """Returns texts that are given as bytes as texts, so that they can be stored and served as such."""
    if array.dtype.kind != "S":
        return array
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise ArraysError(
            f"{path}: array {name!r} holds bytes that are no text in UTF-8 ({error}); give what they encode as "
            "numbers, images as uint8 for example, and export the model with an input that takes them"
        ) from error


def _read(path: Path, labels: str) -> pd.DataFrame:
    arrays, count = load(str(path))
    if labels not in arrays:
        raise ArraysError(
            f"{path} has no array {labels!r}, which `data.labels` names; it has {', '.join(sorted(arrays))}"
        )
    if len(arrays) == 1:
        raise ArraysError(f"{path} holds labels alone; the model's inputs are missing")
    inputs = {name: array for name, array in sorted(arrays.items()) if name != labels}
    digests = [_digest(inputs, row) for row in range(count)]
    return pd.DataFrame(
        {
            "id": [f"{path.name}:{row}" for row in range(count)],
            "file": path.name,
            "line": np.arange(1, count + 1),
            "path": str(path),
            "row": np.arange(count),
            "digest": [_digest({labels: arrays[labels]}, row, first) for row, first in enumerate(digests)],
            "input_digest": digests,
        }
    )


def _digest(arrays: Arrays, row: int, first: str = "") -> str:
    total = hashlib.sha256(first.encode())
    for name, array in arrays.items():
        total.update(f"{name} {dtype_name(array)} {array.shape[1:]}\0".encode())
        total.update(_content(array[row]))
    return total.hexdigest()[:16]


def _content(values: np.ndarray) -> bytes:
    values = np.asarray(values)
    if values.dtype.kind != "U":
        return np.ascontiguousarray(values).tobytes()
    # Texts are padded to the longest of their file, which says nothing of an example.
    texts = [text.encode() for text in values.ravel().tolist()]
    return b"".join(len(text).to_bytes(8, "little") + text for text in texts)
