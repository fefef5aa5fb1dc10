"""Encoders written in different ways become one operator of the library that computes the same."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from optops.graph import optimize
from optops.graph.lowering import lower_serving
from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.patterns.encoder_stack import first_position_alone
from optops.graph.optimizer.patterns.mask import hidden_ends
from optops.graph.optimizer.report import SignatureReport
from optops.kernels.tensorflow import load_operators
from optops.models.importing import import_saved_model
from optops.models.keras import keras, tf
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable

WIDTH, HEADS, UNITS, VOCABULARY = 32, 4, 48, 20
SIZE = WIDTH // HEADS
BLOCK = 128
"""No random inputs are longer."""


def gelu_by_erf(x: tf.Tensor) -> tf.Tensor:
    return x * (0.5 * (1.0 + tf.math.erf(x / np.sqrt(2.0).astype(np.float32))))


def gelu_by_tanh_of_a_power(x: tf.Tensor) -> tf.Tensor:
    return 0.5 * x * (1.0 + tf.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + 0.044715 * tf.pow(x, 3))))


def gelu_by_tanh_of_products(x: tf.Tensor) -> tf.Tensor:
    return x * (0.5 * (1.0 + tf.tanh(0.7978845608 * (x + 0.044715 * x * x * x))))


def norm_by_moments(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, 1e-6)


def norm_step_by_step(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    return centred / tf.sqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + 1e-6) * scale + offset


def heads_by_matmul(x: tf.Tensor, weights: list[Any]) -> list[tf.Tensor]:
    shape = tf.shape(x)
    flat = tf.reshape(x, [-1, WIDTH])
    made = [tf.nn.bias_add(tf.matmul(flat, kernel), bias) for kernel, bias in weights]
    return [tf.transpose(tf.reshape(y, [shape[0], shape[1], HEADS, SIZE]), [0, 2, 1, 3]) for y in made]


def heads_by_tensordot(x: tf.Tensor, weights: list[Any]) -> list[tf.Tensor]:
    shape = tf.shape(x)
    made = [tf.tensordot(x, kernel, 1) + bias for kernel, bias in weights]
    return [tf.transpose(tf.reshape(y, [shape[0], shape[1], HEADS, SIZE]), [0, 2, 1, 3]) for y in made]


def heads_by_einsum(x: tf.Tensor, weights: list[Any]) -> list[tf.Tensor]:
    made = [
        tf.einsum("abc,cde->abde", x, tf.reshape(kernel, [WIDTH, HEADS, SIZE])) + tf.reshape(bias, [HEADS, SIZE])
        for kernel, bias in weights
    ]
    return [tf.transpose(y, [0, 2, 1, 3]) for y in made]


def heads_merged_and_split(x: tf.Tensor, weights: list[Any]) -> list[tf.Tensor]:
    shape = tf.shape(x)
    kernel, bias = (tf.concat(each, -1) for each in zip(*weights, strict=True))
    parts = tf.split(tf.matmul(x, kernel) + bias, 3, axis=-1)
    return [tf.transpose(tf.reshape(y, [shape[0], shape[1], HEADS, SIZE]), [0, 2, 1, 3]) for y in parts]


def heads_merged_and_unstacked(x: tf.Tensor, weights: list[Any]) -> list[tf.Tensor]:
    shape = tf.shape(x)
    kernel, bias = (tf.concat(each, -1) for each in zip(*weights, strict=True))
    made = tf.reshape(tf.matmul(x, kernel) + bias, [shape[0], shape[1], 3, HEADS, SIZE])
    return tf.unstack(tf.transpose(made, [2, 0, 3, 1, 4]), axis=0)


def heads_biased_behind_the_reshape(x: tf.Tensor, weights: list[Any]) -> list[tf.Tensor]:
    """Keras 3 does so where the length is fixed."""
    shape = [tf.shape(x)[0], tf.shape(x)[1], HEADS, SIZE]
    made = [tf.reshape(tf.matmul(x, kernel), shape) + tf.reshape(bias, [HEADS, SIZE]) for kernel, bias in weights]
    return [tf.transpose(y, [0, 2, 1, 3]) for y in made]


def heads_by_open_einsum(x: tf.Tensor, weights: list[Any]) -> list[tf.Tensor]:
    shape = [tf.shape(x)[0], tf.shape(x)[1], HEADS, SIZE]
    made = [tf.einsum("...i,ij->...j", x, kernel) + bias for kernel, bias in weights]
    return [tf.transpose(tf.reshape(y, shape), [0, 2, 1, 3]) for y in made]


def biased_product(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def heads_by_nested_functions(x: tf.Tensor, weights: list[Any]) -> list[tf.Tensor]:
    # Functions of this call: one of the module would remember variables of an encoder that is gone.
    @tf.function
    def heads(x: tf.Tensor, weights: list[Any]) -> list[tf.Tensor]:
        shape = [tf.shape(x)[0], tf.shape(x)[1], HEADS, SIZE]
        called = tf.function(biased_product)
        made = [called(x, kernel, bias) for kernel, bias in weights]
        return [tf.transpose(tf.reshape(y, shape), [0, 2, 1, 3]) for y in made]

    return heads(x, weights)  # type: ignore[no-any-return]


def scores_of(queries: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    return tf.matmul(queries, keys, transpose_b=True) / np.float32(np.sqrt(SIZE))


def seen_keys(mask: tf.Tensor) -> tf.Tensor:
    return mask[:, None, None, :] > 0


def weights_of_sums(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    added = (1.0 - tf.cast(mask, tf.float32))[:, None, None, :] * -10000.0
    return tf.nn.softmax(scores_of(queries, keys) + added)


def weights_scaled_from_the_left(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    added = (1.0 - tf.cast(mask, tf.float32))[:, None, None, :] * -10000.0
    return tf.nn.softmax(np.float32(SIZE**-0.5) * tf.matmul(queries, keys, transpose_b=True) + added)


def weights_of_sums_scaled_behind(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    hidden = (1.0 - tf.cast(mask, tf.float32))[:, None, None, :] * 1e6
    return tf.nn.softmax((tf.matmul(queries, keys, transpose_b=True) - hidden) * np.float32(SIZE**-0.5))


def weights_of_a_choice(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """As the softmax of Keras 3 has it: hidden scores are replaced, hidden weights are zeros."""
    seen = seen_keys(mask)
    transposed = tf.matmul(keys, queries, transpose_b=True) / np.float32(np.sqrt(SIZE))
    weights = tf.nn.softmax(tf.where(seen, tf.transpose(transposed, [0, 1, 3, 2]), -1e9))
    return tf.where(seen, weights, 0.0)


def weights_of_all_masks(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """As the dot-product attention of Keras 3 has it: the truth values have the scores' shape."""
    scores = scores_of(queries, keys)
    return tf.nn.softmax(tf.where(tf.ones_like(scores, tf.bool) & seen_keys(mask), scores, -0.7 * 3.38953e38))


