"""Which axes of a graph's tensors are equally long, whatever goes in."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from optops.graph.optimizer.graph import Graph, Node, integer, text
from optops.models.keras import tf

Axis = tuple[str, int]


class Multiple(NamedTuple):
    """A number of times the sizes of axes, as rows are that several axes were put into one for."""

    times: int
    axes: tuple[Axis, ...]


Size = int | Axis | Multiple
"""A number, or that of an axis of a tensor, or their product: those that are equal are equally long."""

SAME = (
    *("Identity", "StopGradient", "PreventGradient", "Cast", "BiasAdd", "Softmax", "LogSoftmax", "Relu", "Relu6"),
    *("LeakyRelu", "Elu", "Selu", "Softplus", "Sigmoid", "Tanh", "Erf", "Erfc", "Exp", "Log", "Sqrt", "Rsqrt"),
    *("Square", "Abs", "Neg", "Reciprocal", "LogicalNot", "ZerosLike", "OnesLike"),
)
BROADCAST = (
    *("AddV2", "Add", "Sub", "Mul", "RealDiv", "DivNoNan", "Pow", "SquaredDifference", "Maximum", "Minimum"),
    *("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "SelectV2"),
)
PARTS = ("Split", "SplitV", "Unpack")
"""What gives several tensors, all of them with the same sizes but on the axis that is divided."""
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
        made = rule(self, node) if rule and (tensor.endswith(":0") or node.op in PARTS) else None
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
        rule = VALUES.get(node.op)
        return rule(self, node, int(tensor.rpartition(":")[2])) if rule else None

    # One rule for each kind of operator that makes numbers of sizes

    def _asked(self, node: Node, output: int) -> tuple[Size, ...] | None:
        return self.of(node.inputs[0])

    def _handed_on(self, node: Node, output: int) -> tuple[Size, ...] | None:
        return self.values(node.inputs[0])

    def _put_together(self, node: Node, output: int) -> tuple[Size, ...] | None:
        parts = [self.values(each) for each in (node.inputs if node.op == "Pack" else node.inputs[:-1])]
        return None if None in parts else tuple(size for part in parts if part for size in part)

    def _multiplied(self, node: Node, output: int) -> tuple[Size, ...] | None:
        factors = [self.values(each) for each in node.inputs]
        numbers = [each[0] for each in factors if each is not None and len(each) == 1]
        return (_simplest(_product_of(numbers)),) if len(numbers) == 2 else None

    def _multiplied_up(self, node: Node, output: int) -> tuple[Size, ...] | None:
        vector, axes = self.values(node.inputs[0]), self._graph.constant(node.inputs[1])
        if vector is None or axes is None or axes.size != 1 or node.attributes["keep_dims"].b:
            return None
        return (_simplest(_product_of(vector)),)

    def _unpacked(self, node: Node, output: int) -> tuple[Size, ...] | None:
        vector = self.values(node.inputs[0])
        return None if vector is None else (vector[output],)

    def _taken(self, node: Node, output: int) -> tuple[Size, ...] | None:
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
        return [self._only({size for size in sizes if size != 1}) for sizes in zip(*padded, strict=True)]

    def _only(self, sizes: set[Size]) -> Size | None:
        """Returns what operands of these sizes broadcast to, 1 aside; None if that is decided when they are there."""
        if not sizes:
            return 1
        return next(iter(sizes)) if len(sizes) == 1 else None

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

    def _part(self, node: Node) -> Sequence[Size | None] | None:
        place, named = {"Split": (1, 0), "SplitV": (0, 2)}.get(node.op, (0, None))
        source = self.of(node.inputs[place])
        axis = integer(node, "axis") if named is None else self._graph.constant(node.inputs[named])
        if source is None or axis is None:
            return None
        at = int(axis) % len(source)
        return [*source[:at], *([] if node.op == "Unpack" else [None]), *source[at + 1 :]]

    def _cut(self, node: Node) -> Sequence[Size | None] | None:
        sizes = self.values(node.inputs[2])
        return None if sizes is None else [None if size == -1 else size for size in sizes]

    def _counted(self, node: Node) -> Sequence[Size | None] | None:
        start, step = (self._graph.constant(node.inputs[place]) for place in (0, 2))
        return self.values(node.inputs[1]) if start == 0 and step == 1 else None

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


def _quotient(source: Sequence[Size], others: Sequence[Size]) -> Size | None:
    """Returns the size that is left of a source's once others are divided out; None if they do not divide it."""
    whole, part = _product_of(source), _product_of(others)
    left, taken = Counter(whole.axes), Counter(part.axes)
    if taken - left or not part.times or whole.times % part.times:
        return None
    return _simplest(Multiple(whole.times // part.times, tuple((left - taken).elements())))


def _simplest(size: Multiple) -> Size:
    """Returns a number or an axis where that is all there is of a multiple; its axes are in order otherwise."""
    if not size.axes:
        return size.times
    return size.axes[0] if size.times == 1 and len(size.axes) == 1 else Multiple(size.times, tuple(sorted(size.axes)))


def _product_of(sizes: Sequence[Size]) -> Multiple:
    parts = [_as_multiple(size) for size in sizes]
    return Multiple(math.prod(part.times for part in parts), tuple(axis for part in parts for axis in part.axes))


def _as_multiple(size: Size) -> Multiple:
    if isinstance(size, Multiple):
        return size
    return Multiple(size, ()) if isinstance(size, int) else Multiple(1, (size,))


VALUES: dict[str, Callable[[Sizes, Node, int], tuple[Size, ...] | None]] = {
    **dict.fromkeys(("Identity", "Cast", "ExpandDims", "Reshape", "Squeeze"), Sizes._handed_on),
    **dict.fromkeys(("Pack", "ConcatV2"), Sizes._put_together),
    **dict.fromkeys(("GatherV2", "StridedSlice"), Sizes._taken),
    "Shape": Sizes._asked,
    "Mul": Sizes._multiplied,
    "Prod": Sizes._multiplied_up,
    "Unpack": Sizes._unpacked,
}


class JoinedSizes(Sizes):
    """Sizes of which those that stand beside each other in a sum are taken for equal.

    A graph runs on no others, but for those that are 1 and are repeated. So what is the same here is the same whatever
    goes in where the samples show that nothing is repeated.
    """

    def __init__(self, graph: Graph) -> None:
        self._joined_with: dict[Size, int | Axis] = {}
        super().__init__(graph)

    def of(self, tensor: str) -> tuple[Size, ...] | None:
        """Returns a tensor's sizes, or None if its rank is unknown; of those that are equal, always the same one."""
        known = super().of(tensor)
        return None if known is None else tuple(map(self._first, known))

    def _first(self, size: Size) -> Size:
        if isinstance(size, Multiple):
            return _simplest(_product_of([size.times, *map(self._first, size.axes)]))
        while size in self._joined_with:
            size = self._joined_with[size]
        return size

    def _only(self, sizes: set[Size]) -> Size | None:
        """Returns what operands of these sizes broadcast to, 1 aside: one that all axes among them are from now on."""
        found = sorted(set(map(self._first, sizes)), key=lambda size: (not isinstance(size, int), str(size)))
        if not found:
            return 1
        axes = [size for size in found if not isinstance(size, int | Multiple)]
        first = axes[0] if axes and not isinstance(found[0], int) else found[0]
        if not isinstance(first, Multiple):
            self._joined_with |= {axis: first for axis in axes if axis != first}
        return first


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
    **dict.fromkeys(PARTS, Sizes._part),
    "Slice": Sizes._cut,
    "Range": Sizes._counted,
    "Reshape": Sizes._reshaped,
    "Einsum": Sizes._contracted,
}
