"""Products with a constant weight become MatMul on the tensor itself: out of einsums, and out of rows of two axes."""

from typing import Any

import numpy as np

from optops.graph.onnx_fusions.rewriting import Rewriter, Shape, attribute, has_same_sizes, known_sizes


def fuse_einsums(graph: Rewriter) -> int:
    """Makes a MatMul of every einsum that sums the last axes of a tensor with a constant; returns of how many."""
    fused = 0
    for node in [node for node in graph.graph.node if node.op_type == "Einsum"]:
        kernel = _kernel(graph, node)
        if kernel is None:
            continue
        source, weight, made = kernel
        shape = graph.shape(source)
        kept = len(shape) - (weight.ndim - made)
        outputs = weight.shape[weight.ndim - made :]
        flat = weight.reshape(-1, int(np.prod(outputs)))
        x = source if kept == len(shape) - 1 else graph.reshape(source, [*[0] * kept, flat.shape[0]])
        rows = graph.add("MatMul", x, graph.constant(flat), shape=(*shape[:kept], flat.shape[1]))
        result = node.output[0]
        bias, result = _bias(graph, result, outputs)
        if bias is not None:
            rows = graph.add("Add", rows, graph.constant(bias), shape=graph.shape(rows))
        graph.redirect(result, rows if made == 1 else graph.reshape(rows, [*[0] * kept, *outputs]))
        fused += 1
    return fused


def _kernel(graph: Rewriter, node: Any) -> tuple[str, np.ndarray, int] | None:
    """Returns what an einsum multiplies, its weight with summed axes first, and how many axes the result gets of it."""
    inputs, _, result = attribute(node, "equation").decode().replace(" ", "").partition("->")
    labels = inputs.split(",")
    if "." in inputs or len(labels) != 2:
        return None
    for data, other in ((0, 1), (1, 0)):
        weight, x, w = graph.constants.get(node.input[other]), labels[data], labels[other]
        if weight is None or len(graph.shape(node.input[data])) != len(x):
            continue
        summed = [label for label in x if label in w]
        kept = [label for label in x if label not in w]
        made = [label for label in result if label not in kept]
        if (
            x == "".join(kept + summed)
            and result == "".join(kept + made)
            and summed
            and sorted(summed + made) == sorted(w)
        ):
            return node.input[data], weight.transpose([w.index(label) for label in summed + made]), len(made)
    return None


def _bias(graph: Rewriter, tensor: str, outputs: tuple[int, ...]) -> tuple[np.ndarray | None, str]:
    """Returns the constant that is added to a product's result and nothing else, and the sum."""
    if graph.used_once(tensor):
        node = graph.readers(tensor)[0]
        bias = next((graph.constants[name] for name in node.input if name in graph.constants), None)
        if node.op_type == "Add" and bias is not None and bias.shape == outputs:
            return bias.reshape(-1), node.output[0]
    return None, tensor


def fuse_rows(graph: Rewriter) -> int:
    """Lets products take a tensor of three axes as it is, where it was reshaped to rows before and back behind."""
    fused = 0
    for node in [node for node in graph.graph.node if node.op_type == "Reshape"]:
        product, bias = _product(graph, node.input[0])
        rows = graph.producer(product.input[0], "Reshape") if product is not None else None
        if product is None or rows is None:
            continue
        source, weight = rows.input[0], graph.constants[product.input[1]]
        before, after = graph.shape(source), graph.shape(node.output[0])
        fits = has_same_sizes(before, after) and before[2] == weight.shape[0] and _ends_with(after[2:], weight)
        if not fits:
            continue
        made = graph.add("MatMul", source, product.input[1], shape=(*before[:2], weight.shape[1]))
        made = graph.add("Add", made, bias, shape=graph.shape(made)) if bias else made
        graph.redirect(
            node.output[0], made if len(after) == 3 else graph.reshape(made, [0, 0, *known_sizes(after[2:])])
        )
        fused += 1
    return fused


def _ends_with(sizes: Shape, weight: np.ndarray) -> bool:
    return bool(np.prod(known_sizes(sizes)) == weight.shape[1])


def _product(graph: Rewriter, tensor: str) -> tuple[Any, str]:
    """Returns the product of rows that a tensor is, and the constant that is added to it."""
    total = graph.producer(tensor, "Add")
    bias = ""
    if total is not None and len(graph.shape(tensor)) == 2:
        bias = next((name for name in total.input if graph.constants.get(name, np.zeros([1, 1])).ndim == 1), "")
        tensor = next((name for name in total.input if name != bias), "") if bias else ""
    product = graph.producer(tensor, "MatMul")
    fits = product is not None and graph.constants.get(product.input[1], np.zeros(1)).ndim == 2
    return (product if fits else None), bias
