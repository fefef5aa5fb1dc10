"""What is tidied, what stays, and what is proved, on small hand-written models."""

import resource
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optops.graph import optimize
from optops.graph.optimizer.errors import OptimizerError
from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.patterns.constant import CONSTANT
from optops.graph.optimizer.report import SignatureReport
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.splice import splice
from optops.models.keras import keras, tf


def save(folder: Path, function: Any, *specs: tf.TensorSpec) -> Path:
    module = tf.Module()
    module.serve = tf.function(function, input_signature=list(specs))
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": module.serve})
    return folder / "model"


def optimized(folder: Path, function: Any, *specs: tf.TensorSpec, **options: Any) -> SignatureReport:
    options |= {"kernels": False, "benchmark": False, "picture": False}
    report = optimize(save(folder, function, *specs), folder / "out", **options)
    assert report.signatures[0].difference <= 1e-4
    return report.signatures[0]


IMAGE = tf.TensorSpec([None, 8, 8, 3], tf.float32, "x")


def test_two_transposes_that_cancel_go(tmp_path: Path) -> None:
    def twice(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.transpose(tf.transpose(tf.nn.relu(x), [0, 3, 1, 2]), [0, 2, 3, 1]) + 1.0}

    report = optimized(tmp_path, twice, IMAGE)
    assert report.counts() == {"transpose pair": 1}
    assert not any("ranspose" in name for rewrite in report.rewrites for name in rewrite["after"])  # type: ignore[attr-defined]


def test_two_transposes_that_do_not_cancel_become_one(tmp_path: Path) -> None:
    def twice(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.transpose(tf.transpose(x, [0, 3, 1, 2]), [0, 3, 2, 1])}

    assert optimized(tmp_path, twice, IMAGE).counts() == {"transpose pair": 1}


def test_four_transposes_become_one_at_most(tmp_path: Path) -> None:
    def four(x: tf.Tensor) -> dict[str, tf.Tensor]:
        for order in ([0, 2, 3, 1], [0, 3, 2, 1], [0, 2, 1, 3], [0, 1, 3, 2]):
            x = tf.transpose(x, order)
        return {"y": tf.nn.relu(x)}

    report = optimized(tmp_path, four, tf.TensorSpec([None, 4, 5, 3], tf.float32, "x"))
    assert not report.left_alone
    frozen = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"].graph.as_graph_def()
    nodes = [*frozen.node, *(node for function in frozen.library.function for node in function.node_def)]
    assert sum(node.op == "Transpose" for node in nodes) <= 1


def test_reshapes_in_a_row_become_one(tmp_path: Path) -> None:
    def chain(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reshape(tf.reshape(tf.reshape(x, [-1, 64, 3]), [-1, 8, 24]), [-1, 192]) * 2.0}

    assert optimized(tmp_path, chain, IMAGE).counts() == {"reshape chain": 1}


def test_what_is_computed_twice_is_computed_once(tmp_path: Path) -> None:
    def double(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.tanh(x * 3.0) + tf.exp(tf.tanh(x * 3.0))}

    assert optimized(tmp_path, double, IMAGE).tidied["common sub-expression"] >= 2


def test_a_constant_that_can_not_be_computed_costs_the_others_no_run_each(monkeypatch: pytest.MonkeyPatch) -> None:
    with tf.Graph().as_default() as session_graph:
        x = tf.compat.v1.placeholder(tf.float32, [], name="x")
        never = tf.gather(tf.constant([1.0, 2.0]), tf.constant(7))
        tf.add_n([x * tf.exp(tf.constant(float(each))) for each in range(31)] + [x * never], name="y")
    runs: list[Any] = []
    run = tf.compat.v1.Session.run

    def counted(session: Any, *arguments: Any) -> Any:
        runs.append(arguments)
        return run(session, *arguments)

    monkeypatch.setattr(tf.compat.v1.Session, "run", counted)
    places = list(CONSTANT.find(Graph.of(session_graph.as_graph_def(), ["x"], ["y:0"]), Context()))
    assert len(places) == 31
    assert len(runs) < 16


