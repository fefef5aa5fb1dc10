"""The operators inside TensorFlow graphs: the same as on arrays, with weights as a uint8 tensor.

The weights of a `PackedProduct`, `PackedEncoder` or `PackedTranslator` come as `to_bytes()` gives them, best as a
`tf.Variable`: a SavedModel keeps them like any other. Loading a SavedModel that has these operators needs
`load_operators()` before.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from optops.kernels.arrays import ACTIVATIONS, Activation, checked
from optops.kernels.library import KernelsUnavailableError, library
from optops.models.keras import tf

LIBRARY = Path(__file__).with_name("liboptops_tensorflow.so")


class TranslationTensors(NamedTuple):
    """What a search found.

    Attributes:
        ids: int32 [sentences, results, longest], each closed by the end id, then padding.
        lengths: int32 [sentences, results], ids of each, the end included; 0 where there is no result.
        scores: float32 [sentences, results], best first; NaN where there is no result.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    scores: tf.Tensor


@lru_cache(maxsize=1)
def load_operators() -> Any:
    """Makes the operators known to TensorFlow, and returns their module.

    Raises:
        KernelsUnavailableError: If they were not built, or this TensorFlow can not load them.
    """
    library()  # says what is missing if nothing was built
    try:
        return tf.load_op_library(str(LIBRARY))
    except (tf.errors.NotFoundError, OSError) as error:
        raise KernelsUnavailableError(
            f"{LIBRARY} can not be loaded into TensorFlow {tf.__version__}: {error}; install optops anew here"
        ) from error


def dense(x: Any, weights: Any, activation: Activation = "linear", threads: int = 0) -> tf.Tensor:
    """Returns `activation(x W + b)`, float32 [..., outputs].

    Args:
        x: float32 [..., inputs].
        weights: uint8 [size], of a `PackedProduct`.
        activation: `gelu` is the exact one (erf), `gelu_tanh` its approximation.
        threads: 0 means OPTOPS_THREADS, or all processors that the process may run on.

    Raises:
        tf.errors.InvalidArgumentError: When it runs, if a shape does not fit or the weights are damaged.
    """
    code = checked("activation", activation, ACTIVATIONS)
    x = tf.convert_to_tensor(x, tf.float32)
    y = load_operators().OptopsDense(x=x, weights=weights, activation=code, threads=threads)
    return y if x.shape.rank is None else tf.ensure_shape(y, [*x.shape[:-1], None])


def bias_activation(x: Any, bias: Any, activation: Activation = "gelu", threads: int = 0) -> tf.Tensor:
    """Returns `activation(x + bias)`, float32 [..., width]; x: float32 [..., width], bias: float32 [width]."""
    code = checked("activation", activation, ACTIVATIONS)
    x = tf.convert_to_tensor(x, tf.float32)
    y = load_operators().OptopsBiasActivation(x=x, bias=bias, activation=code, threads=threads)
    return tf.ensure_shape(y, x.shape)


def residual_norm(x: Any, residual: Any, scale: Any, offset: Any, epsilon: float = 1e-6, threads: int = 0) -> tf.Tensor:
    """Returns the layer normalisation of `x + residual`, float32 [..., width].

    Args:
        x: float32 [..., width].
        residual: float32 that may be added to x, most often of its shape; None adds nothing.
        scale: float32 [width].
        offset: float32 [width].
        epsilon: Added to the variance.
        threads: As for `dense`.

    Raises:
        tf.errors.InvalidArgumentError: When it runs, if a shape does not fit, or epsilon is not above 0.
    """
    x = tf.convert_to_tensor(x, tf.float32)
    other = tf.zeros([0]) if residual is None else tf.convert_to_tensor(residual, tf.float32)
    shape = x.shape if residual is None else tf.broadcast_static_shape(x.shape, other.shape)
    norm = {"scale": scale, "offset": offset, "epsilon": epsilon}
    y = load_operators().OptopsResidualNorm(x=x, residual=other, **norm, threads=threads)
    return tf.ensure_shape(y, shape)


def masked_softmax(x: Any, counts: Any, threads: int = 0) -> tf.Tensor:
    """Returns the softmax over the first `counts` of the last axis of x, zero beyond, float32 [..., width].

    Args:
        x: float32 [..., width].
        counts: Integers that broadcast to the other axes, 0 to `width`; where nothing counts, all is zero.
        threads: As for `dense`.

    Raises:
        TypeError: If counts are no integers.
        tf.errors.InvalidArgumentError: When it runs, if a shape or a count does not fit.
    """
    x, counts = tf.convert_to_tensor(x, tf.float32), tf.convert_to_tensor(counts)
    if not counts.dtype.is_integer:
        raise TypeError(f"masked_softmax: counts are {counts.dtype.name}; they must be integers")
    # What does not fit into 32 bits stays large, and the operator refuses it.
    each = tf.reshape(tf.broadcast_to(tf.saturate_cast(counts, tf.int32), tf.shape(x)[:-1]), [-1])
    rows = tf.reshape(x, [-1, tf.shape(x)[-1]])
    y = load_operators().OptopsMaskedSoftmax(x=rows, counts=each, threads=threads)
    return tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape)


