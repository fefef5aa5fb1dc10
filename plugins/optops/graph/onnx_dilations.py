"""Dilated convolutions of padded images of any size, which tf2onnx merges only without padding or at a fixed size."""

from typing import Any

import numpy as np

PRODUCTS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative")
MOVING = ("Concat", "ConcatV2", "ExpandDims", "Identity", "Pack", "StridedSlice")


def merge_dilations(graph: Any, nodes: Any) -> Any:
    """Makes single nodes of dilated convolutions, as tf2onnx's own rewriter does, at sizes that are not fixed too.

    TensorFlow rearranges an image into a batch of smaller ones, convolves these and puts the results together. Before,
    it pads as the convolution asks for, and further to a multiple of the dilation; the latter is cropped again. At a
    size that is not fixed both are computed in the graph, where tf2onnx does not see the former: here it is told.

    Args:
        graph: As tf2onnx represents it.
        nodes: Its nodes.

    Returns:
        The nodes that it has then.
    """
    from tf2onnx.rewriter.conv_dilations_rewriter import rewrite_conv_dilations

    computed = []
    for joining in nodes:
        spreading: Any = _spreading(joining) if joining.type == "BatchToSpaceND" else None
        padding = _padding(graph, joining) if spreading is not None else None
        if padding is not None:
            computed.append([(node, list(node.input)) for node in (spreading, joining)])
            for node, sizes in ((spreading, padding), (joining, np.zeros_like(padding))):
                constant = graph.make_const(f"{node.name}/constant", sizes)
                graph.replace_inputs(node, [*node.input[:2], constant.output[0]])
    rewrite_conv_dilations(graph, nodes)
    for changed in computed:
        if graph.find_output_consumers(changed[-1][0].output[0]):  # it was not merged after all
            for node, inputs in changed:
                graph.replace_inputs(node, inputs)
    return graph.get_nodes()


def _spreading(joining: Any) -> Any:
    """Returns the node that rearranges what the one that puts it together again takes; None if more is between."""
    node = joining.inputs[0]
    while node.type in (*PRODUCTS, "Squeeze", "ExpandDims"):
        node = node.inputs[0]
    return node if node.type == "SpaceToBatchND" else None


def _padding(graph: Any, joining: Any) -> np.ndarray | None:
    """Returns what a convolution pads on either side in each direction; None if fixed, or not that of `SAME`."""
    product = joining.inputs[0].inputs[0] if joining.inputs[0].type == "Squeeze" else joining.inputs[0]
    kernel = graph.get_shape(product.input[1]) if product.type in PRODUCTS else None
    if kernel is None or not joining.inputs[1].is_const():
        return None
    dilations = joining.inputs[1].get_tensor_value(as_list=False)
    total = (np.array(kernel[:-2][-len(dilations) :]) - 1) * dilations
    padding = np.stack([total // 2, total - total // 2], axis=1)
    after = _computed_after(_spreading(joining).inputs[2])
    return padding if after is not None and np.array_equal(after, padding[:, 1]) else None


def _computed_after(sizes: Any) -> np.ndarray | None:
    """Returns what sizes of paddings add, after the image, to what makes it a multiple of the dilation."""
    while sizes.type in MOVING:
        varying = [node for node in sizes.inputs if not node.is_const()]
        if not varying:
            return None
        sizes = varying[0]
    remainder = any(node.type == "FloorMod" for node in sizes.inputs) if sizes.type in ("Add", "AddV2") else False
    constants = [node.get_tensor_value(as_list=False) for node in sizes.inputs if node.is_const()]
    return constants[0] if remainder and constants else None
