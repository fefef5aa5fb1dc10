"""What every executable must do, whatever made it and whatever runs it."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from optops.precision import PRECISIONS
from optops.runtimes.base import (
    ExecutableInfo,
    InvalidInputError,
    LoadedExecutable,
    dtype_name,
    load_executable,
    runtime_names,
)

Arrays = Mapping[str, np.ndarray]

TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2, "int8": 5e-2}
"""Largest difference between two executions of the same thing, relative to the largest output, by precision."""

EXACT_IN_BATCHES = ("fp32",)
"""Precisions whose results must not depend on what else is in the batch; dynamic scales of the others may."""


def check_executable(folder: Path, inputs: Arrays, *, threads: int = 1) -> None:
    """Checks that an executable says what it is, repeats itself, survives a fresh process, and refuses bad input.

    Args:
        folder: A `serving/` folder.
        inputs: A valid call with at least two examples in each input that has a dynamic first dimension.
        threads: Threads to run with.

    Raises:
        AssertionError: Says what does not hold.
    """
    info = ExecutableInfo.load(folder)
    assert info.runtime in runtime_names(), f"runtime {info.runtime!r} is not registered"
    assert info.precision in PRECISIONS, f"precision {info.precision!r} is unknown"
    loaded = load_executable(folder, threads)
    assert isinstance(loaded, LoadedExecutable)
    outputs = loaded(inputs)
    _check_outputs(info, outputs)
    _check_equal(outputs, loaded(inputs), info, "a second call")
    _check_equal(outputs, _in_fresh_process(folder, inputs, threads), info, "a fresh process")
    _check_batches(loaded, inputs, outputs)
    _check_refusals(loaded, inputs)


def _check_outputs(info: ExecutableInfo, outputs: Arrays) -> None:
    assert set(outputs) == set(info.outputs), f"outputs are {sorted(outputs)}, described are {sorted(info.outputs)}"
    for name, described in info.outputs.items():
        array = outputs[name]
        dtype = dtype_name(array)
        assert dtype == described["dtype"], f"output {name!r} is {dtype}, not {described['dtype']}"
        assert array.ndim == len(described["shape"]), f"output {name!r} has shape {array.shape}"
        if array.dtype.kind == "f":
            assert np.isfinite(array).all(), f"output {name!r} holds NaN or infinity for a valid input"


def _check_equal(expected: Arrays, actual: Arrays, info: ExecutableInfo, where: str) -> None:
    for name, array in expected.items():
        assert array.shape == actual[name].shape, f"{where} gives {name!r} the shape {actual[name].shape}"
        if array.dtype.kind == "f":
            allowed = TOLERANCE[info.precision] * max(float(np.abs(array).max(initial=0)), 1e-6)
            largest = float(np.abs(array - actual[name]).max(initial=0))
            assert largest <= allowed, f"{where} changes output {name!r} by {largest:g}, more than {allowed:g}"
        else:
            assert np.array_equal(array, actual[name]), f"{where} gives another {name!r}"


def _in_fresh_process(folder: Path, inputs: Arrays, threads: int) -> dict[str, np.ndarray]:
    with TemporaryDirectory() as temporary:
        given, answered = Path(temporary) / "inputs.npz", Path(temporary) / "outputs.npz"
        np.savez(given, **inputs)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "optops.testing.fresh_process", *map(str, (folder, given, answered, threads))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"a fresh process could not run the executable:\n{done.stderr[-2000:]}"
        with np.load(answered, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def _check_batches(loaded: LoadedExecutable, inputs: Arrays, outputs: Arrays) -> None:
    dynamic = [name for name, tensor in loaded.info.inputs.items() if tensor["shape"] and tensor["shape"][0] is None]
    if len(dynamic) != len(inputs):
        return
    examples = len(inputs[dynamic[0]])
    assert examples >= 2, "give at least two examples, so that batches can be compared"
    single = loaded({name: array[:1] for name, array in inputs.items()})
    double = loaded({name: np.concatenate([array, array]) for name, array in inputs.items()})
    for name, array in outputs.items():
        assert len(single[name]) == 1, f"a batch of 1 gives {len(single[name])} rows of {name!r}"
        assert len(double[name]) == 2 * len(array), f"a batch of {2 * examples} gives {len(double[name])} rows"
        if loaded.info.precision in EXACT_IN_BATCHES:
            _check_row(array[0], single[name][0], name, "in a batch of 1")
            _check_row(array[0], double[name][examples], name, "in a larger batch")


def _check_row(expected: np.ndarray, actual: np.ndarray, name: str, where: str) -> None:
    # Rows are padded to the longest of their batch: what is beyond the shorter one must be padding.
    if expected.ndim:
        common = tuple(slice(0, min(sizes)) for sizes in zip(expected.shape, actual.shape, strict=True))
        rest = max((expected, actual), key=lambda row: row.size)
        assert np.count_nonzero(rest) == np.count_nonzero(rest[common]), f"{name!r} is longer {where}"
        expected, actual = expected[common], actual[common]
    texts = expected.dtype.kind == "U"
    same = np.array_equal(expected, actual) if texts else np.allclose(expected, actual, rtol=1e-4, atol=1e-4)
    assert same, f"the first example gives another {name!r} {where}"


def _check_refusals(loaded: LoadedExecutable, inputs: Arrays) -> None:
    name = next(iter(loaded.info.inputs))
    array = inputs[name]
    other = np.float64 if array.dtype.kind != "f" else np.int64
    bad: dict[str, Arrays] = {
        "a missing input": {key: value for key, value in inputs.items() if key != name},
        "an unknown input": {**inputs, "not_an_input": array},
        "a wrong dtype": {**inputs, name: np.zeros(array.shape, other)},
        "a wrong rank": {**inputs, name: array[..., None]},
        "no examples": {**inputs, name: array[:0]},
    }
    for what, given in bad.items():
        try:
            loaded(given)
        except InvalidInputError as error:
            wanted = "not_an_input" if what == "an unknown input" else name
            assert wanted in str(error), f"the error for {what} does not name the input: {error}"
        else:
            raise AssertionError(f"{what} is not refused with InvalidInputError")
