"""The project's Transformer as the operators take it."""

from collections.abc import Callable, Sequence

from optops.kernels.arrays import PRECISIONS, Precision
from optops.kernels.layers import DecoderLayerWeights, EncoderLayerWeights
from optops.kernels.layers import Product as Pair
from optops.models.transformer.weights import DecoderLayerWeights as DecoderLayer
from optops.models.transformer.weights import EncoderLayerWeights as EncoderLayer
from optops.models.transformer.weights import Norm, Product, joined

PrecisionOf = Callable[[str], Precision]
"""Maps the name of a weight, as precision plans use it, to its type."""


def uniform(precision: Precision) -> PrecisionOf:
    """Returns the same precision for every weight."""
    return lambda _: precision


def encoder_layers(weights: Sequence[EncoderLayer], precision_of: PrecisionOf) -> list[EncoderLayerWeights]:
    """Returns the layers of an encoder."""
    layers = []
    for layer in weights:
        attention, units = layer.attention, layer.feed_forward
        products = [
            [attention.query, attention.key, attention.value],
            [attention.output],
            [units.expand],
            [units.contract],
        ]
        query_key_value, output, expand, contract = (joined(parts) for parts in products)
        layers.append(
            EncoderLayerWeights(
                attention.heads,
                _norm(layer.attention_norm),
                query_key_value,
                output,
                _norm(layer.feed_forward_norm),
                expand,
                contract,
                tuple(most_exact(parts, precision_of) for parts in products),
            )
        )
    return layers


def decoder_layers(weights: Sequence[DecoderLayer], precision_of: PrecisionOf) -> list[DecoderLayerWeights]:
    """Returns the layers of a decoder."""
    layers = []
    for layer in weights:
        own, cross, units = layer.attention, layer.cross, layer.feed_forward
        products = [
            [own.query, own.key, own.value],
            [own.output],
            [cross.query],
            [cross.key, cross.value],
            [cross.output],
            [units.expand],
            [units.contract],
        ]
        query_key_value, self_output, cross_query, cross_key_value, cross_output, expand, contract = (
            joined(parts) for parts in products
        )
        layers.append(
            DecoderLayerWeights(
                own.heads,
                cross.heads,
                _norm(layer.attention_norm),
                query_key_value,
                self_output,
                _norm(layer.cross_norm),
                cross_query,
                cross_key_value,
                cross_output,
                _norm(layer.feed_forward_norm),
                expand,
                contract,
                tuple(most_exact(parts, precision_of) for parts in products),
            )
        )
    return layers


def _norm(norm: Norm) -> Pair:
    return norm.scale, norm.offset


def most_exact(parts: Sequence[Product], precision_of: PrecisionOf) -> Precision:
    """Returns the most exact precision of parts that are computed as one product."""
    return min((precision_of(part.name) for part in parts), key=lambda name: PRECISIONS[name])
