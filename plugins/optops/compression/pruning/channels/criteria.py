"""How much a channel matters: from the weights that make it, its batch norm, or what the loss says of them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.compression.pruning.channels.graph import ChannelGraph
from optops.compression.pruning.channels.layers import Weight
from optops.models.keras import keras, tf


@dataclass(frozen=True)
class Criterion:
    """How much channels matter.

    Attributes:
        of: Takes a weight; returns the importance of each channel along the axis that counts, or None if it does not
            count.
        comparable: Whether importance means the same in all layers; if not, it counts relative to
            what is left of the group.
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
    """Returns the first-order change of the loss if a channel were zero.

    Behind a batch norm that is |scale * d loss / d scale + offset * d loss / d offset|, elsewhere |sum over the weights
    that make it of weight * d loss / d weight|; the mean over batches of the magnitude (Molchanov et al. 2019, section
    3.2 and equation 8, without the square). Batch norms use their moving statistics meanwhile: with a batch's own the
    loss does not depend on the scale of what is in front of them.

    Args:
        model: A Keras model.
        loss: Called as `loss(model, batch)`; gives a scalar.
        batches: Real data; a few hundred examples do.

    Raises:
        ValueError: If there are no batches, the loss depends on no trainable weight, or a gradient is not finite.
    """
    # By variable and axis: products of all weights and batches would not fit into memory.
    sums: dict[tuple[int, int], NDArray[np.float64]] = {}
    variables = model.trainable_variables
    offsets = {id(layer.gamma): layer.beta for layer in _batch_norms(model) if layer.scale and layer.center}
    count = 0
    with _moving_statistics(model):
        for batch in batches:
            count += 1
            with tf.GradientTape() as tape:
                value = loss(model, batch)
            gradients = {id(v): each for v, each in zip(variables, tape.gradient(value, variables), strict=True)}
            for variable in variables:
                parts = (variable, offsets[id(variable)]) if id(variable) in offsets else (variable,)
                products = [
                    _product(each, gradients[id(each)]) for each in parts if gradients.get(id(each)) is not None
                ]
                for axis in range(variable.shape.rank if products else 0):
                    change = _over_others(np.sum(products, axis=0), axis)
                    sums[id(variable), axis] = sums.get((id(variable), axis), 0.0) + np.abs(change)
    if not count:
        raise ValueError("there are no batches to measure importance on; give some of the training data")
    if not sums:
        raise ValueError("the loss depends on no trainable weight of the model; set `model.trainable = True`")

    def criterion(weight: Weight) -> NDArray[np.float64] | None:
        axis = 0 if weight.role == "gamma" else weight.produces
        found = None if axis is None else sums.get((id(weight.variable), axis))
        return None if found is None else found / count

    return Criterion(criterion, comparable=True)


def _product(variable: Any, gradient: Any) -> NDArray[np.float64]:
    product: NDArray[np.float64] = (tf.convert_to_tensor(gradient) * variable).numpy().astype(np.float64)
    if not np.isfinite(product).all():
        raise ValueError(f"the gradient of {variable.name} is not finite; train the model before it is pruned")
    return product


def _batch_norms(model: Any) -> list[Any]:
    return [layer for layer in model.submodules if isinstance(layer, keras.layers.BatchNormalization)]


@contextmanager
def _moving_statistics(model: Any) -> Iterator[None]:
    """Has batch norms use their moving statistics, in a training's loss too, and leave them as they are."""
    norms = [(layer, layer.trainable) for layer in _batch_norms(model)]
    statistics = [(variable, variable.numpy()) for variable in model.non_trainable_variables]
    try:
        for layer, _ in norms:
            layer.trainable = False
        yield
    finally:
        for layer, trainable in norms:
            layer.trainable = trainable
        for variable, value in statistics:
            variable.assign(value)


def importance(graph: ChannelGraph, criterion: Criterion) -> dict[int, float]:
    """Returns the importance of channels by their atom: the mean over all weights that count of the channel.

    Where its batch norms count, they alone do: what they make of a channel is what others see.

    Raises:
        ValueError: If a weight is not finite.
    """
    ties, made, normed = graph.trace.ties, dict[int, list[float]](), dict[int, list[float]]()
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
            found = normed if weight.role == "gamma" else made
            for root, value in zip(ties.roots(weight.axes[axis]).tolist(), values.tolist(), strict=True):
                found.setdefault(root, []).append(value)
    return {root: fmean(values) for root, values in (made | normed).items()}


def _values(weight: Weight) -> NDArray[np.float64]:
    values: NDArray[np.float64] = weight.variable.numpy().astype(np.float64)
    return values


def _over_others(values: NDArray[Any], axis: int) -> NDArray[np.float64]:
    others = tuple(other for other in range(values.ndim) if other != axis)
    total: NDArray[np.float64] = values.sum(axis=others, dtype=np.float64)
    return total
