"""Layer normalisation in the forms that libraries write: fused by batch norm, by moments, or step by step.

Ba et al. 2016, https://arxiv.org/abs/1607.06450.
"""

from dataclasses import dataclass

import numpy as np

from optops.graph.optimizer.graph import Graph, Node
from optops.graph.optimizer.language import Attempt, Constant, OneOf, Op, Tensor, Through
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
SCALE = Op("Mul", (INVERSE, GAMMA), commutative=True)
OFFSET = OneOf(
    (
        Op("Sub", (BETA, Op("Mul", (MEAN, SCALE), commutative=True))),
        Op("AddV2|Add", (Op("Mul", (Op("Neg", (MEAN,)), SCALE), commutative=True), BETA), commutative=True),
    )
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
FORMS = (
    Op("AddV2|Add", (Op("Mul", (X, SCALE), commutative=True), OFFSET), commutative=True),
    Op("AddV2|Add", (Op("Mul", (NORMED, GAMMA), commutative=True), BETA), commutative=True),
    Op("AddV2|Add", (Op("Mul", (CENTRED, SCALE), commutative=True), BETA), commutative=True),
    Op("AddV2|Add", (Op("Mul", (Op("Reshape", (BY_BATCH_NORM,)), GAMMA), commutative=True), BETA), commutative=True),
)


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
    """Returns the layer normalisation that a tensor is the result of, or None."""
    if graph.producer(tensor).op not in ("AddV2", "Add"):
        return None
    attempt = Attempt()
    for form in FORMS:
        found = match(graph, form, tensor, attempt)
        if found is None:
            continue
        scale, offset = (found.constants[name].reshape(-1) for name in ("gamma", "beta"))
        shape = graph.shape(found.tensors["x"])
        if shape is None or shape[-1] != scale.size or scale.size != offset.size:
            attempt.reason = (
                f"{found.tensors['x']} has shape {shape}, the weights {scale.size} and {offset.size} values"
            )
            continue
        if "normed" in found.tensors:
            epsilon = graph.producer(found.tensors["normed"]).attributes["epsilon"].f
            if not _rows_are_channels(graph, found.tensors["normed"], scale.size):
                attempt.reason = f"{found.tensors['normed']} does not normalise rows"
                continue
        else:
            epsilon = float(found.constants["epsilon"].reshape(()))
        return Norm(found.tensors["x"], scale, offset, epsilon, tensor, found.nodes)
    if context is not None:
        context.nearly("layer norm", tensor, attempt, 4)
    return None


def _rows_are_channels(graph: Graph, normed: str, width: int) -> bool:
    """Returns whether a batch norm sees [1, rows, width, 1]: then each row is a channel."""
    shape = graph.shape(graph.producer(normed).inputs[0])
    return shape is not None and len(shape) == 4 and shape[0] == 1 and shape[2] in (width, None) and shape[3] == 1
