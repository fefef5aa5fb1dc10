"""Random inputs that a model accepts: types, dynamic sizes, ids that its embeddings have, ends that are padded."""

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

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
"""Of images, one for each length."""
KINDS = ("ones", "prefix", "random", "zeros")
"""What masks are.

In `prefix`, ids are those of padding and states are 0 behind the same ends, before the last position and different in
each example.
"""
CHANNELS = 3
"""An axis of images."""
Numbers = Callable[[np.random.Generator, list[int]], np.ndarray]
NUMBERS: tuple[Numbers, ...] = (
    lambda draw, shape: draw.normal(size=shape),
    lambda draw, shape: draw.uniform(size=shape),
    lambda draw, shape: np.ones(shape),
)
"""What floats are; the next where a model has no number for them, as one with a logarithm has none."""
FAILURES = 40
"""How many samples a model may refuse until it counts as one that accepts none."""
SLOW = 1.0
"""Seconds of a call beyond which no further inputs of the same size are tried."""
Role = Literal["text", "ids", "mask", "lengths", "bytes", "numbers"]


@dataclass(frozen=True)
class Ids:
    """Integers that rows of a table are looked up with.

    Attributes:
        rows: Of the smallest such table.
        padding: The id that stands behind the ends of sentences.
    """

    rows: int
    padding: int


@dataclass(frozen=True)
class Input:
    """What one input of a signature is drawn as.

    Attributes:
        dtype: Of the input.
        role: What it means: `mask` are all integers and truth values that are nothing else, and numbers beside
            sentences that are as long as these.
        axes: Size of each axis; `batch`, `length` or `side` where it is dynamic.
        time: The axis of time; None if there is none.
        ids: What is known of ids.
    """

    dtype: Any
    role: Role
    axes: tuple[int | str, ...]
    time: int | None = None
    ids: Ids | None = None


class Variant(NamedTuple):
    """Size of a sample, and one of `KINDS`."""

    batch: int
    length: int
    kind: str


def accepted_samples(signature: Signature, graph: Graph, wanted: int = 4) -> list[Sample]:
    """Returns random inputs for which the original signature gives numbers, of several shapes and of every kind.

    Args:
        signature: Whose inputs.
        graph: In which embeddings are looked for.
        wanted: How many at most, shared evenly among the kinds; fewer of one size where the original is slow.
    """
    inputs = _inputs(signature, graph)
    kinds = _kinds(inputs)
    found: dict[str, list[Sample]] = {kind: [] for kind in kinds}
    sizes: list[tuple[int, int]] = []
    known: set[Variant] = set()
    failures, slowest = 0, 0.0
    for seed, variant in enumerate(_variants(inputs, sizes, wanted)):
        if len(found[variant.kind]) == wanted // len(kinds) or (variant in known and slowest > SLOW):
            continue
        begin = time.perf_counter()
        sample = _accepted(signature, inputs, variant, seed)
        if sample is None:
            failures += 1
        else:
            slowest = max(slowest, time.perf_counter() - begin) if sizes else 0.0  # the first call prepares the graph
            found[variant.kind].append(sample)
            sizes.append((variant.batch, variant.length))
            known.add(variant)
        if failures > FAILURES:
            break
    return [sample for kind in kinds for sample in found[kind]]


def larger_samples(signature: Signature, graph: Graph) -> list[Sample]:
    """Returns random inputs of size `LARGER` that the original accepts, whole and padded; none if sizes are fixed."""
    inputs = _inputs(signature, graph)
    if not _dynamic(inputs):
        return []
    whole_and_padded = [Variant(*LARGER, kind) for kind in _kinds(inputs)[:2]]
    samples = [_sample(inputs, variant, seed) for seed, variant in enumerate(whole_and_padded)]
    return [sample for sample in samples if refusal(signature, sample) is None]


# What inputs are


def _inputs(signature: Signature, graph: Graph) -> dict[str, Input]:
    placeholders = dict(zip(signature.inputs, graph.inputs, strict=False))  # behind the inputs: captured resources
    ids = {name: ids_at(graph, f"{placeholder}:0") for name, placeholder in placeholders.items()}
    shapes = {name: _declared(spec) for name, spec in signature.inputs.items()}
    timed = {name: shape[1] for name, shape in shapes.items() if _has_time(signature.inputs[name], ids[name])}
    # One sentence without a batch: what is dynamic is its length.
    dynamic = {axis for shape in shapes.values() for axis, size in enumerate(shape) if size is None}
    single = dynamic == {0} and any(ids[name] and len(shape) == 1 for name, shape in shapes.items())
    return {
        name: _input(spec, ids[name], [size for other, size in timed.items() if other != name], single)
        for name, spec in signature.inputs.items()
    }