def weights_of_hidden_keys(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    hidden = tf.equal(mask, 0)[:, None, None, :] | tf.equal(mask, 7)[:, None, None, :]
    return tf.nn.softmax(tf.where(hidden, -1e9, scores_of(queries, keys)))


def weights_of_seen_pairs(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """As Keras makes it of an embedding's mask: hidden queries see nothing."""
    pairs = tf.cast(mask[:, None, :, None] * mask[:, None, None, :], tf.float32)
    return tf.nn.softmax(scores_of(queries, keys) + (1.0 - pairs) * -1e9)


class Encoder(tf.Module):
    """Two layers and a mask, put together from the forms above."""

    def __init__(
        self,
        heads: Callable[..., Any],
        norm: Callable[..., Any],
        gelu: Callable[..., Any],
        first: bool,
        weigh: Callable[..., Any] = weights_of_sums,
    ) -> None:
        super().__init__()
        self.heads, self.norm, self.gelu, self.first, self.weigh = heads, norm, gelu, first, weigh
        draw = np.random.default_rng(0)

        def weight(*shape: int) -> tf.Variable:
            return tf.Variable(draw.normal(0, 0.2, shape).astype(np.float32))

        self.table = weight(VOCABULARY, WIDTH)
        self.layers = [
            {
                "query_key_value": [(weight(WIDTH, WIDTH), weight(WIDTH)) for _ in range(3)],
                "output": (weight(WIDTH, WIDTH), weight(WIDTH)),
                "norms": [(weight(WIDTH), weight(WIDTH)) for _ in range(2)],
                "expand": (weight(WIDTH, UNITS), weight(UNITS)),
                "contract": (weight(UNITS, WIDTH), weight(WIDTH)),
            }
            for _ in range(2)
        ]
        self.last = (weight(WIDTH), weight(WIDTH))

    def attend(self, x: tf.Tensor, layer: dict[str, Any], mask: tf.Tensor) -> tf.Tensor:
        queries, keys, values = self.heads(x, layer["query_key_value"])
        mixed = tf.transpose(tf.matmul(self.weigh(queries, keys, mask), values), [0, 2, 1, 3])
        kernel, bias = layer["output"]
        return tf.matmul(tf.reshape(mixed, [tf.shape(x)[0], -1, WIDTH]), kernel) + bias

    def think(self, x: tf.Tensor, layer: dict[str, Any]) -> tf.Tensor:
        (expand, hidden), (contract, offset) = layer["expand"], layer["contract"]
        return tf.matmul(self.gelu(tf.matmul(x, expand) + hidden), contract) + offset

    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.int32, "ids"), tf.TensorSpec([None, None], tf.int32, "mask")]
    )
    def serve(self, ids: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"states": self.states(ids, mask)}

    def states(self, ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        x = tf.gather(self.table, ids)
        for layer in self.layers:
            one, two = layer["norms"]
            if self.first:
                x += self.attend(self.norm(x, *one), layer, mask)
                x += self.think(self.norm(x, *two), layer)
            else:
                x = self.norm(x + self.attend(x, layer, mask), *one)
                x = self.norm(x + self.think(x, layer), *two)
        return self.norm(x, *self.last) if self.first else x


def fused(encoder: Encoder, folder: Path, **options: Any) -> SignatureReport:
    tf.saved_model.save(encoder, str(folder / "model"), signatures={"serving_default": encoder.serve})
    return optimize(folder / "model", folder / "out", benchmark=False, picture=False, **options).signatures[0]


FORMS = [
    (heads_by_matmul, norm_by_moments, gelu_by_erf, False),
    (heads_by_tensordot, norm_step_by_step, gelu_by_tanh_of_a_power, False),
    (heads_by_einsum, norm_by_moments, gelu_by_tanh_of_products, True),
    (heads_merged_and_split, norm_by_moments, tf.nn.relu, False),
    (heads_merged_and_unstacked, norm_step_by_step, tf.nn.silu, True),
    (heads_biased_behind_the_reshape, norm_by_moments, tf.nn.gelu, False),
    (heads_by_open_einsum, norm_by_moments, tf.nn.gelu, False),
    (heads_by_nested_functions, norm_by_moments, tf.nn.relu, False),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0].__name__)
