"""The compiled operators: products over packed weights, on arrays, without TensorFlow."""

from optops.kernels.library import KernelError, KernelsUnavailableError, instruction_set, instruction_sets, threads
from optops.kernels.product import PackedProduct

__all__ = [
    "KernelError",
    "KernelsUnavailableError",
    "PackedProduct",
    "instruction_set",
    "instruction_sets",
    "threads",
]
