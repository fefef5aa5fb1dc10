"""Answers raw examples: nested lists of numbers in, nested lists out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optops.runtimes.base import STRING, Executable, ExecutableInfo

Described = Mapping[str, Mapping[str, Any]]


def answer(executable: Executable, inputs: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns for each example the model's outputs by name.

    Args:
        executable: What computes them; says what it takes.
        inputs: One example each: a dictionary by input name, or the array itself if the model has one input.

    Raises:
        ValueError: If an example lacks an input, has one that is unknown, or is no array of the right shape.
    """
    info: ExecutableInfo = executable.info  # type: ignore[attr-defined]
    if not inputs:
        return []
    examples = [_by_name(index, example, info.inputs) for index, example in enumerate(inputs)]
    answers: list[dict[str, Any]] = []
    # Examples of dynamic size differ in shape: only equal ones share a call.
    for start, stop in _runs([{name: array.shape for name, array in example.items()} for example in examples]):
        call = {name: np.stack([example[name] for example in examples[start:stop]]) for name in info.inputs}
        outputs = executable(call)
        answers += [{name: array[row].tolist() for name, array in outputs.items()} for row in range(stop - start)]
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
        array = np.asarray(value, np.str_ if dtype == STRING else dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"input {index}, {name!r}: no array of {dtype} ({error})") from error
    fits = array.ndim == len(shape) and all(
        size is None or size == actual for size, actual in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"input {index}, {name!r}: shape {list(array.shape)}; expected {shape}, None being any size")
    return array


def _runs(values: Sequence[Any]) -> list[tuple[int, int]]:
    """Returns start and stop of the runs of equal neighbours."""
    starts = [place for place in range(len(values)) if place == 0 or values[place] != values[place - 1]]
    return list(zip(starts, [*starts[1:], len(values)], strict=True))
