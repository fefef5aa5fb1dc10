"""Layer normalisation in the forms that libraries write: fused by batch norm, by moments, or step by step.

Ba et al. 2016, https://arxiv.org/abs/1607.06450. Scale and offset are there or not.
"""

from dataclasses import dataclass

import numpy as np

from optops.graph.optimizer.graph import Graph, Node
from optops.graph.optimizer.language import Attempt, Constant, Match, OneOf, Op, Tensor, Through
from optops.graph.optimizer.language import find as match
from optops.graph.optimizer.rewriting import Context


def _last_axis(graph: Graph, node: Node) -> str | None:
    shape = graph.shape(node.inputs[0])
    if shape is None:
        return f"the rank of {node.inputs[0]} is not known"
    axes = graph.constant(node.inputs[1])
    if axes is None or sorted(axes.reshape(-1) % len(shape)) != [len(shape) - 1]:
        return f"{node.name} is not over the last axis alone"
    return None if node.attributes["keep_dims"].b else f"{node.name} drops the axis"


def _is_vector(value: np.ndarray) -> bool:
    return value.dtype == np.float32 and value.ndim >= 1 and value.size == value.shape[-1]


def _is_scalar(value: np.ndarray) -> bool:
    return value.dtype == np.float32 and value.size == 1


def _mean(of: object) -> Op:
    return Op("Mean", (of,), where=_last_axis)


X = Tensor("x")
GAMMA = Constant("gamma", _is_vector, "a vector")
BETA = Constant("beta", _is_vector, "a vector")
EPSILON = Constant("epsilon", _is_scalar, "a number")
MEAN = Through("StopGradient|Identity", _mean(X))
CENTRED = Op("Sub", (X, MEAN))
SQUARED = OneOf(
    (
        Op("SquaredDifference", (X, MEAN), commutative=True),
        Op("Square", (CENTRED,)),
        Op("Mul", (CENTRED, CENTRED)),
        Op("Pow", (CENTRED, Constant("two", lambda value: bool(np.all(value == 2)), "2"))),
    )
)
MEAN_OF_SQUARES = _mean(OneOf((Op("Square", (X,)), Op("Mul", (X, X)))))
DIFFERENCE_OF_SQUARES = Op("Sub", (MEAN_OF_SQUARES, OneOf((Op("Square", (MEAN,)), Op("Mul", (MEAN, MEAN))))))
NOT_NEGATIVE = OneOf(
    (
        DIFFERENCE_OF_SQUARES,
        Op("Relu", (DIFFERENCE_OF_SQUARES,)),
        Op("Maximum", (DIFFERENCE_OF_SQUARES, Constant("zero", lambda value: not value.any(), "0")), commutative=True),
    )
)
VARIANCE = Through("Identity", OneOf((_mean(SQUARED), NOT_NEGATIVE)))
STABILISED = Op("AddV2|Add", (VARIANCE, EPSILON), commutative=True)
INVERSE = Op("Rsqrt", (STABILISED,))
ROOT = OneOf(
    (Op("Sqrt", (STABILISED,)), Op("Pow", (STABILISED, Constant("half", lambda v: bool(np.all(v == 0.5)), "0.5"))))
)
NORMED = OneOf((Op("Mul", (CENTRED, INVERSE), commutative=True), Op("RealDiv", (CENTRED, ROOT))))
BY_BATCH_NORM = Op(
    "FusedBatchNormV3",
    (
        Op("Reshape", (X,)),
        OneOf(
            (
                Op("Fill", (Tensor("ones"), Constant("one", lambda v: bool(v == 1), "1"))),
                Constant("ones", lambda v: bool(np.all(v == 1)), "ones"),
            )
        ),
        OneOf(
            (
                Op("Fill", (Tensor("zeros"), Constant("nought", lambda v: bool(v == 0), "0"))),
                Constant("zeros", lambda v: not v.any(), "zeros"),
            )
        ),
    ),
    name="normed",
    attributes={"is_training": True, "data_format": "NCHW"},
)
SCALED = Op("Mul", (INVERSE, GAMMA), commutative=True)


def _times(one: object, other: object) -> Op:
    return Op("Mul", (one, other), commutative=True)


def _plus(one: object, other: object) -> Op:
    return Op("AddV2|Add", (one, other), commutative=True)


def _by_moments(scale: Op) -> tuple[Op, ...]:
    """Returns how TensorFlow and Keras write it: a factor and a summand for each row, with an offset or without."""
    factor, shift = _times(X, scale), _times(MEAN, scale)
    shift_back = _times(Op("Neg", (MEAN,)), scale)
    with_offset = OneOf((Op("Sub", (BETA, shift)), _plus(shift_back, BETA)))
    return _plus(factor, with_offset), _plus(factor, shift_back), Op("Sub", (factor, shift))