def convolutional(last_norm: bool = True) -> keras.Model:
    inputs = keras.Input([8, 8, 3])
    y = keras.layers.Conv2D(8, 3, padding="same")(inputs)
    y = keras.layers.BatchNormalization()(y)
    y = keras.layers.DepthwiseConv2D(3, use_bias=False, depth_multiplier=2)(keras.layers.ReLU()(y))
    y = keras.layers.BatchNormalization(scale=False)(y)
    y = keras.layers.Dense(5)(keras.layers.Flatten()(y))
    y = keras.layers.BatchNormalization()(y)
    model = keras.Model(inputs, y)
    draw = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(draw.uniform(0.5, 1.5, weight.shape))
    return model


def test_batch_norms_behind_convolutions_and_products_are_folded(tmp_path: Path) -> None:
    report = optimize(convolutional(), tmp_path / "out", kernels=False, benchmark=False, picture=False).signatures[0]
    assert report.counts() == {"batch norm folding": 3}
    assert report.difference <= 1e-4
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    ops = {node.op for node in loaded.signatures["serving_default"].graph.as_graph_def().node}
    assert not {op for op in ops if "BatchNorm" in op}


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (keras.layers.Conv1D(4, 3), [8, 3]),
        (keras.layers.Conv1D(1, 3, use_bias=False), [8, 3]),
        (keras.layers.Conv1DTranspose(4, 3), [8, 3]),
        (keras.layers.Conv2DTranspose(4, 3, strides=2), [8, 8, 3]),
        (keras.layers.Conv2DTranspose(3, 3, use_bias=False), [None, None, 3]),
    ],
    ids=lambda each: getattr(each, "name", None),
)
def test_batch_norms_behind_convolutions_in_one_direction_and_transposed_ones_are_folded(
    layer: Any, shape: list[int | None], tmp_path: Path
) -> None:
    model = keras.Sequential([keras.Input(shape), layer, keras.layers.BatchNormalization(), keras.layers.ReLU()])
    draw = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(draw.uniform(0.5, 1.5, weight.shape) - (0.9 if "kernel" in weight.name else 0.0))
    report = optimize(model, tmp_path / "out", kernels=False, benchmark=False, picture=False).signatures[0]
    assert report.counts() == {"batch norm folding": 1}, report.left_alone
    assert report.difference <= 1e-4


def test_the_softmax_of_a_classifier_is_not_taken_for_an_attention(tmp_path: Path) -> None:
    inputs = keras.Input([8])
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(inputs))
    report = optimize(model, tmp_path / "out", benchmark=False, picture=False).signatures[0]
    assert report.left_alone == []


def test_a_norm_whose_convolution_is_read_elsewhere_is_left_alone_with_the_reason(tmp_path: Path) -> None:
    inputs = keras.Input([8, 8, 3])
    y = keras.layers.Conv2D(4, 3, use_bias=False)(inputs)
    model = keras.Model(inputs, [keras.layers.BatchNormalization()(y), y])
    report = optimize(model, tmp_path / "out", kernels=False, benchmark=False, picture=False).signatures[0]
    assert "batch norm folding" not in report.counts()
    assert any("read by more than the norm" in each["reason"] for each in report.left_alone)


@pytest.mark.parametrize("name", ["MobileNet"])
def test_all_batch_norms_of_networks_that_have_them_behind_convolutions_are_folded(name: str, tmp_path: Path) -> None:
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)
    draw = np.random.default_rng(0)
    for weight in model.weights:
        if "moving_" in weight.name or "gamma" in weight.name or "beta" in weight.name:
            weight.assign(draw.uniform(0.8, 1.2, weight.shape))
    norms = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    report = optimize(model, tmp_path / "out", kernels=False, benchmark=False, picture=False)
    assert report.signatures[0].counts()["batch norm folding"] == norms
    assert report.signatures[0].difference <= 1e-4
    assert {each.name for each in report.signatures} == {"serve", "serving_default"}


def wrong_find(graph: Graph, context: Context) -> Any:
    for node in graph.nodes.values():
        if node.op == "Tanh":
            yield Place(f"{node.name}:0", (node.name,), lambda graph, node=node: node.inputs[0])


