"""Models of every kind come out as they went in: the same signatures, the same results, nothing fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optops.graph import optimize
from optops.graph.optimizer.errors import OptimizerError
from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.loading import Signature
from optops.graph.optimizer.parity import TOLERANCES, compare
from optops.graph.optimizer.samples import Sample, accepted_samples, call
from optops.models.keras import keras, tf

L = keras.layers
F, N, S = tf.float32, tf.int32, tf.string


def spec(*shape: int | None, dtype: Any = F, name: str = "x") -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name)


def weight(*shape: int) -> tf.Variable:
    return tf.Variable(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


W = {shape: weight(*shape) for shape in ((4, 4), (4, 3), (9, 4), (3,), (4,), (3, 3, 2, 4))}


def looped(x: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y @ W[4, 4])), (0, x))[1]


def mapped(x: tf.Tensor) -> tf.Tensor:
    return tf.map_fn(lambda row: tf.reduce_max(row) * row, x)


def branching(x: tf.Tensor) -> tf.Tensor:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: x @ W[4, 4], lambda: x - 1.0)


def switching(x: tf.Tensor) -> tf.Tensor:
    return tf.switch_case(tf.shape(x)[0] % 2, [lambda: x * 2.0, lambda: tf.exp(x)])


def ragged(x: tf.Tensor) -> tf.Tensor:
    return tf.RaggedTensor.from_tensor(x, lengths=tf.fill(tf.shape(x)[:1], 2)).to_tensor(-1.0)


def sparse(x: tf.Tensor) -> tf.Tensor:
    return tf.sparse.sparse_dense_matmul(tf.sparse.from_dense(tf.nn.relu(x)), W[4, 3])


def half(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.cast(x, tf.float16) @ tf.cast(W[4, 3], tf.float16), F)


Functions = dict[str, tuple[Callable[..., Any], list[tf.TensorSpec]]]
ROWS = [spec(None, 4)]
FUNCTIONS: Functions = {
    "product": (lambda x: x @ W[4, 3] + W[3,], ROWS),
    "one row": (lambda x: tf.tensordot(x, W[4, 3], 1), [spec(4)]),
    "scalar": (lambda x: x * 2.0, [spec()]),
    "vector": (lambda x: tf.cumsum(x), [spec(None)]),
    "fixed batch": (lambda x: tf.nn.softmax(x @ W[4, 4]), [spec(2, 4)]),
    "half": (half, ROWS),
    "double": (
        lambda x: tf.linalg.inv(x @ tf.transpose(x) + tf.eye(4, dtype=tf.float64)),
        [spec(4, 4, dtype=tf.float64)],
    ),
    "integers": (lambda x: (x * 3 + 1) // 2 % 5, [spec(None, dtype=N)]),
    "long integers": (lambda x: tf.bitwise.left_shift(x, tf.constant(2, tf.int64)), [spec(None, dtype=tf.int64)]),
    "truth values": (lambda x: tf.logical_not(x), [spec(None, dtype=tf.bool)]),
    "complex": (lambda x: tf.abs(tf.signal.fft(tf.cast(x, tf.complex64))), [spec(None, 8)]),
    "embedding": (lambda x: tf.gather(W[9, 4], x), [spec(None, None, dtype=N)]),
    "one hot": (lambda x: tf.one_hot(x, 5) @ weight(5, 2), [spec(None, dtype=N)]),
    "several inputs": (lambda x, y: x @ W[4, 4] + y, [spec(None, 4), spec(None, 4, name="y")]),
    "an input that nothing reads": (lambda x, y: x + 1.0, [spec(None, 4), spec(None, 4, name="y")]),
    "an output that is an input": (lambda x: tf.identity(x), ROWS),
    "a constant output": (lambda x: tf.constant([1.0, 2.0]), ROWS),
    "loop": (looped, ROWS),
    "map": (mapped, ROWS),
    "branch": (branching, ROWS),
    "switch": (switching, ROWS),
    "ragged": (ragged, ROWS),
    "sparse": (sparse, ROWS),
    "top": (lambda x: tf.math.top_k(x, 2).indices, ROWS),
    "sorted": (lambda x: tf.sort(x, axis=-1), ROWS),
    "unique": (lambda x: tf.unique(x).y, [spec(None, dtype=N)]),
    "where": (lambda x: tf.where(x > 0), ROWS),
    "convolution, channels last": (lambda x: tf.nn.conv2d(x, W[3, 3, 2, 4], 1, "SAME"), [spec(None, 6, 6, 2)]),
    "resized": (lambda x: tf.image.resize(x, [3, 5]), [spec(None, 6, 6, 2)]),
    "einsum": (lambda x: tf.einsum("ab,bc->ca", x, W[4, 3]), ROWS),
    "attention alone": (lambda x: tf.nn.softmax(x @ tf.transpose(x, [0, 2, 1])) @ x, [spec(None, None, 4)]),
    "checked": (lambda x: tf.debugging.check_numerics(tf.ensure_shape(x, [None, 4]), "bad") + 1.0, ROWS),
    "joined": (lambda x: tf.strings.join([x, "!"]), [spec(None, dtype=S)]),
    "split text": (lambda x: tf.strings.split(x).to_tensor(""), [spec(None, dtype=S)]),
    "hashed": (lambda x: tf.strings.to_hash_bucket_fast(x, 7), [spec(None, dtype=S)]),
    "one text": (lambda x: tf.strings.as_string(tf.reduce_sum(tf.cast(x > 0.5, N))), ROWS),
    "lengths of text": (lambda x: tf.strings.length(x, "UTF8_CHAR"), [spec(None, dtype=S)]),
    "dropout in a branch that is never taken": (
        lambda x: tf.cond(tf.constant(value=False), lambda: tf.nn.dropout(x, 0.5), lambda: tf.nn.relu(x)),
        ROWS,
    ),
    "dropout in a branch": (
        lambda x: tf.cond(tf.constant(value=True), lambda: tf.nn.dropout(x, 0.5), lambda: tf.nn.relu(x)),
        ROWS,
    ),
    "random": (lambda x: x + tf.random.normal([4]), ROWS),
    "random of a seed": (lambda x: x + tf.random.stateless_normal([4], [1, 2]), ROWS),
    "python": (lambda x: tf.ensure_shape(tf.numpy_function(np.sin, [x], F), [None, 4]), ROWS),
}


def sequential(*layers: Any, shape: list[int | None]) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers])


def shared() -> keras.Model:
    inputs, layer = keras.Input([4]), L.Dense(4, activation="relu")
    return keras.Model(inputs, {"once": layer(inputs), "twice": layer(layer(inputs))})


def lambdas() -> keras.Model:
    inputs = keras.Input([4])
    return keras.Model(inputs, tf.reduce_mean(tf.nn.relu(inputs) * 2.0, axis=1))


class Scaled(L.Layer):  # type: ignore[misc]
    """One weight for each channel: with it, a layer of a Transformer is none that the library has whole."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=shape[-1:], initializer=keras.initializers.RandomUniform(0.5, 1.5))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x * self.factor


