"""A SavedModel that nobody here made computes the same once it is lowered, loops and all."""

import numpy as np
import pytest

from optops.graph.lowering import LoweringError, lower_serving
from optops.models.importing import import_saved_model
from optops.models.keras import tf
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable


class Follower(tf.Module):
    """Follows a chain of ids by looking each one up in a loop: the embedding of an id is nearest to the next id's."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(0)
        keys = random.normal(size=(9, 16)).astype(np.float32)
        self.keys = tf.Variable(keys)
        self.table = tf.Variable(keys[(np.arange(9) * 2 + 1) % 9])

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")])
    def serve(self, ids):
        def body(step, last, written):
            scores = tf.matmul(tf.nn.embedding_lookup(self.table, last), self.keys, transpose_b=True)
            following = tf.argmax(scores, axis=1, output_type=tf.int32)
            return step + 1, following, tf.concat([written, following[:, None]], axis=1)

        shapes = (tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape([None, None]))
        start = (tf.constant(0), ids[:, -1], ids[:, :0])
        return {"ids": tf.while_loop(lambda step, *_: step < tf.shape(ids)[1], body, start, shapes)[2]}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    module = Follower()
    tf.saved_model.save(module, str(folder / "theirs"), signatures={"serving_default": module.serve})
    import_saved_model(folder / "theirs", folder / "serving")
    return folder / "serving"


@pytest.mark.parametrize("runtime", ["tensorflow", "onnxruntime"])
def test_a_loop_that_embeds_what_it_wrote_is_lowered_also_where_input_and_output_share_a_name(
    runtime, imported, tmp_path
):
    lower_serving(imported, PrecisionPlan("fp32"), runtime, tmp_path / "serving")
    for shape in ((1, 3), (4, 7)):
        ids = np.random.default_rng(1).integers(0, 9, shape).astype(np.int32)
        expected = load_executable(imported, 1)({"ids": ids})["ids"]
        assert expected.shape == shape
        assert (expected[:, 0] == (ids[:, -1] * 2 + 1) % 9).all()
        np.testing.assert_array_equal(load_executable(tmp_path / "serving", 1)({"ids": ids})["ids"], expected)


@pytest.mark.parametrize("runtime", ["tensorflow", "onnxruntime", "openvino"])
def test_names_of_classes_that_a_model_gives_stay_texts(runtime, tmp_path):
    names = tf.constant(["cat", "dögs"])

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def serve(x):
        order = tf.argsort(x, axis=1)
        return {"label": tf.gather(names, order[:, 1]), "order": tf.gather(names, order)}

    tf.saved_model.save(tf.Module(), str(tmp_path / "theirs"), signatures={"serving_default": serve})
    import_saved_model(tmp_path / "theirs", tmp_path / "imported")
    lower_serving(tmp_path / "imported", PrecisionPlan("fp32"), runtime, tmp_path / "serving")
    found = load_executable(tmp_path / "serving", 1)({"x": np.array([[1, 2], [2, 1], [0, 5]], np.float32)})
    assert found["label"].tolist() == ["dögs", "cat", "dögs"]
    assert found["order"].tolist() == [["cat", "dögs"], ["dögs", "cat"], ["cat", "dögs"]]


def test_a_loop_that_openvino_can_not_read_is_refused_with_its_reason(imported, tmp_path):
    with pytest.raises(LoweringError, match=r"(?s)OpenVINO can not execute this graph: .*Loop"):
        lower_serving(imported, PrecisionPlan("fp32"), "openvino", tmp_path / "serving")


def test_a_model_without_layers_to_fuse_is_not_lowered_to_the_operator_library(imported, tmp_path):
    with pytest.raises(LoweringError, match="nothing in this model could be fused"):
        lower_serving(imported, PrecisionPlan("int8"), "tensorflow+kernels", tmp_path / "serving")


def test_what_is_fused_in_a_signature_that_is_not_served_does_not_count(tmp_path):
    specs = [tf.TensorSpec([None, 64], name="x")]
    bias = tf.constant(np.linspace(-1, 1, 64, dtype=np.float32))
    gated = tf.function(lambda x: {"z": tf.nn.silu(x * x + bias)}, input_signature=specs)
    served = tf.function(lambda x: {"y": tf.nn.relu(x)}, input_signature=specs)
    signatures = {"serving_default": served, "gated": gated}
    tf.saved_model.save(tf.Module(), str(tmp_path / "theirs"), signatures=signatures)
    import_saved_model(tmp_path / "theirs", tmp_path / "imported")
    with pytest.raises(LoweringError, match="nothing in this model could be fused"):
        lower_serving(tmp_path / "imported", PrecisionPlan("fp32"), "tensorflow+kernels", tmp_path / "serving")


@pytest.mark.parametrize("samples", [None, []], ids=["compared", "not compared"])
def test_a_graph_that_onnx_runtime_can_not_execute_is_refused_with_its_reason(samples, tmp_path, monkeypatch):
    kernel = tf.constant(np.random.default_rng(2).normal(size=(3, 3, 2, 4)))

    def convolved(x):
        return {"y": tf.nn.conv2d(x, kernel, 1, "SAME")}  # in float64

    module = tf.Module()
    module.serve = tf.function(convolved, input_signature=[tf.TensorSpec([None, 8, 8, 2], tf.float64, name="x")])
    tf.saved_model.save(module, str(tmp_path / "theirs"), signatures={"serving_default": module.serve})
    import_saved_model(tmp_path / "theirs", tmp_path / "serving")
    if samples is not None:
        monkeypatch.setattr("optops.graph.saved_model._samples", lambda saved_model: samples)
    with pytest.raises(LoweringError, match=r"ONNX Runtime can not execute this graph: .*Conv"):
        lower_serving(tmp_path / "serving", PrecisionPlan("fp32"), "onnxruntime", tmp_path / "onnx")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_graph_too_large_to_be_frozen_is_refused_with_the_reason(runtime, imported, tmp_path, monkeypatch):
    def freeze(saved_model, *, inline_compiled):
        raise ValueError("Cannot serialize protocol buffer: exceeds 2 GB")

    monkeypatch.setattr("optops.graph.onnx_conversion.freeze", freeze)
    with pytest.raises(LoweringError, match=r"can not become constants: ValueError: .* exceeds 2 GB"):
        lower_serving(imported, PrecisionPlan("fp32"), runtime, tmp_path / "serving")


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_model_in_which_nothing_is_of_the_precision_is_not_called_so(precision, tmp_path):
    def gated(x, y):
        return {"z": tf.nn.silu(x * y + tf.constant(np.linspace(-1, 1, 64, dtype=np.float32)))}

    module = tf.Module()
    module.serve = tf.function(gated, input_signature=[tf.TensorSpec([None, 64], tf.float32, name) for name in "xy"])
    tf.saved_model.save(module, str(tmp_path / "theirs"), signatures={"serving_default": module.serve})
    import_saved_model(tmp_path / "theirs", tmp_path / "serving")
    lower_serving(tmp_path / "serving", PrecisionPlan("fp32"), "tensorflow+kernels", tmp_path / "fp32")
    with pytest.raises(LoweringError, match=f"nothing that multiplies in {precision} in this model could be fused"):
        lower_serving(tmp_path / "serving", PrecisionPlan(precision), "tensorflow+kernels", tmp_path / precision)


def test_a_reshape_that_copies_sizes_of_another_ones_result_keeps_it(tmp_path):
    kernel = tf.constant(np.random.default_rng(2).normal(size=(6, 8)), tf.float32)

    def heads(x):
        product = tf.tensordot(x, kernel, 1)  # on rows of two axes, and reshaped to three behind
        return {"y": tf.reshape(product, [tf.shape(product)[0], tf.shape(product)[1], 2, 4])}

    module = tf.Module()
    module.serve = tf.function(heads, input_signature=[tf.TensorSpec([None, None, 6], tf.float32, name="x")])
    tf.saved_model.save(module, str(tmp_path / "theirs"), signatures={"serving_default": module.serve})
    import_saved_model(tmp_path / "theirs", tmp_path / "serving")
    x = np.random.default_rng(3).normal(size=(3, 5, 6)).astype(np.float32)
    for runtime in ("onnxruntime", "openvino"):
        lower_serving(tmp_path / "serving", PrecisionPlan("fp32"), runtime, tmp_path / runtime)
        np.testing.assert_allclose(load_executable(tmp_path / runtime, 1)({"x": x})["y"], heads(x)["y"], atol=1e-5)
