"""The compiled operators on arrays, without TensorFlow: packed products, encoders, translators; plain functions."""

from optops.kernels.encoder import PackedEncoder
from optops.kernels.functions import attention, bias_activation, masked_softmax, residual_norm
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
    "attention",
    "bias_activation",
    "instruction_set",
    "instruction_sets",
    "masked_softmax",
    "residual_norm",
    "set_threads",
    "threads",
]
