"""Weights of copies: a layer that is made again from its settings lists them in another order if some are frozen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def give_weights(copy: Any, layer: Any, arrays: Sequence[NDArray[np.generic]]) -> None:
    """Sets the weights of a layer's copy, and freezes within it what is frozen within the layer.

    Keras lists weights that learn before those that are frozen, and what is frozen within a layer is none of its
    settings.

    Args:
        copy: Built; made from the settings of `layer`.
        layer: That it is a copy of; left as it is.
        arrays: Values in the order of the weights of `layer`.
    """
    # An activation that became a layer of its own is last, and missing in the copy.
    for own, copied in zip(layer._flatten_layers(), copy._flatten_layers(), strict=False):
        # Past Keras, which would change those within a layer, too.
        copied._trainable = own._trainable
    copy.set_weights(arrays)
