"""Batch norms while channels are pruned: scales driven to zero before, statistics measured anew after."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from optops.compression.pruning.channels.graph import ChannelGraph
from optops.models.keras import keras, tf


def scale_penalty(graph: ChannelGraph) -> Any:
    """Returns the sum of the magnitudes of all batch norms' scales whose channels may go; a scalar tensor.

    Added to the loss with a small weight (1e-4 to 1e-5), it drives the scales of channels that matter little to zero,
    so that little is lost when they are pruned by `batch_norm_scale` (Network Slimming: Liu et al. 2017, section 3).

    Raises:
        ValueError: If there is no such batch norm.
    """
    ties = graph.trace.ties
    scales = [
        weight.variable
        for weights in graph.trace.weights.values()
        for weight in weights
        if weight.role == "gamma" and any(ties.reason(atom) is None for atom in weight.axes[0].tolist())
    ]
    if not scales:
        raise ValueError("scale_penalty: no batch norm has a scale and channels that may go")
    return tf.add_n([tf.reduce_sum(tf.abs(scale)) for scale in scales])


def measure_batch_norms(model: Any, batches: Iterable[Any]) -> None:
    """Replaces the statistics of all batch norms by their means over all of their calls.

    Without some of its inputs a layer's outputs have another mean and variance than those that its batch norm has
    learnt; measured anew, much of the quality is back before any training.

    Args:
        model: A Keras model; its batch norms' moving means and variances are changed, those of frozen ones too, and of
            those that it calls with `training=False`.
        batches: Inputs of the model; a few hundred examples do.

    Raises:
        ValueError: If there are no batches, or a statistic is not finite; names the batch norm.
    """
    layers = [layer for layer in model.submodules if isinstance(layer, keras.layers.BatchNormalization)]
    batch = None
    with ExitStack() as stack:
        stack.enter_context(_unfrozen(model))
        for layer in layers:
            stack.enter_context(_measuring(layer))
        for batch in batches:
            model(batch, training=True)
    if batch is None:
        raise ValueError("measure_batch_norms: there are no batches; give some of the training data")
    for layer in layers:
        if not all(np.isfinite(statistic.numpy()).all() for statistic in (layer.moving_mean, layer.moving_variance)):
            raise ValueError(
                f"measure_batch_norms: what reaches {layer.name!r} is NaN or infinite; look for NaN in the model's "
                "weights and in the batches"
            )


@contextmanager
def _unfrozen(model: Any) -> Iterator[None]:
    """Lets the layers of a model, for as long as it lasts, be trainable: what is frozen keeps its statistics."""
    settings = [(layer, layer._trainable) for layer in model._flatten_layers()]
    for layer, _ in settings:
        # Past Keras, which would change those within a layer, too.
        layer._trainable = True
    try:
        yield
    finally:
        for layer, trainable in settings:
            layer._trainable = trainable


@contextmanager
def _measuring(norm: Any) -> Iterator[None]:
    """Lets a batch norm keep, for as long as it lasts, the mean of the statistics of all its calls."""
    momentum, calls = norm.momentum, 0

    def is_training(training: Any) -> bool:
        nonlocal calls
        calls += 1
        norm.momentum = 1 - 1 / calls
        return True

    # Each call asks for this once, before all else; called with `training=False` it would answer no, and normalise with
    # the statistics that it has.
    vars(norm)["_get_training_value"] = is_training
    try:
        yield
    finally:
        del vars(norm)["_get_training_value"]
        norm.momentum = momentum
