"""Products over packed weights: right on every instruction set and tail, and the same however they are run."""

import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from optops.kernels import KernelError, PackedProduct, instruction_set, instruction_sets, threads
from optops.kernels.arrays import ACTIVATIONS

SIZES = list(itertools.product((1, 2, 5, 6, 7, 13), (1, 3, 4, 64, 65, 130), (1, 15, 16, 63, 64, 65, 200)))
RUN = """
from optops.kernels import PackedProduct
for name in {key.split("/")[0] for key in arrays}:
    precision, activation = str(arrays[f"{name}/precision"]), str(arrays[f"{name}/activation"])
    x, weights, bias, residual = (arrays[f"{name}/{part}"] for part in ("x", "weights", "bias", "residual"))
    product = PackedProduct(weights, bias, precision)
    for threads in (1, 2):
        found[f"{name}/{threads}"] = product(x, activation=activation, residual=residual, threads=threads)
    found[f"{name}/rows"] = np.stack([product(row, activation=activation, residual=r) for row, r in zip(x, residual)])
"""
TOLERANCE = {"fp32": 1e-6, "bf16": 8e-3, "int8": 2e-2}


def reference(case):
    """The product in float64; for bf16 and int8 of unrounded values."""
    x, weights = case["x"].astype(np.float64), case["weights"].astype(np.float64)
    y = x @ weights + case["bias"]
    activated = {
        "linear": lambda v: v,
        "relu": lambda v: np.maximum(v, 0),
        "gelu": lambda v: 0.5 * v * (1 + erf(v / np.sqrt(2))),
        "gelu_tanh": lambda v: 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))),
        "silu": lambda v: v / (1 + np.exp(-v)),
    }[case["activation"]](y)
    return activated + case["residual"]


def make_case(random, rows, inputs, outputs, precision, activation):
    return {
        "x": random.normal(size=(rows, inputs)).astype(np.float32),
        "weights": (random.normal(size=(inputs, outputs)) / np.sqrt(inputs)).astype(np.float32),
        "bias": random.normal(size=outputs).astype(np.float32),
        "residual": random.normal(size=(rows, outputs)).astype(np.float32),
        "precision": precision,
        "activation": activation,
    }


@pytest.fixture(scope="module")
def run_cases(run_under):
    """Runs cases under an instruction set; gives the outputs on one thread, on two, and row by row."""
    return lambda isa, cases: run_under(
        isa, RUN, {f"{name}/{part}": value for name, case in cases.items() for part, value in case.items()}
    )


@pytest.fixture(scope="module")
def cases():
    random = np.random.default_rng(0)
    kinds = itertools.cycle(itertools.product(TOLERANCE, ACTIVATIONS))
    return {str(index): make_case(random, *size, *next(kinds)) for index, size in enumerate(SIZES)}


@pytest.fixture(scope="module")
def integer_cases():
    """Whole numbers with a 127 in every row and column: the scales are 1, so int8 has nothing to round."""
    random = np.random.default_rng(1)
    made = {}
    for index, (rows, inputs, outputs) in enumerate(SIZES[::5]):
        case = make_case(random, rows, inputs, outputs, "int8", "linear")
        for name in ("x", "weights"):
            case[name] = random.integers(-127, 128, case[name].shape).astype(np.float32)
        case["x"][:, 0] = 127
        case["weights"][-1] = -127
        case["bias"][:] = case["residual"][:] = 0
        made[str(index)] = case
    return made


def test_products_agree_with_float64_on_every_tail(isa, cases, run_cases):
    found = run_cases(isa, cases)
    for name, case in cases.items():
        expected = reference(case)
        allowed = TOLERANCE[case["precision"]] * max(1, np.abs(expected).max()) * 2
        np.testing.assert_allclose(found[f"{name}/1"], expected, atol=allowed, rtol=0, err_msg=str(SIZES[int(name)]))


def test_neither_threads_nor_neighbours_change_a_bit(isa, cases, run_cases):
    found = run_cases(isa, cases)
    for name in cases:
        np.testing.assert_array_equal(found[f"{name}/1"], found[f"{name}/2"])
        np.testing.assert_array_equal(found[f"{name}/1"], found[f"{name}/rows"])


