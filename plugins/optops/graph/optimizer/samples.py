"""Random inputs that a model accepts: types, dynamic sizes, ids that its embeddings have, ends that are padded."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.loading import Signature
from optops.models.keras import tf

Sample = dict[str, np.ndarray]
SAME_VALUES = ("Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "Maximum", "Minimum", "Transpose", "EnsureShape")
LENGTHS = (8, 16, 5, 32, 64, 3, 128, 1)
BATCHES = (2, 3, 1)
LARGER = (8, 64)
"""Batch and length of what is timed beside small samples."""
SIDES = (32, 64, 48, 224)
KINDS = ("ones", "prefix", "random", "zeros")
"""What integers and truth values are that no embedding takes: masks, most often.

In `prefix`, ids are those of padding and states are 0 behind the same ends, before the last position and different in
each example.
"""
NUMBERS: tuple[Callable[[np.random.Generator, list[int]], np.ndarray], ...] = (
    lambda draw, shape: draw.normal(size=shape),
    lambda draw, shape: draw.uniform(size=shape),
    lambda draw, shape: np.ones(shape),
)
"""What floats are; the next where a model has no number for them, as one with a logarithm has none."""
FAILURES = 40
"""How many samples a model may refuse until it counts as one that accepts none."""
SLOW = 1.0
"""Seconds of a call beyond which no further inputs of the same size are tried."""


@dataclass(frozen=True)
class Ids:
    """Integers that rows of a table are looked up with.

    Attributes:
        rows: Of the smallest such table.
        padding: The id that stands behind the ends of sentences.
    """

    rows: int
    padding: int


def accepted_samples(signature: Signature, graph: Graph, wanted: int = 4) -> list[Sample]:
    """Returns random inputs for which the original signature gives numbers, of several shapes and of every kind.

    Args:
        signature: Whose inputs.
        graph: In which embeddings are looked for.
        wanted: How many at most, shared evenly among the kinds; fewer of one size where the original is slow.
    """
    ids, kinds = _ids(signature, graph), _kinds(signature)
    found: dict[str, list[Sample]] = {kind: [] for kind in kinds}
    sizes: list[tuple[int, int]] = []
    known: set[tuple[int, int, str]] = set()
    failures, slowest = 0, 0.0
    for seed, variant in enumerate(_variants(signature, sizes, wanted)):
        batch, length, kind = variant
        if len(found[kind]) == wanted // len(kinds) or (variant in known and slowest > SLOW):
            continue
        begin = time.perf_counter()
        sample = _accepted(signature, ids, batch, length, kind, seed)
        if sample is None:
            failures += 1
        else:
            slowest = max(slowest, time.perf_counter() - begin) if sizes else 0.0  # the first call prepares the graph
            found[kind].append(sample)
            sizes.append((batch, length))
            known.add(variant)
        if failures > FAILURES:
            break
    return [sample for kind in kinds for sample in found[kind]]


def _accepted(
    signature: Signature, ids: Mapping[str, Ids | None], batch: int, length: int, kind: str, seed: int
) -> Sample | None:
    """Returns a sample that the original accepts and has numbers for, the first of several; None if there is none."""
    floating = any(spec.dtype.is_floating or spec.dtype.is_complex for spec in signature.inputs.values())
    for numbers in NUMBERS if floating else NUMBERS[:1]:
        sample = _sample(signature, ids, batch, length, kind, seed, numbers)
        reason, outputs = _outcome(signature, sample)
        if reason is None and all(map(_has_number, outputs.values())):
            return sample
    return None


def _has_number(output: np.ndarray) -> bool:
    """Returns whether there is something to compare in an output: NaN is NaN, whatever it is computed of."""
    dtype = tf.as_dtype(output.dtype)
    return not (dtype.is_floating or dtype.is_complex) or output.size == 0 or bool(np.isfinite(output).any())


def _ids(signature: Signature, graph: Graph) -> dict[str, Ids | None]:
    named = zip(signature.inputs, graph.inputs, strict=False)  # behind the inputs there are captured resources
    return {name: ids_at(graph, f"{placeholder}:0") for name, placeholder in named}


def _sample(
    signature: Signature,
    ids: Mapping[str, Ids | None],
    batch: int,
    length: int,
    kind: str,
    seed: int,
    numbers: Callable[[np.random.Generator, list[int]], np.ndarray] = NUMBERS[0],
) -> Sample:
    return {
        name: _array(spec, batch, length, kind, ids[name], np.random.default_rng([seed, index]), numbers)
        for index, (name, spec) in enumerate(signature.inputs.items())
    }


def larger_samples(signature: Signature, graph: Graph) -> list[Sample]:
    """Returns random inputs of size `LARGER` that the original accepts, whole and padded; none if sizes are fixed."""
    if not _dynamic_axes(signature):
        return []
    ids = _ids(signature, graph)
    whole_and_padded = _kinds(signature)[:2]
    samples = [_sample(signature, ids, *LARGER, kind, seed) for seed, kind in enumerate(whole_and_padded)]
    return [sample for sample in samples if refusal(signature, sample) is None]


def refusal(signature: Signature, sample: Mapping[str, np.ndarray]) -> str | None:
    """Returns why the original does not take a sample, in TensorFlow's words if it fails; None if it gives a result."""
    return _outcome(signature, sample)[0]


def _outcome(signature: Signature, sample: Mapping[str, np.ndarray]) -> tuple[str | None, dict[str, np.ndarray]]:
    """Returns why the original does not take a sample, or None, and what it gives for it."""
    for name, spec in signature.inputs.items():
        if not spec.shape.is_compatible_with(sample[name].shape):  # TensorFlow does not look at what is declared
            return f"{name} has another shape", {}
    try:
        return None, call(signature.original, sample)
    except Exception as error:  # noqa: BLE001 - whatever it raises, it is not accepted
        return f"{type(error).__name__}: {error}", {}


