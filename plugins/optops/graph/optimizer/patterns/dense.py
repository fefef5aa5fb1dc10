"""A product with constant weights, its bias and its activation become one operator, with packed weights."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, integer
from optops.graph.optimizer.patterns.bias_activation import BiasedActivation, biased_activations, channels_last
from optops.graph.optimizer.patterns.product import Product, product_at
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.rows import KEEPS_ORDER
from optops.graph.optimizer.splice import splice
from optops.models.keras import tf

NAME = "dense"
PRODUCTS = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum")
FEWEST_WEIGHTS = 4096
"""Below, calling an operator costs as much as the product."""


@dataclass(frozen=True)
class Dense:
    """`activation(x W + b)`.

    Attributes:
        product: With its weights and its own result; the bias in it may come behind moves.
        kept: Leading axes of what it reads that it keeps; the others hold a row.
        activation: As the operator library calls it.
        moves: Nodes that give the result another shape, in order; rows stay behind each other.
        result: What it makes.
        nodes: That make it.
    """

    product: Product
    kept: int
    activation: str
    moves: tuple[Node, ...]
    result: str
    nodes: tuple[str, ...]


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives products with constant weights; those with others are reported."""
    activations = {each.source: each for each in biased_activations(graph, Context())}
    activations |= _library_activations(graph)
    for node in graph.nodes.values():
        if node.op not in PRODUCTS or node.controls:
            continue
        product = product_at(graph, f"{node.name}:0")
        if product is None:
            if node.op == "MatMul":
                context.left_alone(NAME, node.name, "its weights are computed, or not float32")
            continue
        kept, reason = _rows(graph, product)
        if reason:
            context.left_alone(NAME, node.name, reason)
            continue
        dense = _followed(graph, Dense(product, kept, "linear", (), product.output, product.nodes), activations)
        outputs = product.kernel.shape[1]
        weights = f"{product.kernel.shape[0]} to {outputs}, {dense.activation}, {context.precision}"
        yield Place(dense.result, dense.nodes, _rewrite(dense, context.precision), weights)


def _rows(graph: Graph, product: Product) -> tuple[int, str]:
    """Returns how many leading axes a product keeps, and why it is left alone, if it is."""
    inputs, outputs = product.kernel.shape
    if product.kernel.size < FEWEST_WEIGHTS:
        return 0, f"it has {product.kernel.size} weights; fewer than {FEWEST_WEIGHTS} are not worth an operator"
    if not np.isfinite(product.kernel).all():
        return 0, "its weights are not all finite"
    shape, made = graph.shape(product.source), graph.shape(product.output)
    if shape and graph.producer(product.output).op != "Einsum":
        shape = (*shape[:-1], inputs)  # else there was no product
    kept = _axes_before(shape, inputs)
    if kept is None or _axes_before(made, outputs) != kept:
        return 0, f"{product.source} {shape} becomes {made}: no rows of {inputs} that become {outputs}"
    return kept, ""


def _axes_before(shape: tuple[int | None, ...] | None, width: int) -> int | None:
    """Returns how many axes stand before those that together hold a row of a width; None if none do."""
    size = 1
    for axis in range(len(shape or ()) - 1, -1, -1):
        last = (shape or ())[axis]
        if last is None:
            return None
        size *= last
        if size >= width:
            return axis if size == width else None
    return None


def _library_activations(graph: Graph) -> dict[str, BiasedActivation]:
    """Returns what the library's operator for a bias and an activation does, by what it reads."""
    from optops.kernels.arrays import ACTIVATIONS

    kinds = {code: kind for kind, code in ACTIVATIONS.items()}
    found = {}
    for node in graph.nodes.values():
        if node.op == "OptopsBiasActivation":
            bias, kind = graph.constant(node.inputs[1]), kinds[integer(node, "activation")]
            found[node.inputs[0]] = BiasedActivation(kind, node.inputs[0], bias, f"{node.name}:0", (node.name,))
    return found


