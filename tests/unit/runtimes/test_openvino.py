"""Runtime `openvino` keeps to the threads and the precision that it is given, and hands out arrays of its own."""

import numpy as np
import pytest

from optops.graph.lowering import LoweringError, lower, lower_serving
from optops.models.base import load_architecture
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable, load_runtime
from optops.runtimes.onnxruntime import MODEL
from optops.runtimes.openvino import compile_model, has_bf16
from optops.testing.topologies import build_topology, example_inputs, outputs_of


@pytest.fixture(scope="module")
def lowered(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("openvino"), build_topology("two_outputs")
    load_architecture("functional").save(model, folder / "trainable", {})
    lower(folder / "trainable", PrecisionPlan("fp32"), "openvino", folder / "serving")
    return model, folder


def test_it_is_available_where_it_is_installed():
    pytest.importorskip("openvino")
    assert load_runtime("openvino").unavailable() is None


def test_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("optops.runtimes.openvino.find_spec", lambda name: None)
    assert "install optops with the extra `cpu`" in load_runtime("openvino").unavailable()


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_precision_are_those_that_were_asked_for(threads, lowered):
    compiled = compile_model(lowered[1] / "serving" / MODEL, "fp32", threads)
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert compiled.get_property("NUM_STREAMS") == 1
    assert "float" in str(compiled.get_property("INFERENCE_PRECISION_HINT"))


def test_sizes_may_change_from_call_to_call_and_results_stay(lowered):
    model, folder = lowered
    executable = load_executable(folder / "serving", 1)
    calls = [example_inputs(model, examples, seed=examples, size=size) for examples, size in ((1, 8), (3, 16), (2, 12))]
    answers = [executable(inputs) for inputs in calls]
    for inputs, given in zip(calls, answers, strict=True):
        for name, array in outputs_of(model, inputs).items():
            np.testing.assert_allclose(given[name], array, atol=1e-4)


def test_bf16_is_refused_where_the_cpu_lacks_it(lowered, monkeypatch):
    if has_bf16():
        monkeypatch.setattr("optops.graph.openvino_execution.has_bf16", lambda: False)
    with pytest.raises(LoweringError, match="bf16 where the CPU does; this one does not: take fp32"):
        lower(lowered[1] / "trainable", PrecisionPlan("bf16"), "openvino", lowered[1] / "half")


def test_an_imported_saved_model_runs_too(lowered, tmp_path):
    model, folder = lowered
    lower(folder / "trainable", PrecisionPlan("fp32"), "stock", tmp_path / "imported")
    lower_serving(tmp_path / "imported", PrecisionPlan("fp32"), "openvino", tmp_path / "serving")
    inputs = example_inputs(model, 2)
    given = load_executable(tmp_path / "serving", 1)(inputs)
    for name, array in outputs_of(model, inputs).items():
        np.testing.assert_allclose(given[name], array, atol=1e-4)
    with pytest.raises(LoweringError, match=r"not in int8; int8 is there on tensorflow\+kernels, onnxruntime"):
        lower_serving(tmp_path / "imported", PrecisionPlan("int8"), "openvino", tmp_path / "serving")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_imported_saved_model_in_fp16_takes_half_the_space_and_gives_nearly_the_same(lowered, tmp_path, runtime):
    model, folder = lowered
    lower(folder / "trainable", PrecisionPlan("fp32"), "stock", tmp_path / "imported")
    for precision in ("fp32", "fp16"):
        lower_serving(tmp_path / "imported", PrecisionPlan(precision), runtime, tmp_path / precision)
    whole, half = ((tmp_path / precision / "model.onnx").stat().st_size for precision in ("fp32", "fp16"))
    weights = 2 * sum(weight.numpy().size for weight in model.weights if len(weight.shape) > 1)
    assert whole - half > 0.6 * weights  # the rest are the names of what gives the weights back
    inputs = example_inputs(model, 2)
    executable = load_executable(tmp_path / "fp16", 1)
    assert executable.info.precision == "fp16"
    for name, array in outputs_of(model, inputs).items():
        np.testing.assert_allclose(executable(inputs)[name], array, atol=2e-3 * np.abs(array).max())
