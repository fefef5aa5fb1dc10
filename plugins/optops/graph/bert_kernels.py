"""Lowers a BERT to the operator library: its layers are one operator, which computes no padding."""

from pathlib import Path

import numpy as np

from optops.graph.bert_serving import executable_info, load_trained
from optops.graph.lowering import Lowering, LoweringError, check_plan
from optops.kernels import KernelsUnavailableError, PackedEncoder, PackedProduct, instruction_set
from optops.kernels.arrays import Precision
from optops.kernels.tensorflow import dense, encode, residual_norm
from optops.kernels.transformer import PrecisionOf, encoder_layers
from optops.models.bert.model import NORM_EPSILON, pool
from optops.models.bert.weights import BertWeights, read_weights
from optops.models.keras import tf
from optops.models.token_ids import PADDING
from optops.models.transformer.weights import Product
from optops.precision import PrecisionPlan
from optops.runtimes.tensorflow import SAVED_MODEL

RUNTIME = "tensorflow+kernels"
NOTES = [
    "all layers are one operator of the library `optops.kernels`, or one for each that runs several times; padding is "
    "not computed",
    "weights are packed in panels of 64 outputs; query, key and value are one product",
    "position and segment embeddings are added up",
]


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a SavedModel for the runtime `tensorflow+kernels`.

    Raises:
        LoweringError: If the plan does not fit the model, or the library is not installed.
    """
    model, serving = load_trained(trainable)
    check_plan(plan, model)

    def precision_of(name: str) -> Precision:
        return plan.parts.get(name, "fp32")  # type: ignore[return-value]

    try:
        module = _Classifier(read_weights(model, scaled_queries=False), precision_of)
    except KernelsUnavailableError as error:
        raise LoweringError(str(error)) from error
    signature = module.serve.get_concrete_function()
    tf.saved_model.save(module, str(folder / SAVED_MODEL), signatures={"serving_default": signature})
    facts: dict[str, float | str] = {
        "weight_bytes": int(
            sum(np.prod(variable.shape) for variable in module.variables if variable.dtype == tf.uint8)
        ),
        "instruction_set": instruction_set(),
        **{
            f"parts_{precision}": sum(part == precision for part in plan.parts.values())
            for precision in sorted({plan.precision, *plan.parts.values()} - {"fp32"})
        },
    }
    executable_info(RUNTIME, plan.precision, model.config, serving, facts).save(folder)
    return Lowering(facts, NOTES + [f"{name} stays in fp32: {why}" for name, why in sorted(plan.notes.items())])


class _Classifier(tf.Module):
    """Token ids in, probabilities out."""

    def __init__(self, weights: BertWeights, precision_of: PrecisionOf) -> None:
        super().__init__()
        self.pooling = weights.config.pooling

        def packed(product: Product) -> tf.Variable:
            return _variable(PackedProduct(product.kernel, product.bias, precision_of(product.name)).to_bytes())

        self.tokens, self.positions = _variable(weights.tokens), _variable(weights.positions)
        norm = weights.embedding_norm
        self.scale, self.offset = _variable(norm.scale), _variable(norm.offset)
        self.projection = packed(weights.projection) if weights.projection else None
        # A layer that runs several times is packed once, and a call of its own.
        self.repeats = weights.config.repeats
        stacks = [weights.layers] if self.repeats == 1 else [[layer] for layer in weights.layers[:: self.repeats]]
        config = weights.config
        self.encoders = [
            _variable(
                PackedEncoder(
                    encoder_layers(layers, precision_of),
                    head_size=config.head_size,
                    activation=config.activation,
                    epsilon=NORM_EPSILON,
                ).to_bytes()
            )
            for layers in stacks
        ]
        self.pooler, self.classifier = packed(weights.pooler), packed(weights.classifier)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")])
    def serve(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `probabilities` float32 [b, classes] for `ids` int32 [b, s]."""
        lengths = tf.reduce_sum(tf.cast(tf.not_equal(ids, PADDING), tf.int32), axis=1)
        embedded = tf.gather(self.tokens, ids)
        positions = self.positions[: tf.shape(ids)[1]]
        states = residual_norm(embedded, positions, self.scale, self.offset, NORM_EPSILON)
        if self.projection is not None:
            states = dense(states, self.projection)
        for encoder in self.encoders:
            for _ in range(self.repeats):
                states = encode(states, lengths, encoder)
        pooled = tf.tanh(dense(pool(states, ids, self.pooling), self.pooler))
        return {"probabilities": tf.nn.softmax(dense(pooled, self.classifier))}


def _variable(array: np.ndarray) -> tf.Variable:
    return tf.Variable(array, trainable=False)