def _followed(graph: Graph, dense: Dense, activations: Mapping[str, BiasedActivation]) -> Dense:
    """Returns a product with what follows it: moves, a bias, an activation, as far as nothing else reads between."""
    while dense.activation == "linear" and dense.result not in graph.outputs:
        longer = _with_activation(graph, dense, activations) or _one_further(graph, dense)
        if longer is None:
            break
        dense = longer
    return dense


def _with_activation(graph: Graph, dense: Dense, activations: Mapping[str, BiasedActivation]) -> Dense | None:
    found = activations.get(dense.result)
    if found is None or not _reads_alone(graph, dense.result, found.nodes):
        return None
    if found.bias is None or not found.bias.any():
        product = dense.product
    elif dense.product.biased or found.bias.size != dense.product.bias.size:
        return None
    else:
        product = replace(dense.product, bias=found.bias, biased=True)
    return replace(
        dense,
        product=product,
        activation=found.kind,
        result=found.result,
        nodes=(*found.nodes, *dense.nodes),
    )


def _one_further(graph: Graph, dense: Dense) -> Dense | None:
    """Returns what the one node that reads the result adds to it, or None."""
    readers = graph.consumers(dense.result)
    if len(readers) != 1 or readers[0].controls:
        return None
    (node,) = readers
    made, shape, before = f"{node.name}:0", graph.shape(f"{node.name}:0"), graph.shape(dense.result)
    further = replace(dense, result=made, nodes=(node.name, *dense.nodes))
    outputs = dense.product.kernel.shape[1]
    if shape is None or _axes_before(shape, outputs) is None:
        return None
    if node.op in KEEPS_ORDER and node.inputs[0] == dense.result:
        return replace(further, moves=(*dense.moves, node))
    if node.op == "Relu":
        return replace(further, activation="relu")
    if node.op in ("BiasAdd", "AddV2", "Add") and not dense.product.biased and channels_last(graph, made):
        other = node.inputs[1] if node.inputs[0] == dense.result else node.inputs[0]
        bias = graph.constant(other)
        fits = bias is not None and bias.size == outputs and bias.shape == shape[len(shape) - bias.ndim :]
        if bias is not None and bias.dtype == np.float32 and fits and shape == before:
            return replace(further, product=replace(dense.product, bias=bias.reshape(-1), biased=True))
    return None


def _reads_alone(graph: Graph, tensor: str, nodes: tuple[str, ...]) -> bool:
    return all(reader.name in nodes for reader in graph.consumers(tensor))


def _rewrite(dense: Dense, precision: str) -> Callable[[Graph], str]:
    def rewrite(graph: Graph) -> str:
        from optops.kernels import PackedProduct
        from optops.kernels.tensorflow import dense as multiply

        product = dense.product
        inputs, outputs = product.kernel.shape
        block = PackedProduct(product.kernel, product.bias, precision).to_bytes()  # type: ignore[arg-type]
        made = graph.shape(product.output)
        assert made is not None

        def multiplied(x: tf.Tensor) -> tf.Tensor:
            kept = list(x.shape[: dense.kept])
            sizes = [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(kept)]
            rows = x if dense.kept == x.shape.rank - 1 else tf.reshape(x, [*sizes, inputs])
            y = multiply(rows, tf.constant(block), dense.activation)  # type: ignore[arg-type]
            y = tf.ensure_shape(y, [*kept, outputs])
            return y if dense.kept == len(made) - 1 else tf.reshape(y, [*sizes, *made[dense.kept :]])

        tensor = splice(graph, "dense", multiplied, [product.source])
        for node in dense.moves:
            name = graph.free_name(f"optops/{node.op.lower()}")
            graph.add(replace(node, name=name, inputs=(tensor, *node.inputs[1:])))
            tensor = f"{name}:0"
        return tensor

    return rewrite


DENSE = Pattern(NAME, find, kernels=True)
