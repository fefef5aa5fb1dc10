"""A whole Transformer encoder in one call, on NumPy arrays."""

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from optops.kernels.arrays import Activation, Floats, Precision, address, contiguous, pointers, sentences_of
from optops.kernels.layers import EncoderLayerWeights, Norm, encoder_stack
from optops.kernels.packed import Handle, Packed

if TYPE_CHECKING:
    from optops.models.transformer.model import Transformer


class PackedEncoder(Packed):
    """A Transformer encoder whose layers run in one call, over sentences without their padding.

    A sentence's result is the same to the last bit for any number of threads, any other sentences beside it, and any
    padding.

    Args:
        layers: One or more; layers that share their weights, as ALBERT's do, may be given several times.
        head_size: Of every head; queries are divided by its square root.
        last_norm: Scale and offset of the norm after the last layer. With it the encoder is pre-norm: a norm before
            each block. Without it each norm follows its block's residual sum, as in BERT.
        activation: Of the hidden units.
        epsilon: Of the norms.
        precision: Of the products: `fp32`, `bf16` or `int8`. In bf16 and int8 attention multiplies in bf16 where the
            processor does; softmax and norms are fp32.

    Raises:
        ValueError: If shapes do not fit, or a value is not finite.
        KernelsUnavailableError: If the compiled operators are not installed.
    """

    kind: ClassVar[str] = "encoder"

    def __init__(
        self,
        layers: Sequence[EncoderLayerWeights],
        *,
        head_size: int,
        last_norm: Norm | None = None,
        activation: Activation = "relu",
        epsilon: float = 1e-6,
        precision: Precision = "fp32",
    ) -> None:
        stack = encoder_stack(
            layers,
            head_size=head_size,
            last_norm=last_norm,
            activation=activation,
            epsilon=epsilon,
            precision=precision,
        )
        arrays = pointers(stack.arrays), len(stack.arrays)
        self._handle = Handle.packed(self.kind, ctypes.byref(stack.config), *arrays)

    @property
    def width(self) -> int:
        """The size of a token's state."""
        return self._handle.sizes(1)[0]

    @classmethod
    def from_keras(cls, model: "Transformer", precision: Precision = "fp32") -> "PackedEncoder":
        """Returns the encoder of a `Transformer`; it takes what `model.embed` gives."""
        from optops.kernels.transformer import encoder_layers, uniform
        from optops.models.transformer.weights import read_weights

        weights = read_weights(model, scaled_queries=False)
        return cls(
            encoder_layers(weights.encoder, uniform(precision)),
            head_size=weights.head_size,
            last_norm=(weights.encoder_norm.scale, weights.encoder_norm.offset),
            precision=precision,
        )

    def __call__(self, x: Floats, lengths: NDArray[np.integer] | Sequence[int], *, threads: int = 0) -> Floats:
        """Returns float32 [sentences, time, width]; zero at padding.

        Args:
            x: float32 [sentences, time, width], embedded; what stands at padding does not matter.
            lengths: Tokens of each sentence, [sentences], each from 1 to `time`.
            threads: 0 means OPTOPS_THREADS, or all processors that the process may run on.

        Raises:
            ValueError: If a shape or a length does not fit.
        """
        width = self.width
        if x.ndim != 3 or x.shape[2] != width:
            raise ValueError(f"x has shape {x.shape}; it must be [sentences, time, {width}]")
        there, starts = sentences_of("x", x.shape, lengths)
        tokens = contiguous(x[there])
        self._handle.run("run", address(tokens), address(starts), len(x), address(tokens), threads=threads)
        y = np.zeros(x.shape, np.float32)
        y[there] = tokens
        return y
