"""Blocks of the rewritten TensorFlow graph against float64."""

import numpy as np
import pytest

from optops.graph.transformer_tensorflow_blocks import FEW_SCORES, Blocks
from optops.models.keras import tf
from optops.models.transformer.config import MASKED
from optops.models.transformer.weights import Product
from optops.precision import PrecisionPlan

HEADS, HEAD_SIZE, WIDTH = 4, 8, 24


def attention(queries, keys, values, bias):
    """Softmax(Q K^T + bias) V in float64, [batch, heads, queries, head_size]."""
    scores = queries.astype(np.float64) @ keys.astype(np.float64).swapaxes(2, 3) + bias
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)) @ values.astype(np.float64)


@pytest.mark.parametrize(
    ("batch", "positions", "keys"), [(1, 1, 1), (1, 5, 60), (2, 16, 64), (2, 16, 65), (9, 33, 70), (0, 5, 7)]
)
def test_an_attention_is_the_same_whether_its_scores_are_few_or_many(batch, positions, keys):
    random = np.random.default_rng(1)
    shapes = [(batch, HEADS, positions, HEAD_SIZE), *[(batch, HEADS, keys, HEAD_SIZE)] * 2]
    operands = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    bias = np.where(np.arange(keys) < random.integers(1, keys + 1, [batch, 1, 1, 1]), 0, MASKED).astype(np.float32)
    kernel, offset = (random.normal(size=s).astype(np.float32) for s in ([HEADS * HEAD_SIZE, WIDTH], [WIDTH]))
    blocks, output = Blocks(PrecisionPlan("fp32"), HEAD_SIZE), Product("output", kernel, offset)
    found = tf.function(lambda *given: blocks.attend(*given, output))(*map(tf.constant, operands), tf.constant(bias))
    context = attention(*operands, bias).swapaxes(1, 2).reshape(batch * positions, HEADS * HEAD_SIZE)
    np.testing.assert_allclose(found, context @ kernel.astype(np.float64) + offset, atol=2e-5)


def test_both_kinds_are_among_those_sizes():
    assert 2 * HEADS * 16 * 64 == FEW_SCORES < 2 * HEADS * 16 * 65


def test_heads_are_columns_beside_each_other():
    random = np.random.default_rng(2)
    states = random.normal(size=[2 * 3, WIDTH]).astype(np.float32)
    parts = [
        Product(name, random.normal(size=[WIDTH, heads * HEAD_SIZE]).astype(np.float32), np.ones(heads * HEAD_SIZE))
        for name, heads in (("query", 2), ("key", 3))
    ]
    found = Blocks(PrecisionPlan("fp32"), HEAD_SIZE).heads(tf.constant(states), parts, 2, 3)
    for part, heads, made in zip(parts, (2, 3), found, strict=True):
        wanted = (states.astype(np.float64) @ part.kernel + part.bias).reshape(2, 3, heads, HEAD_SIZE)
        np.testing.assert_allclose(made, wanted.swapaxes(1, 2), atol=1e-5)
