"""What nodes of an ONNX graph read, in the bodies of loops and branches too: these see the tensors around them."""

from collections.abc import Mapping
from typing import Any

CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


def names_read(node: Any) -> set[str]:
    """Returns the names of the tensors that a node reads."""
    inner = (names_read(each) for body in _bodies(node) for each in body.node)
    return {name for name in node.input if name}.union(*inner)


def rename_reads(node: Any, names: Mapping[str, str]) -> None:
    """Lets a node read other tensors, by the names of those that it reads now."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for body in _bodies(node):
        for each in body.node:
            rename_reads(each, names)


def _bodies(node: Any) -> list[Any]:
    return [each.g for each in node.attribute if each.HasField("g")]