def test_a_pattern_that_is_wrong_is_caught_and_rolled_back_where_it_is_wrong(tmp_path: Path) -> None:
    wrong = Pattern("tanh is nothing", wrong_find)

    def tanhs(x: tf.Tensor) -> dict[str, tf.Tensor]:
        # The second is of values so small that it is right to drop it.
        return {"y": tf.tanh(x), "z": tf.tanh(x * 1e-6)}

    report = optimized(tmp_path, tanhs, IMAGE, extra_patterns=[wrong])
    assert report.counts() == {"tanh is nothing": 1}
    assert [each["pattern"] for each in report.rolled_back] == ["tanh is nothing"]
    assert "differs by" in report.rolled_back[0]["reason"]


def test_what_is_rolled_back_leaves_none_of_its_functions_behind(tmp_path: Path) -> None:
    def either(x: tf.Tensor) -> tf.Tensor:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x + 1.0, lambda: x)

    def find(graph: Graph, context: Context) -> Any:
        for node in graph.nodes.values():
            if node.op == "Relu":
                yield Place(
                    f"{node.name}:0", (node.name,), lambda graph, node=node: splice(graph, "wrong", either, node.inputs)
                )

    report = optimized(tmp_path, lambda x: {"y": tf.nn.relu(x)}, IMAGE, extra_patterns=[Pattern("wrong", find)])
    assert [each["pattern"] for each in report.rolled_back] == ["wrong"]
    assert b"cond_true" not in (tmp_path / "out" / "saved_model.pb").read_bytes()


def test_a_place_that_can_not_be_written_is_left_alone_and_not_rolled_back(tmp_path: Path) -> None:
    def unwritable(graph: Graph) -> str:
        raise ValueError("a shape that nobody thought of")

    def find(graph: Graph, context: Context) -> Any:
        yield from wrong_find(graph, context)
        yield from (Place(f"{n.name}:0", (n.name,), unwritable) for n in graph.nodes.values() if n.op == "Relu")

    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.tanh(x), "z": tf.nn.relu(x)}

    report = optimized(tmp_path, serve, IMAGE, extra_patterns=[Pattern("wrong", find)])
    assert [each["tensor"].rpartition("/")[2] for each in report.rolled_back] == ["Tanh:0"]
    (miss,) = [each for each in report.left_alone if each["pattern"] == "wrong"]
    assert miss["reason"] == "ValueError: a shape that nobody thought of"


def broken_find(graph: Graph, context: Context) -> Any:
    yield from ()
    raise ValueError("a shape that nobody thought of")


def test_a_pattern_whose_search_fails_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    def twice(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.transpose(tf.transpose(tf.tanh(x * 1e-6), [0, 3, 1, 2]), [0, 2, 3, 1])}

    patterns = [Pattern("broken", broken_find), Pattern("tanh is nothing", wrong_find)]
    report = optimized(tmp_path, twice, IMAGE, extra_patterns=patterns)
    assert report.counts() == {"transpose pair": 1, "tanh is nothing": 1}
    (miss,) = [each for each in report.left_alone if each["pattern"] == "broken"]
    assert "ValueError: a shape that nobody thought of" in miss["reason"]