def test_an_encoder_in_any_form_becomes_one_operator_that_computes_the_same(form: Any, tmp_path: Path) -> None:
    report = fused(Encoder(*form), tmp_path)
    assert report.counts().get("encoder stack") == 1, report.left_alone
    assert "2 layers" in str(report.rewrites[-1]["weights"])
    assert report.level == "kernels"
    assert report.difference <= 1e-4


@pytest.mark.parametrize("first", [False, True])
def test_an_encoder_whose_norms_have_no_offset_becomes_one_operator(first: bool, tmp_path: Path) -> None:
    def norm(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        del offset
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, None, scale, 1e-6)

    report = fused(Encoder(heads_by_matmul, norm, tf.nn.relu, first), tmp_path)
    assert report.counts().get("encoder stack") == 1, report.left_alone
    assert "2 layers" in str(report.rewrites[-1]["weights"])


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precisions_stay_near_the_original(precision: str, tmp_path: Path) -> None:
    report = fused(Encoder(*FORMS[0]), tmp_path, precision=precision)
    assert report.level == "kernels"
    assert 0 < report.difference <= 0.1


def test_masks_that_hide_other_than_the_ends_of_sentences_count_as_they_did(tmp_path: Path) -> None:
    encoder = Encoder(*FORMS[0])
    fused(encoder, tmp_path)
    load_operators()
    loaded = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (3, 7)).astype(np.int32)
    for mask in ([[1, 1, 1, 1, 1, 1, 1]] * 3, [[1, 1, 1, 0, 0, 0, 0]] * 3, [[0, 1, 0, 1, 1, 0, 1]] * 3, [[0] * 7] * 3):
        wanted = encoder.serve(ids, tf.constant(mask))["states"]
        found = loaded(ids=tf.constant(ids), mask=tf.constant(mask))["states"]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def weights_of_all_keys(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    del mask
    return tf.nn.softmax(scores_of(queries, keys))


@pytest.mark.parametrize(
    "weigh",
    [weights_of_all_keys, weights_of_sums, weights_of_seen_pairs, weights_of_all_masks],
    ids=lambda weigh: weigh.__name__,
)
def test_sentences_without_positions_give_none_as_they_did(weigh: Any, tmp_path: Path) -> None:
    assert fused(Encoder(*FORMS[0], weigh), tmp_path).counts().get("encoder stack") == 1
    load_operators()
    loaded = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    nothing = tf.zeros([2, 0], tf.int32)
    assert loaded(ids=nothing, mask=nothing)["states"].shape == (2, 0, WIDTH)


def heads_of_blocks(x: tf.Tensor, weights: list[Any]) -> list[tf.Tensor]:
    made = [tf.reshape(tf.matmul(x, kernel) + bias, [-1, BLOCK, HEADS, SIZE]) for kernel, bias in weights]
    return [tf.transpose(y, [0, 2, 1, 3]) for y in made]


def heads_of_the_first_positions(x: tf.Tensor, weights: list[Any]) -> list[tf.Tensor]:
    queries, keys, values = heads_by_einsum(x, weights)
    return [queries, keys[:, :, :BLOCK], values[:, :, :BLOCK]]


@pytest.mark.parametrize(
    "heads", [heads_of_blocks, heads_of_the_first_positions], ids=lambda function: function.__name__
)
def test_layers_that_attend_to_a_part_of_a_long_sentence_are_no_stack_for_a_reason(heads: Any, tmp_path: Path) -> None:
    encoder = Encoder(heads, norm_by_moments, tf.nn.relu, False, weights_of_all_keys)
    report = fused(encoder, tmp_path)
    assert "encoder stack" not in report.counts()
    assert any("not known to be as long as" in each["reason"] for each in report.left_alone)
    load_operators()
    loaded = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    ids = tf.constant(np.random.default_rng(0).integers(0, VOCABULARY, (2, 2 * BLOCK)), tf.int32)
    wanted, found = (function(ids=ids, mask=tf.ones_like(ids))["states"] for function in (encoder.serve, loaded))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def constants(folder: Path) -> list[int]:
    """Returns how many values each constant of a SavedModel has, in its graph and in its functions."""
    proto = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = proto.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return [math.prod(tf.TensorShape(n.attr["value"].tensor.tensor_shape)) for n in nodes if n.op == "Const"]


def test_weights_of_a_large_model_are_variables_that_every_branch_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optops.graph.optimizer.function.MUCH", 0)
    monkeypatch.setattr("optops.graph.optimizer.graph.LARGE", 500)
    encoder = Encoder(*FORMS[0])
    report = fused(encoder, tmp_path)
    assert report.counts().get("encoder stack") == 1, report.left_alone
    load_operators()
    assert max(constants(tmp_path / "out")) <= 500
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    held = sum(weights.dtype.size * math.prod(weights.shape) for weights in loaded.weights)
    assert held < 3 * sum(4 * math.prod(variable.shape) for variable in encoder.variables)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (2, 5)).astype(np.int32)
    for mask in ([[1, 1, 1, 0, 0]] * 2, [[0, 1, 0, 1, 1]] * 2):
        found = loaded.signatures["serving_default"](ids=tf.constant(ids), mask=tf.constant(mask))["states"]
        np.testing.assert_allclose(found, encoder.serve(ids, tf.constant(mask))["states"], rtol=1e-3, atol=1e-4)