def _declared(spec: Any) -> list[int | None]:
    return [None] if spec.shape.rank is None else list(spec.shape)


def _has_time(spec: Any, ids: Ids | None) -> bool:
    """Returns whether axis 1 is that of time: ids and what else are integers have it, and states of a known width."""
    if spec.dtype.is_integer or spec.dtype.is_bool or ids:
        return len(_declared(spec)) == 2
    return spec.dtype.is_floating and len(_declared(spec)) == 3 and spec.shape[-1] is not None


def _input(spec: Any, ids: Ids | None, lengths: Sequence[int | None], single: bool) -> Input:
    """Returns what one input is.

    Args:
        spec: Of the input.
        ids: What is known of it.
        lengths: How long the other inputs are declared to be, of those that have time.
        single: Whether the first axis is no batch, but time.
    """
    shape = _declared(spec)
    rank = len(shape)
    image = rank >= 4 and (not lengths or CHANNELS in shape)
    names = ["length" if single else "batch", *["side" if image else "length"] * (rank - 1)]
    axes = tuple(name if size is None else size for name, size in zip(names, shape, strict=False))
    role = _role(spec, ids, () if image else lengths)
    time_axis = None
    if role in ("ids", "mask") and (rank > 1 or axes == ("length",)):
        time_axis = rank - 1
    elif role == "numbers" and rank == 3:
        time_axis = 1
    return Input(spec.dtype, role, axes, time_axis, ids)


def _role(spec: Any, ids: Ids | None, lengths: Collection[int | None]) -> Role:
    shape = _declared(spec)
    if spec.dtype == tf.string:
        return "text"
    if ids:
        return "ids"
    if spec.dtype.is_floating or spec.dtype.is_complex:
        # Of numbers that are as long as a sentence, states have a width, which is known.
        as_long = len(shape) >= 2 and shape[-1] in lengths and (shape[-1] is None or 1 in shape[1:-1])
        return "mask" if as_long else "numbers"
    if spec.dtype == tf.uint8 and len(shape) >= 3:
        return "bytes"
    return "lengths" if spec.dtype.is_integer and shape == [None] and None in lengths else "mask"


def _dynamic(inputs: Mapping[str, Input]) -> set[str]:
    return {axis for each in inputs.values() for axis in each.axes if isinstance(axis, str)}


def _kinds(inputs: Mapping[str, Input]) -> tuple[str, ...]:
    if any(each.role in ("ids", "mask", "lengths") for each in inputs.values()):
        return KINDS
    return ("random", "prefix") if any(each.time is not None for each in inputs.values()) else ("random",)


def _variants(inputs: Mapping[str, Input], accepted: Sequence[tuple[int, int]], rounds: int) -> Iterator[Variant]:
    """Gives first each length with another kind, then each kind with all that was accepted.

    Sizes come again, `rounds` times, for where there are too few of them: the numbers are others each time.
    """
    dynamic = _dynamic(inputs)
    kinds = _kinds(inputs)
    lengths: Iterable[int] = LENGTHS if dynamic & {"length", "side"} else (8,)
    batches: Iterable[int] = BATCHES if "batch" in dynamic else (1,)
    if dynamic:
        pairs = [
            (BATCHES[i % len(BATCHES)] if "batch" in dynamic else 1, length) for i, length in enumerate(LENGTHS * 2)
        ]
        for (batch, length), kind in zip(pairs, itertools.cycle(kinds), strict=False):
            yield Variant(max(batch, 2) if kind == "prefix" and "batch" in dynamic else batch, length, kind)
    for _, kind in itertools.product(range(rounds), kinds):
        for batch, length in sorted(set(accepted), reverse=True) or itertools.product(batches, lengths):
            yield Variant(batch, length, kind)


# What is drawn


