"""What this machine reads and computes in a second, as the operators find it: their own floor and ceiling."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np

from optops.kernels.arrays import Precision
from optops.kernels.product import PackedProduct

SECONDS = 0.25
# More than any processor's cache: 256 MB of weights, of which each is used once.
READ_SIZE = 8192
# Weights that stay in the cache of a core, and rows enough to use each of them many times.
COMPUTED_ROWS, COMPUTED_SIZE = 192, 512


@dataclass(frozen=True)
class Speed:
    """The best of several products.

    Attributes:
        bytes_per_second: Read from memory by one row times a large matrix.
        operations_per_second: Multiplications and additions of many rows times a small matrix, by precision.
    """

    bytes_per_second: float
    operations_per_second: dict[Precision, float]


def measure_speed(threads: int = 0) -> Speed:
    """Returns the speed of products on this machine; takes about three seconds and half a gigabyte.

    Args:
        threads: 0 means OPTOPS_THREADS, or all processors that the process may run on.

    Raises:
        KernelsUnavailableError: If the compiled operators are not installed.
    """
    rows = np.ones((COMPUTED_ROWS, COMPUTED_SIZE), np.float32)
    weights = np.full((COMPUTED_SIZE, COMPUTED_SIZE), 0.5, np.float32)
    operations: dict[Precision, float] = {}
    for precision in get_args(Precision):
        small = PackedProduct(weights, precision=precision)
        operations[precision] = 2 * rows.size * COMPUTED_SIZE / _best(partial(small, rows, threads=threads))
    large = PackedProduct(np.full((READ_SIZE, READ_SIZE), 0.5, np.float32))
    row = np.ones((1, READ_SIZE), np.float32)
    return Speed(large.size_bytes / _best(partial(large, row, threads=threads)), operations)


def _best(call: Callable[[], object]) -> float:
    """Returns the least seconds that a call took; other processes only ever add to them."""
    call()
    until, best = time.perf_counter() + SECONDS, float("inf")
    while time.perf_counter() < until:
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return best
