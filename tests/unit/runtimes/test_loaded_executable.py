"""What every loaded executable does, whatever its runtime: batches of any size, texts as texts, one call at a time."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
import pytest

from optops.runtimes.base import ExecutableInfo, InvalidInputError, LoadedExecutable

FIXED = {"x": {"dtype": "float32", "shape": [4, 2]}}


def doubler(outputs, inputs=FIXED, double=lambda x: {"y": 2 * x}):
    """An executable that notes how many examples it is called with."""
    info, sizes = ExecutableInfo("tensorflow", "fp32", inputs, outputs), []

    def call(given):
        info.check(given)
        sizes.append(len(given["x"]))
        return double(given["x"])

    return LoadedExecutable(info, call), sizes


@pytest.mark.parametrize("first", [4, None])
@pytest.mark.parametrize(("examples", "calls"), [(1, 1), (4, 1), (6, 2), (8, 2)])
def test_a_fixed_batch_is_called_as_often_as_it_takes(first, examples, calls):
    executable, sizes = doubler({"y": {"dtype": "float32", "shape": [first, 2]}})
    x = np.random.default_rng(0).normal(size=(examples, 2)).astype(np.float32)
    np.testing.assert_array_equal(executable({"x": x})["y"], 2 * x)
    assert sizes == [4] * calls


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"x": np.zeros((0, 2), np.float32)},
        {"x": np.zeros((6, 3), np.float32)},
        {"x": np.zeros((6, 2))},
        {"x": np.float32(1)},
        {"x": np.zeros((6, 2), np.float32), "z": np.zeros(6)},
        {"x": np.zeros((6, 2), np.float32), "z": np.zeros(5)},
    ],
)
def test_a_fixed_batch_still_refuses_what_does_not_fit(given):
    executable, sizes = doubler({"y": {"dtype": "float32", "shape": [4, 2]}})
    with pytest.raises(InvalidInputError):
        executable(given)
    assert sizes == []


def test_inputs_of_different_first_sizes_are_no_batch_and_stay_as_the_signature_has_them():
    inputs = {**FIXED, "scale": {"dtype": "float32", "shape": [1]}}
    executable, _ = doubler({"y": {"dtype": "float32", "shape": [4, 2]}}, inputs)
    assert executable.info.fixed_batch is None
    with pytest.raises(InvalidInputError, match=r"'x' is float32 \[6, 2\]; expected float32 \[4, 2\]"):
        executable({"x": np.zeros((6, 2), np.float32), "scale": np.ones(1, np.float32)})


def test_an_output_that_is_not_one_for_each_example_of_a_fixed_batch_is_refused():
    executable, _ = doubler({"boxes": {"dtype": "float32", "shape": [None, 2]}}, double=lambda x: {"boxes": x[:3]})
    with pytest.raises(ValueError, match=r"output 'boxes' is \[3, 2\] for 4 examples; its first axis must be the"):
        executable({"x": np.zeros((6, 2), np.float32)})


def test_an_output_of_another_size_in_another_call_of_a_fixed_batch_is_refused_with_what_to_do():
    def boxes(x):
        return {"boxes": np.zeros((4, int(x[0, 0]), 4), np.float32)}

    executable, _ = doubler({"boxes": {"dtype": "float32", "shape": [4, None, 4]}}, double=boxes)
    x = np.repeat(np.array([3, 5, 4], np.float32), 4)[:, None] * np.ones(2, np.float32)
    assert executable({"x": x[:3]})["boxes"].shape == (3, 3, 4)
    with pytest.raises(
        ValueError, match=r"output 'boxes' is \[3, 4\] for one .* \[5, 4\] for another; export .* padded"
    ):
        executable({"x": x})


@pytest.mark.parametrize("texts", [["grün", ""], [["grün", "a"], ["", "b"]]])
@pytest.mark.parametrize("encoded", [True, False])
def test_texts_are_texts_however_the_runtime_gives_them(texts, encoded):
    def give(x):
        del x
        given = np.array(texts, object)
        return {"y": np.vectorize(str.encode, otypes=[object])(given) if encoded else given}

    inputs = {"x": {"dtype": "float32", "shape": [None, 2]}}
    executable, _ = doubler({"y": {"dtype": "string", "shape": [None, None]}}, inputs, give)
    found = executable({"x": np.zeros((2, 2), np.float32)})["y"]
    assert found.dtype.kind == "U"
    assert found.tolist() == texts


def test_calls_from_many_threads_reach_a_runtime_one_at_a_time():
    inside = Lock()

    def fragile(inputs):
        assert inside.acquire(blocking=False), "entered while another call ran"
        try:
            time.sleep(0.001)
            return {"y": inputs["x"] + 1}
        finally:
            inside.release()

    executable = LoadedExecutable(ExecutableInfo("openvino", "fp32", {}, {}), fragile)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: executable({"x": np.array([number])})["y"][0], range(40)))
    assert answers == list(range(1, 41))
