"""How much a channel matters: from the weights that make it, its batch norm, or what the loss says of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.compression.pruning.channels.graph import ChannelGraph
from optops.compression.pruning.channels.layers import Weight
from optops.models.keras import tf


@dataclass(frozen=True)
class Criterion:
    """How much channels matter.

    Attributes:
        of: Takes a weight; returns the importance of each channel along the axis that counts, or None if it does not
            count.
        comparable: Whether importance means the same in all layers; if not, it is divided by its norm in each group.
    """

    of: Callable[[Weight], NDArray[np.float64] | None]
    comparable: bool


Batch = Any
Loss = Callable[[Any, Batch], Any]


def _l1(weight: Weight) -> NDArray[np.float64] | None:
    return None if weight.produces is None else _over_others(np.abs(_values(weight)), weight.produces)


def _l2(weight: Weight) -> NDArray[np.float64] | None:
    return None if weight.produces is None else np.sqrt(_over_others(_values(weight) ** 2, weight.produces))


def _scale(weight: Weight) -> NDArray[np.float64] | None:
    return np.abs(_values(weight)) if weight.role == "gamma" else None


l1_norm = Criterion(_l1, comparable=False)
"""Sum of the magnitudes of the weights that make a channel (Li et al. 2017, section 3.1)."""

l2_norm = Criterion(_l2, comparable=False)
"""Length of the vector of weights that make a channel."""

batch_norm_scale = Criterion(_scale, comparable=True)
"""Magnitude of the scale of a channel's batch norm, trained with `scale_penalty` (Liu et al. 2017, section 3)."""


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
    # A training loss moves the batch norms' statistics; to look at a model is not to change it.
    statistics = [(variable, variable.numpy()) for variable in model.non_trainable_variables]
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
    for variable, value in statistics:
        variable.assign(value)
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

    return Criterion(criterion, comparable=True)


def importance(graph: ChannelGraph, criterion: Criterion) -> dict[int, float]:
    """Returns the importance of channels by their atom: the mean over all weights that count of the channel.

    Raises:
        ValueError: If a weight is not finite.
    """
    ties, found = graph.trace.ties, dict[int, list[float]]()
    for weights in graph.trace.weights.values():
        for weight in weights:
            values = criterion.of(weight)
            if not np.isfinite(_values(weight) if values is None else values).all():
                raise ValueError(
                    f"the weights {weight.variable.name} are not finite; train the model before it is pruned"
                )
            if values is None:
                continue
            axis = 0 if weight.produces is None else weight.produces
            for root, value in zip(ties.roots(weight.axes[axis]).tolist(), values.tolist(), strict=True):
                found.setdefault(root, []).append(value)
    return {root: fmean(values) for root, values in found.items()}


def _values(weight: Weight) -> NDArray[np.float64]:
    values: NDArray[np.float64] = weight.variable.numpy().astype(np.float64)
    return values


def _over_others(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    total: NDArray[np.float64] = values.sum(axis=tuple(other for other in range(values.ndim) if other != axis))
    return total