def test_what_can_not_be_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(OptimizerError, match="is no SavedModel"):
        optimize(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(OptimizerError, match="exists already"):
        optimize(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(OptimizerError, match="needs the operator library"):
        optimize(tmp_path / "nothing", tmp_path / "other", precision="int8", kernels=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"y": np.zeros(4, np.float32)}, "are called y; signature 'serving_default' takes x"),
        ({"x": np.zeros(4, np.int64)}, r"x int64 \(4,\); it takes x float32 \(None,\): .*float"),
        ({"x": np.zeros(3, np.float32)}, r"x float32 \(3,\); it takes x float32 \(None,\): .*multiple of 4"),
        ({"x": np.zeros([4, 1], np.float32)}, r"x float32 \(4, 1\); it takes x float32 \(None,\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_what_fits(
    given: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    model = save(tmp_path, lambda x: {"y": tf.reshape(x, [-1, 4])}, tf.TensorSpec([None], tf.float32, "x"))
    with pytest.raises(OptimizerError, match=f"(?s){said}"):
        optimize(model, tmp_path / "out", inputs=given)
    assert not (tmp_path / "out").exists()


def test_operators_that_are_not_registered_are_named(tmp_path: Path) -> None:
    model = save(tmp_path, lambda x: {"y": tf.nn.softsign(x)}, IMAGE)
    path = model / "saved_model.pb"
    path.write_bytes(path.read_bytes().replace(b"Softsign", b"Hardsign"))
    with pytest.raises(OptimizerError, match="Hardsign"):
        optimize(model, tmp_path / "out")


def test_operators_of_a_frozen_graph_that_are_not_registered_are_named_too(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        tf.nn.softsign(tf.compat.v1.placeholder(tf.float32, [None, 3], name="x"))
    content = graph.as_graph_def().SerializeToString().replace(b"Softsign", b"Hardsign")
    (tmp_path / "frozen.pb").write_bytes(content)
    with pytest.raises(
        OptimizerError, match=r"frozen\.pb has operators that TensorFlow does not know: .*Hardsign.*load"
    ):
        optimize(tmp_path / "frozen.pb", tmp_path / "out")


def test_a_shape_that_is_known_better_once_variables_are_constants_is_no_other_signature(tmp_path: Path) -> None:
    module = tf.Module()
    module.width = tf.Variable(4)
    spec = tf.TensorSpec([None, 8], name="x")
    module.serve = tf.function(lambda x: {"y": tf.reshape(x, tf.stack([-1, module.width]))}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
    report = optimize(tmp_path / "model", tmp_path / "out", kernels=False, benchmark=False, picture=False).signatures[0]
    assert (report.level, report.notes) == ("plain", [])
    loaded = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    assert loaded.structured_outputs["y"].shape.as_list() == [None, 4]


def test_a_folder_in_or_around_the_model_is_refused(tmp_path: Path) -> None:
    model = save(tmp_path, lambda x: {"y": tf.nn.relu(x)}, IMAGE)
    for out in (model, model / "out", model / "variables" / "out", tmp_path):
        with pytest.raises(OptimizerError, match="nor lie in it or around it"):
            optimize(model, out)
    assert not (model / "out").exists()


def test_a_full_disk_leaves_nothing_behind_and_the_next_run_works(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk(graph: Graph, context: Context) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # from here on no file can become larger
        yield from ()

    model = save(tmp_path, lambda x: {"y": tf.nn.relu(x)}, IMAGE)
    options: dict[str, Any] = {"kernels": False, "benchmark": False}
    try:
        with pytest.raises(OSError, match="File too large"):
            optimize(model, tmp_path / "out", extra_patterns=[Pattern("full disk", fill_disk)], **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == [model]
    optimize(model, tmp_path / "out", **options)
    assert {"saved_model.pb", "optops_report.json", "optops_fused.png"} <= {
        each.name for each in (tmp_path / "out").iterdir()
    }
    assert sorted(tmp_path.iterdir()) == [model, tmp_path / "out"]


def test_a_frozen_graph_becomes_a_saved_model(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], name="features")
        check = tf.compat.v1.assert_less_equal(tf.shape(x)[0], 5)  # gives nothing, and is no output
        with tf.control_dependencies([check]):
            tf.identity(tf.matmul(x, tf.ones([3, 2])), name="scores")
    (tmp_path / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    optimize(tmp_path / "frozen.pb", tmp_path / "out", benchmark=False, picture=False)
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    y = loaded.signatures["serving_default"](features=tf.ones([2, 3]))
    assert list(y) == ["scores"]
    np.testing.assert_allclose(y["scores"], np.full([2, 2], 3.0))


def test_weights_that_signatures_share_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optops.graph.optimizer.function.MUCH", 4 * 100 * 100)
    module, spec = tf.Module(), tf.TensorSpec([None, 100], tf.float32, "x")
    module.kernel = tf.Variable(np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32))
    encode, classify = (
        tf.function(lambda x: {"states": x @ module.kernel}, input_signature=[spec]),
        tf.function(lambda x: {"classes": tf.nn.softmax(x @ module.kernel)}, input_signature=[spec]),
    )
    signatures = {"serving_default": classify, "classify": classify, "encode": encode}
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=signatures)
    report = optimize(tmp_path / "model", tmp_path / "out", kernels=False, benchmark=False, picture=False)
    assert "original" not in [each.level for each in report.signatures]
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    assert [variable.shape for variable in loaded.weights] == [(100, 100)]
    x = tf.random.stateless_normal([3, 100], [0, 1])
    for name, function in signatures.items():
        (wanted,), (found,) = function(x).values(), loaded.signatures[name](x=x).values()
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_default_values_of_signatures_stay(tmp_path: Path) -> None:
    def scaled(x: tf.Tensor, factor: tf.Tensor = tf.constant(2.0)) -> dict[str, tf.Tensor]:  # noqa: B008
        return {"y": tf.nn.relu(x) * factor}

    specs = [tf.TensorSpec([None], tf.float32, "x"), tf.TensorSpec([], tf.float32, "factor")]
    report = optimize(save(tmp_path, scaled, *specs), tmp_path / "out", benchmark=False, picture=False)
    assert report.signatures[0].level != "original"
    for folder in (tmp_path / "model", tmp_path / "out"):
        with tf.compat.v1.Session(graph=tf.Graph()) as session:
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
            signature = loaded.signature_def["serving_default"]
            assert tf.make_ndarray(signature.defaults["factor"]) == 2.0
            given = {signature.inputs["x"].name: [-1.0, 3.0]}
            assert session.run(signature.outputs["y"].name, given).tolist() == [0.0, 6.0]


def test_all_that_an_unread_node_of_a_frozen_graph_gives_is_an_output(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 6], name="x")
        tf.math.top_k(x, 2, name="top")
        tf.math.top_k(-x, 1, name="top_1")
        tf.split(x, 3, axis=1, name="parts")
    (tmp_path / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    optimize(tmp_path / "frozen.pb", tmp_path / "out", benchmark=False, picture=False)
    values = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    found = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"](x=tf.constant(values))
    order = np.argsort(-values, axis=1)
    wanted = {"top": -np.sort(-values)[:, :2], "top_1_": order[:, :2], "top_1": -values.min(1)[:, None]}
    wanted |= {"top_1_1": order[:, -1:], "parts": values[:, :2], "parts_1": values[:, 2:4], "parts_2": values[:, 4:]}
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def waiting(x: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(lambda i, y: i < 3000, lambda i, y: (i + 1, y), (0, x))[1]


def waiting_find(graph: Graph, context: Context) -> Any:
    for node in graph.nodes.values():
        if node.op in ("While", "StatelessWhile"):
            last = len(node.inputs) - 1
            yield Place(f"{node.name}:{last}", (node.name,), lambda graph, node=node, last=last: node.inputs[last])


def test_a_benchmark_says_how_fast_both_are_and_the_report_lies_beside_the_model(tmp_path: Path) -> None:
    model = save(tmp_path, lambda x: {"y": waiting(tf.nn.relu(x))}, IMAGE)
    report = optimize(model, tmp_path / "out", extra_patterns=[Pattern("waiting", waiting_find)]).signatures[0]
    assert {"original", "frozen", "plain"} <= set(report.milliseconds)
    assert (report.level, report.counts()) == ("plain", {"waiting": 1})
    assert report.speed_up > 1
    assert (tmp_path / "out" / "optops_report.json").is_file()


def slow_find(graph: Graph, context: Context) -> Any:
    def slowed(x: tf.Tensor) -> tf.Tensor:
        return tf.cond(tf.shape(x)[0] >= 8, lambda: waiting(tf.nn.relu(x)), lambda: tf.nn.relu(x))

    def rewrite(graph: Graph, inputs: tuple[str, ...]) -> str:
        return splice(graph, "slow", slowed, inputs)

    for node in graph.nodes.values():
        if node.op == "Relu":
            yield Place(f"{node.name}:0", (node.name,), partial(rewrite, inputs=node.inputs))


def test_what_is_slower_on_large_inputs_alone_is_not_used_and_nothing_of_it_is_claimed(tmp_path: Path) -> None:
    model = save(tmp_path, lambda x: {"y": tf.nn.relu(x)}, tf.TensorSpec([None, None], tf.float32, "x"))
    report = optimize(model, tmp_path / "out", kernels=False, extra_patterns=[Pattern("slow", slow_find)]).signatures[0]
    assert report.level in ("frozen", "original")
    assert (report.counts(), report.tidied) == ({}, {})
    assert any(note.startswith("plain is slower than the original on") for note in report.notes)