class Padded(Encoder):
    """Hides the ids that are 0, and gives a part of the states."""

    def __init__(self, part: Callable[[tf.Tensor], tf.Tensor], weigh: Callable[..., Any] = weights_of_sums) -> None:
        super().__init__(*FORMS[0], weigh)
        self.part = part

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, "ids")])
    def serve(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"part": self.part(self.states(ids, tf.cast(ids != 0, tf.int32)))}


class Worded(Encoder):
    """Takes words, which it looks up in a table."""

    def __init__(self) -> None:
        super().__init__(*FORMS[0])
        words, ids = tf.constant(["the word", "42", "-1.5"]), tf.constant([3, 5, 7], tf.int64)
        self.ids = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(words, ids), 1)

    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.string, "words"), tf.TensorSpec([None, None], tf.int32, "mask")]
    )
    def serve(self, words: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"states": self.states(self.ids.lookup(words), mask)}


def test_layers_behind_a_lookup_table_become_one_operator(tmp_path: Path) -> None:
    encoder = Worded()
    report = fused(encoder, tmp_path)
    assert report.counts().get("encoder stack") == 1, report.left_alone
    loaded = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    inputs = {"words": tf.constant([["42", "a", "-1.5"]] * 2), "mask": tf.constant([[1, 1, 1], [1, 1, 0]])}
    wanted, found = (function(**inputs)["states"] for function in (encoder.serve, loaded))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


