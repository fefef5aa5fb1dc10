"""A Transformer's weights for lowering: named products, with what can be folded folded in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from optops.models.slicing import weights_of
from optops.models.token_ids import BEGIN, PADDING
from optops.models.transformer.config import MASKED
from optops.precision import PrecisionPlan

if TYPE_CHECKING:
    from optops.models.transformer.model import Transformer

EMBEDDING = "transformer/embedding/embeddings:0"


@dataclass(frozen=True)
class Product:
    """`x @ kernel + bias`.

    Attributes:
        name: Name of the weight in the architecture, as precision plans use it.
        kernel: float32 [in, out].
        bias: float32 [out].
    """

    name: str
    kernel: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Norm:
    """Layer normalisation: float32 [width] scale and offset."""

    scale: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True)
class AttentionWeights:
    """Products of one attention; the query's holds the factor 1 / sqrt(head size) if it was read so."""

    heads: int
    query: Product
    key: Product
    value: Product
    output: Product


@dataclass(frozen=True)
class FeedForwardWeights:
    """Products of one feed-forward block."""

    expand: Product
    contract: Product


@dataclass(frozen=True)
class EncoderLayerWeights:
    """One encoder layer."""

    attention_norm: Norm
    attention: AttentionWeights
    feed_forward_norm: Norm
    feed_forward: FeedForwardWeights


@dataclass(frozen=True)
class DecoderLayerWeights:
    """One decoder layer."""

    attention_norm: Norm
    attention: AttentionWeights
    cross_norm: Norm
    cross: AttentionWeights
    feed_forward_norm: Norm
    feed_forward: FeedForwardWeights


@dataclass(frozen=True)
class TransformerWeights:
    """All weights.

    Attributes:
        embedding: float32 [vocabulary, width], multiplied by sqrt(width).
        positions: float32 [positions, width].
        encoder: Its layers.
        encoder_norm: After the last of them.
        decoder: Its layers.
        decoder_norm: After the last of them.
        projection: To the logits; its bias takes padding and begin out.
        head_size: Of all heads.
    """

    embedding: np.ndarray
    positions: np.ndarray
    encoder: tuple[EncoderLayerWeights, ...]
    encoder_norm: Norm
    decoder: tuple[DecoderLayerWeights, ...]
    decoder_norm: Norm
    projection: Product
    head_size: int


class Reader:
    """Reads parts of a model by their names.

    Args:
        model: Transformer or BERT; left as it is.
        prefix: What all of its weights' names begin with.
        query_factor: What the products of queries are multiplied by.
    """

    def __init__(self, model: Any, prefix: str, query_factor: float) -> None:
        self.arrays = weights_of(model)
        self._prefix, self._query_factor = prefix, query_factor

    def product(self, name: str, factor: float = 1.0) -> Product:
        """Returns a product, multiplied by a factor."""
        kernel, bias = (self.arrays[f"{self._prefix}/{name}/{kind}:0"] for kind in ("kernel", "bias"))
        return Product(f"{self._prefix}/{name}/kernel:0", _float32(kernel * factor), _float32(bias * factor))

    def norm(self, name: str) -> Norm:
        """Returns a norm."""
        return Norm(*(self.arrays[f"{self._prefix}/{name}/{kind}:0"] for kind in ("gamma", "beta")))

    def attention(self, name: str, heads: int) -> AttentionWeights:
        """Returns the products of an attention."""
        return AttentionWeights(
            heads,
            self.product(f"{name}/query", self._query_factor),
            self.product(f"{name}/key"),
            self.product(f"{name}/value"),
            self.product(f"{name}/output"),
        )

    def encoder_layer(self, index: int, heads: int) -> EncoderLayerWeights:
        """Returns a layer of the encoder."""
        name = f"encoder_{index}"
        return EncoderLayerWeights(
            self.norm(f"{name}/self_attention_norm"),
            self.attention(f"{name}/self_attention", heads),
            self.norm(f"{name}/feed_forward_norm"),
            self.feed_forward(f"{name}/feed_forward"),
        )

    def feed_forward(self, name: str) -> FeedForwardWeights:
        """Returns the products of a feed-forward block."""
        return FeedForwardWeights(self.product(f"{name}/expand"), self.product(f"{name}/contract"))