def _accepted(signature: Signature, inputs: Mapping[str, Input], variant: Variant, seed: int) -> Sample | None:
    """Returns a sample that the original accepts and has numbers for, the first of several; None if there is none."""
    floating = any(given.dtype.is_floating or given.dtype.is_complex for given in inputs.values())
    for numbers in NUMBERS if floating else NUMBERS[:1]:
        sample = _sample(inputs, variant, seed, numbers)
        reason, outputs = _outcome(signature, sample)
        if reason is None and all(map(_has_number, outputs.values())):
            return sample
    return None


def _has_number(output: np.ndarray) -> bool:
    """Returns whether there is something to compare in an output: NaN is NaN, whatever it is computed of."""
    dtype = tf.as_dtype(output.dtype)
    return not (dtype.is_floating or dtype.is_complex) or output.size == 0 or bool(np.isfinite(output).any())


def _sample(inputs: Mapping[str, Input], variant: Variant, seed: int, numbers: Numbers = NUMBERS[0]) -> Sample:
    return {
        name: _array(given, variant, np.random.default_rng([seed, index]), numbers)
        for index, (name, given) in enumerate(inputs.items())
    }


def _array(given: Input, variant: Variant, draw: np.random.Generator, numbers: Numbers) -> np.ndarray:
    side = SIDES[LENGTHS.index(variant.length) % len(SIDES)]
    sizes = {"batch": variant.batch, "length": variant.length, "side": side}
    shape = [size if isinstance(size, int) else sizes[size] for size in given.axes]
    values = _values(given, shape, variant, draw, numbers)
    if variant.kind == "prefix" and given.time is not None:
        ends = _before_ends(shape[0] if given.time else 1, shape[given.time])
        ends = ends.reshape([size if axis in (0, given.time) else 1 for axis, size in enumerate(shape)])
        values = np.where(ends, values, given.ids.padding if given.ids else 0)
    return values.astype(given.dtype.as_numpy_dtype)


def _values(
    given: Input, shape: list[int], variant: Variant, draw: np.random.Generator, numbers: Numbers
) -> np.ndarray:
    if given.role == "text":
        words = np.array(["", "a", "the word", "Äther 中文", "42", "-1.5"], object)
        return words[draw.integers(0, len(words), shape)] if shape else np.array("the word", object)
    if given.ids:
        # The id of padding stands among the others in samples of one kind alone.
        known, has_padding = np.arange(given.ids.rows), variant.kind == "random" or given.ids.rows < 2
        return draw.choice(known if has_padding else np.delete(known, given.ids.padding), shape)
    if given.role == "lengths":
        return _lengths(shape[0], variant, draw)
    if given.role == "mask":
        return _mask(given.dtype, shape, variant.kind, draw, numbers)
    return draw.integers(0, 256, shape) if given.role == "bytes" else numbers(draw, shape)


def _mask(dtype: Any, shape: list[int], kind: str, draw: np.random.Generator, numbers: Numbers) -> np.ndarray:
    if kind != "random":
        return np.full(shape, int(kind != "zeros"))
    return numbers(draw, shape) if dtype.is_floating else draw.integers(0, 256 if dtype == tf.uint8 else 2, shape)


def _lengths(examples: int, variant: Variant, draw: np.random.Generator) -> np.ndarray:
    if variant.kind == "prefix":
        return np.asarray(_before_ends(examples, variant.length).sum(axis=1))
    if variant.kind == "random":
        return draw.integers(1, variant.length + 1, examples)
    return np.full(examples, variant.length if variant.kind == "ones" else 0)


def _before_ends(examples: int, size: int) -> np.ndarray:
    """Returns where examples of different lengths are, as truth values [examples, size]; all end before the last."""
    lengths = np.linspace(max(size - 1, 1), max(size // 3, 1), examples).round()
    return np.arange(size) < lengths[:, None]


# What a model makes of it


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
                compared |= {int(value.reshape(())) for value in values if _is_integer(value)}
    limit = min(rows, default=0)
    return Ids(limit, min((each for each in compared if 0 <= each < limit), default=0)) if rows else None


def _is_integer(value: np.ndarray) -> bool:
    """Returns whether a value is one integer, be it as a float: ids may come in as such."""
    return value.size == 1 and value.dtype.kind in "iuf" and bool(np.isfinite(value) & (value == np.rint(value)))


def _rows(graph: Graph, table: str) -> int | None:
    shape = graph.shape(table)
    return shape[0] if shape else None