class Positions(L.Layer):  # type: ignore[misc]
    """Adds what is learned for each position."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(64, shape[-1]), initializer="random_normal")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x + self.table[: tf.shape(x)[1]]


def hidden(x: Any, activation: Any) -> Any:
    return L.Dense(x.shape[-1])(L.Dense(2 * x.shape[-1], activation=activation)(x))


def vision_transformer() -> keras.Model:
    """Patches, norms first, branches with weights of their own (Touvron et al. 2021, CaiT)."""
    inputs = keras.Input([48, 48, 3])
    x = Positions()(L.Reshape([36, 64])(L.Conv2D(64, 8, 8)(inputs)))
    for _ in range(2):
        y = L.LayerNormalization(epsilon=1e-6)(x)
        x += Scaled()(L.MultiHeadAttention(4, 16)(y, y))
        x += Scaled()(hidden(L.LayerNormalization(epsilon=1e-6)(x), "gelu"))
    return keras.Model(inputs, L.Dense(10)(L.GlobalAveragePooling1D()(L.LayerNormalization(epsilon=1e-6)(x))))


def decoder() -> keras.Model:
    """Attention to what is before, then to a memory, norms last (Vaswani et al. 2017)."""
    ids, memory = keras.Input([None], dtype="int32"), keras.Input([None, 64])
    x = Positions()(L.Embedding(20, 64)(ids))
    for _ in range(2):
        x = L.LayerNormalization()(x + L.MultiHeadAttention(4, 16)(x, x, use_causal_mask=True))
        x = L.LayerNormalization()(x + L.MultiHeadAttention(4, 16)(x, memory))
        x = L.LayerNormalization()(x + hidden(x, tf.nn.silu))
    return keras.Model([ids, memory], L.Dense(20)(x))


WHOLE: dict[str, tuple[Callable[[], keras.Model], dict[str, int]]] = {
    "vision transformer": (
        vision_transformer,
        {"norm step by step": 5, "attention alone": 2, "residual norm": 5, "bias and activation": 2},
    ),
    "decoder": (
        decoder,
        {"norm step by step": 6, "attention alone": 4, "residual norm": 6, "bias and activation": 2},
    ),
}


KERAS: dict[str, Callable[[], keras.Model]] = {
    "lstm": lambda: sequential(L.LSTM(3), shape=[None, 4]),
    "gru": lambda: sequential(L.GRU(3, return_sequences=True), shape=[5, 4]),
    "two ways": lambda: sequential(L.Embedding(9, 4, mask_zero=True), L.Bidirectional(L.LSTM(2)), shape=[None]),
    "dropout": lambda: sequential(L.Dense(4), L.Dropout(0.5), L.GaussianNoise(0.1), L.Dense(2), shape=[4]),
    "nested": lambda: sequential(sequential(L.Dense(3), L.BatchNormalization(), shape=[4]), L.Dense(2), shape=[4]),
    "shared": shared,
    "operators as layers": lambdas,
    "normalised": lambda: sequential(L.LayerNormalization(), L.UnitNormalization(), shape=[None, 4]),
    "pooled": lambda: sequential(L.Conv1D(3, 3), L.BatchNormalization(), L.GlobalMaxPooling1D(), shape=[8, 2]),
}


def results(saved_model: Path, samples: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    function = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
    return [call(function, sample) for sample in samples]


def signatures(saved_model: Path) -> dict[str, Any]:
    loaded = tf.saved_model.load(str(saved_model))
    # A loaded signature has its outputs in any order.
    return {
        name: (function.structured_input_signature[1], str(sorted(function.structured_outputs.items())))
        for name, function in loaded.signatures.items()
    }


def inputs_of(specs: list[tf.TensorSpec]) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    arrays = {}
    for each in specs:
        shape = [3 if size is None else size for size in each.shape]
        if each.dtype == S:
            arrays[each.name] = np.array(["a b", "", "ö x y"], object)
        elif each.dtype.is_floating:
            arrays[each.name] = draw.normal(size=shape).astype(each.dtype.as_numpy_dtype)
        else:
            arrays[each.name] = draw.integers(0, 2, shape).astype(each.dtype.as_numpy_dtype)
    return arrays


def check(folder: Path, specs: list[tf.TensorSpec]) -> str:
    report = optimize(folder / "model", folder / "out", benchmark=False, picture=False)
    assert signatures(folder / "model") == signatures(folder / "out")
    samples = [inputs_of(specs)]
    # What is random differs from itself: such a model must have been left alone.
    if report.signatures[0].level == "original":
        assert report.signatures[0].notes
    else:
        difference = compare(results(folder / "model", samples), results(folder / "out", samples), "fp32")
        assert difference.fits, difference
    return report.signatures[0].level


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_computes_what_it_did(name: str, tmp_path: Path) -> None:
    function, specs = FUNCTIONS[name]
    module = tf.Module()
    module.weights = list(W.values())
    module.serve = tf.function(lambda *x: {"y": function(*x)}, input_signature=specs)
    if name == "one hot":
        module.more = table = weight(5, 2)
        module.serve = tf.function(lambda x: {"y": tf.one_hot(x, 5) @ table}, input_signature=specs)
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
    level = check(tmp_path, specs)
    assert (level == "original") == (name in ("random", "dropout in a branch", "python"))


@pytest.mark.parametrize("name", KERAS)
def test_a_keras_model_computes_what_it_did(name: str, tmp_path: Path) -> None:
    model = KERAS[name]()
    model.export(str(tmp_path / "model"))
    specs = [spec(*each.shape, dtype=each.dtype, name=each.name) for each in model.inputs]
    loaded = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    (given,) = loaded.structured_input_signature[1]
    assert check(tmp_path, [spec(*specs[0].shape, dtype=specs[0].dtype, name=given)]) != "original"


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_all_parts_of_a_model_without_whole_encoder_layers_are_fused(name: str, precision: str, tmp_path: Path) -> None:
    build, counts = WHOLE[name]
    keras.utils.set_random_seed(0)
    report = optimize(build(), tmp_path / "out", precision=precision, benchmark=False, picture=False).signatures[0]
    found = report.counts()
    assert {pattern: found.get(pattern) for pattern in counts} == counts, report.left_alone
    assert ("dense" in found) == (precision == "int8")
    assert report.level == "kernels"
    assert report.difference <= TOLERANCES[precision]


class Words(tf.Module):
    """Looks words up in a table from a file, and counts how often it was asked."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        vocabulary.write_text("red\ngreen\nblue\n")
        file = tf.lookup.TextFileInitializer(
            str(vocabulary), S, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(file, -1)
        self.vectors, self.asked = weight(9, 4), tf.Variable(0)

    @tf.function(input_signature=[spec(None, dtype=S, name="words")])
    def embed(self, words: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"vectors": tf.gather(self.vectors, self.table.lookup(words) + 1)}

    @tf.function(input_signature=[spec(None, dtype=S, name="words")])
    def count(self, words: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"asked": self.asked.assign_add(tf.size(words))}


def test_tables_and_files_go_with_the_model_and_what_changes_variables_stays_as_it_is(tmp_path: Path) -> None:
    words = Words(tmp_path / "vocabulary.txt")
    functions = {"serving_default": words.embed, "count": words.count}
    tf.saved_model.save(words, str(tmp_path / "model"), signatures=functions)
    report = optimize(tmp_path / "model", tmp_path / "out", benchmark=False, picture=False)
    by_name = {each.name: each for each in report.signatures}
    assert by_name["serving_default"].level != "original"
    assert "changes variables" in by_name["count"].notes[0]
    assert "signature count: original" in report.lines()
    (tmp_path / "vocabulary.txt").unlink()
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    found = loaded.signatures["serving_default"](words=tf.constant(["blue", "black"]))["vectors"]
    np.testing.assert_array_equal(found, words.vectors.numpy()[[3, 0]])
    assert [int(loaded.signatures["count"](words=tf.constant(["a", "b"]))["asked"]) for _ in range(2)] == [2, 4]


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("loop", looped),
        ("loop", lambda x: tf.map_fn(lambda row: tf.linalg.matvec(W[4, 4], row), x)),
        ("branch", branching),
        ("function", lambda x: tf.function(lambda y: y @ W[4, 4], jit_compile=True)(x)),
    ],
    ids=["loop", "map", "branch", "compiled"],
)
def test_products_where_nothing_is_rewritten_are_reported(kind: str, function: Any, tmp_path: Path) -> None:
    module = tf.Module()
    module.weights = list(W.values())
    module.serve = tf.function(lambda x: {"y": function(x)}, input_signature=ROWS)
    report = optimize(module, tmp_path / "out", kernels=False, benchmark=False, picture=False).signatures[0]
    reason = "nothing is rewritten in what it calls; products there: 1"
    assert [(each["pattern"], each["reason"]) for each in report.left_alone] == [(kind, reason)]


