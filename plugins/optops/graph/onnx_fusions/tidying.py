"""Reshapes and transposes that undo each other are left out."""

from optops.graph.onnx_fusions.rewriting import Rewriter, attribute, has_same_sizes


def tidy(graph: Rewriter) -> int:
    """Leaves out what changes nothing; returns how many nodes."""
    left_out = 0
    for node in list(graph.graph.node):
        if node.op_type == "Transpose":
            inner = graph.producer(node.input[0], "Transpose")
            if inner is not None:
                graph.redirect(node.output[0], graph.transpose(node.input[0], attribute(node, "perm")))
                left_out += 1
        elif node.op_type == "Reshape":
            left_out += _tidy_reshape(graph, node.input[0], node.input[1], node.output[0])
    return left_out


def _tidy_reshape(graph: Rewriter, tensor: str, sizes: str, result: str) -> int:
    shape, source = graph.shape(result), tensor
    while True:
        before = graph.shape(source)
        if len(shape) == 3 and shape[2] and has_same_sizes(before, shape) and before[2] == shape[2]:
            graph.redirect(result, source)
            return 1
        node = graph.producer(source, "Reshape")
        if node is None:
            break
        source = node.input[0]
    fixed = graph.constants.get(sizes)
    if source == tensor or fixed is None or (fixed == 0).any():
        return 0
    graph.redirect(result, graph.reshape(source, [int(size) for size in fixed]))
    return 1
