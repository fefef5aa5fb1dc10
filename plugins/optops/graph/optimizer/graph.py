"""A graph that can be rewritten: immutable nodes in a mutable table, constants as arrays, shapes by TensorFlow."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from optops.graph.optimizer.own_functions import with_own_functions
from optops.models.keras import tf

LARGE = 4096
"""Constants with more values than this are weights."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation; never changed, only replaced.

    Attributes:
        name: Of the node.
        op: Of TensorFlow.
        inputs: Tensors, `producer:index`.
        controls: Names of nodes that run before.
        attributes: Name to AttrValue.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    controls: tuple[str, ...]
    attributes: Mapping[str, Any]


_values: WeakKeyDictionary[Node, np.ndarray] = WeakKeyDictionary()
_tensors: WeakKeyDictionary[Node, tf.Tensor] = WeakKeyDictionary()


def producer_of(tensor: str) -> str:
    """Returns the name of the node that makes a tensor `name:index`."""
    return tensor.rpartition(":")[0]


class Graph:
    """A frozen signature: nodes by name, what goes in and what comes out.

    Args:
        nodes: In any order.
        inputs: Names of the placeholders, in the order of the signature, captured resources after them.
        outputs: Tensors, in the order of the signature.
        library: Functions that control flow calls, a FunctionDefLibrary.
        versions: Of the GraphDef.
    """

    def __init__(
        self, nodes: Iterable[Node], inputs: Iterable[str], outputs: Iterable[str], library: Any, versions: Any
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.inputs, self.outputs = tuple(inputs), list(outputs)
        self.library, self.versions = library, versions
        self._consumers: dict[str, dict[str, None]] | None = None
        self._specs: dict[str, tf.TensorSpec] | None = None

    @classmethod
    def of(cls, graph_def: Any, inputs: Iterable[str], outputs: Iterable[str]) -> "Graph":
        """Returns the graph of a GraphDef."""
        return cls(map(_node, graph_def.node), inputs, outputs, graph_def.library, graph_def.versions)

    def copy(self) -> "Graph":
        """Returns a copy; it shares the nodes, which never change."""
        return Graph(self.nodes.values(), self.inputs, self.outputs, self.library, self.versions)

    def restore(self, other: "Graph") -> None:
        """Becomes what a copy was."""
        self.nodes, self.outputs, self.library = dict(other.nodes), list(other.outputs), other.library
        self._changed()

    def is_equal(self, other: "Graph") -> bool:
        """Returns whether both have the same nodes, inputs and outputs."""
        if (self.inputs, self.outputs, list(self.nodes)) != (other.inputs, other.outputs, list(other.nodes)):
            return False
        pairs = zip(self.nodes.values(), other.nodes.values(), strict=True)
        return all(
            (one.op, one.inputs, one.controls) == (two.op, two.inputs, two.controls)
            and dict(one.attributes) == dict(two.attributes)
            for one, two in pairs
        )

    def graph_def(self, without: Collection[str] = ()) -> Any:
        """Returns the GraphDef, to be imported once.

        Args:
            without: Constants in whose place there are placeholders, by tensor.
        """
        graph_def = tf.compat.v1.GraphDef(library=self.library, versions=self.versions)
        for node in self.nodes.values():
            kept = _placeholder(node) if f"{node.name}:0" in without else node
            made = graph_def.node.add(name=node.name, op=kept.op)
            made.input.extend([*node.inputs, *(f"^{name}" for name in node.controls)])
            for name, value in kept.attributes.items():
                made.attr[name].CopyFrom(value)
        return with_own_functions(graph_def)

    def weights(self) -> dict[str, tf.Tensor]:
        """Returns the large constants by tensor; the same ones each time, for TensorFlow to hold once.

        Those that wait for something are none: what takes a constant's place does not wait.
        """
        weights = {}
        for node in self.nodes.values():
            if is_large(node) and not node.controls:
                if node not in _tensors:
                    _tensors[node] = tf.constant(tf.make_ndarray(node.attributes["value"].tensor))
                weights[f"{node.name}:0"] = _tensors[node]
        return weights

    # What is there

    def producer(self, tensor: str) -> Node:
        """Returns the node that makes a tensor."""
        return self.nodes[producer_of(tensor)]

    def consumers(self, tensor: str) -> list[Node]:
        """Returns the nodes that read a tensor."""
        if self._consumers is None:
            self._consumers = {}
            for node in self.nodes.values():
                self._note_reads(node)
        return [self.nodes[name] for name in self._consumers.get(tensor, ())]

    def _note_reads(self, node: Node) -> None:
        if self._consumers is not None:
            for tensor in node.inputs:
                self._consumers.setdefault(tensor, {})[node.name] = None

    def outputs_of(self, node: Node) -> list[str]:
        """Returns the outputs of a node that something reads."""
        self.consumers("")
        assert self._consumers is not None
        return [tensor for index in range(64) if (tensor := f"{node.name}:{index}") in self._consumers]

    def used_once(self, tensor: str) -> bool:
        """Returns whether one node alone reads a tensor, and it is no output."""
        return len(self.consumers(tensor)) == 1 and tensor not in self.outputs

    def constant(self, tensor: str) -> np.ndarray | None:
        """Returns the value of a tensor that is constant, or None."""
        node = self.producer(tensor)
        while node.op in ("Identity", "StopGradient") and not node.controls:
            node = self.producer(node.inputs[0])
        if node.op != "Const":
            return None
        if node not in _values:
            _values[node] = tf.make_ndarray(node.attributes["value"].tensor)
        return _values[node]

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """Returns the static shape of a tensor, None for a size that is dynamic, or None if its rank is unknown."""
        spec = self._spec(tensor)
        return None if spec is None or spec.shape.rank is None else tuple(spec.shape)

    def dtype(self, tensor: str) -> Any:
        """Returns the dtype of a tensor, None if it is not known."""
        spec = self._spec(tensor)
        return None if spec is None else spec.dtype

    def _spec(self, tensor: str) -> Any:
        if self._specs is None:
            self._specs = self._infer()
        return self._specs.get(tensor)

    def _infer(self) -> dict[str, Any]:
        with tf.Graph().as_default() as graph:
            large = {f"{node.name}:0" for node in self.nodes.values() if is_large(node)}
            tf.graph_util.import_graph_def(self.graph_def(large), name="")
        return {
            tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype)
            for operation in graph.get_operations()
            for tensor in operation.outputs
        }

    def ancestors(self, tensors: Iterable[str], stop: Iterable[str] = ()) -> dict[str, Node]:
        """Returns the nodes that tensors come from, those that make `stop` not among them."""
        ends, found = {producer_of(tensor) for tensor in stop}, {}
        todo = [producer_of(tensor) for tensor in tensors]
        while todo:
            name = todo.pop()
            if name in found or name in ends:
                continue
            node = found[name] = self.nodes[name]
            todo += [*map(producer_of, node.inputs), *node.controls]
        return found

    def in_order(self) -> list[Node]:
        """Returns the nodes, each behind what it reads."""
        done: dict[str, Node] = {}
        todo = list(reversed(self.nodes))
        while todo:
            name = todo[-1]
            node = self.nodes[name]
            missing = [each for each in (*map(producer_of, node.inputs), *node.controls) if each not in done]
            if name in done or not missing:
                todo.pop()
                done.setdefault(name, node)
            else:
                todo += missing
        return list(done.values())

    # What changes it

    def add(self, node: Node) -> None:
        """Adds a node."""
        assert node.name not in self.nodes, node.name
        self.nodes[node.name] = node
        self._note_reads(node)

    def constant_node(self, name: str, value: np.ndarray) -> str:
        """Adds a constant under a free name near `name` and returns its tensor."""
        proto = tf.make_tensor_proto(value)
        attributes = {
            "value": tf.compat.v1.AttrValue(tensor=proto),
            "dtype": tf.compat.v1.AttrValue(type=proto.dtype),
        }
        name = self.free_name(name)
        self.add(Node(name, "Const", (), (), attributes))
        return f"{name}:0"

    def free_name(self, name: str) -> str:
        """Returns `name`, with a number behind it if it is taken."""
        if name not in self.nodes:
            return name
        number = 1
        while f"{name}_{number}" in self.nodes:
            number += 1
        return f"{name}_{number}"

    def redirect(self, old: str, new: str) -> None:
        """Makes everything that reads tensor `old` read `new`."""
        for node in self.consumers(old):
            inputs = tuple(new if read == old else read for read in node.inputs)
            self.nodes[node.name] = replace(node, inputs=inputs)
            self._note_reads(self.nodes[node.name])
        self.outputs = [new if tensor == old else tensor for tensor in self.outputs]
        if self._consumers is not None and old != new:
            self._consumers.pop(old, None)

    def prune(self) -> None:
        """Removes what no output needs; inputs stay."""
        needed = self.ancestors(self.outputs)
        needed |= {name: self.nodes[name] for name in self.inputs}
        if len(needed) < len(self.nodes):
            self.nodes = {name: node for name, node in self.nodes.items() if name in needed}
        self._changed()

    def _changed(self) -> None:
        self._consumers = self._specs = None