WEIGHTS = [
    weights_scaled_from_the_left,
    weights_of_sums_scaled_behind,
    weights_of_a_choice,
    weights_of_all_masks,
    weights_of_hidden_keys,
    weights_of_seen_pairs,
]


@pytest.mark.parametrize("weigh", WEIGHTS, ids=lambda weigh: weigh.__name__)
def test_a_mask_in_any_form_hides_the_ends_of_sentences(weigh: Any, tmp_path: Path) -> None:
    encoder = Padded(lambda x: x[:, 0], weigh)
    report = fused(encoder, tmp_path)
    assert report.counts().get("encoder stack") == 1, report.left_alone
    assert "2 layers" in str(report.rewrites[-1]["weights"])
    assert report.difference <= 1e-4
    loaded = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    for ids in (PADDED, PADDED + 1, PADDED[:, ::-1]):
        np.testing.assert_allclose(
            loaded(ids=tf.constant(ids))["part"], encoder.serve(ids)["part"], rtol=1e-3, atol=1e-4
        )


def weights_of_any_mask(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    return tf.nn.softmax(scores_of(queries, keys) + (1.0 - tf.cast(mask, tf.float32)) * -10000.0)


def mask_of(given: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns a mask of scores that is made of lengths, a mask of sentences or one of scores."""
    mask = tf.sequence_mask(given, tf.shape(ids)[1]) if given.shape.rank == 1 else given
    return mask[:, None, None, :] if mask.shape.rank == 2 else mask


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        ([None], tf.int32),
        ([None, None], tf.float32),
        ([None, 1, 1, None], tf.bool),
        ([None, 1, None, None], tf.int32),
        ([None, 1, None, None], tf.float32),
    ],
)
def test_lengths_and_masks_of_any_rank_and_type_hide_the_ends_of_sentences(
    sizes: Any, dtype: Any, tmp_path: Path
) -> None:
    encoder = Encoder(*FORMS[0], weights_of_any_mask)
    encoder.serve = tf.function(
        lambda ids, mask: {"states": encoder.states(ids, mask_of(mask, ids))[:, 0]},
        input_signature=[tf.TensorSpec([None, None], tf.int32, "ids"), tf.TensorSpec(sizes, dtype, "mask")],
    )
    report = fused(encoder, tmp_path)
    assert report.counts().get("encoder stack") == 1, report.left_alone
    assert "2 layers" in str(report.rewrites[-1]["weights"])


def test_ids_that_come_in_as_floats_are_those_of_words(tmp_path: Path) -> None:
    encoder = Encoder(*FORMS[0])
    encoder.serve = tf.function(
        lambda ids: {"states": encoder.states(tf.cast(ids, tf.int32), tf.cast(ids != 0.0, tf.int32))[:, 0]},
        input_signature=[tf.TensorSpec([None, None], tf.float32, "ids")],
    )
    report = fused(encoder, tmp_path)
    assert report.counts().get("encoder stack") == 1, report.left_alone


def weights_of_the_past(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    time = tf.range(tf.shape(mask)[1])
    return tf.nn.softmax(tf.where(time[:, None] >= time, scores_of(queries, keys), -1e9))


def weights_by_distance(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    time = tf.range(tf.shape(mask)[1])
    return tf.nn.softmax(scores_of(queries, keys) - tf.cast(tf.abs(time[:, None] - time), tf.float32)[None, None])


def weights_of_masked_distances(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    time = tf.range(tf.shape(mask)[1])
    near = scores_of(queries, keys) - tf.cast(tf.abs(time[:, None] - time), tf.float32)[None, None]
    return tf.nn.softmax(tf.where(seen_keys(mask), near, -1e9))


@pytest.mark.parametrize("weigh", [weights_of_the_past, weights_by_distance, weights_of_masked_distances])
def test_layers_whose_scores_depend_on_positions_are_no_stack_for_a_reason(weigh: Any, tmp_path: Path) -> None:
    report = fused(Encoder(*FORMS[0], weigh), tmp_path)
    assert "encoder stack" not in report.counts()
    assert any("changes scores otherwise than by hiding ends" in each["reason"] for each in report.left_alone)


PADDED = np.array([[3, 5, 7, 0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 0, 0]], np.int32)


@pytest.mark.parametrize("part", [lambda x: x[:, 5:], lambda x: x[:, 7], lambda x: x[:, 0]], ids=["5:", "7", "0"])
def test_hidden_positions_keep_what_they_were_where_something_reads_them(part: Any, tmp_path: Path) -> None:
    encoder = Padded(part)
    report = fused(encoder, tmp_path)
    assert report.counts().get("encoder stack") == 1, report.left_alone
    found = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"](ids=tf.constant(PADDED))
    np.testing.assert_allclose(found["part"], encoder.serve(PADDED)["part"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("part", "first"),
    [
        (lambda x: x[:, 0], True),
        (lambda x: x[:, :1], True),
        (lambda x: x[:, 0:1, 2:], True),
        (lambda x: x[1:, 0, ::2], True),
        (lambda x: x[:, 5:], False),
        (lambda x: x[:, ::5], False),
        (lambda x: x[:, :-4], False),
        (lambda x: x[:, 7], False),
        (lambda x: x[:, -1], False),
        (lambda x: x[:, 0::-1], False),
        (lambda x: x[..., 0], False),
        (lambda x: x[:, tf.newaxis, 0], False),
        (lambda x: x[tf.newaxis, 0], False),
        (lambda x: x[0], False),
    ],
)
def test_a_slice_takes_the_first_position_or_others_at_any_length(
    part: Callable[[tf.Tensor], tf.Tensor], first: bool
) -> None:
    states = tf.TensorSpec([None, None, WIDTH], name="states")
    traced = tf.function(part).get_concrete_function(states)
    graph = Graph.of(traced.graph.as_graph_def(), ["states"], [each.name for each in traced.outputs])
    assert first_position_alone(graph, "states:0") == first


@pytest.mark.parametrize(
    ("mask", "lengths", "fits"),
    [
        ([[0.0, 0.0, 0.0]], [3], True),
        ([[0.0, -1e4, -1e9]], [1], True),
        ([[-1e4, 0.0, 0.0]], [2], False),
        ([[0.0, 0.0, -3.0]], [2], False),
        ([[-1e4, -1e4, -1e4]], [1], False),
        ([[0.0, 0.0, float("nan")]], [2], False),
    ],
)
def test_what_a_mask_hides_is_told_from_its_values(mask: list[list[float]], lengths: list[int], fits: bool) -> None:
    found, answer = hidden_ends([tf.constant(mask)[:, None, None, :]], tf.constant([1, 3, 8]), all_positions=False)
    assert (found.numpy().tolist(), bool(answer)) == (lengths, fits)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_imported_encoder_is_lowered_to_the_operator_library(precision: Any, tmp_path: Path) -> None:
    encoder = Encoder(*FORMS[0])
    tf.saved_model.save(encoder, str(tmp_path / "theirs"), signatures={"serving_default": encoder.serve})
    import_saved_model(tmp_path / "theirs", tmp_path / "serving")
    lower_serving(tmp_path / "serving", PrecisionPlan(precision), "tensorflow+kernels", tmp_path / "lowered")
    inputs = {"ids": np.array([[1, 2, 3]], np.int32), "mask": np.ones([1, 3], np.int32)}
    found = load_executable(tmp_path / "lowered", 1)(inputs)["states"]
    wanted = encoder.serve(**inputs)["states"]
    np.testing.assert_allclose(found, wanted, atol=1e-4 if precision == "fp32" else 0.1, rtol=1e-3)


def keras_encoder(kind: str = "states") -> keras.Model:
    if kind == "words":
        inputs = keras.Input([None], dtype="int32")
        x = keras.layers.Embedding(VOCABULARY, WIDTH, mask_zero=True)(inputs)
    else:
        x = inputs = keras.Input([None, WIDTH])
    for _ in range(2):
        attended = keras.layers.MultiHeadAttention(HEADS, SIZE)(x, x)
        x = keras.layers.LayerNormalization(epsilon=1e-3)(keras.layers.Add()([x, keras.layers.Dropout(0.1)(attended)]))
        hidden = keras.layers.Dense(WIDTH)(keras.layers.Dense(UNITS, activation="gelu")(x))
        x = keras.layers.LayerNormalization(epsilon=1e-3)(keras.layers.Add()([x, hidden]))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(x) if kind == "words" else x)


@pytest.mark.parametrize("kind", ["states", "words"])
def test_all_layers_of_keras_become_operators(kind: str, tmp_path: Path) -> None:
    report = optimize(keras_encoder(kind), tmp_path / "out", benchmark=False, picture=False).signatures[0]
    found = [str(each["weights"]) for each in report.rewrites if each["pattern"] == "encoder stack"]
    assert sum(int(weights.split()[0]) for weights in found) == 2, report.left_alone
    assert report.difference <= 1e-4


def test_an_attention_that_is_in_no_layer_is_no_encoder_for_a_reason(tmp_path: Path) -> None:
    inputs = keras.Input([None, WIDTH])
    model = keras.Model(inputs, keras.layers.MultiHeadAttention(HEADS, SIZE)(inputs, inputs))
    report = optimize(model, tmp_path / "out", benchmark=False, picture=False).signatures[0]
    assert report.counts().keys() == {"attention alone"}
    assert any("no residual sum" in each["reason"] for each in report.left_alone)


def test_layers_in_half_precision_are_left_alone_with_the_reason(tmp_path: Path) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = keras_encoder()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    report = optimize(model, tmp_path / "out", benchmark=False, picture=False).signatures[0]
    assert report.level == "plain"
    assert any("is bfloat16; the operator takes float32" in each["reason"] for each in report.left_alone)
