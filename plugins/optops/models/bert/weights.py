"""A BERT's weights for lowering: named products, embeddings with position and segment added up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optops.models.bert.config import BertConfig
from optops.models.transformer.weights import EncoderLayerWeights, Norm, Product, Reader

if TYPE_CHECKING:
    from optops.models.bert.model import Bert


@dataclass(frozen=True)
class BertWeights:
    """All weights.

    Attributes:
        config: Sizes.
        tokens: float32 [vocabulary, embedding width].
        positions: float32 [positions, embedding width], with the embedding of segment 0.
        embedding_norm: Of their sum.
        projection: From the embedding's width to the layers'; None if they are the same.
        layers: In the order in which they run; one that runs several times stands there as often. Each norm follows
            its block's residual sum.
        pooler: Before tanh.
        classifier: To the logits.
    """

    config: BertConfig
    tokens: np.ndarray
    positions: np.ndarray
    embedding_norm: Norm
    projection: Product | None
    layers: Sequence[EncoderLayerWeights]
    pooler: Product
    classifier: Product


def read_weights(model: "Bert", scaled_queries: bool = True) -> BertWeights:
    """Returns the weights of a model; the model is left as it is.

    Args:
        model: The trained model.
        scaled_queries: Whether the products of queries get the factor 1 / sqrt(head size), so that scores need none.
    """
    config = model.config
    reader = Reader(model, "bert", config.head_size**-0.5 if scaled_queries else 1.0)
    layers = [reader.encoder_layer(index, size.heads) for index, size in enumerate(config.encoder)]
    return BertWeights(
        config=config,
        tokens=reader.arrays["bert/embeddings/token:0"],
        positions=reader.arrays["bert/embeddings/position:0"] + reader.arrays["bert/embeddings/segment:0"][0],
        embedding_norm=reader.norm("embeddings/norm"),
        projection=reader.product("embeddings/projection") if config.embedding_width is not None else None,
        layers=[one for one in layers for _ in range(config.repeats)],
        pooler=reader.product("pooler"),
        classifier=reader.product("classifier"),
    )
