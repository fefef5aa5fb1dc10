"""Names for the functions that control flow calls, a graph's own."""

import itertools
from typing import Any

_numbers = itertools.count()


def with_own_functions(graph_def: Any) -> Any:
    """Gives the functions of a graph names that no other graph has.

    TensorFlow forgets a function when the graph that brought it goes, also where another one has it under that name: a
    GraphDef with functions must be imported once only.
    """
    suffix = f"_optops_{next(_numbers)}"
    own = {function.signature.name: function.signature.name + suffix for function in graph_def.library.function}
    if not own:
        return graph_def
    for function in graph_def.library.function:
        function.signature.name = own[function.signature.name]
        for node in function.node_def:
            _rename_calls(node, own)
    for node in graph_def.node:
        _rename_calls(node, own)
    return graph_def


def _rename_calls(node: Any, own: dict[str, str]) -> None:
    node.op = own.get(node.op, node.op)
    for attribute in node.attr.values():
        for called in (*([attribute.func] if attribute.HasField("func") else ()), *attribute.list.func):
            called.name = own.get(called.name, called.name)