class Restorable(tf.Module):
    """As TensorFlow Lite's guide to training on devices has it: what one signature sets, another computes with."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = tf.Variable(tf.ones(3))

    @tf.function(input_signature=[tf.TensorSpec([3], name="x")])
    def infer(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * self.scale}

    @tf.function(input_signature=[tf.TensorSpec([3], name="scale")])
    def restore(self, scale: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scale": self.scale.assign(scale) + 0.0}

    @tf.function(input_signature=[tf.TensorSpec([3], name="x")])
    def double(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.identity(x) * 2.0}


def test_a_signature_computes_with_what_another_has_changed(tmp_path: Path) -> None:
    model = Restorable()
    functions = {name: getattr(model, name) for name in ("infer", "restore", "double")}
    tf.saved_model.save(model, str(tmp_path / "model"), signatures=functions)
    report = optimize(tmp_path / "model", tmp_path / "out", kernels=False, benchmark=False, picture=False)
    by_name = {each.name: each for each in report.signatures}
    assert by_name["infer"].notes == ["left as it is: it reads what signature 'restore' changes"]
    assert by_name["double"].level != "original"
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    loaded.signatures["restore"](scale=tf.constant([5.0, 6.0, 7.0]))
    assert loaded.signatures["infer"](x=tf.ones(3))["y"].numpy().tolist() == [5.0, 6.0, 7.0]


def test_a_signature_that_can_not_be_optimised_leaves_others_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def samples(signature: Signature, graph: Graph) -> list[Sample]:
        if signature.name == "double":
            raise ValueError("no size of 3")
        return accepted_samples(signature, graph)

    monkeypatch.setattr("optops.graph.optimizer.optimizer.accepted_samples", samples)
    model = Restorable()
    functions = {name: getattr(model, name) for name in ("infer", "double")}
    tf.saved_model.save(model, str(tmp_path / "model"), signatures=functions)
    report = optimize(tmp_path / "model", tmp_path / "out", kernels=False, benchmark=False, picture=False)
    by_name = {each.name: each for each in report.signatures}
    assert by_name["infer"].level != "original", by_name["infer"].notes
    assert by_name["double"].notes == ["left as it is: optimising it failed: ValueError: no size of 3"]
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    assert loaded.signatures["double"](x=tf.ones(3))["y"].numpy().tolist() == [2.0, 2.0, 2.0]


def test_a_table_alone_needs_no_variables_of_the_original(tmp_path: Path) -> None:
    words = Words(tmp_path / "vocabulary.txt")
    tf.saved_model.save(words, str(tmp_path / "model"), signatures={"serving_default": words.embed})
    report = optimize(tmp_path / "model", tmp_path / "out", benchmark=False, picture=False)
    assert report.signatures[0].level != "original", report.lines()
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    found = loaded.signatures["serving_default"](words=tf.constant(["green"]))["vectors"]
    np.testing.assert_array_equal(found, words.vectors.numpy()[[2]])


@pytest.mark.parametrize(
    ("kind", "output"), [("Ragged", tf.RaggedTensor.from_tensor), ("Sparse", tf.sparse.from_dense)]
)
def test_an_output_that_is_no_plain_tensor_leaves_a_signature_as_it_is(kind: str, output: Any, tmp_path: Path) -> None:
    module = tf.Module()
    module.serve = tf.function(lambda x: {"odd": output(x), "y": tf.nn.relu(x)}, input_signature=ROWS)
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
    (report,) = optimize(tmp_path / "model", tmp_path / "out", benchmark=False, picture=False).signatures
    assert report.notes == [f"left as it is: its output 'odd' is no plain tensor ({kind}TensorSpec)"]
    assert signatures(tmp_path / "model") == signatures(tmp_path / "out")


def test_branches_are_lowered_when_they_run_as_they_were_also_in_loops(tmp_path: Path) -> None:
    def branch(row: tf.Tensor) -> tf.Tensor:
        return tf.cond(tf.reduce_sum(row) > 0, lambda: row * 2.0, lambda: row - 1.0)

    module = tf.Module()
    module.weights = list(W.values())
    module.serve = tf.function(lambda x: {"y": branching(tf.map_fn(branch, x))}, input_signature=ROWS)
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
    assert check(tmp_path, ROWS) != "original"
    graph_def = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"].graph.as_graph_def()
    nodes = [*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)]
    lowered = [node.attr["_lower_using_switch_merge"].b for node in nodes if node.op in ("If", "StatelessIf")]
    assert len(lowered) >= 2
    assert all(lowered)


class Sliced(tf.Module):
    """Its rows are changed by sliced assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = tf.Variable(np.ones((8, 4), np.float32))

    @tf.function(input_signature=[tf.TensorSpec([4], tf.float32, name="row")])
    def update(self, row: tf.Tensor) -> dict[str, tf.Tensor]:
        self.rows[2].assign(row)
        return {"done": tf.reduce_sum(row)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="index")])
    def infer(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.gather(self.rows.read_value(), index) @ W[4, 4]}


