"""A residual sum and the layer norm of it become one operator of ONNX Runtime, which gives the sum as well."""

from optops.graph.onnx_fusions.rewriting import CONTRIB, Rewriter, attribute


def fuse_sums(graph: Rewriter) -> int:
    """Fuses all; returns how many."""
    fused = 0
    for norm in [node for node in graph.graph.node if node.op_type == "LayerNormalization"]:
        total = graph.producer(norm.input[0], "Add")
        if total is None or len(norm.input) < 3 or attribute(norm, "axis", -1) != -1:
            continue
        shape = graph.shape(total.output[0])
        # A sum that repeats one of its terms has terms of different shapes.
        if len(shape) != 3 or any(name in graph.constants or graph.shape(name) != shape for name in total.input):
            continue
        epsilon = attribute(norm, "epsilon", 1e-5)
        given, shapes = {"domain": CONTRIB, "epsilon": epsilon}, [shape, (), (), shape]
        normed, _, _, summed = graph.add_many(
            "SkipLayerNormalization", *total.input, *norm.input[1:], shapes=shapes, **given
        )
        graph.redirect(norm.output[0], normed)
        graph.redirect(total.output[0], summed)
        fused += 1
    return fused
