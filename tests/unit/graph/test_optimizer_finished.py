"""What is proved is what is written: a graph that only fails once its weights are constants is not published."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optops.graph import optimize
from optops.graph.optimizer.errors import SignatureError
from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.loading import Model
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.splice import splice
from optops.graph.optimizer.writing import write
from optops.models.keras import tf
from optops.models.meta_graph import PROTO, read_served

SIZE = 5000
LARGE, SMALL = np.full(SIZE, 1e25, np.float32), np.full(SIZE, 1e-25, np.float32)


def there_and_back(x: tf.Tensor, large: Any, small: Any) -> tf.Tensor:
    """Returns x, unless its factors are multiplied with each other first, as TensorFlow does with constants."""
    return x * large * large * small * small


def save(function: Any, folder: Path, variables: list[tf.Variable]) -> Path:
    module = tf.Module()
    module.weights = variables
    module.serve = tf.function(function, input_signature=[tf.TensorSpec([SIZE], tf.float32, "x")])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


def served(folder: Path, x: np.ndarray) -> np.ndarray:
    found: np.ndarray = tf.saved_model.load(str(folder)).signatures["serving_default"](x=tf.constant(x))["y"].numpy()
    return found


@pytest.mark.parametrize("benchmark", [False, True])
def test_the_original_is_published_where_every_graph_fails_once_it_is_written(benchmark: bool, tmp_path: Path) -> None:
    large, small = tf.Variable(LARGE), tf.Variable(SMALL)
    function = lambda x: {"y": there_and_back(tf.exp(x - 80.0), large, small)}  # noqa: E731
    model = save(function, tmp_path / "model", [large, small])
    report = optimize(model, tmp_path / "out", benchmark=benchmark).signatures[0]
    assert (report.level, report.rewrites, report.difference) == ("original", [], 0.0)
    assert any(note.startswith("frozen is not used: as it is written, it") for note in report.notes), report.notes
    x = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    np.testing.assert_allclose(served(tmp_path / "out", x), np.exp(x - 80), rtol=1e-4)


@pytest.mark.parametrize("benchmark", [False, True])
def test_the_level_before_is_taken_where_the_furthest_fails_once_it_is_written(benchmark: bool, tmp_path: Path) -> None:
    def find(graph: Graph, context: Context) -> Iterator[Place]:
        del context
        for node in graph.nodes.values():
            if node.op == "Relu":
                rewrite = partial(splice, name="scaled", function=scaled, inputs=node.inputs)
                yield Place(f"{node.name}:0", (node.name,), rewrite)

    def scaled(x: tf.Tensor) -> tf.Tensor:
        return there_and_back(x, tf.constant(LARGE), tf.constant(SMALL))

    model = save(lambda x: {"y": tf.nn.relu(tf.exp(x - 80.0))}, tmp_path / "model", [])
    options: dict[str, Any] = {"benchmark": benchmark, "extra_patterns": [Pattern("scaled", find)]}
    report = optimize(model, tmp_path / "out", **options).signatures[0]
    assert not report.rolled_back
    assert report.level in ("frozen", *(["original"] if benchmark else []))  # which is the faster one does not matter
    assert "scaled" not in report.counts()
    assert any(note.startswith("plain is not used: as it is written, it") for note in report.notes), report.notes
    assert report.difference <= 1e-4


def test_a_written_model_that_computes_something_else_once_it_is_loaded_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_another(model: Model, graphs: Mapping[str, Graph | None], folder: Path) -> None:
        if any(graphs.values()):
            save(lambda x: {"y": tf.nn.relu(x) + 1.0}, folder, [])
        else:
            write(model, graphs, folder)

    monkeypatch.setattr("optops.graph.optimizer.optimizer.write", write_another)
    model = save(lambda x: {"y": tf.nn.relu(x)}, tmp_path / "model", [])
    report = optimize(model, tmp_path / "out", benchmark=False, picture=False).signatures[0]
    assert (report.level, report.difference) == ("original", 0.0)
    assert "signature 'serving_default' does not compute the same: y differs by" in report.notes[-1]
    x = np.linspace(-1, 1, SIZE, dtype=np.float32)
    np.testing.assert_array_equal(served(tmp_path / "out", x), np.maximum(x, 0))


def test_of_a_written_model_the_signature_that_fails_alone_becomes_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(model: Model, proofs: Mapping[str, Any], out: Path) -> None:
        del model, out
        if "relu" in proofs:
            raise SignatureError("relu", "fails")

    monkeypatch.setattr("optops.graph.optimizer.optimizer._check_written", check)

    def serving(function: Any) -> Any:
        spec = tf.TensorSpec([None], tf.float32, "x")
        return tf.function(lambda x: {"y": function(x)}, input_signature=[spec])

    functions = {"relu": tf.nn.relu, "tanh": tf.tanh}
    signatures = {name: serving(function) for name, function in functions.items()}
    tf.saved_model.save(tf.Module(), str(tmp_path / "model"), signatures=signatures)
    report = optimize(tmp_path / "model", tmp_path / "out", kernels=False, benchmark=False, picture=False)
    relu, tanh = (next(each for each in report.signatures if each.name == name) for name in functions)
    reason = "what was made of it can not be used once it is saved: signature 'relu' fails"
    assert relu.notes == [f"left as it is: {reason}"]
    assert (tanh.level, tanh.notes) == ("plain", [])
    loaded = tf.saved_model.load(str(tmp_path / "out")).signatures
    x = tf.constant([-1.0, 2.0])
    for name, function in functions.items():
        np.testing.assert_allclose(loaded[name](x=x)["y"], function(x), rtol=1e-5)


def test_files_and_names_of_methods_that_tensorflow_serving_reads_stay(tmp_path: Path) -> None:
    model = save(lambda x: {"y": tf.nn.relu(x)}, tmp_path / "model", [])
    (model / "assets.extra").mkdir()
    (model / "assets.extra" / "tf_serving_warmup_requests").write_text("requests")
    proto = read_served(model)
    proto.meta_graphs[0].signature_def["serving_default"].method_name = "tensorflow/serving/classify"
    (model / PROTO).write_bytes(proto.SerializeToString())
    report = optimize(model, tmp_path / "out", kernels=False, benchmark=False, picture=False).signatures[0]
    assert report.level == "plain"
    assert (tmp_path / "out" / "assets.extra" / "tf_serving_warmup_requests").read_text() == "requests"
    written = read_served(tmp_path / "out").meta_graphs[0].signature_def["serving_default"]
    assert written.method_name == "tensorflow/serving/classify"