def is_pure(node: Node) -> bool:
    """Returns whether a node's inputs alone decide what it gives, and it calls no functions."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    return (
        definition is not None
        and not definition.is_stateful
        and not any(value.WhichOneof("value") == "func" for value in node.attributes.values())
    )


def integer(node: Node, name: str) -> int:
    """Returns an attribute that is a number."""
    return int(node.attributes[name].i)


def text(node: Node, name: str) -> str:
    """Returns an attribute that is a string."""
    return str(node.attributes[name].s.decode())


def _node(proto: Any) -> Node:
    inputs = tuple(name if ":" in name else f"{name}:0" for name in proto.input if not name.startswith("^"))
    controls = tuple(name[1:] for name in proto.input if name.startswith("^"))
    return Node(proto.name, proto.op, inputs, controls, dict(proto.attr))


def is_large(node: Node) -> bool:
    """Returns whether a node is a constant so large that no copies of it should be made."""
    if node.op != "Const":
        return False
    sizes = [size.size for size in node.attributes["value"].tensor.tensor_shape.dim]
    return bool(np.prod(sizes, initial=1) > LARGE)


def _placeholder(constant: Node) -> Node:
    shape = tf.compat.v1.AttrValue(shape=constant.attributes["value"].tensor.tensor_shape)
    attributes = {"dtype": constant.attributes["dtype"], "shape": shape}
    return Node(constant.name, "Placeholder", (), constant.controls, attributes)