ROWS_NORMED = Op("Reshape", (BY_BATCH_NORM,))
FORMS = (
    *_by_moments(SCALED),
    *_by_moments(INVERSE),
    _plus(OneOf((_times(NORMED, GAMMA), _times(CENTRED, SCALED), _times(ROWS_NORMED, GAMMA))), BETA),
    _plus(OneOf((NORMED, ROWS_NORMED)), BETA),
    OneOf((_times(NORMED, GAMMA), _times(CENTRED, SCALED), _times(ROWS_NORMED, GAMMA))),
    NORMED,
)
ENDS = ("AddV2", "Add", "Sub", "Mul", "RealDiv")
"""Operators that the forms end with."""
STABILISED_SQUARES = Op("AddV2|Add", (MEAN_OF_SQUARES, EPSILON), commutative=True)
BY_SQUARES_ALONE = OneOf(
    (
        _times(X, Op("Rsqrt", (STABILISED_SQUARES,))),
        Op("RealDiv", (X, Op("Sqrt", (STABILISED_SQUARES,)))),
    )
)
"""Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467: T5 and LLaMA have it."""


@dataclass(frozen=True)
class Norm:
    """A layer normalisation over the last axis.

    Attributes:
        source: What is normalised.
        scale: float32 [width].
        offset: float32 [width].
        epsilon: Added to the variance.
        output: The result.
        nodes: That make it.
    """

    source: str
    scale: np.ndarray
    offset: np.ndarray
    epsilon: float
    output: str
    nodes: tuple[str, ...]


def norm_at(graph: Graph, tensor: str, context: Context | None = None) -> Norm | None:
    """Returns the layer normalisation that a tensor is the result of, or None; one that is part of another is none."""
    node = graph.producer(tensor)
    if node.op not in ENDS:
        return None
    attempt = Attempt()
    for form in FORMS:
        found = match(graph, form, tensor, attempt)
        if found is None:
            continue
        norm = _norm(graph, tensor, found, attempt)
        if norm is not None:
            return None if _continues(graph, norm, found) else norm
    if context is not None and match(graph, BY_SQUARES_ALONE, tensor) is not None:
        context.left_alone("layer norm", tensor, "it is an RMS norm, which no operator of the library computes")
    elif context is not None and node.op in ("AddV2", "Add"):
        context.nearly("layer norm", tensor, attempt, 4)
    return None


def _norm(graph: Graph, tensor: str, found: Match, attempt: Attempt) -> Norm | None:
    source = found.tensors["x"]
    shape = graph.shape(source)
    width = shape[-1] if shape else None
    weights = {name: found.constants[name].reshape(-1) for name in ("gamma", "beta") if name in found.constants}
    if width is None or any(value.size != width for value in weights.values()):
        sizes = " and ".join(str(value.size) for value in weights.values()) or "no"
        attempt.reason = f"{source} has shape {shape}, the weights {sizes} values"
        return None
    if "normed" in found.tensors:
        epsilon = graph.producer(found.tensors["normed"]).attributes["epsilon"].f
        if not _rows_are_channels(graph, found.tensors["normed"], width):
            attempt.reason = f"{found.tensors['normed']} does not normalise rows"
            return None
    else:
        epsilon = float(found.constants["epsilon"].reshape(()))
    scale = weights.get("gamma", np.ones(width, np.float32))
    offset = weights.get("beta", np.zeros(width, np.float32))
    return Norm(source, scale, offset, epsilon, tensor, found.nodes)


def _continues(graph: Graph, norm: Norm, found: Match) -> bool:
    """Returns whether what alone reads a norm without offset is its scale or its offset."""
    if "beta" in found.constants or not graph.used_once(norm.output):
        return False
    (reader,) = graph.consumers(norm.output)
    ends = ("AddV2", "Add") if "gamma" in found.constants else ("AddV2", "Add", "Mul")
    values = [graph.constant(read) for read in reader.inputs if read != norm.output]
    return reader.op in ends and any(
        value is not None and _is_vector(value) and value.size == norm.scale.size for value in values
    )


def _rows_are_channels(graph: Graph, normed: str, width: int) -> bool:
    """Returns whether a batch norm sees [1, rows, width, 1]: then each row is a channel."""
    shape = graph.shape(graph.producer(normed).inputs[0])
    return shape is not None and len(shape) == 4 and shape[0] == 1 and shape[2] in (width, None) and shape[3] == 1
