"""Cuts heads and hidden units out of the weights of Transformers, whose groups of units are named `LAYER/BLOCK`.

A group that ends in `feed_forward` has the products `expand` and `contract`, any other is an attention with `query`,
`key`, `value` and `output`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def checked_keep(units: Mapping[str, int], keep: Mapping[str, Sequence[int]]) -> None:
    """Raises ValueError if a group is unknown, or indices to keep are none, repeated, or out of range."""
    for name, indices in keep.items():
        if name not in units:
            raise ValueError(f"shrink: group {name!r} is unknown; known are {', '.join(units)}")
        if not indices or len(set(indices)) != len(indices) or not set(indices) <= set(range(units[name])):
            raise ValueError(
                f"shrink: {name!r} has units 0 to {units[name] - 1}; keep at least one of them, each once, "
                f"not {list(indices)}"
            )


def evenly_spaced(wanted: int, available: int, side: str) -> list[int]:
    """Returns which of the available layers a student starts from; a single one is the first.

    Raises:
        ValueError: If there are not that many.
    """
    if wanted > available:
        raise ValueError(f"from_teacher: {wanted} {side} layers wanted, the teacher has only {available}")
    return [int(index) for index in np.linspace(0, available - 1, wanted).round()]


def cut(arrays: dict[str, np.ndarray], group: str, keep: Sequence[int], head_size: int) -> None:
    """Keeps some heads or units of a group, whose name starts with the model's; changes `arrays`."""
    size = _size(group, head_size)
    columns = (np.asarray(keep)[:, None] * size + np.arange(size)).reshape(-1)
    inputs, output = _inputs_and_output(group)
    for product in inputs:
        for kind in ("kernel", "bias"):
            name = f"{group}/{product}/{kind}:0"
            arrays[name] = arrays[name][..., columns]
    name = f"{group}/{output}/kernel:0"
    arrays[name] = arrays[name][columns]


def cut_to_largest(arrays: dict[str, np.ndarray], group: str, count: int, head_size: int) -> None:
    """Keeps the heads or units of a group whose outgoing weights have the largest norms; changes `arrays`.

    Raises:
        ValueError: If there are not that many.
    """
    kernel = arrays[f"{group}/{_inputs_and_output(group)[1]}/kernel:0"]
    norms = np.sqrt(np.square(kernel.reshape(-1, _size(group, head_size) * kernel.shape[1])).sum(axis=1))
    if count > len(norms):
        name = group.partition("/")[2]
        raise ValueError(f"from_teacher: {name!r} has {count} units, more than the teacher's {len(norms)}")
    cut(arrays, group, sorted(np.argsort(-norms, kind="stable")[:count].tolist()), head_size)


def assign(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives a model the weights that have its weights' names."""
    for weight in model.weights:
        weight.assign(arrays[weight.name])


def _inputs_and_output(group: str) -> tuple[tuple[str, ...], str]:
    return (("expand",), "contract") if group.endswith("feed_forward") else (("query", "key", "value"), "output")


def _size(group: str, head_size: int) -> int:
    return 1 if group.endswith("feed_forward") else head_size
