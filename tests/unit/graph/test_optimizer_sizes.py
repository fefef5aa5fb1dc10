"""What is said of sizes holds whatever goes in, and encoders whose layers ask for sizes of their own are one stack."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optops.graph import optimize
from optops.graph.optimizer.graph import Graph, producer_of
from optops.graph.optimizer.sizes import JoinedSizes, Size, Sizes
from optops.models.keras import tf

WIDTH, HEADS = 12, 3
RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.normal(size=(WIDTH, WIDTH)).astype(np.float32)


def residual(x: tf.Tensor) -> tf.Tensor:
    y = tf.nn.relu(x * 2.0 + tf.reduce_mean(x, -1, keepdims=True))
    return x + tf.nn.bias_add(y, tf.ones(WIDTH)) / tf.math.rsqrt(tf.reduce_sum(tf.square(y), -1)[..., tf.newaxis])


def tensordot(x: tf.Tensor) -> tf.Tensor:
    return tf.tensordot(x, tf.constant(KERNEL), 1)


def heads(x: tf.Tensor) -> tf.Tensor:
    shape = tf.shape(x)
    split = tf.reshape(x @ KERNEL, [shape[0], -1, HEADS, WIDTH // HEADS])
    scores = tf.nn.softmax(tf.einsum("aecd,abcd->acbe", split, split))
    mixed = tf.einsum("acbe,aecd->abcd", scores, split)
    return x + tf.reshape(tf.transpose(tf.transpose(mixed, [0, 2, 1, 3]), [0, 2, 1, 3]), [shape[0], -1, WIDTH])


def rows(x: tf.Tensor) -> tf.Tensor:
    flat = tf.reshape(x, [-1, WIDTH]) @ KERNEL
    return tf.reshape(flat, tf.concat([tf.shape(x)[:-1], [WIDTH]], 0))


def lookup(x: tf.Tensor) -> tf.Tensor:
    ids = tf.cast(tf.abs(x[..., 0]), tf.int32) % WIDTH
    return tf.gather(tf.constant(KERNEL), ids) + tf.zeros([tf.shape(ids)[0], tf.shape(ids)[1], 1])


def enlarged(x: tf.Tensor) -> tf.Tensor:
    """Where one axis is 1, the sum is as large as the other."""
    return x[:1] + x + tf.reverse(x, [1])[:, :1]


def pairs(x: tf.Tensor) -> tf.Tensor:
    shape = tf.shape(x)
    return tf.reshape(tf.tile(x, [2, 1, 1]), [shape[0], 2 * shape[1], -1])


def slices(x: tf.Tensor) -> tf.Tensor:
    many = x[:, tf.newaxis, :, tf.newaxis, ..., tf.newaxis] + x[..., tf.newaxis, tf.newaxis, :, :1, tf.newaxis]
    return many[:, 0, ..., 0, :, 0] + x[0] + x[:, -1:] + x[:, ::2][:, :1] + x[..., 1:2]


def parts(x: tf.Tensor) -> tf.Tensor:
    one, two, _ = tf.split(x, 3, axis=-1)
    batch, time = tf.shape(x)[0], tf.shape(x)[1]
    wide, narrow = tf.split(tf.reshape(x, [time, batch, WIDTH]), [WIDTH - 2, 2], axis=2)
    again = tf.unstack(tf.reshape(x, [batch, 3, WIDTH // 3, time]), axis=1)[2]
    return one + two + tf.transpose(again, [0, 2, 1]) + tf.transpose(wide[..., :1] + narrow[..., :1], [1, 0, 2])


def positions(x: tf.Tensor) -> tf.Tensor:
    time = tf.shape(x)[1]
    table = tf.slice(tf.tile(x[0], [3, 1]), [0, 0], [time, WIDTH])
    return x + table + tf.gather(table, tf.range(time)) + tf.cast(tf.range(0, 2 * time, 2), tf.float32)[:, tf.newaxis]


def all_rows(x: tf.Tensor) -> tf.Tensor:
    """Gets back from rows to sentences by a batch, and by a length, alone."""
    by_batch = tf.reshape(tf.reshape(x, [-1, WIDTH]), [tf.shape(x)[0], -1, HEADS, WIDTH // HEADS])
    by_length = tf.reshape(tf.reshape(x, [-1, WIDTH]), [-1, tf.shape(x)[1], HEADS, WIDTH // HEADS])
    return tf.reshape(by_batch + by_length, [tf.shape(x)[0], -1, WIDTH])


def unstacked(x: tf.Tensor) -> tf.Tensor:
    batch, time, width = tf.unstack(tf.shape(x))
    return tf.reshape(tf.reshape(x, [batch * time, width]), [batch, time, WIDTH])


def pairs_of_rows(x: tf.Tensor) -> tf.Tensor:
    found = tf.reshape(tf.tile(x, [1, 2, 1]), [-1, 2, WIDTH]) + tf.reshape(tf.tile(x, [2, 1, 1]), [-1, 1, WIDTH])[:1]
    return tf.reshape(found, [2 * tf.shape(x)[0], -1])


def stacked(x: tf.Tensor) -> tf.Tensor:
    """Takes the second of two shapes, which is no vector's second number."""
    shapes = tf.stack([tf.shape(x), tf.shape(tf.transpose(x, [1, 0, 2]))])
    return tf.reshape(x, tf.concat([shapes[1][:1], [-1, WIDTH]], 0)) + tf.fill(shapes[0][:1][:, tf.newaxis][0], 0.0)[0]


