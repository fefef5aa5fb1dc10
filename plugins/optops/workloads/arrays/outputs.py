"""A model's outputs for one example as JSON, without loss, and back."""

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from optops.runtimes.base import STRING, Executable, dtype_name
from optops.runtimes.fixed_batch import check_one_size

Prediction = Mapping[str, Mapping[str, Any]]
"""Output name to `dtype`, `shape` and the bytes in base64 (little-endian, C order), or of texts to the `texts`."""

CALL_SIZE = 32
"""Examples in one call while predicting and serving, where the model takes any number."""

SHARE_OF_RANGE = 1e-3
"""Largest difference between numbers that count as the same, as a share of the largest number of that output."""

MOST_BYTES = 4 << 30
"""Of all examples' outputs; they are kept, as text, with every candidate."""

MEMORY_SHARE = 6
"""How many times over the outputs may be in memory: as text, in JSON, as arrays, beside those of another candidate."""

NEVER = 1000.0
"""Magnitude from which on a number that both give may stand for something else than a quantity."""


def examples_per_call(executable: Executable) -> int:
    """Returns how many examples to give a call: 32, or from there the next multiple of the number that it takes."""
    size = executable.info.fixed_batch or 1  # type: ignore[attr-defined]
    return -(-CALL_SIZE // size) * size


def predict_in_calls(executable: Executable, inputs: Mapping[str, np.ndarray], report: Any) -> list[Prediction]:
    """Returns the outputs for each example.

    Args:
        executable: What computes them.
        inputs: Each [examples, ...].
        report: Gets lines of progress; None for silence.

    Raises:
        ValueError: If the outputs of all examples would be too many to keep, or are not one for each example.
    """
    count = len(next(iter(inputs.values())))
    step = examples_per_call(executable)
    predictions: list[Prediction] = []
    for start in range(0, count, step):
        outputs = executable({name: array[start : start + step] for name, array in inputs.items()})
        if start == 0:
            _refuse_too_many(outputs, min(step, count), count)
        predictions += examples_of(outputs, min(step, count - start))
        if report is not None:
            report(f"{len(predictions)} of {count} examples")
    return predictions


def _refuse_too_many(outputs: Mapping[str, np.ndarray], some: int, count: int) -> None:
    wanted = {name: array.nbytes * count // some for name, array in outputs.items()}
    most = min(MOST_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEMORY_SHARE)
    if sum(wanted.values()) > most:
        name = max(wanted, key=lambda name: wanted[name])
        raise ValueError(
            f"the outputs of {count:,} examples take {sum(wanted.values()) / 1e9:.1f} GB, and {most / 1e9:.1f} GB can "
            f"be kept; most of it is output {name!r}, {list(outputs[name].shape[1:])} an example: export the model "
            "with an argmax or a smaller output, or name fewer examples"
        )


def examples_of(outputs: Mapping[str, np.ndarray], count: int) -> Iterator[Prediction]:
    """Gives each example's share of the outputs of one call.

    Raises:
        ValueError: If an output's first axis is not the example.
    """
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != count:
            raise ValueError(
                f"output {name!r} is {list(array.shape)} for {count} examples; its first axis must be the example"
            )
    for row in range(count):
        yield {name: _encode(array[row]) for name, array in sorted(outputs.items())}


def stack(predictions: Sequence[Prediction]) -> dict[str, np.ndarray]:
    """Returns the outputs of all examples, each [examples, ...].

    Raises:
        ValueError: If an output is not of one size for all examples.
    """
    for name in predictions[0]:
        check_one_size(name, (one[name]["shape"] for one in predictions))
    return {name: np.stack([_decode(one[name]) for one in predictions]) for name in predictions[0]}


def same_share(ours: Sequence[Prediction], theirs: Sequence[Prediction]) -> float:
    """Returns the share of examples whose outputs are the same but for rounding."""
    if not ours:
        return 0.0
    same = np.ones(len(ours), bool)
    wanted = stack(theirs)
    for name, found in stack(ours).items():
        other = wanted[name]
        if found.dtype.kind != "f":
            same &= (found == other).reshape(len(ours), -1).all(axis=1)
            continue
        # What stands for "never", infinity or -1e9 among logits say, is no measure for the rest.
        never = np.isclose(found, other, rtol=1e-6, atol=0, equal_nan=True) & ~(np.abs(other) < NEVER)
        with np.errstate(invalid="ignore"):
            distance = np.where(never, 0, np.abs(found - other))
        margin = SHARE_OF_RANGE * max(float(np.abs(other)[~never & np.isfinite(other)].max(initial=0)), 1e-30)
        same &= (distance <= margin).reshape(len(ours), -1).all(axis=1)
    return float(same.mean())


def _encode(array: np.ndarray) -> dict[str, Any]:
    if dtype_name(array) == STRING:
        return {"dtype": STRING, "shape": list(array.shape), "texts": array.ravel().tolist()}
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "base64": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def _decode(value: Mapping[str, Any]) -> np.ndarray:
    if value["dtype"] == STRING:
        return np.array(value["texts"], np.str_).reshape(value["shape"])
    dtype = np.dtype(value["dtype"]).newbyteorder("<")
    return np.frombuffer(base64.b64decode(value["base64"]), dtype).reshape(value["shape"])
