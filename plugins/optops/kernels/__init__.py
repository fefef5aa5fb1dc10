"""The compiled operators on arrays, without TensorFlow: products over packed weights, a whole encoder in one call."""

from optops.kernels.encoder import EncoderLayerWeights, PackedEncoder
from optops.kernels.library import KernelError, KernelsUnavailableError, instruction_set, instruction_sets, threads
from optops.kernels.product import PackedProduct

__all__ = [
    "EncoderLayerWeights",
    "KernelError",
    "KernelsUnavailableError",
    "PackedEncoder",
    "PackedProduct",
    "instruction_set",
    "instruction_sets",
    "threads",
]
