"""What a part of a graph computes of one tensor, found out by computing it in float64: however it is written."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optops.graph.onnx_fusions.rewriting import Rewriter, known_sizes

Function = Callable[[np.ndarray], np.ndarray]

BY_ELEMENT = frozenset(["Add", "Sub", "Mul", "Div", "Neg", "Pow", "Sqrt", "Reciprocal", "Erf", "Tanh"])
"""Operators each of whose results depends on one element of each input."""
MOST_NODES = 48
LENGTHS = (2, 3)
"""Sizes of axes that are dynamic, in examples."""


def part(graph: Rewriter, source: str, result: str, operators: frozenset[str]) -> list[Any] | None:
    """Returns the nodes between two tensors in order; None if something else than `source` and constants goes in.

    Args:
        graph: Where they are.
        source: What goes in.
        result: What comes out.
        operators: Those that may be between them.
    """
    order: list[Any] = []
    done = {source, ""} | set(graph.constants)
    todo = [result]
    while todo:
        if todo[-1] in done:
            todo.pop()
            continue
        node = graph.producer(todo[-1])
        if node is None or node.op_type not in operators or len(order) > MOST_NODES:
            return None
        missing = [name for name in node.input if name not in done]
        if missing:
            todo += missing
            if len(todo) > MOST_NODES**2:
                return None
            continue
        order.append(node)
        done |= set(node.output)
        todo.pop()
    return order if any(source in node.input for node in order) else None


def function_of(graph: Rewriter, nodes: list[Any], source: str, result: str) -> Function:
    """Returns what nodes compute, for arrays of float64."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    read = {name for node in nodes for name in node.input if name in graph.constants}
    wide = {name: graph.constants[name] for name in read}
    wide = {name: np.float64(array) if array.dtype == np.float32 else array for name, array in wide.items()}
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in wide.items()]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    for cast in (attribute for node in copies if node.op_type == "Cast" for attribute in node.attribute):
        cast.i = TensorProto.DOUBLE if cast.name == "to" and cast.i == TensorProto.FLOAT else cast.i
    anything = [helper.make_empty_tensor_value_info(name) for name in (source, result)]
    model = helper.make_model(
        helper.make_graph(copies, "part", anything[:1], anything[1:], constants),
        opset_imports=[each for each in graph.model.opset_import if not each.domain],
    )
    evaluator = ReferenceEvaluator(model)

    def compute(array: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(evaluator.run(None, {source: array})[0], np.float64)

    return compute


def results_of(graph: Rewriter, node: Any, operators: frozenset[str], steps: int) -> list[str]:
    """Returns what a few steps behind a node make of its result, the farthest last."""
    found, reached = [], [node.output[0]]
    for _ in range(steps):
        nodes = [reader for tensor in reached for reader in graph.readers(tensor) if reader.op_type in operators]
        reached = list(dict.fromkeys(reader.output[0] for reader in nodes))
        found += reached
    return list(dict.fromkeys(found[::-1]))[::-1]


def example_of(graph: Rewriter, tensor: str, width: int) -> np.ndarray:
    """Returns random rows in the shape of a tensor whose last axis is `width`."""
    sizes = [size or LENGTHS[axis % 2] for axis, size in enumerate(known_sizes(graph.shape(tensor)[:-1]))]
    return np.random.default_rng(0).normal(size=[*sizes, width])
