"""What all operators on arrays share: names of precisions and activations, and addresses."""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Precision = Literal["fp32", "bf16", "int8"]
Activation = Literal["linear", "relu", "gelu", "gelu_tanh", "silu"]
Floats = NDArray[np.float32]

ALIGNMENT = 64

PRECISIONS: dict[str, int] = {"fp32": 0, "bf16": 1, "int8": 2}
ACTIVATIONS: dict[str, int] = {"linear": 0, "relu": 1, "gelu": 2, "gelu_tanh": 3, "silu": 4}


def checked(what: str, name: str, choices: Mapping[str, int]) -> int:
    """Returns the library's number for a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in choices:
        raise ValueError(f"{what} is {name!r}; choose one of {', '.join(choices)}")
    return choices[name]


def contiguous(array: NDArray[Any]) -> Floats:
    """Returns the array as the library reads it: float32, row after row."""
    return np.ascontiguousarray(array, np.float32)


def address(array: NDArray[Any] | None) -> ctypes.c_void_p | None:
    """Returns where an array is; None for None."""
    return None if array is None else array.ctypes.data_as(ctypes.c_void_p)


def bytes_at(start: int, size: int) -> NDArray[np.uint8]:
    """Returns bytes where they lie, uint8 [size]."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(start))


def aligned_copy(block: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a copy of bytes that lies as the library reads them in place; NumPy's own memory does not."""
    room = np.empty(block.size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + block.size]
    copy[:] = block
    return copy


def int32_of(name: str, values: ArrayLike) -> NDArray[np.int32]:
    """Returns integers as the library reads them: int32, row after row.

    Raises:
        ValueError: If the values called `name` are no integers, or do not fit into 32 bits.
    """
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} are {array.dtype}; they must be integers of 32 bits")
    narrow = np.asarray(array, np.int32, order="C")
    if array.dtype != np.int32 and not (narrow == array).all():
        raise ValueError(f"{name} hold {array[narrow != array][0]}; they must be integers of 32 bits")
    return narrow


def sentences_of(
    name: str, shape: tuple[int, ...], lengths: NDArray[np.integer] | Sequence[int]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Returns where tokens are, bool [sentences, time], and where sentences start without padding, [sentences + 1].

    Raises:
        ValueError: If the lengths do not fit the shape [sentences, time, ...] of the array called `name`.
    """
    counts = int32_of("lengths", lengths)
    if counts.shape != shape[:1]:
        raise ValueError(f"lengths have shape {counts.shape}; for {name} {shape} it is {shape[:1]}")
    if counts.size and not (counts.min() >= 1 and counts.max() <= shape[1]):
        raise ValueError(f"lengths are {counts.min()} to {counts.max()}; each must be 1 to {shape[1]}")
    there = np.arange(shape[1]) < counts[:, None]
    return there, np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def pointers(arrays: Sequence[Floats]) -> Any:
    """Returns the addresses of arrays."""
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
