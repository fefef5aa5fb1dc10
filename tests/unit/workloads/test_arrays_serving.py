"""Raw examples are answered in calls of bounded size, and what the model's input can not hold is refused."""

import numpy as np
import pytest

from optops.runtimes.base import ExecutableInfo, LoadedExecutable
from optops.workloads.arrays.outputs import CALL_SIZE, predict_in_calls, stack
from optops.workloads.arrays.serving import answer


def echo(dtype, shape):
    """An executable that gives back what it takes, and the sizes of its calls."""
    described, sizes = {"x": {"dtype": dtype, "shape": shape}}, []

    def call(inputs):
        sizes.append(len(inputs["x"]))
        return {"y": inputs["x"]}

    return LoadedExecutable(ExecutableInfo("tensorflow", "fp32", described, {}), call), sizes


@pytest.mark.parametrize(
    ("dtype", "value", "says"),
    [
        ("uint8", [0.2, 0.7], "no array of uint8 .it holds 0.2: give numbers as the model takes them"),
        ("uint8", [0, 300], "it holds 300"),
        ("uint8", [0, -1], "it holds -1"),
        ("int32", [1.0, 1.5], "it holds 1.5"),
        ("int64", [1.0, float("nan")], "cannot convert float NaN to integer"),
        ("int64", np.array([1.0, float("nan")]), "it holds nan"),
        ("int64", [5, 2**63], "no array of int64 .Python int too large"),
        ("uint64", [-1, 2**63], "-1 out of bounds for uint64"),
        ("float32", [1.0, 1e39], "it holds 1e.39: give numbers as the model takes them"),
        ("float16", [1, -70000], "it holds -70000"),
        ("bool", [0, 2], "it holds 2"),
        ("float32", [1.0, None], "it holds object: give numbers"),
        ("float32", ["1", "2"], "it holds <U1: give numbers"),
        ("string", ["a", None], "it holds None: give texts"),
        ("string", [1, 5], "it holds 1: give texts"),
        ("string", ["a", 5], "it holds 5: give texts"),
        ("string", ["a", True], "it holds True: give texts"),
        ("string", np.array(["a", float("nan")], object), "it holds nan: give texts"),
        ("string", [b"\xff", b"a"], "can't decode byte 0xff"),
    ],
)
def test_what_an_input_can_not_hold_is_refused_by_its_place(dtype, value, says):
    executable, sizes = echo(dtype, [None, 2])
    with pytest.raises(ValueError, match=rf"input 0, 'x': .*{says}"):
        answer(executable, [value])
    assert sizes == []


@pytest.mark.parametrize(
    ("dtype", "value", "taken"),
    [
        ("uint8", [0.0, 255.0], [0, 255]),
        ("int32", np.array([True, False]), [1, 0]),
        ("bool", [0, 1], [False, True]),
        ("uint64", [5, 2**63 + 1], [5, 2**63 + 1]),
        ("uint64", [5, 2**64 - 1], [5, 2**64 - 1]),
        ("int64", [1.0, 2**53 + 1], [1, 2**53 + 1]),
        ("float32", [1, float("-inf")], [1.0, float("-inf")]),
        ("float32", [1, 0.5], [1.0, 0.5]),
        ("float32", np.array([1, 0.5], object), [1.0, 0.5]),
        ("string", ["a", "ü"], ["a", "ü"]),
        ("string", ["ü".encode(), b"a"], ["ü", "a"]),
        ("string", np.array(["a", "ü"], object), ["a", "ü"]),
        ("string", ["a", "ü".encode()], ["a", "ü"]),
    ],
)
def test_what_an_input_can_hold_is_taken_however_it_is_written(dtype, value, taken):
    executable, _ = echo(dtype, [None, 2])
    assert answer(executable, [value]) == [{"y": taken}]


@pytest.mark.parametrize("text", ["ü", "ü".encode()])
def test_a_single_text_is_taken(text):
    executable, _ = echo("string", [None])
    assert answer(executable, [text]) == [{"y": "ü"}]


def test_many_examples_are_answered_in_calls_of_bounded_size_and_in_order():
    executable, sizes = echo("float32", [None, None])
    examples = [[float(place)] * (1 if place < 70 else 2) for place in range(80)]
    assert [found["y"] for found in answer(executable, examples)] == examples
    assert sizes == [CALL_SIZE, CALL_SIZE, 70 - 2 * CALL_SIZE, 10]


@pytest.mark.parametrize(("size", "calls"), [(256, [256, 256]), (48, [48] * 7), (12, [12] * 27), (1, [1] * 320)])
def test_calls_of_a_fixed_number_of_examples_are_filled(size, calls):
    examples = np.arange(320, dtype=np.float32)[:, None]
    executable, sizes = echo("float32", [size, 1])
    assert [found["y"] for found in answer(executable, examples.tolist())] == examples.tolist()
    assert sizes == calls
    sizes.clear()
    np.testing.assert_array_equal(stack(predict_in_calls(executable, {"x": examples}, None))["y"], examples)
    assert sizes == calls


def test_no_examples_have_no_answers():
    executable, sizes = echo("float32", [None, 2])
    assert answer(executable, []) == sizes == []
