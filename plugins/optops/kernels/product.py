"""Products with weights that were packed once, on NumPy arrays."""

from typing import ClassVar

import numpy as np

from optops.kernels.arrays import ACTIVATIONS, PRECISIONS, Activation, Floats, Precision, address, checked, contiguous
from optops.kernels.packed import Handle, Packed


class PackedProduct(Packed):
    """`activation(x @ weights + bias) + residual` with weights in the form that the processor reads fastest.

    fp32 adds up in the order of the inputs. bf16 rounds activations and weights to bfloat16 and adds up in fp32. int8
    has a scale for each row of activations, taken from its largest magnitude at every call, and for each column of
    weights, and adds up exactly. The result is the same to the last bit for any number of threads, and a row's for any
    other rows beside it.

    Args:
        weights: float32 [inputs, outputs], finite.
        bias: float32 [outputs], finite; zero if None.
        precision: `fp32`, `bf16` or `int8`.

    Raises:
        ValueError: If shapes do not fit, or a value is not finite.
        KernelsUnavailableError: If the compiled operators are not installed.
    """

    kind: ClassVar[str] = "product"

    def __init__(self, weights: Floats, bias: Floats | None = None, precision: Precision = "fp32") -> None:
        if weights.ndim != 2:
            raise ValueError(f"weights have shape {weights.shape}; they must be [inputs, outputs]")
        if bias is not None and bias.shape != weights.shape[1:]:
            raise ValueError(f"the bias has shape {bias.shape}; for weights {weights.shape} it is {weights.shape[1:]}")
        code = checked("precision", precision, PRECISIONS)
        weights, bias = contiguous(weights), None if bias is None else contiguous(bias)
        self._handle = Handle.packed(self.kind, address(weights), address(bias), *weights.shape, code)

    @property
    def inputs(self) -> int:
        """The size of the last axis of what comes in."""
        return self._handle.sizes(3)[0]

    @property
    def outputs(self) -> int:
        """The size of the last axis of what goes out."""
        return self._handle.sizes(3)[1]

    @property
    def size_bytes(self) -> int:
        """Bytes of packed weights that a call reads."""
        return self._handle.sizes(3)[2]

    def __call__(
        self,
        x: Floats,
        *,
        activation: Activation = "linear",
        residual: Floats | None = None,
        threads: int = 0,
    ) -> Floats:
        """Returns float32 [..., outputs].

        Args:
            x: float32 [..., inputs].
            activation: `gelu` is the exact one (erf), `gelu_tanh` its approximation.
            residual: float32 [..., outputs], added at the end.
            threads: 0 means OPTOPS_THREADS, or all processors that the process may run on.

        Raises:
            ValueError: If a shape or a name does not fit.
        """
        inputs, outputs, _ = self._handle.sizes(3)
        if x.ndim < 1 or x.shape[-1] != inputs:
            raise ValueError(f"x has shape {x.shape}; the last axis must be {inputs}")
        code = checked("activation", activation, ACTIVATIONS)
        shape = (*x.shape[:-1], outputs)
        if residual is not None and residual.shape != shape:
            raise ValueError(f"the residual has shape {residual.shape}; for x {x.shape} it is {shape}")
        x, residual = contiguous(x), None if residual is None else contiguous(residual)
        y = np.empty(shape, np.float32)
        rows = y.size // outputs
        self._handle.run("run", address(x), rows, code, address(residual), address(y), threads=threads)
        return y
