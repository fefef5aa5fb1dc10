"""Static int8 of ONNX graphs: weights and biases of products whose inputs are rounded become whole numbers."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.compression.quantization.rounding import Grid, Range, grid_of, weight_scales
from optops.graph.onnx_nodes import names_read

LARGEST_BIAS = 2.0**30
MIDDLE = 128
"""The zero point of a symmetric grid in uint8; in int8 it is 0."""
SIGNED_ZERO = "signed_zero_point"
PRODUCTS: Mapping[str, int] = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1}
"""Operators that int8 can reach, and which axis of their weights counts outputs."""

MOVING = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Pad", "Flatten")
"""Operators that leave values on the grid that they were rounded to."""


@dataclass(frozen=True)
class Int8Layer:
    """What the products of a layer are known by.

    Attributes:
        kernel: Its weights in int8, output channels first.
        scales: Of the tensors that it takes, by their names.
    """

    kernel: NDArray[np.int8]
    scales: Mapping[str, np.float32]


def quantize_weights(model: Any, layers: Mapping[str, Int8Layer], levels: int) -> dict[str, int]:
    """Gives the products of an ONNX model int8 weights and int32 biases, each with its own scale per output channel.

    A product belongs to a layer if it has its weights and takes what is rounded as the layer's input is, so names of
    nodes do not matter, nor that a converter drew a factor into the weights. Where several layers are alike in both,
    the products are given out to them in turn.

    Args:
        model: With QuantizeLinear and DequantizeLinear where tensors are rounded; changed in place.
        layers: By name.
        levels: The largest weight of a channel becomes plus or minus this.

    Returns:
        Each layer that was reached, to the number of its products: 0 if a converter made one product of it and of
        another that computes the same of the same tensors.
    """
    weights = _Weights(model)
    alike: dict[Any, list[str]] = defaultdict(list)
    for name, layer in layers.items():
        alike[_key(layer.kernel)].append(name)
    reached: dict[str, int] = defaultdict(int)
    for node in list(model.graph.node):
        if node.op_type not in PRODUCTS or weights.value(node.input[1]) is None:
            continue
        scale = weights.input_scale(node)
        names = alike.get(_key(weights.in_int8(node, levels)), ())
        fitting = [name for name in names if scale is not None and scale in layers[name].scales.values()]
        if scale is None or not fitting:
            continue
        if node.op_type == "MatMul":
            weights.make_gemm(node)
        weights.quantize(node, scale, levels)
        reached[min(fitting, key=reached.__getitem__)] += 1
    weights.finish()
    return {
        name: reached[name]
        for names in alike.values()
        for name in names
        if any(reached[other] and layers[other].scales.keys() == layers[name].scales.keys() for other in names)
    }


def round_products(model: Any, ranges: Mapping[str, Range], levels: int) -> None:
    """Gives products a rounded input and int8 weights; others that read the same tensor still have it as it is.

    Args:
        model: Of `MatMul` nodes with constant weights; changed in place.
        ranges: Name of the node of a product to the range of what it takes.
        levels: The largest weight of a channel becomes plus or minus this.
    """
    weights, nodes = _Weights(model), list(model.graph.node)
    for node in nodes:
        if node.name in ranges:
            grid = grid_of(ranges[node.name])
            weights.round_input(node, grid)
            weights.make_gemm(node)
            weights.quantize(node, np.array(grid.scale), levels)
    weights.finish()


def sign_roundings(model: Any, scales: Collection[float]) -> None:
    """Lets roundings with zero in the middle of a grid give int8, not uint8: the same grid; changes a model in place.

    Args:
        model: With QuantizeLinear and DequantizeLinear.
        scales: Of the roundings that are changed.
    """
    from onnx import numpy_helper

    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero_point = (values.get(name) for name in node.input[1:3])
            if scale is None or zero_point is None or zero_point.dtype != np.uint8:
                continue
            if zero_point == MIDDLE and scale.item() in scales:
                node.input[2] = SIGNED_ZERO
    if any(SIGNED_ZERO in node.input for node in graph.node):
        graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), SIGNED_ZERO))


def _key(kernel: NDArray[np.int8]) -> tuple[tuple[int, ...], bytes]:
    """Returns what weights are told apart by; a converter may add axes of size 1."""
    return tuple(size for size in kernel.shape if size > 1), kernel.tobytes()


class _Weights:
    """The constants of a model, and what is put before the nodes that read them."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.graph = model.graph
        self.arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.graph.node:
            for name in node.input:
                self.readers[name].append(node)
        self.added: list[Any] = []
        self.stored: dict[Any, str] = {}

    def value(self, name: str) -> NDArray[Any] | None:
        """Returns a constant's value."""
        return self.arrays.get(name)

    def input_scale(self, node: Any) -> NDArray[np.float32] | None:
        """Returns the scale of what a product takes, through nodes that only move values; None if it has none."""
        maker = self.makers.get(node.input[0])
        while maker is not None and maker.op_type in MOVING:
            maker = self.makers.get(maker.input[0])
        return self.value(maker.input[1]) if maker is not None and maker.op_type == "DequantizeLinear" else None

    def outputs_first(self, node: Any) -> NDArray[Any]:
        """Returns a product's weights with its output channels first."""
        kernel: NDArray[Any] = self.arrays[node.input[1]]
        if node.op_type == "Gemm" and any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
            return kernel
        return np.moveaxis(kernel, PRODUCTS[node.op_type], 0)

    def in_int8(self, node: Any, levels: int) -> NDArray[np.int8]:
        """Returns a product's weights in int8, output channels first."""
        kernel = np.ascontiguousarray(self.outputs_first(node))
        return np.clip(np.rint(kernel / weight_scales(kernel, (0,), levels)), -levels, levels).astype(np.int8)

    def round_input(self, node: Any, grid: Grid) -> None:
        """Puts QuantizeLinear and DequantizeLinear before a product, to int8 if zero is in the middle."""
        from onnx import helper, numpy_helper

        prefix = f"{node.name}/int8_input"
        signed = grid.zero_point == MIDDLE
        zero = np.array(0, np.int8) if signed else np.array(grid.zero_point, np.uint8)
        parts = {f"{prefix}_scale": np.array(grid.scale), f"{prefix}_zero": zero}
        for name, array in parts.items():
            self.graph.initializer.append(numpy_helper.from_array(array, name))
        place = list(self.graph.node).index(node)
        for kind, given in (("QuantizeLinear", node.input[0]), ("DequantizeLinear", f"{prefix}_QuantizeLinear")):
            made = f"{prefix}_{kind}"
            rounding = helper.make_node(kind, [given, *parts], [made], name=made)
            self.graph.node.insert(place, rounding)
            place += 1
        node.input[0] = f"{prefix}_DequantizeLinear"

    def make_gemm(self, node: Any) -> None:
        """Joins a product of two matrices with the addition of a bias, if that is all that reads it."""
        readers = self.readers[node.output[0]]
        if len(readers) != 1 or readers[0].op_type != "Add":
            return
        (addition,) = readers
        bias = next((name for name in addition.input if name != node.output[0]), "")
        value = self.value(bias)
        if value is None or value.shape != (self.arrays[node.input[1]].shape[-1],):
            return
        node.op_type = "Gemm"
        node.input.append(bias)
        node.output[0] = addition.output[0]
        self.graph.node.remove(addition)

    def quantize(self, node: Any, input_scale: NDArray[np.float32], levels: int) -> None:
        """Puts DequantizeLinear over whole numbers in the place of weights and bias."""
        from onnx import helper

        kernel = np.ascontiguousarray(self.outputs_first(node))
        scales = weight_scales(kernel, (0,), levels).reshape(-1)
        bias = self.arrays.get(node.input[2]) if len(node.input) > 2 else None
        if bias is not None:
            # A channel of tiny weights takes a larger scale, so that its bias fits 32 bits; one of zeros takes any, and
            # that which its bias loses least in.
            zeros = ~kernel.reshape(len(kernel), -1).any(axis=1) & (bias != 0)
            least = np.where(zeros, np.finfo(np.float32).tiny, scales)
            scales = np.maximum(least, np.abs(bias) / (input_scale * LARGEST_BIAS)).astype(np.float32)
        whole = np.rint(kernel / scales.reshape(-1, *[1] * (kernel.ndim - 1))).astype(np.int8)
        transposed = node.op_type == "Gemm" and self.outputs_first(node) is self.arrays[node.input[1]]
        axis = 0 if transposed else PRODUCTS[node.op_type] % kernel.ndim
        prefix = f"{node.name or node.output[0]}/int8"
        node.input[1] = self._dequantized(f"{prefix}_weights", np.moveaxis(whole, 0, axis), scales, axis)
        if bias is not None:
            whole_bias = np.rint(bias / (input_scale * scales)).astype(np.int32)
            node.input[2] = self._dequantized(f"{prefix}_bias", whole_bias, (input_scale * scales), 0)
        if node.op_type == "Gemm" and not any(attribute.name == "transB" for attribute in node.attribute):
            node.attribute.append(helper.make_attribute("transB", 0))

    def _dequantized(self, name: str, whole: NDArray[Any], scales: NDArray[np.float32], axis: int) -> str:
        from onnx import helper, numpy_helper

        parts = {"": whole, "_scale": scales.astype(np.float32), "_zero": np.zeros(len(scales), whole.dtype)}
        inputs = []
        for suffix, array in parts.items():
            # A layer that runs several times has the same weights as often, and they are stored once.
            content = (array.dtype, array.shape, array.tobytes())
            if content not in self.stored:
                self.stored[content] = name + suffix
                self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name + suffix))
            inputs.append(self.stored[content])
        self.added.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_float"], name=f"{name}_dq", axis=axis))
        return f"{name}_float"

    def finish(self) -> None:
        """Puts the added nodes first, and drops constants that nothing reads any more."""
        nodes = [*self.added, *self.graph.node]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        read = {name for node in nodes for name in names_read(node)} | {output.name for output in self.graph.output}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
