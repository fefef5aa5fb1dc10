"""SavedModels become ONNX, also where a pass of the converter fails; the graph is copied only there."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optops.graph.lowering import LoweringError
from optops.graph.onnx_conversion import convert
from optops.models.keras import tf

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype(np.float32)


def saved(folder: Path, function: Any, spec: tf.TensorSpec) -> Path:
    module = tf.Module()
    module.serve = tf.function(function, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


@pytest.fixture
def convolution(tmp_path: Path) -> Path:
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.nn.relu(tf.nn.conv2d(x, KERNEL, 1, "SAME"))}

    return saved(tmp_path / "model", serve, tf.TensorSpec([None, 8, 8, 2], tf.float32, "x"))


def run(model: Any, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_a_choice_gives_nothing_of_what_is_not_chosen(tmp_path: Path) -> None:
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.where(x > 0, tf.math.log(x), -1.0)}

    model = convert(saved(tmp_path / "model", serve, tf.TensorSpec([None], tf.float32, "x")))
    np.testing.assert_array_equal(run(model, np.array([0, -2, 1], np.float32)), [-1, -1, 0])


def test_a_choice_between_truth_values_is_converted_too(tmp_path: Path) -> None:
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.where(x > 0, x > 1, x < -1)}

    model = convert(saved(tmp_path / "model", serve, tf.TensorSpec([None], tf.float32, "x")))
    assert run(model, np.array([0.5, 2, -0.5, -2], np.float32)).tolist() == [False, True, False, True]


def test_a_padding_that_a_branch_reads_stays_beside_the_convolution_that_reads_it(tmp_path: Path) -> None:
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        edge = tf.cond(tf.reduce_max(x) > 0, lambda: tf.reduce_mean(padded), lambda: tf.reduce_max(padded) - 1)
        return {"y": tf.nn.conv2d(padded, KERNEL, 1, "VALID") + edge}

    x = np.random.default_rng(1).normal(size=(2, 8, 8, 2)).astype(np.float32)
    model = convert(saved(tmp_path / "model", serve, tf.TensorSpec([None, 8, 8, 2], tf.float32, "x")))
    assert "If" in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model, x), serve(x)["y"], rtol=1e-4, atol=1e-5)


def fail(*arguments: Any, **named: Any) -> None:
    raise RuntimeError("this pass fails")


def test_a_pass_of_the_optimiser_that_fails_is_left_out(convolution: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tf2onnx.optimizer.const_fold_optimizer import ConstFoldOptimizer

    monkeypatch.setattr(ConstFoldOptimizer, "_optimize", fail)
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 2)).astype(np.float32)
    wanted = tf.nn.relu(tf.nn.conv2d(x, KERNEL, 1, "SAME"))
    np.testing.assert_allclose(run(convert(convolution), x), wanted, rtol=1e-4, atol=1e-5)


def test_no_graph_is_copied_where_all_passes_do(convolution: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tf2onnx.graph import Graph

    copied: list[Any] = []
    deepcopy = copy.deepcopy

    def counted(value: Any, *arguments: Any) -> Any:
        copied.append(value)
        return deepcopy(value, *arguments)

    monkeypatch.setattr(copy, "deepcopy", counted)
    assert [node.op_type for node in convert(convolution).graph.node].count("Conv") == 1
    assert not any(isinstance(value, Graph) for value in copied)


def test_what_the_converter_does_not_know_is_an_error_that_logs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.linalg.svd(x, compute_uv=False)}

    model = saved(tmp_path / "model", serve, tf.TensorSpec([3, 3], tf.float32, "x"))
    with pytest.raises(LoweringError, match="Svd"):
        convert(model)
    assert not [record for record in caplog.records if record.name.startswith("tf2onnx")]
