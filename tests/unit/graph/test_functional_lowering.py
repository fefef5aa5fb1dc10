"""A functional model computes the same in every runtime that it is lowered to."""

import numpy as np
import pytest

from optops.graph.lowering import LoweringError, lower
from optops.models.base import load_architecture
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable
from optops.testing import check_executable
from optops.testing.topologies import TOPOLOGIES, build_topology, example_inputs, outputs_of

RUNTIMES = ("stock", "tensorflow", "onnxruntime")
FP32 = PrecisionPlan("fp32")


@pytest.fixture(scope="module", params=TOPOLOGIES)
def trained(request, tmp_path_factory):
    model = build_topology(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    load_architecture("functional").save(model, folder, {})
    return model, folder


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_of_any_topology_computes_the_same(runtime, trained, tmp_path):
    model, folder = trained
    facts = lower(folder, FP32, runtime, tmp_path).facts
    for examples, size in ((2, 8), (3, 12)):
        inputs = example_inputs(model, examples=examples, size=size)
        expected, given = outputs_of(model, inputs), load_executable(tmp_path, 1)(inputs)
        assert set(given) == set(expected)
        for name, array in expected.items():
            assert given[name].shape == array.shape
            np.testing.assert_allclose(given[name], array, rtol=1e-4, atol=1e-4 * np.abs(array).max(), err_msg=name)
    if runtime != "stock":
        assert facts["nodes_after"] < facts["nodes_before"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_executable_conforms(runtime, tmp_path):
    model = build_topology("two_inputs")
    load_architecture("functional").save(model, tmp_path / "trainable", {"inputs": {"image": {"maximum": 1}}})
    lower(tmp_path / "trainable", FP32, runtime, tmp_path / "serving")
    check_executable(tmp_path / "serving", example_inputs(model, examples=2))
    beyond = {name: array * 2 for name, array in example_inputs(model).items()}
    with pytest.raises(ValueError, match=r"input 'image' holds 1\.9.*; the largest value allowed is 1"):
        load_executable(tmp_path / "serving", 1)(beyond)


@pytest.mark.parametrize(
    ("serving", "message"),
    [
        ({"inputs": {"picture": {"minimum": 0}}}, "constrains input 'picture'; the model has facts, image"),
        ({"inputs": {"image": {"smallest": 0}}}, "constrains input 'image' by smallest; known are largest_shape"),
    ],
)
def test_constraints_that_fit_nothing_are_refused(serving, message, tmp_path):
    load_architecture("functional").save(build_topology("two_inputs"), tmp_path / "trainable", serving)
    with pytest.raises(LoweringError, match=message):
        lower(tmp_path / "trainable", FP32, "stock", tmp_path / "serving")
