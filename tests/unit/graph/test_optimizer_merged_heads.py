"""Heads that share an axis with the batch, as in BART, are found where a reshape puts nothing else into it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optops.graph import optimize
from optops.models.keras import tf

HEADS, SIZE, KEYS = 4, 16, 40
WIDTH = HEADS * SIZE
RANDOM = np.random.default_rng(0)


def weight(*shape: int) -> tf.Variable:
    return tf.Variable((RANDOM.normal(size=shape) * 0.1).astype(np.float32))


class Layer(tf.Module):
    """An encoder layer as BART has it."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = [weight(WIDTH, WIDTH) for _ in range(4)]
        self.expand, self.contract = weight(WIDTH, 4 * WIDTH), weight(4 * WIDTH, WIDTH)
        self.norms = [(tf.Variable(tf.ones(WIDTH)), tf.Variable(tf.zeros(WIDTH))) for _ in range(2)]

    def norm(self, x: tf.Tensor, place: int) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        scale, offset = self.norms[place]
        return tf.nn.batch_normalization(x, mean, variance, offset, scale, 1e-5)

    def heads(self, x: tf.Tensor, kernel: int) -> tf.Tensor:
        x, batch = tf.tensordot(x, self.kernels[kernel], 1), tf.shape(x)[0]
        apart = tf.transpose(tf.reshape(x, [batch, -1, HEADS, SIZE]), [0, 2, 1, 3])
        return tf.reshape(apart, [batch * HEADS, -1, SIZE])

    def attend(self, x: tf.Tensor, memory: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        batch, queries, keys = tf.shape(x)[0], tf.shape(x)[1], tf.shape(memory)[1]
        scores = tf.matmul(self.heads(x, 0) * SIZE**-0.5, self.heads(memory, 1), transpose_b=True)
        if mask is not None:
            scores = tf.reshape(scores, [batch, HEADS, queries, keys]) + mask
            scores = tf.reshape(scores, [batch * HEADS, queries, keys])
        context = tf.matmul(tf.nn.softmax(scores + 1e-9), self.heads(memory, 2))
        context = tf.transpose(tf.reshape(context, [batch, HEADS, queries, SIZE]), [0, 2, 1, 3])
        return tf.tensordot(tf.reshape(context, [batch, queries, WIDTH]), self.kernels[3], 1)

    def __call__(self, x: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        x = self.norm(x + self.attend(x, x, mask), 0)
        return self.norm(x + tf.tensordot(tf.nn.gelu(tf.tensordot(x, self.expand, 1)), self.contract, 1), 1)


IDS, MASK = (tf.TensorSpec([None, None], tf.int32, name=name) for name in ("ids", "mask"))


def optimized(folder: Path, module: tf.Module, *specs: tf.TensorSpec) -> Any:
    module.serve = tf.function(module.serve, input_signature=specs)
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": module.serve})
    (report,) = optimize(folder / "model", folder / "out", benchmark=False, picture=False).signatures
    assert report.level == "kernels", report.notes
    assert report.difference <= 1e-4
    return report


def hidden(mask: tf.Tensor) -> tf.Tensor:
    return (1.0 - tf.cast(mask, tf.float32)[:, None, None, :]) * -1e9


@pytest.mark.parametrize("repeated", [False, True])
def test_encoder_layers_with_a_mask_become_one_operator(repeated: bool, tmp_path: Path) -> None:
    module = tf.Module()
    module.table, module.layers = weight(100, WIDTH), [Layer(), Layer()]

    def serve(ids: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        x, added = tf.gather(module.table, ids), hidden(mask)
        if repeated:  # for every query, as transformers expands it
            added = tf.tile(added, [1, 1, tf.shape(ids)[1], 1])
        for layer in module.layers:
            x = layer(x, added)
        return {"first": x[:, 0]}

    module.serve = serve
    report = optimized(tmp_path, module, IDS, MASK)
    assert report.counts()["encoder stack"] == 1
    assert "attention alone" not in report.counts()
    assert report.tidied["merged heads"] == 4


def test_attention_to_a_memory_becomes_one_operator(tmp_path: Path) -> None:
    module = tf.Module()
    module.layer = Layer()

    def serve(x: tf.Tensor, memory: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": module.layer.attend(x, memory, hidden(mask))}

    module.serve = serve
    x = tf.TensorSpec([None, None, WIDTH], name="x")
    memory, mask = tf.TensorSpec([None, KEYS, WIDTH], name="memory"), tf.TensorSpec([None, KEYS], tf.int32, name="mask")
    report = optimized(tmp_path, module, x, memory, mask)
    assert report.counts()["attention alone"] == 1


def test_a_reshape_that_mixes_positions_and_heads_is_left_alone(tmp_path: Path) -> None:
    module = tf.Module()
    module.kernels = [weight(WIDTH, WIDTH) for _ in range(3)]

    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        batch, time = tf.shape(x)[0], tf.shape(x)[1]
        queries, keys, values = (
            tf.reshape(tf.tensordot(x, kernel, 1), [batch * HEADS, -1, SIZE]) for kernel in module.kernels
        )
        scores = tf.reshape(tf.matmul(queries, keys, transpose_b=True), [batch, time, HEADS, time])
        scores = tf.reshape(scores - 1.0, [batch * HEADS, time, time])
        return {"y": tf.nn.gelu(tf.matmul(tf.nn.softmax(scores), values))}

    module.serve = serve
    report = optimized(tmp_path, module, tf.TensorSpec([None, None, WIDTH], name="x"))
    assert "merged heads" not in report.tidied
