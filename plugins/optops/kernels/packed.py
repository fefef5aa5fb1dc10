"""Packed weights: held by the library, kept as bytes, opened again."""

import ctypes
import weakref
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from optops.kernels.arrays import ALIGNMENT, address, aligned_copy, bytes_at
from optops.kernels.library import call, library, run


class Handle:
    """Packed weights that the library holds for as long as this lives.

    Shallow copies of its owner share it; what is pickled takes the weights along.

    Args:
        kind: Of weights, as the library names its functions.
        pointer: What the library gave for them.
        block: The bytes that the library reads where they lie, if they are not its own.
    """

    def __init__(self, kind: str, pointer: int, block: NDArray[np.uint8] | None = None) -> None:
        self._kind, self._pointer, self._block = kind, pointer, block
        freed = weakref.finalize(self, _function(kind, "free"), pointer)
        # A thread that the interpreter does not wait for may still compute; the memory goes with the process.
        freed.atexit = False

    @classmethod
    def packed(cls, kind: str, *arguments: Any) -> Self:
        """Packs weights; the arguments are those of the library's function."""
        return cls(kind, call(_function(kind, "pack"), *arguments))

    @classmethod
    def opened(cls, kind: str, block: NDArray[np.uint8]) -> Self:
        """Opens bytes; see `Packed.from_bytes`."""
        if block.ctypes.data % ALIGNMENT:
            block = aligned_copy(block)  # the library would make one as well, beside the bytes that are kept here
        return cls(kind, call(_function(kind, "open"), address(block), block.size), block)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).opened, (self._kind, self.to_bytes())

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function of the library on the weights."""
        call(_function(self._kind, name), self._pointer, *arguments)

    def run(self, name: str, *arguments: Any, threads: int) -> None:
        """Calls a function of the library on the weights that takes threads."""
        run(_function(self._kind, name), self._pointer, *arguments, threads=threads)

    def sizes(self, count: int) -> list[int]:
        """Returns the sizes of which this kind of weights has `count`."""
        sizes = np.zeros(count, np.int64)
        _function(self._kind, "sizes")(self._pointer, address(sizes))
        return [int(size) for size in sizes]

    def to_bytes(self) -> NDArray[np.uint8]:
        """Returns a copy of the weights as one block; see `Packed.to_bytes`."""
        size = ctypes.c_int64()
        start = _function(self._kind, "blob")(self._pointer, ctypes.byref(size))
        return aligned_copy(bytes_at(start, size.value))


class Packed:
    """Weights in the form that processors read fastest; the form is the same for every processor."""

    kind: ClassVar[str]
    _handle: Handle

    def to_bytes(self) -> NDArray[np.uint8]:
        """Returns the weights as one block of bytes with a checksum, uint8 [size]: a copy."""
        return self._handle.to_bytes()

    @classmethod
    def from_bytes(cls, block: NDArray[np.uint8] | bytes) -> Self:
        """Opens what `to_bytes` gave, also that of an older version.

        A block that starts on a multiple of 64 bytes is used where it lies, and must stay unchanged.

        Raises:
            ValueError: If it is damaged, or the weights of something else.
            KernelError: If a newer optops wrote it.
        """
        array = np.frombuffer(block, np.uint8) if isinstance(block, bytes) else np.ascontiguousarray(block, np.uint8)
        packed = cls.__new__(cls)
        packed._handle = Handle.opened(cls.kind, array)
        return packed


def _function(kind: str, name: str) -> Any:
    return getattr(library(), f"optops_{kind}_{name}")
