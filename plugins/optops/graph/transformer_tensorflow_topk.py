"""The largest of many logits in TensorFlow, whose own top-k looks at them one by one."""

from dataclasses import replace

import numpy as np

from optops.models.keras import tf
from optops.models.transformer.config import MASKED
from optops.models.transformer.weights import Product

GROUP = 32


def padded_vocabulary(projection: Product) -> Product:
    """Returns a projection to a multiple of `GROUP` logits; those added are never chosen and have no probability."""
    missing = -projection.kernel.shape[1] % GROUP
    kernel = np.pad(projection.kernel, [(0, 0), (0, missing)])
    return replace(projection, kernel=kernel, bias=np.pad(projection.bias, (0, missing), constant_values=MASKED))


def grouped_top_k(logits: tf.Tensor, wanted: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the `wanted` largest logits of each row, best first, and their indices int32.

    The largest `wanted` lie in the `wanted` groups with the largest maxima, so only those are searched.

    Args:
        logits: float32 [rows, vocabulary], the vocabulary a multiple of `GROUP`.
        wanted: How many.
    """
    groups = logits.shape[1] // GROUP
    if groups <= 2 * wanted:
        return tuple(tf.math.top_k(logits, wanted))
    grouped = tf.reshape(logits, [-1, groups, GROUP])
    _, chosen = tf.math.top_k(tf.reduce_max(grouped, axis=2), wanted)
    # In the order of the vocabulary, so that among equal logits the lowest index wins, as in a plain top-k.
    chosen = tf.sort(chosen, axis=1)
    values = tf.reshape(tf.gather(grouped, chosen, batch_dims=1), [-1, wanted * GROUP])
    best, ranks = tf.math.top_k(values, wanted)
    return best, tf.gather(chosen, ranks // GROUP, batch_dims=1) * GROUP + ranks % GROUP
