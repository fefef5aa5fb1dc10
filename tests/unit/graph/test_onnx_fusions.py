"""Attention, layer norms and GELU of imported models are fused operators in ONNX Runtime and compute the same."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.unit.graph.test_optimizer_encoders import BLOCK, FORMS, HEADS, SIZE, UNITS, VOCABULARY, WIDTH, Encoder

from optops.graph.bert_stock import stock_function
from optops.graph.lowering import Lowering, lower_serving
from optops.graph.onnx_fusions.fuse import PATTERNS
from optops.graph.onnx_fusions.rewriting import Rewriter
from optops.models.base import load_architecture
from optops.models.bert.config import BertConfig
from optops.models.importing import import_saved_model
from optops.models.keras import keras, tf
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable

RANDOM = np.random.default_rng(3)
IDS = RANDOM.integers(1, VOCABULARY, (3, 11)).astype(np.int32)
MASK = (np.arange(11) < [[11], [4], [1]]).astype(np.int32)
STATES = RANDOM.normal(size=(2, 6, WIDTH)).astype(np.float32)


def lowered(
    function: Any, module: tf.Module, folder: Path, precision: Any = "fp32"
) -> tuple[Lowering, Callable[..., Any]]:
    tf.saved_model.save(module, str(folder / "theirs"), signatures={"serving_default": function})
    import_saved_model(folder / "theirs", folder / "serving")
    lowering = lower_serving(folder / "serving", PrecisionPlan(precision), "onnxruntime", folder / "lowered")
    return lowering, load_executable(folder / "lowered", 1)


def lowered_function(
    function: Callable[..., tf.Tensor], folder: Path, *shapes: Any, weights: Any = None
) -> tuple[Lowering, Any, Any]:
    """Lowers a function of float32 tensors `x` and `memory`."""
    names = ["x", "memory"][: len(shapes)]
    specs = [tf.TensorSpec(shape, tf.float32, name) for name, shape in zip(names, shapes, strict=True)]
    module = tf.Module()
    module.weights = weights
    module.serve = tf.function(lambda *inputs: {"y": function(*inputs)}, input_signature=specs, autograph=False)
    return *lowered(module.serve, module, folder), module.serve


def check(found: Mapping[str, np.ndarray], wanted: Mapping[str, tf.Tensor]) -> None:
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0].__name__)
def test_an_encoder_in_any_form_is_made_of_fused_operators(form: Any, tmp_path: Path) -> None:
    encoder = Encoder(*form)
    lowering, execute = lowered(encoder.serve, encoder, tmp_path)
    assert lowering.facts["attention_fused"] == 2, lowering.notes
    assert lowering.facts["layer_norms_fused"] == 4 + encoder.first
    assert lowering.facts["gelu_fused"] == (2 if "gelu" in encoder.gelu.__name__ else 0)
    inputs = {"ids": IDS, "mask": MASK}
    check(execute(inputs), encoder.serve(**inputs))


def keras_encoder() -> keras.Model:
    states, mask = keras.Input([None, WIDTH], name="states"), keras.Input([None], dtype="int32", name="mask")
    x, seen = states, keras.layers.Reshape([1, -1])(mask)
    for epsilon in (1e-3, 1e-6):  # Keras' layer computes these in two ways
        attended = keras.layers.MultiHeadAttention(HEADS, SIZE)(x, x, attention_mask=seen)
        x = keras.layers.LayerNormalization(epsilon=epsilon)(x + attended)
        hidden = keras.layers.Dense(WIDTH)(keras.layers.Dense(UNITS, activation="gelu")(x))
        x = keras.layers.LayerNormalization(epsilon=epsilon)(x + hidden)
    model = keras.Model([states, mask], x)
    model.set_weights([RANDOM.normal(0, 0.2, weight.shape) for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_layers_of_keras_are_fused_operators_whose_products_int8_reaches(precision: Any, tmp_path: Path) -> None:
    model = keras_encoder()
    specs = [tf.TensorSpec(each.shape, each.dtype, each.name) for each in model.inputs]
    serve = tf.function(lambda *inputs: {"states": model(list(inputs))}, input_signature=specs, autograph=False)
    lowering, execute = lowered(serve, model, tmp_path, precision)
    facts = [lowering.facts[name] for name in ("attention_fused", "layer_norms_fused", "gelu_fused")]
    assert facts == [2, 4, 2], lowering.notes
    inputs = {"states": STATES, "mask": MASK[:2, :6]}
    found, wanted = execute(inputs)["states"], serve(*map(tf.constant, inputs.values()))["states"]
    if precision == "fp32":
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)
    else:
        # Queries, keys, values, what mixes heads, and the two of the feed-forward block: of two layers.
        assert lowering.facts["nodes_quantized"] == 12
        operators = [node.op_type for node in onnx.load(str(tmp_path / "lowered" / "model.onnx")).graph.node]
        assert operators.count("MatMulInteger") == 12
        assert "MatMul" not in operators
        np.testing.assert_allclose(found, wanted, atol=0.1 * np.abs(wanted).max())


def test_our_own_bert_as_anyone_would_export_it_is_made_of_fused_operators(tmp_path: Path) -> None:
    sizes = {"vocabulary": VOCABULARY, "classes": 3, "width": WIDTH, "heads": HEADS, "feed_forward": UNITS}
    model = load_architecture("bert").build(BertConfig.uniform(**sizes, layers=2, max_positions=16).to_json())
    module = tf.Module()
    module.weights, serve = model.weights, stock_function(model).get_concrete_function()
    lowering, execute = lowered(serve, module, tmp_path)
    facts = [lowering.facts[name] for name in ("attention_fused", "layer_norms_fused", "gelu_fused")]
    assert facts == [2, 5, 2], lowering.notes
    ids = IDS * MASK
    check(execute({"ids": ids}), serve(ids=tf.constant(ids)))


def test_attention_to_another_sequence_of_another_length_is_fused(tmp_path: Path) -> None:
    x, memory = keras.Input([None, WIDTH]), keras.Input([None, 24])
    model = keras.Model([x, memory], keras.layers.MultiHeadAttention(HEADS, SIZE)(x, memory))
    shapes = [None, None, WIDTH], [None, None, 24]
    lowering, execute, serve = lowered_function(
        lambda *inputs: model(list(inputs)), tmp_path, *shapes, weights=model.weights
    )
    assert lowering.facts["attention_fused"] == 1
    inputs = {"x": STATES, "memory": RANDOM.normal(size=(2, 9, 24)).astype(np.float32)}
    check(execute(inputs), serve(*map(tf.constant, inputs.values())))


def heads(x: tf.Tensor) -> tf.Tensor:
    return tf.transpose(tf.reshape(x, [tf.shape(x)[0], -1, HEADS, SIZE]), [0, 2, 1, 3])


@pytest.mark.parametrize(
    "form",
    ["before the softmax", "behind it too", "with the scores' shape", "spread to the scores", "for queries alone"],
)
def test_attention_whose_hidden_scores_are_chosen_is_fused_also_where_a_query_sees_nothing(
    form: str, tmp_path: Path
) -> None:
    def chosen(x: tf.Tensor) -> tf.Tensor:
        """As the softmax of Keras 3 has it, or its dot-product attention."""
        pairs = (x[:, :, 1] > 0)[:, None, :, None]
        if form != "for queries alone":
            pairs &= (x[:, :, 0] > 0)[:, None, None, :]
        scores = tf.matmul(heads(x) * SIZE**-0.5, heads(x * 2.0), transpose_b=True)
        pairs = tf.ones_like(scores, tf.bool) & pairs if form == "with the scores' shape" else pairs
        pairs = tf.broadcast_to(pairs, tf.shape(scores)) if form == "spread to the scores" else pairs
        weights = tf.nn.softmax(tf.where(pairs, scores, -3e38))
        weights = tf.where(pairs, weights, 0.0) if form == "behind it too" else weights
        return tf.reshape(tf.transpose(tf.matmul(weights, heads(x)), [0, 2, 1, 3]), tf.shape(x))

    lowering, execute, serve = lowered_function(chosen, tmp_path, [None, None, WIDTH])
    assert lowering.facts["attention_fused"] == 1, lowering.notes
    # No scores are kept for their shape alone.
    operators = {node.op_type for node in onnx.load(str(tmp_path / "lowered" / "model.onnx")).graph.node}
    assert not operators & {"MatMul", "Softmax"}
    for x in (STATES, np.abs(STATES), -np.abs(STATES)):
        check(execute({"x": x}), serve(tf.constant(x)))


def attention_maps(x: tf.Tensor) -> tf.Tensor:
    maps = tf.nn.softmax(tf.matmul(heads(x), heads(x * 2.0), transpose_b=True))
    mixed = tf.transpose(tf.matmul(maps, heads(x)), [0, 2, 1, 3])
    return tf.reduce_sum(mixed, [1, 2, 3]) + tf.reduce_max(maps, [1, 2, 3])


def turned(x: tf.Tensor) -> tf.Tensor:
    rows = tf.matmul(tf.reshape(x, [-1, WIDTH]), tf.eye(WIDTH) + 0.5)
    return tf.reshape(rows, [tf.shape(x)[1], tf.shape(x)[0], WIDTH])


def norm_with_epsilon_outside(x: tf.Tensor) -> tf.Tensor:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) / (tf.sqrt(variance) + 1e-2)


def norm_over_two_axes(x: tf.Tensor) -> tf.Tensor:
    mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, None, None, 1e-6)


def no_gelu(x: tf.Tensor) -> tf.Tensor:
    return x * 0.5 * (1.0 + tf.math.erf(x / 2.0))


@pytest.mark.parametrize(
    "function",
    [attention_maps, turned, norm_with_epsilon_outside, norm_over_two_axes, no_gelu],
    ids=lambda each: each.__name__,
)
def test_what_only_looks_like_a_pattern_is_left_as_it_is(function: Any, tmp_path: Path) -> None:
    lowering, execute, serve = lowered_function(function, tmp_path, [None, None, WIDTH])
    assert not any(lowering.facts[name] for name in ("attention_fused", "layer_norms_fused", "gelu_fused"))
    check(execute({"x": STATES}), serve(tf.constant(STATES)))
    assert not any("products without rows" in note for note in lowering.notes), lowering.notes


@pytest.mark.parametrize("product", [lambda x, kernel: tf.tensordot(x, kernel, 1), tf.matmul], ids=["rows", "states"])
def test_attention_within_blocks_stays_within_blocks(product: Any, tmp_path: Path) -> None:
    """No random input is longer than one block."""
    kernels = RANDOM.normal(0, 0.2, (3, WIDTH, WIDTH)).astype(np.float32)

    def blocks(x: tf.Tensor) -> tf.Tensor:
        made = [product(x, tf.constant(kernel)) + kernel[0] for kernel in kernels]
        split = [tf.reshape(each, [-1, BLOCK, HEADS, SIZE]) for each in made]
        queries, keys, values = (tf.transpose(each, [0, 2, 1, 3]) for each in split)
        weights = tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True) * SIZE**-0.5)
        return tf.reshape(tf.transpose(tf.matmul(weights, values), [0, 2, 1, 3]), tf.shape(x))

    lowering, execute, serve = lowered_function(blocks, tmp_path, [None, None, WIDTH])
    assert lowering.facts["attention_fused"] == 1
    x = RANDOM.normal(size=(2, 2 * BLOCK, WIDTH)).astype(np.float32)
    check(execute({"x": x}), serve(tf.constant(x)))


def test_a_pattern_that_is_wrong_is_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_erf(graph: Rewriter) -> int:
        (node,) = (node for node in graph.graph.node if node.op_type == "Erf")
        graph.redirect(node.output[0], node.input[0])
        return 1

    monkeypatch.setitem(PATTERNS, "wrong", without_erf)
    lowering, execute, serve = lowered_function(no_gelu, tmp_path, [None, None, WIDTH])
    assert any(note.startswith("rolled back wrong: ") for note in lowering.notes), lowering.notes
    check(execute({"x": STATES}), serve(tf.constant(STATES)))


def test_a_pattern_that_is_wrong_costs_no_other_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def negated(graph: Rewriter) -> int:
        (output,) = graph.outputs
        graph.redirect(output, graph.add("Neg", graph.producer(output).input[0], shape=graph.shape(output)))
        return 1

    model = keras_encoder()
    specs = [tf.TensorSpec(each.shape, each.dtype, each.name) for each in model.inputs]
    serve = tf.function(lambda *inputs: {"states": model(list(inputs))}, input_signature=specs, autograph=False)
    (tmp_path / "right").mkdir()
    right, _ = lowered(serve, model, tmp_path / "right")
    monkeypatch.setitem(PATTERNS, "wrong", negated)
    lowering, _ = lowered(serve, model, tmp_path)
    assert [note.partition(":")[0] for note in lowering.notes if "rolled back" in note] == ["rolled back wrong"]
    fused = ("attention_fused", "layer_norms_fused", "gelu_fused")
    assert [lowering.facts[name] for name in fused] == [right.facts[name] for name in fused]


def test_a_layer_norm_of_an_odd_width_without_scale_and_offset_is_fused(tmp_path: Path) -> None:
    def norm(x: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-12)

    lowering, execute, serve = lowered_function(norm, tmp_path, [None, None, 7])
    assert lowering.facts["layer_norms_fused"] == 1
    check(execute({"x": STATES[:, :, :7]}), serve(tf.constant(STATES[:, :, :7])))