def attention(
    queries: Any,
    keys: Any,
    values: Any,
    *,
    heads: int,
    lengths: Any = None,
    causal: bool = False,
    scale: float | None = None,
    threads: int = 0,
) -> tf.Tensor:
    """Returns `softmax(scale Q K^T) V` of each head, float32 like queries.

    Args:
        queries: float32 [sentences, query time, heads * head size], the heads side by side; the width must be known.
        keys: float32 [sentences, memory time, heads * head size].
        values: float32, as keys.
        heads: How many heads there are.
        lengths: int32 [sentences], keys that are there; all if None. Where there is none, the result is zero.
        causal: Whether query t sees the keys 0 to t alone.
        scale: On the scores; 1 / sqrt(head size) if None.
        threads: As for `dense`.

    Raises:
        ValueError: If the width of the queries is not known.
        tf.errors.InvalidArgumentError: When it runs, if a shape or a length does not fit.
    """
    queries, keys = tf.convert_to_tensor(queries, tf.float32), tf.convert_to_tensor(keys, tf.float32)
    if queries.shape.rank is None or queries.shape[-1] is None:
        raise ValueError(f"attention: queries have shape {queries.shape}; their last axis must be known")
    if lengths is None:
        lengths = tf.fill(tf.shape(keys)[:1], tf.shape(keys)[1])
    # What has no heads, or no width, the operator refuses.
    factor = max(queries.shape[-1] / max(heads, 1), 1) ** -0.5 if scale is None else scale
    how = {"heads": heads, "causal": int(causal), "scale": factor, "threads": threads}
    context = load_operators().OptopsAttention(queries=queries, keys=keys, values=values, lengths=lengths, **how)
    return tf.ensure_shape(context, queries.shape)


def encode(x: Any, lengths: Any, weights: Any, threads: int = 0) -> tf.Tensor:
    """Returns what an encoder makes of states, float32 [sentences, time, width], zero at padding.

    Args:
        x: float32 [sentences, time, width], embedded; what stands at padding does not matter.
        lengths: int32 [sentences], tokens of each, from 1 to `time`; not looked at where `time` is 0.
        weights: uint8 [size], of a `PackedEncoder`.
        threads: As for `dense`.

    Raises:
        tf.errors.InvalidArgumentError: When it runs, if a shape does not fit or the weights are damaged.
    """
    x = tf.convert_to_tensor(x, tf.float32)
    y = load_operators().OptopsEncode(x=x, lengths=lengths, weights=weights, threads=threads)
    return tf.ensure_shape(y, x.shape)


def translate(
    source: Any,
    lengths: Any,
    limits: Any,
    weights: Any,
    *,
    beam: int = 4,
    results: int = 1,
    length_penalty: float = 0.6,
    minimum_length: int = 0,
    threads: int = 0,
) -> TranslationTensors:
    """Returns the best translations of token ids; see `PackedTranslator.translate`.

    Args:
        source: int32 [sentences, time]; what stands at padding does not matter.
        lengths: int32 [sentences], ids of each, from 1 to `time`.
        limits: int32 [sentences], the most ids of each translation, the end id included.
        weights: uint8 [size], of a `PackedTranslator`.
        beam: Hypotheses that run at once; 1 is greedy search.
        results: Translations of each sentence.
        length_penalty: A hypothesis of `n` ids scores `log P / ((5 + n) / 6) ** length_penalty`.
        minimum_length: The fewest ids of a translation, the end id included.
        threads: As for `dense`.

    Raises:
        tf.errors.InvalidArgumentError: When it runs, if a shape, an id or a setting does not fit, or the weights are
            damaged.
    """
    found = load_operators().OptopsTranslate(
        source=source,
        lengths=lengths,
        limits=limits,
        weights=weights,
        beam=beam,
        results=results,
        length_penalty=length_penalty,
        minimum_length=minimum_length,
        threads=threads,
    )
    return _shaped(found, results)


def decode(
    memory: Any,
    lengths: Any,
    limits: Any,
    weights: Any,
    *,
    beam: int = 4,
    results: int = 1,
    length_penalty: float = 0.6,
    minimum_length: int = 0,
    threads: int = 0,
) -> TranslationTensors:
    """Returns the best translations of an encoder's output, float32 [sentences, time, width]; see `translate`."""
    found = load_operators().OptopsDecode(
        memory=memory,
        lengths=lengths,
        limits=limits,
        weights=weights,
        beam=beam,
        results=results,
        length_penalty=length_penalty,
        minimum_length=minimum_length,
        threads=threads,
    )
    return _shaped(found, results)


def _shaped(found: Any, results: int) -> TranslationTensors:
    ids, lengths, scores = found
    return TranslationTensors(
        tf.ensure_shape(ids, [None, results, None]),
        tf.ensure_shape(lengths, [None, results]),
        tf.ensure_shape(scores, [None, results]),
    )
