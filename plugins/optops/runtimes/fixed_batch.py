"""Calls of an executable whose signature takes a fixed number of examples, with any number of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Described = Mapping[str, Mapping[str, Any]]
Arrays = Mapping[str, np.ndarray]


def fixed_batch(inputs: Described, outputs: Described) -> int | None:
    """Returns how many examples each call takes if that is fixed; None if it is not, or no axis counts examples.

    Args:
        inputs: Name to `shape`, as `executable.json` has it.
        outputs: The same.
    """
    taken = {size for tensor in inputs.values() for size in tensor["shape"][:1] or [0]}
    given = {size for tensor in outputs.values() for size in tensor["shape"][:1] or [0]}
    size = taken.pop() if len(taken) == 1 else None
    return size if size and given <= {size, None} else None


def call_in_batches(call: Callable[[Arrays], Arrays], inputs: Arrays, size: int) -> Arrays:
    """Returns the outputs for any number of examples, from as many calls of `size` examples as it takes.

    The last call is filled up with the last example, whose further answers are left out.

    Raises:
        ValueError: If an output's first axis is not the example, or it is of another size in another call.
    """
    counts = {len(array) if array.ndim else 0 for array in inputs.values()}
    if len(counts) != 1 or counts <= {0, size}:
        return call(inputs)  # as it is, or to be refused
    (count,) = counts
    answers = []
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        answers.append(call({name: array[rows] for name, array in inputs.items()}))
        for name, array in answers[-1].items():
            if array.shape[:1] != (size,):
                raise ValueError(
                    f"output {name!r} is {list(array.shape)} for {size} examples; its first axis must be the example"
                )
    for name in answers[0]:
        check_one_size(name, (answer[name].shape[1:] for answer in answers))
    return {name: np.concatenate([answer[name] for answer in answers])[:count] for name in answers[0]}


def check_one_size(name: str, shapes: Iterable[Sequence[int]]) -> None:
    """Refuses an output whose shape without the example's axis differs between examples: it has no array.

    Raises:
        ValueError: Names two of the shapes.
    """
    first, *others = sorted(set(map(tuple, shapes)))
    if others:
        raise ValueError(
            f"output {name!r} is {list(first)} for one example and {list(others[-1])} for another; export the model "
            "with an output of one size, padded"
        )
