"""The compiled operators on arrays, without TensorFlow: products over packed weights, encoders, translators."""

from optops.kernels.encoder import PackedEncoder
from optops.kernels.layers import DecoderLayerWeights, EncoderLayerWeights
from optops.kernels.library import (
    KernelError,
    KernelsUnavailableError,
    instruction_set,
    instruction_sets,
    set_threads,
    threads,
)
from optops.kernels.product import PackedProduct
from optops.kernels.translator import PackedTranslator, Translations

__all__ = [
    "DecoderLayerWeights",
    "EncoderLayerWeights",
    "KernelError",
    "KernelsUnavailableError",
    "PackedEncoder",
    "PackedProduct",
    "PackedTranslator",
    "Translations",
    "instruction_set",
    "instruction_sets",
    "set_threads",
    "threads",
]
