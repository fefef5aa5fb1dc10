"""Random inputs that a model accepts: types, dynamic sizes, and ids that its embeddings have."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.loading import Signature
from optops.models.keras import tf

Sample = dict[str, np.ndarray]
SAME_VALUES = ("Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "Maximum", "Minimum", "Transpose")
LENGTHS = (8, 16, 5, 32, 64, 3, 128, 1)
BATCHES = (2, 3, 1)
SIDES = (32, 64, 48, 224)
KINDS = ("ones", "random", "prefix", "zeros")
"""What integers and truth values are that no embedding takes: masks, most often."""


def accepted_samples(signature: Signature, graph: Graph, wanted: int = 4) -> list[Sample]:
    """Returns random inputs for which the original signature gives a result, of several shapes and kinds.

    Args:
        signature: Whose inputs.
        graph: In which embeddings are looked for.
        wanted: How many at most.
    """
    limits = {
        name: id_limit(graph, f"{placeholder}:0")
        for name, placeholder in zip(signature.inputs, graph.inputs, strict=False)
    }
    found: list[Sample] = []
    failures = 0
    for seed, (batch, length, kind) in enumerate(_variants(signature)):
        sample = {
            name: _array(spec, batch, length, kind, limits[name], np.random.default_rng([seed, index]))
            for index, (name, spec) in enumerate(signature.inputs.items())
        }
        if accepts(signature, sample):
            found.append(sample)
        else:
            failures += 1
        if len(found) == wanted or failures > 20:
            break
    return found


def accepts(signature: Signature, sample: Mapping[str, np.ndarray]) -> bool:
    """Returns whether the original gives a result."""
    try:
        call(signature.original, sample)
    except Exception:  # noqa: BLE001 - whatever it raises, it is not accepted
        return False
    return True


def call(function: Any, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs of a signature."""
    return {name: value.numpy() for name, value in function(**{k: tf.constant(v) for k, v in sample.items()}).items()}


def id_limit(graph: Graph, tensor: str) -> int | None:
    """Returns how many rows the smallest table has that integers look rows up in; None if there is no table."""
    limit, todo, seen = None, [tensor], set()
    while todo:
        read = todo.pop()
        if read in seen:
            continue
        seen.add(read)
        for node in graph.consumers(read):
            if node.op in SAME_VALUES:
                todo.append(f"{node.name}:0")
            elif node.op == "GatherV2" and node.inputs[1] == read:
                rows = _rows(graph, node.inputs[0])
                limit = rows if limit is None else min(limit, rows or limit)
    return limit


def _rows(graph: Graph, table: str) -> int | None:
    shape = graph.shape(table)
    return shape[0] if shape else None


def _variants(signature: Signature) -> Iterator[tuple[int, int, str]]:
    dynamic = [
        axis
        for spec in signature.inputs.values()
        if spec.shape.rank
        for axis, size in enumerate(spec.shape)
        if size is None
    ]
    kinds: Iterable[str] = KINDS if any(not s.dtype.is_floating for s in signature.inputs.values()) else ("random",)
    lengths: Iterable[int] = LENGTHS if any(axis > 0 for axis in dynamic) else (8,)
    batches: Iterable[int] = BATCHES if 0 in dynamic else (1,)
    if dynamic:
        pairs = [(BATCHES[i % len(BATCHES)] if 0 in dynamic else 1, length) for i, length in enumerate(LENGTHS * 2)]
        for (batch, length), kind in zip(pairs, itertools.cycle(kinds), strict=False):
            yield batch, length, kind
    for kind, length, batch in itertools.product(kinds, lengths, batches):
        yield batch, length, kind


def _array(spec: Any, batch: int, length: int, kind: str, limit: int | None, draw: np.random.Generator) -> np.ndarray:
    rank = 1 if spec.shape.rank is None else spec.shape.rank
    sizes = [None] * rank if spec.shape.rank is None else list(spec.shape)
    side = SIDES[LENGTHS.index(length) % len(SIDES)] if rank >= 4 else length
    shape = [size if size is not None else (batch if axis == 0 else side) for axis, size in enumerate(sizes)]
    if spec.dtype == tf.string:
        words = np.array(["", "a", "the word", "Äther 中文", "42", "-1.5"], object)
        return words[draw.integers(0, len(words), shape)] if shape else np.array("the word", object)
    if spec.dtype.is_floating or spec.dtype.is_complex:
        return draw.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
    if limit is not None:
        return draw.integers(0, max(limit, 1), shape).astype(spec.dtype.as_numpy_dtype)
    return _mask(shape, kind, draw).astype(spec.dtype.as_numpy_dtype)


def _mask(shape: list[int], kind: str, draw: np.random.Generator) -> np.ndarray:
    if kind == "prefix" and shape and shape[-1] > 1:
        lengths = draw.integers(1, shape[-1] + 1, [*shape[:-1], 1])
        return np.arange(shape[-1]) < lengths
    if kind == "random":
        return draw.integers(0, 2, shape)
    return np.full(shape, int(kind != "zeros"))
