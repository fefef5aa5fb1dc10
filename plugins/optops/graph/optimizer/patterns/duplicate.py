"""Common sub-expressions: what is computed twice from the same inputs is computed once."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from optops.graph.optimizer.graph import Graph, Node, is_pure, producer_of
from optops.graph.optimizer.rewriting import Context, Pattern, Place

NOT_COMPARED = ("_class", "_output_shapes", "_XlaMustCompile")

_digests: WeakKeyDictionary[Node, bytes] = WeakKeyDictionary()


def find(graph: Graph, context: Context) -> Iterator[Place]:
    """Gives every output of nodes that do what another does."""
    first: dict[Any, Node] = {}
    read = dict.fromkeys(tensor for node in graph.nodes.values() for tensor in node.inputs)
    outputs: dict[str, list[str]] = {}
    for tensor in [*read, *(tensor for tensor in graph.outputs if tensor not in read)]:
        outputs.setdefault(producer_of(tensor), []).append(tensor)
    for node in graph.nodes.values():
        if node.op == "Placeholder" or not is_pure(node):
            continue
        known = first.setdefault(_key(node), node)
        if known is node:
            continue
        for tensor in outputs.get(node.name, ()):
            index = tensor.rpartition(":")[2]
            yield Place(tensor, (node.name, known.name), _same(f"{known.name}:{index}"))


def _same(tensor: str) -> Callable[[Graph], str]:
    return lambda graph: tensor


def _key(node: Node) -> Any:
    if node not in _digests:
        digest = hashlib.sha256()
        for name, value in sorted(node.attributes.items()):
            if name not in NOT_COMPARED:
                digest.update(name.encode() + b"=")
                digest.update(value.SerializeToString(deterministic=True))
        _digests[node] = digest.digest()
    return node.op, node.inputs, node.controls, _digests[node]


DUPLICATE = Pattern("common sub-expression", find, reported=False)
