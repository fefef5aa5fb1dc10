"""A stack of encoder layers becomes one operator of the library; what a mask hides is looked at when it runs.

The operator takes lengths: it computes the positions before them, from these positions alone, and gives zero behind. A
graph only has masks of the scores. Whether these hide whole ends of sentences and nothing else can not be told from the
graph for certain, so the rewritten graph looks at their values and takes the operator where they do, and the layers as
they were where they do not. Where something reads the positions that are hidden, the operator is taken only where
nothing is hidden. Masks that never do on the inputs at hand (those of decoders, biases of relative positions) are none
of an encoder.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, integer, is_large, producer_of
from optops.graph.optimizer.patterns.encoder_layer import Layer, layers
from optops.graph.optimizer.patterns.layer_norm import Norm, norm_at
from optops.graph.optimizer.patterns.mask import Mask, hidden_ends
from optops.graph.optimizer.probe import Probe
from optops.graph.optimizer.rewriting import Context, Pattern, Place
from optops.graph.optimizer.rows import KEEPS_VALUES, rows_of, same_rows
from optops.graph.optimizer.sizes import JoinedSizes, Sizes
from optops.graph.optimizer.splice import splice
from optops.models.keras import tf

NAME = "encoder stack"


@dataclass(frozen=True)
class Stack:
    """Layers one after the other.

    Attributes:
        layers: First to last.
        last_norm: After the last, where norms come first.
        source: Tensor [batch, time, width] that goes in.
        result: Tensor that comes out.
        masks: Of the scores.
        all_positions: Whether something reads more than the first position of the result.
    """

    layers: tuple[Layer, ...]
    last_norm: Norm | None
    source: str
    result: str
    masks: tuple[Mask, ...]
    all_positions: bool

    def hidden_ends(self, values: Sequence[Any], sizes: Any) -> tuple[Any, Any]:
        """Returns what `mask.hidden_ends` says of values of the masks and sizes of the states."""
        added = [_of_rank_4(mask.added(value)) for mask, value in zip(self.masks, values, strict=True)]
        return hidden_ends(added, sizes, all_positions=self.all_positions)


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives stacks of as many layers as can run in one call."""
    found = layers(graph, context)
    if not found:
        return
    sizes = JoinedSizes(graph)
    for chain in _chains(graph, found):
        stack = _stack(graph, chain, context)
        if stack is not None and _is_whole(sizes, stack, context) and _hides_ends(graph, stack, context):
            yield _place(stack, context)


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
            {replace(mask, tensor=rows_of(graph, mask.tensor)) for mask in layer.attention.masks},
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
    masks = first.attention.masks
    for mask in masks:
        if first.attention.merged_heads or graph.shape(mask.tensor) is None:
            _refused(context, first, f"{mask.tensor} has no axes of batch and heads: {graph.shape(mask.tensor)}")
            return None
    return Stack(tuple(chain), last_norm, source, result, masks, not first_position_alone(graph, result))


def _is_whole(sizes: Sizes, stack: Stack, context: Context) -> bool:
    """Returns whether all positions of what goes in are attended to and come out, however many there are.

    The rows are the same in the samples, but they may be those of blocks, or of a sentence that is cut off when it is
    longer.
    """
    time = (sizes.of(stack.source) or ())[1]
    made = [(layer, layer.attention.scores, (-2, -1)) for layer in stack.layers]
    for layer, tensor, axes in (*made, (stack.layers[-1], stack.result, (1,))):
        found = sizes.of(tensor) or ()
        if len(found) > 2 and any(found[axis] != time for axis in axes):
            _refused(context, layer, f"{tensor} is not known to be as long as {stack.source}, whatever goes in")
            return False
    return True


def _hides_ends(graph: Graph, stack: Stack, context: Context) -> bool:
    """Returns whether the masks hide ends and nothing else in one of the inputs at least; reports it if not."""
    if not stack.masks:
        return True
    tensors = [stack.source, *(mask.tensor for mask in stack.masks)]
    part = Graph(graph.ancestors(tensors).values(), (), tensors, graph.library, graph.versions)
    with Probe(part, {}) as probe:
        for sample in context.samples:
            given = {f"{name}:0": array for name, array in sample.items() if name in part.nodes}
            source, *values = probe.run(tensors, given)
            lengths, fits = stack.hidden_ends(list(map(tf.constant, values)), tf.constant(source.shape))
            if fits and (lengths.numpy() > 1).any():
                return True
    names = ", ".join(mask.tensor for mask in stack.masks)
    _refused(context, stack.layers[0], f"on all inputs at hand, {names} changes scores otherwise than by hiding ends")
    return False


def _refused(context: Context, layer: Layer, reason: str) -> None:
    context.left_alone(NAME, producer_of(layer.result), reason)


def _norm_behind(graph: Graph, layer: Layer) -> Norm | None:
    for name in graph.nodes:
        norm = norm_at(graph, f"{name}:0")
        if norm is not None and rows_of(graph, norm.source) == layer.result:
            reads = set(norm.nodes)
            alone = all(each.name in reads or each.op in ("Shape", "Reshape") for each in graph.consumers(layer.result))
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


def _place(stack: Stack, context: Context) -> Place:
    last = stack.layers[-1]
    nodes = [name for layer in stack.layers for name in layer.nodes]
    nodes += stack.last_norm.nodes if stack.last_norm else ()
    units = "/".join(str(size) for size in dict.fromkeys(layer.expand.kernel.shape[1] for layer in stack.layers))
    weights = (
        f"{len(stack.layers)} layers, width {last.attention_norm.scale.size}, "
        f"{last.attention.heads} heads of {last.attention.head_size}, {units} units, {last.activation}, "
        f"norm {'first' if last.norm_first else 'last'}, {'mask' if stack.masks else 'no mask'}"
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

        if not stack.masks:
            return splice(graph, "encoder", without_mask, [stack.source])
        region, outside = _region(graph, stack)
        read = {tensor for node in region.nodes.values() for tensor in node.inputs}

        def with_masks(*given: Any) -> Any:
            x, *masks = given[: 1 + len(stack.masks)]
            weights = tf.constant(block)
            lengths, fits = stack.hidden_ends(masks, tf.shape(x))

            def as_it_was() -> Any:
                # What comes from outside a branch must become its own first.
                own = {name: tf.identity(tensor) for name, tensor in zip(outside, given, strict=True) if name in read}
                return tf.graph_util.import_graph_def(region.graph_def(), own, [stack.result], name="layers")[0]

            return tf.cond(fits, lambda: _like(encode(x, lengths, weights), shape, x), as_it_was)

        return splice(graph, "encoder", with_masks, outside)

    return rewrite


def _like(y: Any, shape: tuple[int | None, ...] | None, x: Any) -> Any:
    """Returns [batch, time, width] as rows where the graph had rows."""
    rank = len(shape or ())
    return tf.reshape(y, [-1, x.shape[-1]]) if rank == 2 else y


def _of_rank_4(mask: Any) -> Any:
    return mask[(tf.newaxis,) * (4 - mask.shape.rank)] if mask.shape.rank < 4 else mask


def _region(graph: Graph, stack: Stack) -> tuple[Graph, list[str]]:
    """Returns the layers as a graph of their own, and the tensors that it reads: source, masks, then others.

    Large weights are among these: what calls the graph holds them, and no function of it another copy.
    """
    ends = [stack.source, *(mask.tensor for mask in stack.masks)]
    needed = graph.ancestors([stack.result], stop=ends)
    reached = _reached(graph, stack.source)
    inside = {
        name: node for name, node in needed.items() if name in reached or (node.op == "Const" and not is_large(node))
    }
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