def read_weights(model: "Transformer", scaled_queries: bool = True) -> TransformerWeights:
    """Returns the weights of a model; the model is left as it is.

    Args:
        model: The trained model.
        scaled_queries: Whether the products of queries get the factor 1 / sqrt(head size), so that scores need none.
    """
    config = model.config
    reader = Reader(model, "transformer", config.head_size**-0.5 if scaled_queries else 1.0)
    decoder = tuple(
        DecoderLayerWeights(
            reader.norm(f"decoder_{index}/self_attention_norm"),
            reader.attention(f"decoder_{index}/self_attention", size.self_heads),
            reader.norm(f"decoder_{index}/cross_attention_norm"),
            reader.attention(f"decoder_{index}/cross_attention", size.cross_heads),
            reader.norm(f"decoder_{index}/feed_forward_norm"),
            reader.feed_forward(f"decoder_{index}/feed_forward"),
        )
        for index, size in enumerate(config.decoder)
    )
    table = reader.arrays[EMBEDDING]
    never = np.zeros(config.outputs, np.float32)
    never[[PADDING, BEGIN]] = MASKED
    return TransformerWeights(
        embedding=_float32(table * config.width**0.5),
        positions=model.positions,
        encoder=tuple(reader.encoder_layer(index, size.heads) for index, size in enumerate(config.encoder)),
        encoder_norm=reader.norm("encoder_norm"),
        decoder=decoder,
        decoder_norm=reader.norm("decoder_norm"),
        projection=Product(EMBEDDING, _float32(table[: config.outputs].T), never),
        head_size=config.head_size,
    )


def fold_norms(weights: TransformerWeights) -> TransformerWeights:
    """Returns weights whose layer normalisations have become `x / sqrt(mean(x ** 2) + epsilon)`, exactly.

    Scale and offset go into the products that follow. The mean goes too: every product that adds to the residual
    stream, the embedding and the positions lose their mean over the width, so the stream's mean is zero
    (Ashkboos et al. 2024, "SliceGPT", section 3.1). The norms returned are not to be used any more.
    """
    cross = [_fold_attention(layer.cross, layer.cross_norm, weights.encoder_norm) for layer in weights.decoder]
    return replace(
        weights,
        embedding=_centre(weights.embedding),
        positions=_centre(weights.positions),
        encoder=tuple(
            replace(
                layer,
                attention=_fold_attention(layer.attention, layer.attention_norm, layer.attention_norm),
                feed_forward=_fold_feed_forward(layer.feed_forward, layer.feed_forward_norm),
            )
            for layer in weights.encoder
        ),
        decoder=tuple(
            replace(
                layer,
                attention=_fold_attention(layer.attention, layer.attention_norm, layer.attention_norm),
                cross=folded,
                feed_forward=_fold_feed_forward(layer.feed_forward, layer.feed_forward_norm),
            )
            for layer, folded in zip(weights.decoder, cross, strict=True)
        ),
        projection=_fold(weights.projection, weights.decoder_norm),
    )


def by_precision(parts: Sequence[Product], plan: PrecisionPlan) -> list[tuple[str, list[Product]]]:
    """Returns runs of neighbouring products of one precision: what can be computed as one product."""
    groups: list[tuple[str, list[Product]]] = []
    for part in parts:
        precision = plan.parts.get(part.name, "fp32")
        if groups and groups[-1][0] == precision:
            groups[-1][1].append(part)
        else:
            groups.append((precision, [part]))
    return groups


def joined(parts: Sequence[Product]) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel and bias of one product that computes several of the same input side by side."""
    return np.concatenate([p.kernel for p in parts], axis=1), np.concatenate([p.bias for p in parts])


def _float32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=np.float32)


def _centre(array: np.ndarray) -> np.ndarray:
    wide = array.astype(np.float64)
    return _float32(wide - wide.mean(axis=-1, keepdims=True))


def _centred(product: Product) -> Product:
    return replace(product, kernel=_centre(product.kernel), bias=_centre(product.bias))


def _fold(product: Product, norm: Norm) -> Product:
    kernel = product.kernel.astype(np.float64)
    bias = norm.offset.astype(np.float64) @ kernel + product.bias
    return replace(product, kernel=_float32(norm.scale[:, None] * kernel), bias=_float32(bias))


def _fold_attention(attention: AttentionWeights, queries: Norm, memory: Norm) -> AttentionWeights:
    return replace(
        attention,
        query=_fold(attention.query, queries),
        key=_fold(attention.key, memory),
        value=_fold(attention.value, memory),
        output=_centred(attention.output),
    )


def _fold_feed_forward(block: FeedForwardWeights, norm: Norm) -> FeedForwardWeights:
    return FeedForwardWeights(_fold(block.expand, norm), _centred(block.contract))


def own_ancestry(beam: int) -> np.ndarray:
    """Returns the bias under which each hypothesis sees its own newest key only, float32 [1, 1, beam, beam]."""
    return np.where(np.eye(beam, dtype=bool), 0, MASKED).astype(np.float32)[None, None]
