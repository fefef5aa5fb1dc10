"""A BERT's weights for lowering: named products, embeddings with position and segment added up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optops.graph.transformer_weights import AttentionWeights, FeedForwardWeights, Norm, Product
from optops.models.bert.config import BertConfig
from optops.models.bert.model import Bert


@dataclass(frozen=True)
class BertLayerWeights:
    """One layer; each norm follows its block's residual sum."""

    attention: AttentionWeights
    attention_norm: Norm
    feed_forward: FeedForwardWeights
    feed_forward_norm: Norm


@dataclass(frozen=True)
class BertWeights:
    """All weights.

    Attributes:
        config: Sizes.
        tokens: float32 [vocabulary, embedding width].
        positions: float32 [positions, embedding width], with the embedding of segment 0.
        embedding_norm: Of their sum.
        projection: From the embedding's width to the layers'; None if they are the same.
        layers: In the order in which they run; one that runs several times stands there as often.
        pooler: Before tanh.
        classifier: To the logits.
    """

    config: BertConfig
    tokens: np.ndarray
    positions: np.ndarray
    embedding_norm: Norm
    projection: Product | None
    layers: Sequence[BertLayerWeights]
    pooler: Product
    classifier: Product


def read_weights(model: Bert, scaled_queries: bool = True) -> BertWeights:
    """Returns the weights of a model; the model is left as it is.

    Args:
        model: The trained model.
        scaled_queries: Whether the products of queries get the factor 1 / sqrt(head size), so that scores need none.
    """
    config = model.config
    arrays = {weight.name: weight.numpy() for weight in model.weights}

    def product(name: str, factor: float = 1.0) -> Product:
        kernel, bias = (arrays[f"bert/{name}/{kind}:0"] * np.float32(factor) for kind in ("kernel", "bias"))
        return Product(f"bert/{name}/kernel:0", kernel, bias)

    def norm(name: str) -> Norm:
        return Norm(arrays[f"bert/{name}/gamma:0"], arrays[f"bert/{name}/beta:0"])

    def layer(index: int, heads: int) -> BertLayerWeights:
        name = f"encoder_{index}"
        factor = config.head_size**-0.5 if scaled_queries else 1.0
        attention = AttentionWeights(
            heads,
            product(f"{name}/self_attention/query", factor),
            product(f"{name}/self_attention/key"),
            product(f"{name}/self_attention/value"),
            product(f"{name}/self_attention/output"),
        )
        feed_forward = FeedForwardWeights(
            product(f"{name}/feed_forward/expand"), product(f"{name}/feed_forward/contract")
        )
        norms = norm(f"{name}/self_attention_norm"), norm(f"{name}/feed_forward_norm")
        return BertLayerWeights(attention, norms[0], feed_forward, norms[1])

    layers = [layer(index, size.heads) for index, size in enumerate(config.encoder)]
    return BertWeights(
        config=config,
        tokens=arrays["bert/embeddings/token:0"],
        positions=arrays["bert/embeddings/position:0"] + arrays["bert/embeddings/segment:0"][0],
        embedding_norm=norm("embeddings/norm"),
        projection=product("embeddings/projection") if config.embedding_width is not None else None,
        layers=[one for one in layers for _ in range(config.repeats)],
        pooler=product("pooler"),
        classifier=product("classifier"),
    )
