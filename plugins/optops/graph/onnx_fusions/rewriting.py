"""An ONNX graph that can be rewritten: who makes and reads a tensor, its shape, its value if it is constant."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from operator import eq
from typing import Any

import numpy as np

from optops.graph.onnx_nodes import CONTRIB, names_read, rename_reads

ADDED = re.compile(r"fused/\w+_(\d+)")
_numbers = count()


@dataclass(frozen=True)
class Unknown:
    """A size that is not known, and false therefore; those of one name are equally long whatever goes in."""

    name: str = field(default_factory=lambda: f"unknown {next(_numbers)}")

    def __bool__(self) -> bool:
        return False


Shape = tuple[int | Unknown, ...]


class Rewriter:
    """Adds nodes to a model and lets others read them; `prune` puts all in order and drops what nothing reads.

    Args:
        model: Changed in place.
    """

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper, shape_inference

        self.model, self.graph = model, model.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.outputs = {output.name for output in self.graph.output}
        known = shape_inference.infer_shapes(model, data_prop=True).graph
        self.shapes: dict[str, Shape] = {
            value.name: _shape(value.type.tensor_type)
            for value in (*known.input, *known.value_info, *known.output)
            if value.type.tensor_type.HasField("shape")
        }
        self.shapes |= {name: array.shape for name, array in self.constants.items()}
        # An earlier rewriter of this model may have added some.
        names = (each.name for each in (*self.graph.node, *self.graph.initializer))
        self._added = max((int(added[1]) for added in map(ADDED.fullmatch, names) if added), default=0)
        self._index()

    def _index(self) -> None:
        self.producers = {name: node for node in self.graph.node for name in node.output if name}
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.graph.node:
            for name in names_read(node):
                self._readers[name].append(node)

    def producer(self, tensor: str, *types: str) -> Any:
        """Returns the node that makes a tensor, or None if there is none, or it is of none of these types."""
        node = self.producers.get(tensor)
        return node if node is not None and (not types or node.op_type in types) else None

    def readers(self, tensor: str) -> list[Any]:
        """Returns the nodes that read a tensor, those with loops that do so within among them."""
        return self._readers.get(tensor, [])

    def used_once(self, tensor: str) -> bool:
        """Returns whether one node alone reads a tensor, and it is no output."""
        return len(self.readers(tensor)) == 1 and tensor not in self.outputs

    def scalar(self, tensor: str) -> float | None:
        """Returns the value of a constant with one element, or None."""
        value = self.constants.get(tensor)
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def shape(self, tensor: str) -> Shape:
        """Returns what is known of a shape; nothing, (), also where the rank is unknown."""
        return self.shapes.get(tensor, ())

    def constant(self, array: np.ndarray) -> str:
        """Adds a constant."""
        from onnx import numpy_helper

        self._added += 1
        name = f"fused/constant_{self._added}"
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        self.constants[name], self.shapes[name] = array, array.shape
        return name

    def ints(self, *values: int) -> str:
        """Adds a one-dimensional int64 constant, as shapes and axes are given."""
        return self.constant(np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, shape: Shape = (), domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output, whose name is returned; an input named "" is left out."""
        from onnx import helper

        self._added += 1
        name = f"fused/{operator}_{self._added}"
        output = f"{name}:0"
        self.graph.node.append(
            helper.make_node(operator, list(inputs), [output], name=name, domain=domain, **attributes)
        )
        self.producers[output], self.shapes[output] = self.graph.node[-1], shape
        for read in set(inputs) - {""}:
            self._readers[read].append(self.graph.node[-1])
        return output

    def reshape(self, tensor: str, sizes: Sequence[int]) -> str:
        """Adds a Reshape; sizes may be 0, as that of the input at this place, or -1."""
        before = self.shape(tensor)
        known = [size or (before[i] if i < len(before) else Unknown()) for i, size in enumerate(sizes)]
        shape = tuple(Unknown() if size == -1 else size for size in known)
        return self.add("Reshape", tensor, self.ints(*sizes), shape=shape)

    def transpose(self, tensor: str, order: Sequence[int]) -> str:
        """Returns a tensor with its axes in another order, without a Transpose where two would cancel out."""
        node = self.producer(tensor, "Transpose")
        if node is not None:
            inner = attribute(node, "perm")
            tensor, order = node.input[0], [inner[axis] for axis in order]
        if list(order) == list(range(len(order))):
            return tensor
        before = self.shape(tensor)
        shape = tuple(before[axis] for axis in order) if before else ()
        return self.add("Transpose", tensor, perm=list(order), shape=shape)

    def redirect(self, old: str, new: str) -> None:
        """Makes everything that reads `old` read `new`; an output keeps its name."""
        if old == new:
            return
        self.shapes[new] = self.shape(new) or self.shape(old)
        if old in self.outputs:
            if self.producer(new) is None or new in self.outputs:
                new = self.add("Identity", new, shape=self.shape(new))
            self._rename(old, f"{old}/unfused")
            self._rename(new, old)
            old, new = f"{old}/unfused", old
        self._read_instead(old, new)

    def _rename(self, old: str, new: str) -> None:
        node = self.producers.pop(old)
        node.output[:] = [new if name == old else name for name in node.output]
        self.producers[new] = node
        self.shapes[new] = self.shape(old)
        self._read_instead(old, new)

    def _read_instead(self, old: str, new: str) -> None:
        for node in self._readers.pop(old, []):
            rename_reads(node, {old: new})
            self._readers[new].append(node)

    def prune(self) -> None:
        """Puts the nodes in order and drops nodes and constants that nothing needs."""
        from onnx import helper

        order: list[Any] = []
        done: set[int] = set()
        todo = list(self.outputs)
        while todo:
            node = self.producers.get(todo[-1])
            missing = [name for name in names_read(node) if self._is_missing(name, done)] if node is not None else []
            todo += missing
            if not missing:
                todo.pop()
                if node is not None and id(node) not in done:
                    done.add(id(node))
                    order.append(node)
        read = {name for node in order for name in names_read(node)} | self.outputs
        constants = [tensor for tensor in self.graph.initializer if tensor.name in read]
        for listed, kept in ((self.graph.node, order), (self.graph.initializer, constants)):
            copies = [type(each).FromString(each.SerializeToString()) for each in kept]
            del listed[:]
            listed.extend(copies)
        if not any(each.domain == CONTRIB for each in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
        self._index()

    def _is_missing(self, tensor: str, done: set[int]) -> bool:
        return tensor in self.producers and id(self.producers[tensor]) not in done


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """Returns the value of a node's attribute."""
    from onnx import helper

    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def _shape(tensor_type: Any) -> Shape:
    return tuple(
        size.dim_value if size.HasField("dim_value") else Unknown(size.dim_param) if size.dim_param else Unknown()
        for size in tensor_type.shape.dim
    )


def known_sizes(sizes: Shape) -> list[int]:
    """Returns sizes, 0 for those that are not known."""
    return [size if isinstance(size, int) else 0 for size in sizes]


def has_same_sizes(before: Shape, after: Shape) -> bool:
    """Returns whether what is reshaped from [batch, time, width] is so again, whatever goes in.

    Args:
        before: Shape of rows of one width.
        after: Of as many rows, whose values may have axes of their own: one of the first two axes says the other.
    """
    return len(before) == 3 and len(after) >= 3 and any(map(eq, before[:2], after[:2]))
