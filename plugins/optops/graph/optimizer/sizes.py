"""Which axes of a graph's tensors are equally long, whatever goes in."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, integer, text
from optops.models.keras import tf

Size = int | tuple[str, int]
"""A number, or that of an axis of a tensor: those that are equal are equally long."""

SAME = (
    *("Identity", "StopGradient", "PreventGradient", "Cast", "BiasAdd", "Softmax", "LogSoftmax", "Relu", "Relu6"),
    *("LeakyRelu", "Elu", "Selu", "Softplus", "Sigmoid", "Tanh", "Erf", "Erfc", "Exp", "Log", "Sqrt", "Rsqrt"),
    *("Square", "Abs", "Neg", "Reciprocal", "LogicalNot", "ZerosLike", "OnesLike"),
)
BROADCAST = (
    *("AddV2", "Add", "Sub", "Mul", "RealDiv", "DivNoNan", "Pow", "SquaredDifference", "Maximum", "Minimum"),
    *("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "SelectV2"),
)
REDUCE = ("Mean", "Sum", "Max", "Min", "Prod", "All", "Any")


class Sizes:
    """The sizes of a graph's tensors, as far as its operators say how they hang together.

    Args:
        graph: As it is now.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[str, tuple[Size, ...] | None] = {}
        for node in graph.in_order():  # what a tensor is made of is known before it, so nothing recurs deeply
            self.of(f"{node.name}:0")

    def of(self, tensor: str) -> tuple[Size, ...] | None:
        """Returns a tensor's sizes, or None if its rank is unknown."""
        if tensor not in self._known:
            self._known[tensor] = self._found(tensor)
        return self._known[tensor]

    def _found(self, tensor: str) -> tuple[Size, ...] | None:
        shape = self._graph.shape(tensor)
        if shape is None:
            return None
        node = self._graph.producer(tensor)
        rule = RULES.get(node.op)
        made = rule(self, node) if rule and tensor.endswith(":0") else None
        if made is None or len(made) != len(shape):
            made = [None] * len(shape)
        own = zip(shape, made, strict=True)
        return tuple(
            static if static is not None else (tensor, axis) if size is None else size
            for axis, (static, size) in enumerate(own)
        )

    def values(self, tensor: str) -> tuple[Size, ...] | None:
        """Returns the numbers that a vector or scalar of sizes holds, or None if it is none."""
        shape = self._graph.shape(tensor)
        if shape is None or len(shape) > 1 or self._graph.dtype(tensor) not in (tf.int32, tf.int64):
            return None
        node = self._graph.producer(tensor)
        constant = self._graph.constant(tensor)
        if constant is not None:
            return tuple(map(int, constant.ravel()))
        if node.op == "Shape":
            return self.of(node.inputs[0])
        if node.op in ("Identity", "Cast", "ExpandDims", "Reshape", "Squeeze"):
            return self.values(node.inputs[0])
        if node.op in ("Pack", "ConcatV2"):
            parts = [self.values(each) for each in (node.inputs if node.op == "Pack" else node.inputs[:-1])]
            return None if None in parts else tuple(size for part in parts if part for size in part)
        return self._taken(node) if node.op in ("GatherV2", "StridedSlice") else None

    def _taken(self, node: Node) -> tuple[Size, ...] | None:
        vector = self.values(node.inputs[0])
        constants = [self._graph.constant(read) for read in node.inputs[1:]]
        if vector is None or any(each is None or each.size != 1 for each in constants[1:]):
            return None
        if constants[0] is None:
            return None
        places = np.arange(len(vector))
        if node.op == "GatherV2":
            return tuple(vector[place] for place in constants[0].ravel())
        if constants[0].size != 1 or integer(node, "ellipsis_mask") or integer(node, "new_axis_mask"):
            return None
        begin, end, stride = (int(each.ravel()[0]) for each in constants if each is not None)
        if integer(node, "shrink_axis_mask"):
            return (vector[begin],)
        first = None if integer(node, "begin_mask") else begin
        last = None if integer(node, "end_mask") else end
        return tuple(vector[place] for place in places[first:last:stride])

    # One rule for each kind of operator: the sizes that it gives, None for what it does not say

    def _same(self, node: Node) -> Sequence[Size | None] | None:
        return self.of(node.inputs[0])

    def _broadcast(self, node: Node) -> Sequence[Size | None] | None:
        return self._joined([self.of(each) for each in node.inputs])

    def _joined(self, parts: Sequence[Sequence[Size] | None]) -> list[Size | None] | None:
        if any(part is None for part in parts):
            return None
        known = [part for part in parts if part is not None]
        rank = max(map(len, known))
        padded = [(*[1] * (rank - len(part)), *part) for part in known]
        return [_only({size for size in sizes if size != 1}) for sizes in zip(*padded, strict=True)]

    def _product(self, node: Node) -> Sequence[Size | None] | None:
        one, two = (self.of(each) for each in node.inputs)
        names = ("transpose_a", "transpose_b") if node.op == "MatMul" else ("adj_x", "adj_y")
        turned = [node.attributes[name].b for name in names]
        if one is None or two is None:
            return None
        leading = self._joined([one[:-2], two[:-2]])
        return None if leading is None else [*leading, one[-1 if turned[0] else -2], two[-2 if turned[1] else -1]]

    def _reduced(self, node: Node) -> Sequence[Size | None] | None:
        source, axes = self.of(node.inputs[0]), self._graph.constant(node.inputs[1])
        if source is None or axes is None:
            return None
        gone = {int(axis) % len(source) for axis in axes.ravel()} if source else set()
        if node.attributes["keep_dims"].b:
            return [1 if axis in gone else size for axis, size in enumerate(source)]
        return [size for axis, size in enumerate(source) if axis not in gone]

    def _gathered(self, node: Node) -> Sequence[Size | None] | None:
        table, places = self.of(node.inputs[0]), self.of(node.inputs[1])
        axis = self._graph.constant(node.inputs[2])
        if table is None or places is None or axis is None or integer(node, "batch_dims"):
            return None
        at = int(axis) % len(table)
        return [*table[:at], *places, *table[at + 1 :]]

    def _transposed(self, node: Node) -> Sequence[Size | None] | None:
        source, order = self.of(node.inputs[0]), self._graph.constant(node.inputs[1])
        return None if source is None or order is None else [source[axis] for axis in order.ravel()]

    def _expanded(self, node: Node) -> Sequence[Size | None] | None:
        source, axis = self.of(node.inputs[0]), self._graph.constant(node.inputs[1])
        if source is None or axis is None:
            return None
        at = int(axis.ravel()[0]) % (len(source) + 1)
        return [*source[:at], 1, *source[at:]]

    def _sliced(self, node: Node) -> Sequence[Size | None] | None:
        source, begin, stride = (self.of(node.inputs[0]), *map(self._graph.constant, (node.inputs[1], node.inputs[3])))
        if source is None or begin is None or stride is None:
            return None
        masks = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
        first, last, rest, new, gone = (integer(node, name) for name in masks)
        given: list[Size | None] = []
        left = list(source)
        for place in range(begin.size):
            bit = 1 << place
            if rest & bit:
                # All axes that what follows does not speak of.
                behind = sum(not new & (1 << other) for other in range(place + 1, begin.size))
                given += [left.pop(0) for _ in range(len(left) - behind)]
            elif new & bit:
                given.append(1)
            else:
                whole = first & bit and last & bit and stride[place] == 1
                size = left.pop(0)
                given += [] if gone & bit else [size if whole else None]
        return given + left

    def _reshaped(self, node: Node) -> Sequence[Size | None] | None:
        source, wanted = self.of(node.inputs[0]), self.values(node.inputs[1])
        if wanted is None or -1 not in wanted:
            return wanted
        others = [size for size in wanted if size != -1]
        rest = None if source is None else _quotient(source, others)
        return [rest if size == -1 else size for size in wanted]

    def _filled(self, node: Node) -> Sequence[Size | None] | None:
        return self.values(node.inputs[0 if node.op == "Fill" else 1])

    def _contracted(self, node: Node) -> Sequence[Size | None] | None:
        equation = text(node, "equation")
        sources = [self.of(each) for each in node.inputs]
        if "..." in equation or any(source is None for source in sources):
            return None
        read, _, given = equation.replace(" ", "").partition("->")
        named = {
            label: size
            for labels, source in zip(read.split(","), sources, strict=True)
            for label, size in zip(labels, source or (), strict=True)
        }
        return [named[label] for label in given]


