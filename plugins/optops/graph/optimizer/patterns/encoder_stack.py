"""A stack of encoder layers becomes one operator of the library; what a mask hides is looked at when it runs.

The operator takes lengths: it computes the positions before them, from these positions alone, and gives zero behind. A
graph only has a tensor that is added to the scores. Whether that hides whole ends of sentences and nothing else can not
be told from the graph for certain, so the rewritten graph looks at its values and takes the operator where they do, and
the layers as they were where they do not. Where something reads the positions that are hidden, the operator is taken
only where nothing is hidden.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, integer, producer_of
from optops.graph.optimizer.patterns.encoder_layer import Layer, layers
from optops.graph.optimizer.patterns.layer_norm import Norm, norm_at
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.rows import KEEPS_VALUES, rows_of, same_rows
from optops.graph.optimizer.splice import splice
from optops.models.keras import tf

NAME = "encoder stack"
HIDES = -1000.0
"""What is added to a score so that exp gives zero beside any score of a usable model."""


@dataclass(frozen=True)
class Stack:
    """Layers one after the other.

    Attributes:
        layers: First to last.
        last_norm: After the last, where norms come first.
        source: Tensor [batch, time, width] that goes in.
        result: Tensor that comes out.
        mask: What is added to the scores, or None.
        all_positions: Whether something reads more than the first position of the result.
    """

    layers: tuple[Layer, ...]
    last_norm: Norm | None
    source: str
    result: str
    mask: str | None
    all_positions: bool


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives stacks of as many layers as can run in one call."""
    found = layers(graph, context)
    for chain in _chains(graph, found):
        stack = _stack(graph, chain, context)
        if stack is not None:
            yield _place(graph, stack, context)


def _chains(graph: Graph, found: Sequence[Layer]) -> list[list[Layer]]:
    """Returns the layers in chains: each reads what the one before makes, which nothing else reads."""
    by_source = {rows_of(graph, layer.source): layer for layer in found}
    follower = {layer.result: by_source.get(rows_of(graph, layer.result)) for layer in found}
    joined = {
        layer.result: after
        for layer in found
        if (after := follower[layer.result]) is not None and _fit_together(graph, layer, after)
    }
    behind = {after.result for after in joined.values()}
    chains = []
    for layer in found:
        if layer.result in behind:
            continue
        chain = [layer]
        while chain[-1].result in joined:
            chain.append(joined[chain[-1].result])
        chains.append(chain)
    return chains


def _fit_together(graph: Graph, one: Layer, two: Layer) -> bool:
    settings = [
        (
            layer.attention.mask and rows_of(graph, layer.attention.mask),
            layer.attention.subtracted,
            layer.attention.head_size,
            layer.activation,
            layer.norm_first,
            np.float32(layer.attention_norm.epsilon),
            np.float32(layer.feed_forward_norm.epsilon),
        )
        for layer in (one, two)
    ]
    return settings[0] == settings[1] and _read_inside_alone(graph, one.result, two)


def _read_inside_alone(graph: Graph, result: str, layer: Layer) -> bool:
    """Returns whether nothing but a layer reads a tensor, sizes and reshapes that nothing else reads apart."""
    todo, inside = [result], set(layer.nodes)
    while todo:
        tensor = todo.pop()
        if tensor in graph.outputs:
            return False
        for node in graph.consumers(tensor):
            if node.op in ("Reshape", "Identity", "ExpandDims", "Squeeze", *KEEPS_VALUES):
                todo.append(f"{node.name}:0")
            elif node.name not in inside and node.op != "Shape":
                return False
    return True


def _stack(graph: Graph, chain: list[Layer], context: Context) -> Stack | None:
    first, last = chain[0], chain[-1]
    epsilons = {np.float32(norm.epsilon) for layer in chain for norm in (layer.attention_norm, layer.feed_forward_norm)}
    last_norm, result = None, last.result
    if last.norm_first:
        last_norm = _norm_behind(graph, last)
        if last_norm is None:
            _refused(context, last, "norms come first, and no norm alone follows the last layer")
            return None
        epsilons.add(np.float32(last_norm.epsilon))
        result = last_norm.output
    if len(epsilons) > 1:
        _refused(context, last, f"its norms have different epsilons: {sorted(map(float, epsilons))}")
        return None
    source = next((t for t in reversed(list(same_rows(graph, first.source))) if len(graph.shape(t) or ()) == 3), None)
    if source is None:
        _refused(context, first, "what goes in is nowhere [batch, time, width]")
        return None
    mask = first.attention.mask
    if mask is not None and len(graph.shape(mask) or ()) != 4:
        _refused(context, first, f"the mask {mask} has shape {graph.shape(mask)}, not [batch, heads, time, time]")
        return None
    return Stack(tuple(chain), last_norm, source, result, mask, not first_position_alone(graph, result))