def graph_of(function: Callable[[tf.Tensor], tf.Tensor]) -> Graph:
    concrete = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec([None, None, WIDTH]))
    graph_def = concrete.graph.as_graph_def()
    return Graph.of(graph_def, [concrete.inputs[0].name.partition(":")[0]], [concrete.outputs[0].name])


@pytest.mark.parametrize(
    "function",
    [
        residual,
        tensordot,
        heads,
        rows,
        lookup,
        enlarged,
        pairs,
        slices,
        parts,
        positions,
        all_rows,
        pairs_of_rows,
        stacked,
    ],
    ids=lambda function: function.__name__,
)
def test_sizes_that_are_said_to_be_equal_are_equal_whatever_goes_in(function: Any) -> None:
    graph = graph_of(function)
    sizes = Sizes(graph)
    tensors = [f"{name}:0" for name, node in graph.nodes.items() if sizes.of(f"{name}:0") is not None]
    with tf.Graph().as_default() as imported:
        tf.graph_util.import_graph_def(graph.graph_def(), name="")
    for shape in ((1, 1), (1, 4), (3, 1), (2, 5)):
        with tf.compat.v1.Session(graph=imported) as session:
            x = RANDOM.normal(size=(*shape, WIDTH)).astype(np.float32)
            found = session.run(tensors, {f"{graph.inputs[0]}:0": x})
        values: dict[Size, int] = {}
        for tensor, array in zip(tensors, found, strict=True):
            for size, true in zip(sizes.of(tensor) or (), np.shape(array), strict=True):
                assert values.setdefault(size, true) == true, (tensor, size)
                assert not isinstance(size, int) or size == true, tensor


@pytest.mark.parametrize(
    "function", [residual, tensordot, heads, rows, all_rows, unstacked], ids=lambda function: function.__name__
)
def test_what_keeps_the_rows_of_its_input_is_known_to_be_as_large(function: Any) -> None:
    graph = graph_of(function)
    sizes = Sizes(graph)
    (name,) = graph.inputs
    assert producer_of(graph.outputs[0]) != name
    assert sizes.of(graph.outputs[0]) == ((f"{name}:0", 0), (f"{name}:0", 1), WIDTH)


def test_sums_that_one_axis_of_1_may_enlarge_are_not_said_to_be_as_large() -> None:
    graph = graph_of(enlarged)
    assert Sizes(graph).of(graph.outputs[0]) != Sizes(graph).of(f"{graph.inputs[0]}:0")


