"""SavedModels of TensorFlow 1: loops of frames, inputs with two names, several MetaGraphs, branches by switch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from optops.graph import optimize
from optops.graph.lowering import lower_serving
from optops.graph.optimizer.errors import OptimizerError
from optops.graph.optimizer.function import MUCH
from optops.graph.optimizer.graph import LARGE
from optops.models.importing import import_saved_model
from optops.models.keras import tf
from optops.models.meta_graph import read_served
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable

v1 = tf.compat.v1
Named = dict[str, tf.Tensor]
X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


@contextmanager
def control_flow_v1() -> Iterator[None]:
    """Makes loops of frames and branches of switches, as TensorFlow 1 does; functions take their place later."""
    v1.disable_control_flow_v2()
    try:
        yield
    finally:
        v1.enable_control_flow_v2()


def save(folder: Path, build: Callable[[], tuple[Named, Named]], *tags: Sequence[str]) -> Path:
    """Writes a SavedModel with one MetaGraph for each set of tags, {serve} if none are given."""
    builder = v1.saved_model.Builder(str(folder))
    for number, each in enumerate(tags or (["serve"],)):
        with tf.Graph().as_default(), v1.Session() as session:
            with control_flow_v1():
                inputs, outputs = build()
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            signatures = {"serving_default": v1.saved_model.predict_signature_def(inputs, outputs)}
            if number:
                builder.add_meta_graph(list(each), signatures, main_op=v1.tables_initializer())
            else:
                builder.add_meta_graph_and_variables(session, list(each), signatures, main_op=v1.tables_initializer())
    builder.save()
    return folder


def weights() -> tf.Variable:
    return v1.get_variable("weights", initializer=np.eye(4, dtype=np.float32) * 2, use_resource=False)


def looped() -> tuple[Named, Named]:
    x, kernel = v1.placeholder(tf.float32, [None, 4], name="x"), weights()
    result = v1.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y @ kernel)), (tf.constant(0), x))[1]
    return {"x": x}, {"y": result}


def crossed() -> tuple[Named, Named]:
    """Each input's placeholder is called as the other input."""
    one, other = (v1.placeholder(tf.float32, [None, 4], name=name) for name in ("other", "one"))
    return {"one": one, "other": other}, {"y": one @ weights() - other}


def branching() -> tuple[Named, Named]:
    """What is chosen is known: what the other branch reads is there in no run."""
    x, offset = v1.placeholder(tf.float32, [None, 4], name="x"), tf.constant([1.0, 2.0, 3.0, 4.0])
    chosen = v1.cond(tf.constant(value=True), lambda: x * tf.exp(offset), lambda: x - tf.exp(offset))
    return {"x": x}, {"y": tf.math.add(chosen, tf.exp(tf.constant(2.0)), name="sum")}


def detecting() -> tuple[Named, Named]:
    """As detectors have it: where nothing is found, the answer is a constant, also one as large as weights are."""
    x = v1.placeholder(tf.float32, [None, 4], name="x")

    def found(rows: int) -> tf.Tensor:
        return v1.cond(tf.reduce_max(x) > 100, lambda: tf.exp(tf.tanh(x)), lambda: tf.constant(7.0, shape=[rows, 4]))

    return {"x": x}, {"few": found(1), "many": found(LARGE)}


def thresholds() -> tuple[Named, Named]:
    """Random inputs are so small that all of them give the same; nothing reads one of them."""
    inputs = {"x": v1.placeholder(tf.float32, [None, 4], name="x")}
    inputs |= {name: v1.placeholder_with_default(1000.0, [], name=name) for name in ("high", "low", "unread")}
    return inputs, {"y": tf.cast(inputs["x"] + inputs["low"] > inputs["high"] + 500.0, tf.float32)}


def looked_up() -> tuple[Named, Named]:
    words = v1.placeholder(tf.string, [None], name="words")
    initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64))
    return {"words": words}, {"y": tf.gather(weights(), tf.lookup.StaticHashTable(initializer, 0).lookup(words))}


