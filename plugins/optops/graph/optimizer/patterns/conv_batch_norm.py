"""Batch norm behind a convolution or a product: folded into its weights and one bias.

Jacob et al. 2018 (https://arxiv.org/abs/1712.05877), section 3.2: at inference the norm is a scale and an offset for
each channel, which a linear operator before it can take over. TensorFlow then runs convolution, bias and activation as
one operator.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, text
from optops.graph.optimizer.language import Attempt, Constant, OneOf, Op, Tensor
from optops.graph.optimizer.language import find as match
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.models.keras import tf

LINEAR = "Conv2D|DepthwiseConv2dNative|MatMul|Conv3D"
TRANSPOSED = "Conv2DBackpropInput"


def _is_vector(value: np.ndarray) -> bool:
    return value.dtype == np.float32 and value.ndim >= 1 and value.size == value.shape[-1]


def _used_once(graph: Graph, node: Node) -> str | None:
    once = graph.used_once(f"{node.name}:0")
    return None if once else f"{node.name} is read by more than the norm"


PRODUCT = OneOf(
    (
        Op(LINEAR, (Tensor("x"), Constant("kernel")), name="product", where=_used_once),
        Op(TRANSPOSED, (Tensor("sizes"), Constant("kernel"), Tensor("x")), name="product", where=_used_once),
    )
)
# In one direction, convolutions are those in two directions, one of which is squeezed out behind.
FLAT = OneOf((PRODUCT, Op("Squeeze", (PRODUCT,), name="squeezed", where=_used_once)))
BIASED = Op("BiasAdd|AddV2|Add", (FLAT, Constant("bias", _is_vector, "a vector")), where=_used_once)
LINEAR_PART = OneOf((FLAT, BIASED))
NORM = Op(
    "FusedBatchNormV3|FusedBatchNormV2|FusedBatchNorm",
    (LINEAR_PART, Constant("gamma"), Constant("beta"), Constant("mean"), Constant("variance")),
    attributes={"is_training": False},
)
SCALED = Op("Mul", (LINEAR_PART, Constant("scale", _is_vector, "a vector")), commutative=True, where=_used_once)
SCALED_AND_MOVED = Op("AddV2|Add|BiasAdd", (SCALED, Constant("offset", _is_vector, "a vector")), commutative=True)
SCALED_AND_LOWERED = Op("Sub", (SCALED, Constant("lower", _is_vector, "a vector")))
ROOTS = {
    "FusedBatchNormV3": NORM,
    "FusedBatchNormV2": NORM,
    "FusedBatchNorm": NORM,
    "AddV2": SCALED_AND_MOVED,
    "Add": SCALED_AND_MOVED,
    "BiasAdd": SCALED_AND_MOVED,
    "Sub": SCALED_AND_LOWERED,
}


@dataclass(frozen=True)
class Affine:
    """What a norm does to each channel: `scale * x + offset`, float64 [channels]."""

    scale: np.ndarray
    offset: np.ndarray


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives norms behind linear operators; other norms are reported."""
    for node in graph.nodes.values():
        if node.op not in ROOTS or node.controls:
            continue
        attempt = Attempt()
        found = match(graph, ROOTS[node.op], f"{node.name}:0", attempt)
        if found is None:
            if "BatchNorm" in node.op:
                context.left_alone("batch norm folding", node.name, attempt.reason)
            continue
        affine = _affine(node, found.constants)
        product = graph.producer(found.tensors["product"])
        squeeze = graph.producer(found.tensors["squeezed"]) if "squeezed" in found.tensors else None
        reason = _unfit(graph, product, node, affine, found.constants)
        if reason is None and graph.shape(f"{node.name}:0") != graph.shape(f"{(squeeze or product).name}:0"):
            reason = f"{node.name} changes the shape"
        if reason:
            context.left_alone("batch norm folding", node.name, reason)
            continue
        kernel, bias = _folded(product, affine, found.constants)
        rewrite = _rewrite(product, kernel, bias, squeeze)
        yield Place(f"{node.name}:0", found.nodes, rewrite, f"kernel {list(kernel.shape)}")