def test_a_signature_computes_with_what_another_has_assigned_to_a_part(tmp_path: Path) -> None:
    model = Sliced()
    model.weights = list(W.values())
    tf.saved_model.save(model, str(tmp_path / "model"), signatures={"infer": model.infer, "update": model.update})
    optimize(tmp_path / "model", tmp_path / "out", kernels=False, benchmark=False, picture=False)
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    loaded.signatures["update"](row=tf.constant([5.0, 6.0, 7.0, 8.0]))
    found = loaded.signatures["infer"](index=tf.constant([2]))["y"]
    np.testing.assert_allclose(found, np.float32([[5, 6, 7, 8]]) @ W[4, 4].numpy(), rtol=1e-5)


class ReadingFile(tf.Module):
    """Reads a file of its own when it is called."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        file.write_text("2", encoding="utf-8")
        self.file, self.names = tf.saved_model.Asset(str(file)), tf.constant(["no", "file"])

    @tf.function(input_signature=[tf.TensorSpec([], tf.bool, name="wanted")])
    def serve(self, wanted: tf.Tensor) -> dict[str, tf.Tensor]:
        text = tf.cond(wanted, lambda: tf.io.read_file(self.file.asset_path), lambda: self.names[0])
        return {"text": text}


def test_a_file_that_is_read_by_its_path_is_read_from_where_the_result_lies(tmp_path: Path) -> None:
    model = ReadingFile(tmp_path / "number.txt")
    tf.saved_model.save(model, str(tmp_path / "model"), signatures={"serving_default": model.serve})
    (report,) = optimize(tmp_path / "model", tmp_path / "out", kernels=False, benchmark=False, picture=False).signatures
    assert report.notes == ["left as it is: it reads a file of its assets"]
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    loaded = tf.saved_model.load(str(tmp_path / "elsewhere"))
    assert loaded.signatures["serving_default"](wanted=tf.constant(True))["text"].numpy() == b"2"


def test_optimising_writes_no_files_that_a_signature_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(x: tf.Tensor, log: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.io.write_file(log, tf.strings.as_string(tf.reduce_sum(x)))
        return {"y": tf.nn.relu(x)}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[*ROWS, spec(dtype=S, name="log")])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (report,) = optimize(tmp_path / "model", tmp_path / "out", kernels=False, benchmark=False, picture=False).signatures
    assert report.notes == ["left as it is: it writes what others read (WriteFile)"]
    assert not list((tmp_path / "here").iterdir())


class Unbuilt(keras.Model):
    """Has no weights before it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(4)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.dense(x)


def test_an_object_that_can_not_be_saved_or_called_is_refused_by_its_kind(tmp_path: Path) -> None:
    with pytest.raises(OptimizerError, match="the Unbuilt can not be saved"):
        optimize(Unbuilt(), tmp_path / "out")
    module = tf.Module()
    module.plain = tf.function(lambda x: x + 1.0)
    with pytest.raises(OptimizerError, match="the Module has no signature; save it with"):
        optimize(module, tmp_path / "out")