def test_a_table_that_the_graph_makes_is_left_as_it_is_with_the_reason(tmp_path: Path) -> None:
    report = optimize(save(tmp_path / "model", looked_up), tmp_path / "out", benchmark=False).signatures[0]
    assert report.notes == ["left as it is: it makes a table that only TensorFlow 1 can fill (HashTableV2)"]
    function = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    np.testing.assert_array_equal(function(words=tf.constant(["b", "c"]))["y"], [[0, 0, 2, 0], [2, 0, 0, 0]])


def test_a_loop_of_frames_is_left_as_it_is_with_the_reason(tmp_path: Path) -> None:
    report = optimize(save(tmp_path / "model", looped), tmp_path / "out", benchmark=False).signatures[0]
    assert report.level == "original"
    assert report.notes[0].startswith("left as it is: it has a loop of TensorFlow 1 (")
    (found,) = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"](x=tf.constant(X)).values()
    np.testing.assert_allclose(found, np.tanh(np.tanh(np.tanh(X * 2) * 2) * 2), rtol=1e-5)


def test_a_frozen_graph_with_a_loop_of_frames_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph, control_flow_v1():
        x = v1.placeholder(tf.float32, [None, 4])
        v1.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y)), (tf.constant(0), x))
    (tmp_path / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(OptimizerError, match=r"frozen\.pb has a loop of TensorFlow 1 \(Enter\).*freeze the model with"):
        optimize(tmp_path / "frozen.pb", tmp_path / "out")


@pytest.mark.parametrize("runtime", ["tensorflow", "onnxruntime", "openvino"])
def test_inputs_are_those_of_the_signature_whatever_placeholders_are_called(runtime: str, tmp_path: Path) -> None:
    import_saved_model(save(tmp_path / "model", crossed), tmp_path / "serving")
    lower_serving(tmp_path / "serving", PrecisionPlan("fp32"), runtime, tmp_path / "lowered")
    found = load_executable(tmp_path / "lowered", 1)({"one": X, "other": X + 1})
    np.testing.assert_allclose(found["y"], X * 2 - X - 1, rtol=1e-5)


@pytest.mark.parametrize("tags", [(["serve"], ["serve", "tpu"]), (["train"], []), (["train"], ["serve"])])
def test_of_several_meta_graphs_the_one_that_is_served_is_taken(tags: Sequence[Sequence[str]], tmp_path: Path) -> None:
    model = save(tmp_path / "model", crossed, *tags)
    report = optimize(model, tmp_path / "out", benchmark=False).signatures[0]
    assert report.level != "original", report.notes
    import_saved_model(model, tmp_path / "serving")
    for name in ("out", "serving/saved_model"):
        loaded = tf.saved_model.load(str(tmp_path / name))
        found = loaded.signatures["serving_default"](one=tf.constant(X), other=tf.constant(X + 1))
        np.testing.assert_allclose(found["y"], X * 2 - X - 1, rtol=1e-5)


def test_several_meta_graphs_none_of_which_is_to_be_served_are_refused_with_their_tags(tmp_path: Path) -> None:
    model = save(tmp_path / "model", crossed, ["train"], ["eval"])
    with pytest.raises(OptimizerError, match=r"2 MetaGraphs, tagged {train}, {eval}: none is tagged {serve} alone"):
        optimize(model, tmp_path / "out")
    with pytest.raises(ValueError, match=r"2 MetaGraphs, tagged {train}, {eval}: none is tagged {serve} alone"):
        import_saved_model(model, tmp_path / "serving")


def test_a_constant_in_a_branch_that_is_never_taken_keeps_no_other_from_being_folded(tmp_path: Path) -> None:
    report = optimize(save(tmp_path / "model", branching), tmp_path / "out", kernels=False, benchmark=False)
    assert report.signatures[0].tidied.get("constant folding", 0) >= 2, report.lines()
    (found,) = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"](x=tf.constant(X)).values()
    np.testing.assert_allclose(found, X * np.exp([1, 2, 3, 4]) + np.exp(2), rtol=1e-5)


@pytest.mark.parametrize("much", [MUCH, 0], ids=["constants stay", "weights are variables"])
def test_a_constant_in_a_branch_is_the_answer_where_that_branch_is_taken_alone(
    much: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optops.graph.optimizer.function.MUCH", much)
    report = optimize(save(tmp_path / "model", detecting), tmp_path / "out", kernels=False, benchmark=False)
    assert report.signatures[0].level == "plain", report.lines()
    function = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    assert function(x=tf.constant(X))["few"].numpy().tolist() == [[7.0] * 4]
    for value in function(x=tf.fill([1, 4], 200.0)).values():
        np.testing.assert_allclose(value, np.full([1, 4], np.e), rtol=1e-5)


def test_inputs_that_have_a_default_count_as_those_that_have_none(tmp_path: Path) -> None:
    report = optimize(save(tmp_path / "model", thresholds), tmp_path / "out", kernels=False, benchmark=False)
    assert report.signatures[0].level == "plain", report.lines()
    function = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    x, unread = tf.constant(X), tf.constant(0.0)
    for high, low in ((100.0, 1000.0), (1000.0, 100.0)):
        (found,) = function(x=x, high=tf.constant(high), low=tf.constant(low), unread=unread).values()
        np.testing.assert_array_equal(found, np.full(X.shape, low > high + 500))


def dropping_out(chosen: bool) -> tuple[Named, Named]:
    """As most models of TensorFlow 1 were exported: the signature does not take what says whether it is trained."""
    x, kernel = v1.placeholder(tf.float32, [None, 4], name="x"), weights()
    trained = v1.placeholder_with_default(chosen, [], name="is_training")
    dropped = v1.cond(trained, lambda: v1.nn.dropout(x @ kernel, rate=0.5), lambda: x @ kernel)
    return {"x": x}, {"y": tf.nn.relu(dropped) + 1.0}


@pytest.mark.parametrize("trained", [False, True])
def test_dropout_counts_where_it_is_in_the_branch_that_is_taken(trained: bool, tmp_path: Path) -> None:
    model = save(tmp_path / "model", partial(dropping_out, trained))
    report = optimize(model, tmp_path / "out", kernels=False, benchmark=False).signatures[0]
    if trained:
        assert report.notes == ["left as it is: its results are random (RandomUniform)"]
    else:
        assert report.level == "plain", report.notes
        (found,) = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"](x=tf.constant(X)).values()
        np.testing.assert_allclose(found, np.maximum(X * 2, 0) + 1, rtol=1e-5)


def oddly_named() -> tuple[Named, Named]:
    """Names that are none of arguments in Python."""
    one, other = (v1.placeholder(tf.float32, [None, 4], name=name) for name in ("one", "other"))
    return {"input-ids": one, "0/other": other}, {"out-put/0": one @ weights() - other}


def test_inputs_keep_names_that_are_none_in_python(tmp_path: Path) -> None:
    model = save(tmp_path / "model", oddly_named)
    report = optimize(model, tmp_path / "out", kernels=False, benchmark=False).signatures[0]
    assert report.level == "plain", report.notes
    signature = read_served(tmp_path / "out").meta_graphs[0].signature_def["serving_default"]
    assert sorted(signature.inputs) == ["0/other", "input-ids"]
    function = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    found = function(**{"input-ids": tf.constant(X), "0/other": tf.constant(X + 1)})["out-put/0"]
    np.testing.assert_allclose(found, X * 2 - X - 1, rtol=1e-5)
    # What is timed is called by these names too; how fast it is does not matter.
    timed = optimize(tmp_path / "out", tmp_path / "again", kernels=False).signatures[0]
    assert timed.milliseconds or "is as fast" in timed.notes[-1], timed.notes


def test_a_signature_computes_with_the_weights_that_another_has_changed(tmp_path: Path) -> None:
    builder = v1.saved_model.Builder(str(tmp_path / "model"))
    with tf.Graph().as_default(), v1.Session() as session:
        x, kernel = v1.placeholder(tf.float32, [4, 4], name="x"), weights()
        results = {"infer": {"y": x @ kernel}, "restore": {"y": tf.identity(v1.assign(kernel, x))}}
        session.run(v1.global_variables_initializer())
        signatures = {name: v1.saved_model.predict_signature_def({"x": x}, given) for name, given in results.items()}
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
    builder.save()
    optimize(tmp_path / "model", tmp_path / "out", kernels=False, benchmark=False)
    loaded = tf.saved_model.load(str(tmp_path / "out")).signatures
    loaded["restore"](x=tf.eye(4) * 5.0)
    np.testing.assert_array_equal(loaded["infer"](x=tf.eye(4))["y"], np.eye(4) * 5.0)
