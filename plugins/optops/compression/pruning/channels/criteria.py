"""How much a channel matters: from the weights that make it, its batch norm, or what the loss says of them."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.compression.pruning.channels.graph import ChannelGraph
from optops.compression.pruning.channels.layers import Weight
from optops.models.keras import tf

Criterion = Callable[[Weight], NDArray[np.float64] | None]
"""Takes a weight; returns the importance of each channel along the axis that counts, or None if it does not count."""

Batch = Any
Loss = Callable[[Any, Batch], Any]


def l1_norm(weight: Weight) -> NDArray[np.float64] | None:
    """Sum of the magnitudes of the weights that make a channel (Li et al. 2017, section 3.1)."""
    return None if weight.produces is None else _over_others(np.abs(_values(weight)), weight.produces)


def l2_norm(weight: Weight) -> NDArray[np.float64] | None:
    """Length of the vector of weights that make a channel."""
    return None if weight.produces is None else np.sqrt(_over_others(_values(weight) ** 2, weight.produces))


def batch_norm_scale(weight: Weight) -> NDArray[np.float64] | None:
    """Magnitude of the scale of a channel's batch norm (Liu et al. 2017, section 3); trained with an L1 penalty."""
    return np.abs(_values(weight)) if weight.role == "gamma" else None


def taylor(model: Any, loss: Loss, batches: Iterable[Batch]) -> Criterion:
    """Returns the first-order change of the loss if the weights that make a channel were zero.

    That is |sum over its weights of weight * d loss / d weight|, the mean over batches of the magnitude (Molchanov et
    al. 2019, equation 8, without the square).

    Args:
        model: A Keras model.
        loss: Called as `loss(model, batch)`; gives a scalar.
        batches: Real data; a few hundred examples do.

    Raises:
        ValueError: If there are no batches, or a gradient is not finite.
    """
    products: dict[int, list[NDArray[np.float64]]] = {}
    variables = model.trainable_variables
    for batch in batches:
        with tf.GradientTape() as tape:
            value = loss(model, batch)
        for variable, gradient in zip(variables, tape.gradient(value, variables), strict=True):
            if gradient is not None:
                product = (tf.convert_to_tensor(gradient) * variable).numpy().astype(np.float64)
                if not np.isfinite(product).all():
                    raise ValueError(
                        f"the gradient of {variable.name} is not finite; train the model before it is pruned"
                    )
                products.setdefault(id(variable), []).append(product)
    if not products:
        raise ValueError("there are no batches to measure importance on; give some of the training data")

    def criterion(weight: Weight) -> NDArray[np.float64] | None:
        if weight.produces is None or id(weight.variable) not in products:
            return None
        axis = weight.produces
        found: NDArray[np.float64] = np.mean(
            [np.abs(_over_others(product, axis)) for product in products[id(weight.variable)]], axis=0
        )
        return found

    return criterion


def importance(graph: ChannelGraph, criterion: Criterion) -> dict[int, float]:
    """Returns the importance of channels by their atom: the sum over all layers that have the channel.

    Raises:
        ValueError: If a weight is not finite.
    """
    ties, total = graph.trace.ties, dict[int, float]()
    for weights in graph.trace.weights.values():
        for weight in weights:
            values = criterion(weight)
            if values is None:
                continue
            if not np.isfinite(values).all():
                raise ValueError(
                    f"the weights {weight.variable.name} are not finite; train the model before it is pruned"
                )
            axis = 0 if weight.produces is None else weight.produces
            for root, value in zip(ties.roots(weight.axes[axis]).tolist(), values.tolist(), strict=True):
                total[root] = total.get(root, 0.0) + value
    return total


def _values(weight: Weight) -> NDArray[np.float64]:
    values: NDArray[np.float64] = weight.variable.numpy().astype(np.float64)
    return values


def _over_others(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    total: NDArray[np.float64] = values.sum(axis=tuple(other for other in range(values.ndim) if other != axis))
    return total