def _refused(context: Context, layer: Layer, reason: str) -> None:
    context.left_alone(NAME, producer_of(layer.result), reason)


def _norm_behind(graph: Graph, layer: Layer) -> Norm | None:
    for name, node in graph.nodes.items():
        if node.op in ("AddV2", "Add"):
            norm = norm_at(graph, f"{name}:0")
            if norm is not None and rows_of(graph, norm.source) == layer.result:
                reads = set(norm.nodes)
                alone = all(
                    each.name in reads or each.op in ("Shape", "Reshape") for each in graph.consumers(layer.result)
                )
                return norm if alone and layer.result not in graph.outputs else None
    return None


def first_position_alone(graph: Graph, tensor: str) -> bool:
    """Returns whether all that reads a tensor [batch, time, width] takes position 0 of it."""
    if tensor in graph.outputs:
        return False
    for node in graph.consumers(tensor):
        if node.op in KEEPS_VALUES and first_position_alone(graph, f"{node.name}:0"):
            continue
        if node.op != "Shape" and not _takes_first(graph, node, tensor):
            return False
    return True


def _takes_first(graph: Graph, node: Node, tensor: str) -> bool:
    """Returns whether a node is a slice that takes position 0 and nothing else, however long the sentences are."""
    constants = [graph.constant(read) for read in node.inputs[1:]]
    if node.op != "StridedSlice" or any(value is None or value.size < 2 for value in constants):
        return False
    begin, end, stride = (int(value[1]) for value in constants if value is not None)
    names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    from_start, to_end, *moved, shrunk = (bool(integer(node, name) & 2) for name in names)
    before = (integer(node, "ellipsis_mask") | integer(node, "new_axis_mask")) & 1
    if len(graph.shape(tensor) or ()) != 3 or before or any(moved):  # then axis 1 is not the positions
        return False
    if shrunk:
        return begin == 0
    return (from_start or begin == 0) and not to_end and end == 1 and stride == 1


def _place(graph: Graph, stack: Stack, context: Context) -> Place:
    last = stack.layers[-1]
    nodes = [name for layer in stack.layers for name in layer.nodes]
    nodes += stack.last_norm.nodes if stack.last_norm else ()
    units = "/".join(str(size) for size in dict.fromkeys(layer.expand.kernel.shape[1] for layer in stack.layers))
    weights = (
        f"{len(stack.layers)} layers, width {last.attention_norm.scale.size}, "
        f"{last.attention.heads} heads of {last.attention.head_size}, {units} units, {last.activation}, "
        f"norm {'first' if last.norm_first else 'last'}, {'mask' if stack.mask else 'no mask'}"
    )
    root = producer_of(stack.result)
    order = (root, *(name for name in dict.fromkeys(nodes) if name != root))
    return Place(stack.result, order, _rewrite(stack, context.precision), weights)


def packed(stack: Stack, precision: str) -> np.ndarray:
    """Returns the weights of a stack as the operator takes them, uint8 [size]."""
    from optops.kernels import EncoderLayerWeights, PackedEncoder

    weights = [
        EncoderLayerWeights(
            heads=layer.attention.heads,
            attention_norm=(layer.attention_norm.scale, layer.attention_norm.offset),
            query_key_value=layer.attention.query_key_value,
            output=layer.attention.output,
            feed_forward_norm=(layer.feed_forward_norm.scale, layer.feed_forward_norm.offset),
            expand=(layer.expand.kernel, layer.expand.bias),
            contract=(layer.contract.kernel, layer.contract.bias),
        )
        for layer in stack.layers
    ]
    norm, first = stack.last_norm, stack.layers[0]
    block: np.ndarray = PackedEncoder(
        weights,
        head_size=first.attention.head_size,
        last_norm=(norm.scale, norm.offset) if norm else None,
        activation=first.activation,  # type: ignore[arg-type]
        epsilon=first.attention_norm.epsilon,
        precision=precision,  # type: ignore[arg-type]
    ).to_bytes()
    return block


