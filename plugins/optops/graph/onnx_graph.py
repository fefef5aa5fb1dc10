"""A small builder of ONNX graphs: constants shared, nodes named, inputs and outputs with dynamic sizes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from optops.graph.onnx_nodes import CONTRIB

OPSET = 17
IR_VERSION = 8
TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64}


class OnnxGraph:
    """Collects nodes in the order in which they are computed.

    Args:
        name: Name of the graph.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[bytes, str] = {}
        self._initializers: list[onnx.TensorProto] = []

    def input(self, name: str, dtype: str, shape: Sequence[str | int]) -> str:
        """Declares an input; a size that is a string is dynamic."""
        self._inputs.append(helper.make_tensor_value_info(name, TYPES[dtype], list(shape)))
        return name

    def output(self, value: str, name: str, dtype: str, shape: Sequence[str | int]) -> None:
        """Declares `value`, what some node computes, an output under `name`."""
        # Renamed where it is made and used: an Identity node would copy it.
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if other == value else other for other in names]
        self._outputs.append(helper.make_tensor_value_info(name, TYPES[dtype], list(shape)))

    def constant(self, array: np.ndarray) -> str:
        """Returns the name of an initialiser with this value; equal ones are stored once."""
        key = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self._initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """Returns the name of a one-dimensional int64 constant, as shapes and axes are given."""
        return self.constant(np.array(values, np.int64))

    def float(self, value: float) -> str:
        """Returns the name of a float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Appends a node with one output and returns that output's name."""
        return self.add_many(operator, *inputs, outputs=1, name=name, **attributes)[0]

    def add_many(self, operator: str, *inputs: str, outputs: int, name: str = "", **attributes: Any) -> list[str]:
        """Appends a node with several outputs and returns their names; an input named "" is left out."""
        name = name or f"{operator}_{len(self.nodes)}"
        results = [f"{name}:{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), results, name=name, **attributes))
        return results

    def model(self) -> onnx.ModelProto:
        """Returns the checked model."""
        graph = helper.make_graph(self.nodes, self.name, self._inputs, self._outputs, self._initializers)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)],
            ir_version=IR_VERSION,
            producer_name="optops",
        )
        onnx.checker.check_model(model)
        return model
