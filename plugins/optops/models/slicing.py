"""Cuts heads and hidden units out of the weights of Transformers, whose groups of units are named `LAYER/BLOCK`.

A group that ends in `feed_forward` has the products `expand` and `contract`, any other is an attention with `query`,
`key`, `value` and `output`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def _check_keep(units: Mapping[str, int], keep: Mapping[str, Sequence[int]]) -> None:
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


def shrunk(model: Any, keep: Mapping[str, Sequence[int]], prefix: str) -> Any:
    """Returns a smaller model that computes what `model` does with gates of 0 on everything that is not kept.

    Args:
        model: Left as it is.
        keep: Indices of the heads or feed-forward units to keep, in any order, under the names that `config.units`
            gives; a group that is not named is kept whole.
        prefix: What the names of its weights begin with.

    Raises:
        ValueError: If a name is unknown, or indices are none, repeated, or out of range.
    """
    _check_keep(model.config.units(), keep)
    small = type(model)(model.config.with_units({name: len(indices) for name, indices in keep.items()}))
    arrays = weights_of(model)
    for name, indices in keep.items():
        cut(arrays, f"{prefix}/{name}", sorted(indices), model.config.head_size)
    assign(small, arrays)
    return small


def renumbered(
    arrays: Mapping[str, np.ndarray], prefix: str, kept: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray]:
    """Returns what weights are called once only some layers are left.

    Args:
        arrays: All weights, by name.
        prefix: What the names begin with.
        kept: Stack (`encoder`, `decoder`) to the indices of the layers that are kept, in their new order.

    Returns:
        The weights of the kept layers, whose names are `PREFIX/STACK_INDEX/...`, and those outside of layers.
    """
    in_a_layer = re.compile(rf"{prefix}/({'|'.join(kept)})_\d+/")
    chosen = {name: value for name, value in arrays.items() if not in_a_layer.match(name)}
    for stack, origins in kept.items():
        for index, origin in enumerate(origins):
            old, new = f"{prefix}/{stack}_{origin}/", f"{prefix}/{stack}_{index}/"
            chosen |= {new + name.removeprefix(old): value for name, value in arrays.items() if name.startswith(old)}
    return chosen


def check_layers(stack: str, kept: Sequence[int], available: int) -> None:
    """Raises ValueError if no layer of a stack is kept, or an index is out of range."""
    if not kept or not set(kept) <= set(range(available)):
        raise ValueError(f"keep_layers: the {stack} has layers 0 to {available - 1}; keep some, not {list(kept)}")


def check_same(student: Any, teacher: Any, names: Sequence[str]) -> None:
    """Raises ValueError if a size of a student's config is not the teacher's."""
    for name in names:
        mine, theirs = getattr(student, name), getattr(teacher, name)
        if mine != theirs:
            raise ValueError(
                f"from_teacher: {name} is {mine}, the teacher's is {theirs}; make them equal or start afresh"
            )


def weights_of(model: Any) -> dict[str, np.ndarray]:
    """Returns a model's weights by name."""
    return {weight.name: weight.numpy() for weight in model.weights}


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
