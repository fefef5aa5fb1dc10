"""Sets the smallest weights to zero, by TensorFlow Model Optimization: a smaller file, not a faster model."""

from collections.abc import Callable
from typing import Any, Literal

from optops.models.keras import keras, tf

Pattern = Literal["magnitude", "two_of_four"]
TWO_OF_FOUR = (2, 4)


def sparsify(model: Any, *, sparsity: float, pattern: Pattern = "magnitude") -> Callable[[], Any]:
    """Sets the smallest weights of a model to zero and returns what keeps them there while it is trained further.

    Weights are those that TensorFlow Model Optimization prunes: for `magnitude` of dense layers, convolutions and
    embeddings; for `two_of_four` of dense layers and convolutions in two dimensions, which sum over their inputs along
    one axis. The shapes stay as they are, so no runtime here computes less: what shrinks is the compressed file. The
    pattern of `two_of_four` is the one that sparse tensor cores (NVIDIA Ampere and later) can use; it needs a runtime
    that does.

    Args:
        model: A tf_keras model whose variables exist; its weights are changed.
        sparsity: Share of each weight to set to zero, in (0, 1); 0.5 for `two_of_four`.
        pattern: `magnitude` takes the smallest of each weight wherever they are (Zhu & Gupta 2017, section 3);
            `two_of_four` the two smallest of four that are neighbours along the inputs (Mishra et al. 2021).

    Returns:
        For the argument `after_update` of `fit`: sets to zero again what an update has changed.

    Raises:
        ValueError: If the sparsity is out of range, or the model has no such weights.
    """
    from tensorflow_model_optimization.python.core.sparsity.keras.pruning_impl import Pruning
    from tensorflow_model_optimization.sparsity.keras import ConstantSparsity

    if not 0 < sparsity < 1:
        raise ValueError(f"sparsity is {sparsity}; it must be above 0 and below 1")
    if pattern == "two_of_four" and sparsity != 0.5:
        raise ValueError(f"sparsity is {sparsity}; two of four is 0.5")
    weights = _weights(model, pattern)
    if not weights:
        raise ValueError("sparsify: the model has no dense layer, convolution or embedding to take weights from")
    masked = [(weight, tf.Variable(tf.ones_like(weight), trainable=False), tf.Variable(0.0)) for weight in weights]
    first_step = tf.constant(1)
    pruning = Pruning(
        training_step_fn=lambda: first_step,
        pruning_vars=masked,
        pruning_schedule=ConstantSparsity(sparsity, begin_step=0, frequency=1),
        block_size=(1, 1),
        block_pooling_type="AVG",
        sparsity_m_by_n=TWO_OF_FOUR if pattern == "two_of_four" else None,
    )
    pruning.conditional_mask_update()
    pruning.weight_mask_op()
    return pruning.weight_mask_op  # type: ignore[no-any-return]


def _weights(model: Any, pattern: Pattern) -> list[Any]:
    from tensorflow_model_optimization.python.core.sparsity.keras.prune_registry import PruneRegistry

    from optops.models.bert.model import Embeddings

    layers = [layer for layer in model.submodules if isinstance(layer, keras.layers.Layer)]
    supported = [layer for layer in layers if PruneRegistry.supports(layer)]
    if pattern == "magnitude":
        tables = [table for layer in layers if isinstance(layer, Embeddings) for table in (layer.token, layer.position)]
        return tables + [weight for layer in supported for weight in _prunable(PruneRegistry, layer)]
    # A transposed convolution has its outputs where others have their inputs.
    others = (keras.layers.Embedding, keras.layers.Conv2DTranspose)
    found = [
        weight for layer in supported if not isinstance(layer, others) for weight in _prunable(PruneRegistry, layer)
    ]
    return [weight for weight in found if weight.shape.rank in (2, 4)]


def _prunable(registry: Any, layer: Any) -> list[Any]:
    return registry.make_prunable(layer).get_prunable_weights()  # type: ignore[no-any-return]
