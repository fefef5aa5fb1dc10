"""Functions that models of other forms are put together from, on NumPy arrays, without packed weights."""

import ctypes
from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from optops.kernels.arrays import ACTIVATIONS, Activation, Floats, address, checked, contiguous, int32_of
from optops.kernels.library import AttentionConfig, library, run


def bias_activation(x: Floats, bias: Floats, activation: Activation = "gelu", threads: int = 0) -> Floats:
    """Returns `activation(x + bias)`, float32 like x.

    Args:
        x: float32 [..., width].
        bias: float32 [width].
        activation: `gelu` is the exact one (erf), `gelu_tanh` its approximation.
        threads: 0 means OPTOPS_THREADS, or all processors that the process may run on.

    Raises:
        ValueError: If a shape or a name does not fit.
    """
    code = checked("activation", activation, ACTIVATIONS)
    _check_columns(x, bias=bias)
    x, bias = contiguous(x), contiguous(bias)
    y = np.empty_like(x)
    run(library().optops_bias_activation, address(x), *_rows(x), address(bias), code, address(y), threads=threads)
    return y


def residual_norm(
    x: Floats, residual: Floats, scale: Floats, offset: Floats, epsilon: float = 1e-6, threads: int = 0
) -> Floats:
    """Returns the layer normalisation of `x + residual`, float32 like x.

    Args:
        x: float32 [..., width].
        residual: float32, as x.
        scale: float32 [width].
        offset: float32 [width].
        epsilon: Added to the variance.
        threads: As for `bias_activation`.

    Raises:
        ValueError: If a shape does not fit, or epsilon is not above 0.
    """
    _check_columns(x, scale=scale, offset=offset)
    if residual.shape != x.shape:
        raise ValueError(f"the residual has shape {residual.shape}; x has {x.shape}")
    x, residual, scale, offset = map(contiguous, (x, residual, scale, offset))
    y = np.empty_like(x)
    arrays = (address(residual), *_rows(x), address(scale), address(offset))
    run(library().optops_residual_norm, address(x), *arrays, epsilon, address(y), threads=threads)
    return y


def masked_softmax(x: Floats, counts: NDArray[np.integer] | Sequence[int], threads: int = 0) -> Floats:
    """Returns the softmax over the first `counts` of the last axis, zero beyond, float32 like x.

    Args:
        x: float32 [..., width].
        counts: Integers that broadcast to the other axes, 0 to `width`; where nothing counts, all is zero.
        threads: As for `bias_activation`.

    Raises:
        ValueError: If a shape does not fit, or a count is no integer or out of range.
    """
    if x.ndim < 1:
        raise ValueError("x has no axis to take a softmax over")
    each = np.ascontiguousarray(np.broadcast_to(int32_of("counts", counts), x.shape[:-1]))
    x = contiguous(x)
    y = np.empty_like(x)
    run(library().optops_masked_softmax, address(x), *_rows(x), address(each), address(y), threads=threads)
    return y


def attention(
    queries: Floats,
    keys: Floats,
    values: Floats,
    *,
    heads: int,
    lengths: NDArray[np.integer] | Sequence[int] | None = None,
    causal: bool = False,
    scale: float | None = None,
    threads: int = 0,
) -> Floats:
    """Returns `softmax(scale Q K^T) V` of each head, float32 like queries.

    Args:
        queries: float32 [sentences, query time, heads * head size], the heads side by side.
        keys: float32 [sentences, memory time, heads * head size].
        values: float32, as keys.
        heads: How many heads there are.
        lengths: int [sentences], keys that are there, 0 to memory time; all if None. Where there is none, the result
            is zero.
        causal: Whether query t sees the keys 0 to t alone.
        scale: On the scores; 1 / sqrt(head size) if None.
        threads: As for `bias_activation`.

    Raises:
        ValueError: If a shape or a length does not fit.
    """
    if queries.ndim != 3 or keys.ndim != 3 or not 1 <= heads <= queries.shape[2] or queries.shape[2] % heads:
        raise ValueError(
            f"queries {queries.shape} and keys {keys.shape} must be [sentences, time, width], the width a multiple of "
            f"{heads} heads"
        )
    if keys.shape != values.shape or (keys.shape[0], keys.shape[2]) != (queries.shape[0], queries.shape[2]):
        raise ValueError(f"keys {keys.shape} and values {values.shape} do not fit queries {queries.shape}")
    counts = None if lengths is None else int32_of("lengths", lengths)
    if counts is not None and counts.shape != queries.shape[:1]:
        raise ValueError(f"lengths have shape {counts.shape}; for queries {queries.shape} it is {queries.shape[:1]}")
    size = queries.shape[2] // heads
    factor = 1 / sqrt(size) if scale is None else scale
    config = AttentionConfig(
        sentences=queries.shape[0],
        query_time=queries.shape[1],
        memory_time=keys.shape[1],
        heads=heads,
        head_size=size,
        causal=causal,
        scale=factor,
    )
    queries, keys, values = map(contiguous, (queries, keys, values))
    context = np.empty_like(queries)
    arrays = (address(queries), address(keys), address(values), address(counts), address(context))
    run(library().optops_attention, ctypes.byref(config), *arrays, threads=threads)
    return context


def _rows(x: Floats) -> tuple[int, int]:
    return x.size // x.shape[-1] if x.shape[-1] else 0, x.shape[-1]


def _check_columns(x: Floats, **arrays: Floats) -> None:
    for name, array in arrays.items():
        if x.ndim < 1 or array.shape != x.shape[-1:]:
            raise ValueError(f"{name} has shape {array.shape}; for x {x.shape} it is {x.shape[-1:]}")
