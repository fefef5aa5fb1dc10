"""The operators inside TensorFlow graphs: the same as on arrays, with weights as a uint8 tensor.

The weights of a `PackedEncoder` or `PackedTranslator` come as `to_bytes()` gives them, best as a `tf.Variable`: a
SavedModel keeps them like any other. Loading a SavedModel that has these operators needs `load_operators()` before.
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
    rows = tf.reshape(x, [-1, tf.shape(x)[-1]])
    y = load_operators().OptopsDense(x=rows, weights=weights, activation=code, threads=threads)
    return tf.reshape(y, tf.concat([tf.shape(x)[:-1], tf.shape(y)[1:]], axis=0))


def encode(x: Any, lengths: Any, weights: Any, threads: int = 0) -> tf.Tensor:
    """Returns what an encoder makes of states, float32 [sentences, time, width], zero at padding.

    Args:
        x: float32 [sentences, time, width], embedded; what stands at padding does not matter.
        lengths: int32 [sentences], tokens of each, from 1 to `time`.
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