def _rewrite(stack: Stack, precision: str) -> Callable[[Graph], str]:
    def rewrite(graph: Graph) -> str:
        from optops.kernels.tensorflow import encode

        block = packed(stack, precision)
        shape = graph.shape(stack.result)

        def without_mask(x: Any) -> Any:
            return _like(encode(x, tf.fill(tf.shape(x)[:1], tf.shape(x)[1]), tf.constant(block)), shape, x)

        if stack.mask is None:
            return splice(graph, "encoder", without_mask, [stack.source])
        region, outside = _region(graph, stack)

        def with_mask(x: Any, mask: Any, *others: Any) -> Any:
            weights = tf.constant(block)
            added = -mask if stack.layers[0].attention.subtracted else mask
            lengths, fits = hidden_ends(added, tf.shape(x), all_positions=stack.all_positions)

            def as_it_was() -> Any:
                # What comes from outside a branch must become its own first.
                given = {name: tf.identity(tensor) for name, tensor in zip(outside, (x, mask, *others), strict=True)}
                return tf.graph_util.import_graph_def(region.graph_def(), given, [stack.result], name="layers")[0]

            return tf.cond(fits, lambda: _like(encode(x, lengths, weights), shape, x), as_it_was)

        return splice(graph, "encoder", with_mask, outside)

    return rewrite


def _like(y: Any, shape: tuple[int | None, ...] | None, x: Any) -> Any:
    """Returns [batch, time, width] as rows where the graph had rows."""
    rank = len(shape or ())
    return tf.reshape(y, [-1, x.shape[-1]]) if rank == 2 else y


def hidden_ends(mask: Any, sizes: Any, *, all_positions: bool) -> tuple[Any, Any]:
    """Returns how many positions a mask leaves of each sentence, and whether it hides their ends and nothing else.

    Args:
        mask: float32 that broadcasts to the scores [batch, heads, queries, keys], and is added to them.
        sizes: Of the states, int32 [3]: batch, time, width.
        all_positions: Whether a sentence with something hidden is not to count as one.
    """
    first = mask[:, :1, :1, :]
    keys = tf.broadcast_to(first[:, 0, 0, :], sizes[:2])
    seen = tf.equal(keys, 0.0)
    hidden = tf.less_equal(keys, HIDES)
    lengths = tf.reduce_sum(tf.cast(seen, tf.int32), axis=1)
    ends = tf.equal(seen, tf.sequence_mask(lengths, sizes[1]))
    fits = tf.reduce_all((seen | hidden) & ends) & tf.reduce_all(tf.equal(mask, first)) & tf.reduce_all(lengths > 0)
    if all_positions:
        fits &= tf.reduce_all(seen)
    return tf.maximum(lengths, 1), fits


def _region(graph: Graph, stack: Stack) -> tuple[Graph, list[str]]:
    """Returns the layers as a graph of their own, and the tensors that it reads: source, mask, then others."""
    assert stack.mask is not None
    ends = [stack.source, stack.mask]
    needed = graph.ancestors([stack.result], stop=ends)
    reached = _reached(graph, stack.source)
    inside = {name: node for name, node in needed.items() if name in reached or node.op == "Const"}
    outside = list(ends)
    for node in inside.values():
        outside += [tensor for tensor in node.inputs if producer_of(tensor) not in inside and tensor not in outside]
    nodes = [
        replace(node, controls=tuple(name for name in node.controls if name in inside)) for node in inside.values()
    ]
    return Graph(nodes, (), [stack.result], type(graph.library)(), graph.versions), outside


def _reached(graph: Graph, tensor: str) -> set[str]:
    todo, reached = [tensor], set()
    while todo:
        for node in graph.consumers(todo.pop()):
            if node.name not in reached:
                reached.add(node.name)
                todo += dict.fromkeys(read for read in graph.outputs_of(node))
    return reached


ENCODER_STACK = Pattern(NAME, find, kernels=True)