def test_what_is_added_together_is_joined_and_what_is_cut_off_is_not() -> None:
    def sums(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return tf.concat([x + mask[..., tf.newaxis], tf.nn.relu(x), x[:, :128]], 1)

    specs = [tf.TensorSpec([None, None, WIDTH]), tf.TensorSpec([None, None])]
    concrete = tf.function(sums, autograph=False).get_concrete_function(*specs)
    graph = Graph.of(concrete.graph.as_graph_def(), [], [concrete.outputs[0].name])
    joined = next(node for node in graph.nodes.values() if node.op == "ConcatV2")
    total, states, cut = (JoinedSizes(graph).of(tensor) or () for tensor in joined.inputs[:3])
    assert total == states
    assert cut[0] == states[0]
    assert cut[1] != states[1]


class OwnMasks(tf.Module):
    """An encoder whose layers each shape the mask by sizes of their own states, as DistilBERT's do."""

    def __init__(self) -> None:
        super().__init__()
        draw = np.random.default_rng(1)

        def weight(*shape: int) -> tf.Variable:
            return tf.Variable(draw.normal(0, 0.2, shape).astype(np.float32))

        self.table = weight(20, WIDTH)
        self.layers = [
            {name: (weight(WIDTH, WIDTH), weight(WIDTH)) for name in ("q", "k", "v", "out", "up", "down")}
            | {name: (weight(WIDTH), weight(WIDTH)) for name in ("one", "two")}
            for _ in range(3)
        ]

    def layer(self, x: tf.Tensor, mask: tf.Tensor, weights: dict[str, Any]) -> tf.Tensor:
        batch, length = tf.shape(x)[0], tf.shape(x)[1]

        def dense(value: tf.Tensor, name: str) -> tf.Tensor:
            kernel, bias = weights[name]
            return tf.tensordot(value, kernel, 1) + bias

        def norm(value: tf.Tensor, name: str) -> tf.Tensor:
            mean, variance = tf.nn.moments(value, [-1], keepdims=True)
            scale, offset = weights[name]
            return tf.nn.batch_normalization(value, mean, variance, offset, scale, 1e-6)

        def split(value: tf.Tensor) -> tf.Tensor:
            return tf.transpose(tf.reshape(value, [batch, -1, HEADS, WIDTH // HEADS]), [0, 2, 1, 3])

        q, k, v = (split(dense(x, name)) for name in "qkv")
        hidden = 1.0 - tf.cast(tf.reshape(mask, [batch, 1, 1, length]), tf.float32)
        scores = tf.matmul(q, k, transpose_b=True) / np.sqrt(WIDTH // HEADS).astype(np.float32) - 1e30 * hidden
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), v), [0, 2, 1, 3])
        x = norm(x + dense(tf.reshape(mixed, [batch, -1, WIDTH]), "out"), "one")
        return norm(x + dense(tf.nn.relu(dense(x, "up")), "down"), "two")

    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.int32, "ids"), tf.TensorSpec([None, None], tf.int32, "mask")],
        autograph=False,
    )
    def serve(self, ids: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.gather(self.table, ids)
        for weights in self.layers:
            x = self.layer(x, mask, weights)
        return {"first": x[:, 0]}


def test_layers_whose_masks_differ_in_where_they_ask_for_sizes_are_one_stack(tmp_path: Path) -> None:
    model = OwnMasks()
    tf.saved_model.save(model, str(tmp_path / "model"), signatures={"serving_default": model.serve})
    report = optimize(tmp_path / "model", tmp_path / "out", benchmark=False, picture=False).signatures[0]
    stacks = [str(each["weights"]) for each in report.rewrites if each["pattern"] == "encoder stack"]
    assert [weights.split(",")[0] for weights in stacks] == ["3 layers"], report.left_alone
    assert report.difference <= 1e-4