def test_int8_sums_are_exact(isa, integer_cases, run_cases):
    found = run_cases(isa, integer_cases)
    for name, case in integer_cases.items():
        np.testing.assert_array_equal(found[f"{name}/1"], case["x"] @ case["weights"])


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 300), st.integers(1, 300), st.sampled_from(sorted(TOLERANCE)), st.randoms())
def test_permuted_rows_give_permuted_results(rows, inputs, outputs, precision, chance):
    random = np.random.default_rng(chance.randrange(2**32))
    case = make_case(random, rows, inputs, outputs, precision, "gelu")
    product, order = PackedProduct(case["weights"], case["bias"], precision), random.permutation(rows)
    straight = product(case["x"], activation="gelu", residual=case["residual"])
    permuted = product(case["x"][order], activation="gelu", residual=case["residual"][order])
    np.testing.assert_array_equal(straight[order], permuted)
    again = product(case["x"], activation="gelu", residual=case["residual"], threads=5)
    np.testing.assert_array_equal(straight, again)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_does_not_become_finite_nor_touch_its_neighbours(precision, poison):
    random = np.random.default_rng(0)
    product = PackedProduct(random.normal(size=(70, 20)).astype(np.float32), None, precision)
    x = random.normal(size=(3, 70)).astype(np.float32)
    clean = product(x)
    x[1, 33] = poison
    found = product(x)
    assert not np.isfinite(found[1]).any()
    np.testing.assert_array_equal(found[[0, 2]], clean[[0, 2]])


def test_a_row_of_zeros_gives_the_bias():
    product = PackedProduct(np.ones((5, 3), np.float32), np.arange(3, dtype=np.float32), "int8")
    np.testing.assert_array_equal(product(np.zeros((2, 5), np.float32)), [[0, 1, 2]] * 2)


def test_leading_axes_are_kept_and_no_rows_are_no_error():
    product = PackedProduct(np.ones((4, 6), np.float32))
    assert product(np.ones((2, 3, 4), np.float32)).shape == (2, 3, 6)
    assert product(np.ones(4, np.float32)).shape == (6,)
    assert product(np.ones((0, 4), np.float32)).shape == (0, 6)


def test_packed_weights_take_what_the_precision_takes():
    weights = np.ones((512, 128), np.float32)
    sizes = {precision: PackedProduct(weights, None, precision).size_bytes for precision in TOLERANCE}
    assert sizes == {"fp32": 4 * 512 * 128, "bf16": 2 * 512 * 128, "int8": 512 * 128}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": np.ones(3)}, r"weights have shape \(3,\); they must be \[inputs, outputs\]"),
        ({"bias": np.ones(2)}, r"the bias has shape \(2,\); for weights \(4, 6\) it is \(6,\)"),
        ({"precision": "int4"}, "precision is 'int4'; choose one of fp32, bf16, int8"),
        ({"weights": np.full((4, 6), np.nan)}, "the weight of input 0 and output 0 is -?nan"),
        ({"bias": np.array([0, np.inf, 0, 0, 0, 0])}, "bias 1 is inf"),
        ({"weights": np.ones((0, 6))}, "inputs is 0; it may be 1 to"),
    ],
)
def test_weights_that_make_no_sense_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        PackedProduct(**{"weights": np.ones((4, 6)), **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": np.ones((2, 5))}, r"x has shape \(2, 5\); the last axis must be 4"),
        ({"activation": "swish"}, "activation is 'swish'; choose one of linear"),
        ({"residual": np.ones((2, 5))}, r"the residual has shape \(2, 5\)"),
        ({"threads": -1}, "threads is -1"),
        ({"threads": 2**32 + 1}, "threads is 4294967297; it must be an integer of 32 bits"),
    ],
)
def test_calls_that_make_no_sense_are_refused_by_name(arguments, message):
    product = PackedProduct(np.ones((4, 6), np.float32))
    with pytest.raises(ValueError, match=message):
        product(**{"x": np.ones((2, 4), np.float32), **arguments})