def call(function: Any, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs of a signature."""
    return arrays(function(**{name: tf.constant(array) for name, array in sample.items()}))


def arrays(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the values of tensors by name; TensorFlow's own are no arrays where a tensor is one text."""
    return {name: np.asarray(each.numpy(), each.dtype.as_numpy_dtype) for name, each in tensors.items()}


def ids_at(graph: Graph, tensor: str) -> Ids | None:
    """Returns what is known of the ids in a tensor; None if no rows are looked up with them.

    An integer that they are compared with is taken for the id of padding, the smallest of several; 0 if there is none.
    """
    todo, seen = [tensor], set()
    rows: set[int] = set()
    compared: set[int] = set()
    while todo:
        read = todo.pop()
        if read in seen:
            continue
        seen.add(read)
        for node in graph.consumers(read):
            if node.op in SAME_VALUES:
                todo.append(f"{node.name}:0")
            elif node.op == "GatherV2" and node.inputs[1] == read and (size := _rows(graph, node.inputs[0])):
                rows.add(size)
            elif node.op in ("Equal", "NotEqual"):
                values = [value for each in node.inputs if (value := graph.constant(each)) is not None]
                compared |= {int(value.reshape(())) for value in values if value.size == 1 and value.dtype.kind in "iu"}
    limit = min(rows, default=0)
    return Ids(limit, min((each for each in compared if 0 <= each < limit), default=0)) if rows else None


def _rows(graph: Graph, table: str) -> int | None:
    shape = graph.shape(table)
    return shape[0] if shape else None


def _dynamic_axes(signature: Signature) -> list[int]:
    return [
        axis
        for spec in signature.inputs.values()
        if spec.shape.rank
        for axis, size in enumerate(spec.shape)
        if size is None
    ]


def _kinds(signature: Signature) -> tuple[str, ...]:
    specs = signature.inputs.values()
    if any(not spec.dtype.is_floating for spec in specs):
        return KINDS
    return ("random", "prefix") if any(spec.shape.rank == 3 for spec in specs) else ("random",)


def _variants(signature: Signature, accepted: Sequence[tuple[int, int]], rounds: int) -> Iterator[tuple[int, int, str]]:
    """Gives batch, length and kind; first each length with another kind, then each kind with all that was accepted.

    Sizes come again, `rounds` times, for where there are too few of them: the numbers are others each time.
    """
    dynamic = _dynamic_axes(signature)
    kinds = _kinds(signature)
    lengths: Iterable[int] = LENGTHS if any(axis > 0 for axis in dynamic) else (8,)
    batches: Iterable[int] = BATCHES if 0 in dynamic else (1,)
    if dynamic:
        pairs = [(BATCHES[i % len(BATCHES)] if 0 in dynamic else 1, length) for i, length in enumerate(LENGTHS * 2)]
        for (batch, length), kind in zip(pairs, itertools.cycle(kinds), strict=False):
            yield max(batch, 2) if kind == "prefix" and 0 in dynamic else batch, length, kind
    for _, kind in itertools.product(range(rounds), kinds):
        for batch, length in sorted(set(accepted), reverse=True) or itertools.product(batches, lengths):
            yield batch, length, kind


def _array(
    spec: Any,
    batch: int,
    length: int,
    kind: str,
    ids: Ids | None,
    draw: np.random.Generator,
    numbers: Callable[[np.random.Generator, list[int]], np.ndarray],
) -> np.ndarray:
    rank = 1 if spec.shape.rank is None else spec.shape.rank
    sizes = [None] * rank if spec.shape.rank is None else list(spec.shape)
    side = SIDES[LENGTHS.index(length) % len(SIDES)] if rank >= 4 else length
    shape = [size if size is not None else (batch if axis == 0 else side) for axis, size in enumerate(sizes)]
    if spec.dtype == tf.string:
        words = np.array(["", "a", "the word", "Äther 中文", "42", "-1.5"], object)
        return words[draw.integers(0, len(words), shape)] if shape else np.array("the word", object)
    if spec.dtype.is_floating or spec.dtype.is_complex:
        values = numbers(draw, shape)
    else:
        values = _integers(spec.dtype, shape, kind, ids, draw)
    # Where a mask is, or ids are, time is the last axis; where states are, the one before.
    if kind == "prefix" and len(shape) >= 2 and not spec.dtype.is_floating:
        ends = _before_ends(shape[0], shape[-1]).reshape(shape[0], *[1] * (len(shape) - 2), shape[-1])
        values = np.where(ends, values, ids.padding if ids else 0)
    elif kind == "prefix" and len(shape) == 3:
        values = values * _before_ends(shape[0], shape[1])[:, :, None]
    return values.astype(spec.dtype.as_numpy_dtype)


def _integers(dtype: Any, shape: list[int], kind: str, ids: Ids | None, draw: np.random.Generator) -> np.ndarray:
    if ids is not None:
        # The id of padding stands among the others in samples of one kind alone.
        known = np.arange(ids.rows)
        return draw.choice(known if kind == "random" or ids.rows < 2 else np.delete(known, ids.padding), shape)
    if dtype == tf.uint8 and (len(shape) >= 3 or kind == "random"):  # of images
        return draw.integers(0, 256, shape)
    if kind == "random":
        return draw.integers(0, 2, shape)
    return np.full(shape, int(kind != "zeros"))


def _before_ends(examples: int, size: int) -> np.ndarray:
    """Returns where examples of different lengths are, as truth values [examples, size]; all end before the last."""
    lengths = np.linspace(max(size - 1, 1), max(size // 3, 1), examples).round()
    return np.arange(size) < lengths[:, None]
