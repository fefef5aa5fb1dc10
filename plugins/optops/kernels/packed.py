"""Packed weights: held by the library, kept as bytes, opened again."""

import ctypes
import weakref
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from optops.kernels.arrays import address
from optops.kernels.library import call, library


class Packed:
    """Weights in the form that processors read fastest; the form is the same for every processor."""

    kind: ClassVar[str]
    _block: NDArray[np.uint8]

    def _hold(self, handle: int) -> None:
        self._handle = handle
        weakref.finalize(self, self._function("free"), handle)

    def _sizes(self, count: int) -> list[int]:
        sizes = np.zeros(count, np.int64)
        self._function("sizes")(self._handle, address(sizes))
        return [int(size) for size in sizes]

    @classmethod
    def _function(cls, name: str) -> Any:
        return getattr(library(), f"optops_{cls.kind}_{name}")

    def to_bytes(self) -> NDArray[np.uint8]:
        """Returns the weights as one block of bytes with a checksum, uint8 [size]: a copy."""
        size = ctypes.c_int64()
        start = self._function("blob")(self._handle, ctypes.byref(size))
        return np.frombuffer(ctypes.string_at(start, size.value), np.uint8).copy()

    @classmethod
    def from_bytes(cls, block: NDArray[np.uint8] | bytes) -> Self:
        """Opens what `to_bytes` gave, also that of an older version.

        Raises:
            ValueError: If it is damaged, or the weights of something else.
            KernelError: If a newer optops wrote it.
        """
        array = np.frombuffer(block, np.uint8) if isinstance(block, bytes) else np.ascontiguousarray(block, np.uint8)
        packed = cls.__new__(cls)
        packed._hold(call(cls._function("open"), address(array), array.size))
        packed._block = array  # the library reads it where it lies
        return packed