def _affine(node: Node, constants: Mapping[str, np.ndarray]) -> Affine:
    wide = {name: value.astype(np.float64) for name, value in constants.items()}
    if "gamma" in wide:
        scale = wide["gamma"] / np.sqrt(wide["variance"] + node.attributes["epsilon"].f)
        return Affine(scale, wide["beta"] - wide["mean"] * scale)
    return Affine(wide["scale"].reshape(-1), (-wide["lower"] if "lower" in wide else wide["offset"]).reshape(-1))


def _unfit(graph: Graph, product: Node, norm: Node, affine: Affine, constants: Mapping[str, np.ndarray]) -> str | None:
    channels = _channels(product, constants["kernel"])
    for node in (product, norm):
        if "data_format" in node.attributes and not text(node, "data_format").endswith("C"):
            return f"{node.name} has its channels first"
    if constants["kernel"].dtype != np.float32:
        return f"{product.name} is not float32"
    if "BatchNorm" in norm.op and any(graph.consumers(f"{norm.name}:{index}") for index in range(1, 6)):
        return f"more than the first output of {norm.name} is read"
    sizes = {
        affine.scale.size,
        affine.offset.size,
        channels,
        *((constants["bias"].size,) if "bias" in constants else ()),
    }
    if sizes != {channels}:
        return f"{product.name} has {channels} channels, the norm has weights of {sorted(sizes - {channels})}"
    return None


def _channels(product: Node, kernel: np.ndarray) -> int:
    if product.op == "DepthwiseConv2dNative":
        return int(kernel.shape[2] * kernel.shape[3])
    if product.op == "MatMul" and product.attributes["transpose_b"].b:
        return int(kernel.shape[0])
    if product.op == TRANSPOSED:
        return int(kernel.shape[2])
    return int(kernel.shape[-1])


def _folded(product: Node, affine: Affine, constants: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    kernel = constants["kernel"].astype(np.float64)
    scale = affine.scale
    if product.op == "DepthwiseConv2dNative":
        scale = scale.reshape(kernel.shape[2:])
    elif product.op == TRANSPOSED or (product.op == "MatMul" and product.attributes["transpose_b"].b):
        scale = scale[:, None]
    bias = constants["bias"].reshape(-1).astype(np.float64) if "bias" in constants else 0.0
    return (kernel * scale).astype(np.float32), (affine.offset + affine.scale * bias).astype(np.float32)


def _rewrite(product: Node, kernel: np.ndarray, bias: np.ndarray, squeeze: Node | None) -> Callable[[Graph], str]:
    def rewrite(graph: Graph) -> str:
        weights = graph.constant_node(f"{product.name}/folded_kernel", kernel)
        offsets = graph.constant_node(f"{product.name}/folded_bias", bias)
        name = graph.free_name(f"{product.name}/folded")
        graph.add(replace(product, name=name, inputs=(product.inputs[0], weights, *product.inputs[2:])))
        biased = graph.free_name(f"{product.name}/biased")
        kind = {"T": tf.compat.v1.AttrValue(type=tf.float32.as_datatype_enum)}
        if product.op == "Conv3D":
            graph.add(Node(biased, "AddV2", (f"{name}:0", offsets), (), kind))
        else:
            graph.add(Node(biased, "BiasAdd", (f"{name}:0", offsets), (), kind))
        if squeeze is None:
            return f"{biased}:0"
        # The bias is added before, where TensorFlow makes one operator of it and the convolution.
        squeezed = graph.free_name(f"{squeeze.name}/folded")
        graph.add(replace(squeeze, name=squeezed, inputs=(f"{biased}:0",)))
        return f"{squeezed}:0"

    return rewrite


CONV_BATCH_NORM = Pattern("batch norm folding", find)