def _only(sizes: set[Size]) -> Size | None:
    """Returns what operands of these sizes broadcast to, 1 aside; None if that is decided when they are there."""
    if not sizes:
        return 1
    return next(iter(sizes)) if len(sizes) == 1 else None


def _quotient(source: Sequence[Size], others: Sequence[Size]) -> Size | None:
    """Returns the size that is left of a source's once others are divided out; None if it is not one axis."""
    left = Counter(size for size in source if not isinstance(size, int))
    taken = Counter(size for size in others if not isinstance(size, int))
    whole = math.prod(size for size in source if isinstance(size, int))
    part = math.prod(size for size in others if isinstance(size, int))
    if taken - left or not part or whole % part:
        return None
    symbols = list((left - taken).elements())
    if not symbols:
        return whole // part
    return symbols[0] if len(symbols) == 1 and whole == part else None


Rule = Callable[[Sizes, Node], Sequence[Size | None] | None]
RULES: dict[str, Rule] = {
    **dict.fromkeys(SAME, Sizes._same),
    **dict.fromkeys(BROADCAST, Sizes._broadcast),
    **dict.fromkeys(REDUCE, Sizes._reduced),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2"), Sizes._product),
    **dict.fromkeys(("Fill", "BroadcastTo"), Sizes._filled),
    "GatherV2": Sizes._gathered,
    "Transpose": Sizes._transposed,
    "ExpandDims": Sizes._expanded,
    "StridedSlice": Sizes._sliced,
    "Reshape": Sizes._reshaped,
    "Einsum": Sizes._contracted,
}
