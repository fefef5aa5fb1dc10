"""The simulation gives what ONNX Runtime's int8 kernels give for the same plan, in a graph written by hand."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from optops.compression.quantization.functional.measured import measure
from optops.compression.quantization.functional.simulate import simulate
from optops.compression.quantization.rounding import grid_of, weight_scales
from optops.models.keras import keras

L = keras.layers


class Graph:
    """An ONNX graph with a pair of QuantizeLinear and DequantizeLinear wherever the plan has a range."""

    def __init__(self, plan):
        self.plan, self.nodes, self.constants = plan, [], []

    def constant(self, name, array):
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def rounded(self, tensor):
        grid = grid_of(self.plan.ranges[tensor])
        scale = self.constant(f"{tensor}_scale", np.float32(grid.scale))
        zero = self.constant(f"{tensor}_zero", np.uint8(grid.zero_point))
        whole = self.add("QuantizeLinear", [tensor, scale, zero], f"{tensor}_q")
        return self.add("DequantizeLinear", [whole, scale, zero], f"{tensor}_dq")

    def convolution(self, layer, value, output):
        kernel = layer.kernel.numpy().transpose(3, 2, 0, 1)
        scales = weight_scales(kernel, (0,), self.plan.weight_levels)
        flat = self.constant(f"{output}_s", scales.reshape(-1))
        weights = self.constant(f"{output}_w", np.rint(kernel / scales).astype(np.int8))
        zeros = self.constant(f"{output}_z", np.zeros(len(kernel), np.int8))
        floats = self.add("DequantizeLinear", [weights, flat, zeros], f"{output}_wf", axis=0)
        bias = self.constant(f"{output}_b", layer.bias.numpy() + np.float32(self.plan.bias_corrections[layer.name]))
        return self.add("Conv", [value, floats, bias], output, pads=[1, 1, 1, 1])

    def session(self, inputs, output, path):
        graph = helper.make_graph(
            self.nodes,
            "by_hand",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.optimized_model_filepath = str(path)
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("activation", ["relu", "leaky"])
def test_the_simulation_is_what_int8_kernels_compute_to_within_rare_steps(activation, tmp_path):
    keras.utils.set_random_seed(4)
    x = keras.Input((9, 9, 6), name="x")
    first = L.Conv2D(16, 3, padding="same", name="first", bias_initializer="random_normal")
    second = L.Conv2D(16, 3, padding="same", name="second", bias_initializer="random_normal")
    active = L.ReLU(name="active") if activation == "relu" else L.LeakyReLU(0.2, name="active")
    one = active(first(x))
    total = L.Add(name="sum")([one, second(one)])
    model = keras.Model(x, L.Conv2D(4, 1, name="head")(L.ReLU(name="outer")(total)))
    random = np.random.default_rng(0)
    measured = measure(model, lambda: [random.normal(size=(64, 9, 9, 6)).astype(np.float32)])
    plan = measured.plan(["first", "second", "head"], {})
    data = np.random.default_rng(1).normal(size=(8, 9, 9, 6)).astype(np.float32)

    graph = Graph(plan)
    value = graph.convolution(first, graph.rounded("x"), "first")
    if activation == "leaky":
        value = graph.add("LeakyRelu", [graph.rounded("first")], "active", alpha=0.2)
    else:
        value = graph.add("Relu", [value], "active")
    value = graph.rounded("active")
    graph.convolution(second, value, "second")
    graph.add("Add", [value, graph.rounded("second")], "sum")
    graph.add("Relu", ["sum"], "outer")
    output = graph.rounded("outer")
    session = graph.session([None, 6, 9, 9], output, tmp_path / "optimized.onnx")
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert operators.count("QLinearConv") == 2
    assert "Conv" not in operators
    assert "QLinearAdd" in operators

    wanted = session.run(None, {"x": data.transpose(0, 3, 1, 2)})[0].transpose(0, 2, 3, 1)
    simulated = simulate(model, plan)
    found = keras.Model(simulated.inputs, simulated.get_layer("outer_rounded").output)(data).numpy()
    step = float(grid_of(plan.ranges["outer"]).scale)
    differences = np.abs(wanted - found) / step
    # A value between two steps may be rounded either way, and what is computed from it moves with it.
    assert np.mean(differences > 0.01) < 0.03
    assert np.mean(differences > 1.01) < 0.005
    assert differences.max() <= 4.01
