"""Answers raw examples: nested lists of numbers in, nested lists out."""

from collections.abc import Mapping, Sequence
from itertools import groupby, islice
from typing import Any

import numpy as np

from optops.runtimes.base import STRING, Executable, ExecutableInfo
from optops.workloads.arrays.outputs import examples_per_call

Described = Mapping[str, Mapping[str, Any]]


def answer(executable: Executable, inputs: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns for each example the model's outputs by name.

    Args:
        executable: What computes them; says what it takes.
        inputs: One example each: a dictionary by input name, or the array itself if the model has one input.

    Raises:
        ValueError: If an example lacks an input, has one that is unknown, or is no array of the right shape and kind.
    """
    info: ExecutableInfo = executable.info  # type: ignore[attr-defined]
    examples = (_by_name(index, example, info.inputs) for index, example in enumerate(inputs))
    answers: list[dict[str, Any]] = []
    step = examples_per_call(executable)
    # Examples of dynamic size differ in shape: only equal ones share a call.
    for _, alike in groupby(examples, key=_shapes):
        while call := list(islice(alike, step)):
            outputs = executable({name: np.stack([example[name] for example in call]) for name in info.inputs})
            answers += [{name: array[row].tolist() for name, array in outputs.items()} for row in range(len(call))]
    return answers


def as_lists(inputs: Mapping[str, np.ndarray]) -> list[Any]:
    """Returns examples as `answer` takes them."""
    if len(inputs) == 1:
        return list(next(iter(inputs.values())).tolist())
    count = len(next(iter(inputs.values())))
    return [{name: array[row].tolist() for name, array in inputs.items()} for row in range(count)]


def _by_name(index: int, example: Any, wanted: Described) -> dict[str, np.ndarray]:
    if not isinstance(example, Mapping):
        if len(wanted) > 1:
            raise ValueError(
                f"input {index} is {type(example).__name__}; the model has the inputs {', '.join(sorted(wanted))}: "
                "give a dictionary with an array for each"
            )
        example = {next(iter(wanted)): example}
    if set(example) != set(wanted):
        have, expected = (", ".join(sorted(map(str, names))) or "nothing" for names in (example, wanted))
        raise ValueError(f"input {index} has {have}; expected {expected}")
    return {name: _array(index, name, example[name], described) for name, described in wanted.items()}


def _array(index: int, name: str, value: Any, described: Mapping[str, Any]) -> np.ndarray:
    dtype, shape = described["dtype"], list(described["shape"])[1:]
    try:
        # Data frames hold arrays of objects.
        value = value.tolist() if isinstance(value, np.ndarray) and value.dtype.kind == "O" else value
        array = _texts(value) if dtype == STRING else _numbers(value, np.dtype(dtype))
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"input {index}, {name!r}: no array of {dtype} ({error})") from error
    fits = array.ndim == len(shape) and all(
        size is None or size == actual for size, actual in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"input {index}, {name!r}: shape {list(array.shape)}; expected {shape}, None being any size")
    return array


def _texts(value: Any) -> np.ndarray:
    # One by one, for beside a text NumPy makes texts of numbers too.
    given = np.asarray(value, object)
    others = [each for each in given.ravel() if not isinstance(each, str | bytes)]
    if others:
        raise TypeError(f"it holds {others[0]!r}: give texts")
    texts = [each.decode("utf-8") if isinstance(each, bytes) else each for each in given.ravel()]
    return np.array(texts, np.str_).reshape(given.shape)


def _numbers(value: Any, dtype: np.dtype) -> np.ndarray:
    """Returns numbers in the model's type; refuses those that it does not have, and would make others of."""
    given = np.asarray(value)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"it holds {given.dtype}: give numbers")
    with np.errstate(invalid="ignore", over="ignore"):
        # Of whole numbers beside a float, or on both sides of 2 ** 63, NumPy makes floats, which round them.
        rounded = dtype.kind in "iu" and given.dtype.kind == "f"
        array = np.asarray(value, dtype) if rounded else given.astype(dtype)
    changed = given != array if dtype.kind in "biu" else np.isfinite(given) & ~np.isfinite(array)
    if changed.any():
        raise ValueError(f"it holds {given[changed][0]}: give numbers as the model takes them")
    return array


def _shapes(example: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in example.items()}