def test_callers_on_many_threads_get_what_they_get_alone():
    random = np.random.default_rng(0)
    product = PackedProduct(random.normal(size=(256, 192)).astype(np.float32), None, "int8")
    inputs = [random.normal(size=(8, 256)).astype(np.float32) for _ in range(6)]
    expected = [product(x, threads=1) for x in inputs]
    right = []

    def work(index):
        turns = [product(inputs[index], threads=1 + turn % 3) for turn in range(100)]
        right.append(all(np.array_equal(turn, expected[index]) for turn in turns))

    callers = [threading.Thread(target=work, args=(index,)) for index in range(len(inputs))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert right == [True] * len(inputs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_product_takes_as_many_inputs_as_an_image_has_values(precision):
    weights = np.zeros((200_000, 2), np.float32)
    weights[[0, 131_072, 199_999]] = [1, 2], [3, 4], [5, 6]
    np.testing.assert_array_equal(PackedProduct(weights, None, precision)(np.ones((3, 200_000))), [[9, 12]] * 3)


def test_int8_takes_no_more_inputs_than_its_sums_hold():
    with pytest.raises(ValueError, match="131073 inputs and 2 outputs; there may be 1 to 131072"):
        PackedProduct(np.zeros((131_073, 2), np.float32), None, "int8")


def test_a_caller_that_is_bound_to_a_processor_binds_no_other_thread():
    code = """
import os, threading
import numpy as np
from optops.kernels import PackedProduct
product, x = PackedProduct(np.ones((1024, 1024), np.float32)), np.ones((64, 1024), np.float32)
everywhere, found = os.sched_getaffinity(0), []
def call():
    os.sched_setaffinity(0, {min(everywhere)})
    before = set(os.listdir("/proc/self/task"))
    assert (product(x, threads=3) == 1024).all()
    found.extend(os.sched_getaffinity(int(thread)) for thread in set(os.listdir("/proc/self/task")) - before)
caller = threading.Thread(target=call)
caller.start()
caller.join()
assert found == [everywhere] * 2, found
"""
    environment = {**os.environ, "OPTOPS_THREADS": "3"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_caller_that_is_bound_to_a_processor_does_not_count_for_the_process():
    environment = {name: value for name, value in os.environ.items() if name != "OPTOPS_THREADS"}
    code = """
import os, sys, threading
from optops.kernels import threads
def call():
    if sys.argv[1] == "bound":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(threads())
caller = threading.Thread(target=call)
caller.start()
caller.join()
"""
    counted = [
        subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True, env=environment)
        for how in ("free", "bound")
    ]
    assert counted[0].stdout == counted[1].stdout


@pytest.mark.skipif("amx" not in instruction_sets(), reason="needs a processor with AMX")
@pytest.mark.parametrize("isa", ["amx", "avx2"])
def test_tiles_are_asked_for_only_where_they_are_used(isa):
    code = """
import ctypes
from optops.kernels import instruction_set, instruction_sets
instruction_sets(), instruction_set()
permitted = ctypes.c_ulong()
assert ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(permitted)) == 0  # arch_prctl, ARCH_GET_XCOMP_PERM
print(permitted.value >> 18 & 1)
"""
    environment = {**os.environ, "OPTOPS_ISA": isa}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == ("1\n" if isa == "amx" else "0\n")


def test_a_large_product_gives_its_memory_back(resident):
    product = PackedProduct(np.ones((128, 1), np.float32), None, "bf16")
    x = np.ones((1 << 19, 128), np.float32)
    product(x[:64])
    before = resident()
    product(x)  # its rows are 134 MB as bfloat16
    assert resident() - before < 32 << 20


def test_a_forked_child_computes_too():
    product = PackedProduct(np.ones((256, 256), np.float32))
    x = np.ones((64, 256), np.float32)
    assert (product(x, threads=2) == 256).all()  # the parent's threads are running
    child = os.fork()
    if child == 0:
        os._exit(0 if (product(x, threads=2) == 256).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_instruction_set_that_is_not_here_is_an_error_that_says_what_is():
    code = (
        "import numpy as np\n"
        "from optops.kernels import KernelError, PackedProduct\n"
        "try: PackedProduct(np.ones((4, 4), np.float32))(np.ones((1, 4), np.float32))\n"
        "except KernelError as error: print(error)"
    )
    environment = {**os.environ, "OPTOPS_ISA": "sse9"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "OPTOPS_ISA is sse9; this processor and build have" in done.stdout
    assert "generic" in done.stdout


@pytest.mark.parametrize("text", ["two", "-4", "1e3", "2 threads"])
def test_threads_that_are_no_number_are_an_error_that_says_what_to_do(text):
    code = (
        "import numpy as np\n"
        "from optops.kernels import KernelError, PackedProduct, threads\n"
        "assert threads() == 0\n"
        "try: PackedProduct(np.ones((4, 4), np.float32))(np.ones((1, 4), np.float32))\n"
        "except KernelError as error: print(error)"
    )
    environment = {**os.environ, "OPTOPS_THREADS": text}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"OPTOPS_THREADS is {text}; give a number of threads, 0 for the default, or unset it\n"


COUNT_STARTED = """
import os
import numpy as np
from optops.kernels import PackedProduct
product, x = PackedProduct(np.ones((1024, 1024), np.float32)), np.ones((64, 1024), np.float32)
before = len(os.listdir("/proc/self/task"))
assert (product(x, threads=200) == 1024).all()
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.parametrize("wanted", [None, 7])
def test_no_more_threads_are_started_than_there_are_processors_for_or_the_variable_says(wanted):
    environment = {name: value for name, value in os.environ.items() if name != "OPTOPS_THREADS"}
    environment |= {"OPTOPS_THREADS": str(wanted)} if wanted else {}
    command = [sys.executable, "-c", COUNT_STARTED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < max(wanted or 1, len(os.sched_getaffinity(0)))
    assert not wanted or int(done.stdout) >= wanted - 1


def test_the_number_of_threads_can_be_set_from_outside():
    command = [sys.executable, "-c", "from optops.kernels import threads; print(threads())"]
    environment = {**os.environ, "OPTOPS_THREADS": "3"}
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout == "3\n"
    assert threads() >= 1
    assert instruction_set()
    assert issubclass(KernelError, RuntimeError)
