"""A functional model computes the same in every runtime that it is lowered to."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest

from optops.compression.quantization.functional import make_plan, simulate
from optops.graph.lowering import LoweringError, lower
from optops.models.base import load_architecture
from optops.models.keras import keras
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable
from optops.testing import check_executable
from optops.testing.topologies import TOPOLOGIES, build_topology, example_inputs, outputs_of

RUNTIMES = ("stock", "tensorflow", "onnxruntime", "openvino")
FP32 = PrecisionPlan("fp32")


def plan_for(folder, precision, model):
    return make_plan(folder, precision, lambda: iter([example_inputs(model, 16, seed) for seed in range(2)]))


def make_plan_of(model, folder):
    load_architecture("functional").save(model, folder, {})
    return make_plan(folder, "fp16")


@pytest.fixture(scope="module", params=TOPOLOGIES)
def trained(request, tmp_path_factory):
    model = build_topology(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    load_architecture("functional").save(model, folder, {})
    return model, folder


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_of_any_topology_computes_the_same(runtime, trained, tmp_path):
    model, folder = trained
    facts = lower(folder, FP32, runtime, tmp_path).facts
    for examples, size in ((2, 8), (3, 12)):
        inputs = example_inputs(model, examples=examples, size=size)
        expected, given = outputs_of(model, inputs), load_executable(tmp_path, 1)(inputs)
        assert set(given) == set(expected)
        for name, array in expected.items():
            assert given[name].shape == array.shape
            np.testing.assert_allclose(given[name], array, rtol=1e-4, atol=1e-4 * np.abs(array).max(), err_msg=name)
    if runtime != "stock":
        assert facts["nodes_after"] < facts["nodes_before"]


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [("stock", "fp32"), ("tensorflow", "fp32"), *product(("onnxruntime", "openvino"), ("fp32", "fp16", "int8"))],
)
def test_every_executable_conforms(runtime, precision, tmp_path):
    model = build_topology("two_inputs")
    load_architecture("functional").save(model, tmp_path / "trainable", {"inputs": {"image": {"maximum": 1}}})
    lower(tmp_path / "trainable", plan_for(tmp_path / "trainable", precision, model), runtime, tmp_path / "serving")
    check_executable(tmp_path / "serving", example_inputs(model, examples=2))
    beyond = {name: array * 2 for name, array in example_inputs(model).items()}
    with pytest.raises(ValueError, match=r"input 'image' holds 1\.9.*; the largest value allowed is 1"):
        load_executable(tmp_path / "serving", 1)(beyond)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_in_fp16_weights_take_half_the_space_and_results_are_those_of_the_rounded_weights(runtime, trained, tmp_path):
    model, folder = trained
    plan = plan_for(folder, "fp16", model)
    lower(folder, plan, runtime, tmp_path / "half")
    inputs, rounded = example_inputs(model, examples=2), simulate(model, plan)
    given = load_executable(tmp_path / "half", 1)(inputs)
    for name, array in outputs_of(rounded, inputs).items():
        np.testing.assert_allclose(given[name], array, rtol=1e-3, atol=1e-3 * np.abs(array).max(), err_msg=name)
    stored = onnx.load(str(tmp_path / "half" / "model.onnx")).graph.initializer
    assert len([tensor for tensor in stored if tensor.data_type == onnx.TensorProto.FLOAT16]) >= len(plan.parts)
    assert not [t for t in stored if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1 and np.prod(t.dims) > 64]


def test_weights_that_fp16_can_not_hold_stay_in_fp32_and_are_named(tmp_path):
    model = build_topology("two_inputs")
    names = list(make_plan_of(model, tmp_path / "before").parts)
    kernels = {name: next(w for w in model.get_layer(name).weights if "kernel" in w.name) for name in names[:2]}
    kernels[names[0]].assign(kernels[names[0]] * 1e6)
    kernels[names[1]].assign(kernels[names[1]] * 1e-7)
    plan = make_plan_of(model, tmp_path / "after")
    assert set(plan.parts) == set(names[2:])
    assert set(plan.notes) == set(names[:2])
    assert re.search(r"weights of up to .*e\+05 are beyond what fp16", plan.notes[names[0]])


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_fp16_that_reaches_nothing_is_refused(runtime, tmp_path):
    inputs = keras.Input([4])
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model.set_weights([np.full((4, 3), 1e6), np.zeros(3)])
    plan = make_plan_of(model, tmp_path / "trainable")
    with pytest.raises(LoweringError, match="fp16 reached none of the model's weights"):
        lower(tmp_path / "trainable", plan, runtime, tmp_path / "serving")


@pytest.mark.parametrize(
    ("serving", "message"),
    [
        ({"inputs": {"picture": {"minimum": 0}}}, "constrains input 'picture'; the model has facts, image"),
        ({"inputs": {"image": {"smallest": 0}}}, "constrains input 'image' by smallest; known are largest_shape"),
    ],
)
def test_constraints_that_fit_nothing_are_refused(serving, message, tmp_path):
    load_architecture("functional").save(build_topology("two_inputs"), tmp_path / "trainable", serving)
    with pytest.raises(LoweringError, match=message):
        lower(tmp_path / "trainable", FP32, "stock", tmp_path / "serving")


@pytest.mark.parametrize("name", ["depthwise", "two_outputs", "grouped", "shared"])
def test_int8_reaches_what_the_plan_names_and_computes_what_it_simulates(name, tmp_path):
    model = build_topology(name)
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    plan = plan_for(tmp_path / "trainable", "int8", model)
    inputs = example_inputs(model, 4, seed=7)
    exact, simulated = outputs_of(model, inputs), outputs_of(simulate(model, plan), inputs)
    for runtime in ("onnxruntime", "openvino"):
        lowering = lower(tmp_path / "trainable", plan, runtime, tmp_path / runtime)
        in_float = sum("stays in float: " in note for note in lowering.notes)
        assert lowering.facts["nodes_quantized"] >= len(plan.parts) - in_float > 0
        given = load_executable(tmp_path / runtime, 1)(inputs)
        # The canonical form may call its outputs otherwise: what gave them may be folded away.
        for (output, array), rounded in zip(exact.items(), simulated.values(), strict=True):
            spread = np.abs(array).max()
            assert np.abs(given[output] - rounded).max() <= 0.005 * spread + np.abs(rounded - array).max()
            assert np.abs(given[output] - array).max() <= 0.1 * spread


def twins():
    """Two fixed blurs, and two convolutions of zeros whose weights are as many and of another shape."""
    layers, image = keras.layers, keras.Input([8, 8, 4], name="image")
    blurred, tensor = [], image
    for _ in range(2):
        blurred.append(layers.DepthwiseConv2D(3, padding="same", use_bias=False))
        tensor = layers.ReLU()(blurred[-1](layers.Conv2D(4, 3, padding="same", activation="relu")(tensor)))
    narrow = layers.ReLU()(layers.Conv2D(2, 1, kernel_initializer="zeros", bias_initializer="ones")(tensor))
    wide = layers.ReLU()(layers.Conv2D(4, 1, kernel_initializer="zeros", bias_initializer="ones")(narrow))
    outputs = layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Add()([tensor, wide])))
    model = keras.Model(image, outputs)
    for layer in blurred:
        layer.set_weights([np.tile(np.outer([1, 2, 1], [1, 2, 1])[:, :, None, None] / 16, (1, 1, 4, 1))])
    return model, [layer.name for layer in blurred]


def quantized_weights(folder):
    nodes = onnx.load(str(folder / "model.onnx")).graph.node
    return len([node for node in nodes if node.input and node.input[0].endswith("/int8_weights")])


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_int8_reaches_layers_that_have_the_same_weights(runtime, tmp_path):
    model, blurs = twins()
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    plan = plan_for(tmp_path / "trainable", "int8", model)
    lower(tmp_path / "trainable", plan, runtime, tmp_path / "serving")
    inputs = example_inputs(model, 4, seed=7)
    (exact,), (simulated,) = (outputs_of(form, inputs).values() for form in (model, simulate(model, plan)))
    (given,) = load_executable(tmp_path / "serving", 1)(inputs).values()
    assert set(blurs) < set(plan.parts)
    assert quantized_weights(tmp_path / "serving") == len(plan.parts)
    assert np.abs(given - simulated).max() <= 0.005 * np.abs(exact).max() + np.abs(simulated - exact).max()


def test_a_layer_that_the_plan_leaves_in_float_stays_so_beside_one_with_the_same_weights(tmp_path):
    model, blurs = twins()
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    plan = plan_for(tmp_path / "trainable", "int8", model)
    for blur in blurs:
        parts = {name: precision for name, precision in plan.parts.items() if name != blur}
        lower(tmp_path / "trainable", replace(plan, parts=parts), "openvino", tmp_path / blur)
        assert quantized_weights(tmp_path / blur) == len(parts)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_a_channel_without_weights_keeps_its_bias_in_int8_however_large_its_inputs_are(kind, runtime, tmp_path):
    keras.utils.set_random_seed(1)
    x, layers = keras.Input([4, 4, 8], name="x"), keras.layers
    pruned = layers.Conv2D(8, 1) if kind == "convolution" else layers.Dense(8)
    y = pruned(x if kind == "convolution" else layers.Flatten()(x))
    model = keras.Model(x, layers.Dense(16)(layers.Flatten()(layers.ReLU()(y))))
    kernel, _ = pruned.get_weights()
    pruned.set_weights([np.where(np.arange(8) < 4, 0, kernel * 1e-4), np.full(8, 5.0)])
    inputs = {"x": np.random.default_rng(1).uniform(0, 10_000, (16, 4, 4, 8)).astype(np.float32)}
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    plan = make_plan(tmp_path / "trainable", "int8", lambda: iter([inputs]))
    lower(tmp_path / "trainable", plan, runtime, tmp_path / "serving")
    (simulated,) = outputs_of(simulate(model, plan), inputs).values()
    (given,) = load_executable(tmp_path / "serving", 1)(inputs).values()
    assert set(plan.parts) == {layer.name for layer in model.layers if layer.weights}
    np.testing.assert_allclose(given, simulated, atol=0.02 * np.abs(simulated).max())


def test_int8_reaches_two_heads_that_are_copies_of_each_other(tmp_path):
    image = keras.Input([8, 8, 4], name="image")
    hidden = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    heads = [keras.layers.Dense(3, name=name) for name in ("one", "other")]
    model = keras.Model(image, [head(hidden) for head in heads])
    heads[1].set_weights(heads[0].get_weights())
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    plan = plan_for(tmp_path / "trainable", "int8", model)
    lower(tmp_path / "trainable", plan, "onnxruntime", tmp_path / "serving")
    given = load_executable(tmp_path / "serving", 1)(example_inputs(model))
    np.testing.assert_array_equal(given["one"], given["other"])


def test_a_plan_none_of_which_a_runtime_can_execute_is_refused_with_the_reasons(tmp_path):
    model = build_topology("transposed")
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    plan = plan_for(tmp_path / "trainable", "int8", model)
    with pytest.raises(LoweringError, match="conv2d_transpose stays in float: ONNX Runtime has no transposed"):
        lower(tmp_path / "trainable", plan, "onnxruntime", tmp_path / "serving")
    assert lower(tmp_path / "trainable", plan, "openvino", tmp_path / "serving").facts["nodes_quantized"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": {"no_such_layer": "int8"}}, "the plan names no_such_layer, which the model"),
        ({"ranges": {}}, "the plan wants int8 for conv2d but has no range for input_1, which it takes"),
        ({"parts": {}}, "names no layer of this model in int8"),
        ({"parts": {"re_lu": "int8"}}, "wants int8 for re_lu, which no runtime can run in it"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(change, message, tmp_path):
    load_architecture("functional").save(build_topology("residual"), tmp_path / "trainable", {})
    plan = PrecisionPlan("int8", {"conv2d": "int8"}, False, {"input_1": (0.0, 1.0), "re_lu": (0.0, 4.0)})
    with pytest.raises(LoweringError, match=message):
        lower(tmp_path / "trainable", replace(plan, **change), "openvino", tmp_path / "serving")


def test_a_padding_with_zeros_becomes_part_of_a_convolution_and_not_of_a_pooling(tmp_path):
    load_architecture("functional").save(build_topology("odd_paddings"), tmp_path / "trainable", {})
    notes = lower(tmp_path / "trainable", FP32, "onnxruntime", tmp_path / "serving").notes
    assert "1 Pad" in "; ".join(notes)


def darknet():
    """Two convolutions as Darknet has them, the second one padded at two sides only, before a layer of sums."""
    keras.utils.set_random_seed(1)
    image = keras.Input([16, 16, 3], name="image")
    y = keras.layers.LeakyReLU(0.1)(keras.layers.Conv2D(16, 3, padding="same")(image))
    y = keras.layers.Conv2D(32, 3, strides=2)(keras.layers.ZeroPadding2D(((1, 0), (1, 0)))(y))
    y = keras.layers.Activation("swish")(y)
    z = keras.layers.LeakyReLU(0.1)(keras.layers.Conv2D(32, 3, padding="same")(y))
    return keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([y, z]))))


def test_in_int8_a_padding_between_two_roundings_becomes_part_of_the_convolution_too(tmp_path):
    model = darknet()
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    plan = plan_for(tmp_path / "trainable", "int8", model)
    assert len(plan.parts) == 3
    inputs = example_inputs(model, 4, seed=7)
    (rounded,) = outputs_of(simulate(model, plan), inputs).values()
    for runtime in ("onnxruntime", "openvino"):
        lower(tmp_path / "trainable", plan, runtime, tmp_path / runtime)
        nodes = onnx.load(str(tmp_path / runtime / "model.onnx")).graph.node
        assert "Pad" not in {node.op_type for node in nodes}
        (given,) = load_executable(tmp_path / runtime, 1)(inputs).values()
        assert np.abs(given - rounded).max() <= 0.03 * np.abs(rounded).max()


def test_openvino_rounds_after_an_activation_and_not_before_it(tmp_path):
    model = darknet()
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    plan = plan_for(tmp_path / "trainable", "int8", model)
    roundings = {}
    for runtime in ("onnxruntime", "openvino"):
        lowering = lower(tmp_path / "trainable", plan, runtime, tmp_path / runtime)
        nodes = onnx.load(str(tmp_path / runtime / "model.onnx")).graph.node
        roundings[runtime] = sum(node.op_type == "QuantizeLinear" for node in nodes)
    assert roundings["openvino"] == roundings["onnxruntime"] - 3
    (executed,) = (note for note in lowering.notes if note.startswith("executed are"))
    assert "3 Convolution in u8" in executed


def test_openvino_has_a_trunk_of_sums_in_signed_int8_and_what_a_rectifier_gives_in_unsigned(tmp_path):
    keras.utils.set_random_seed(1)
    image = keras.Input([12, 12, 16], name="image")
    y = keras.layers.Conv2D(16, 3, padding="same")(image)
    for _ in range(2):
        z = keras.layers.ReLU()(keras.layers.Conv2D(16, 3, padding="same")(y))
        y = keras.layers.Add()([y, keras.layers.Conv2D(16, 3, padding="same")(z)])
    model = keras.Model(image, keras.layers.Conv2D(16, 3, padding="same")(y))
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    plan = plan_for(tmp_path / "trainable", "int8", model)
    inputs = example_inputs(model, 4, seed=7)
    (exact,), (rounded,) = (outputs_of(each, inputs).values() for each in (model, simulate(model, plan)))
    lowering = lower(tmp_path / "trainable", plan, "openvino", tmp_path / "serving")
    graph = onnx.load(str(tmp_path / "serving" / "model.onnx")).graph
    zero_points = {tensor.name: onnx.numpy_helper.to_array(tensor).dtype for tensor in graph.initializer}
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    signed = {
        made_by.get(node.input[0], "image"): zero_points[node.input[2]] == np.int8
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }
    assert signed == {"image": False, "Relu": False, "Add": True, "Conv": True}
    assert lowering.facts["nodes_quantized"] == 6  # as they are, or as unsigned ones where OpenVINO wants those
    (given,) = load_executable(tmp_path / "serving", 1)(inputs).values()
    assert np.square(given - exact).mean() < 2 * np.square(rounded - exact).mean()


def test_where_openvino_leaves_a_planned_convolution_in_float_the_rest_is_kept_and_told(tmp_path):
    keras.utils.set_random_seed(1)
    image = keras.Input([12, 12, 8], name="image")
    y = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    z = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(y)
    y = keras.layers.Add()([keras.layers.GroupNormalization(4)(y), z])
    y = keras.layers.Conv2D(8, 3, padding="same")(y)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(y))
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    plan = plan_for(tmp_path / "trainable", "int8", model)
    lowering = lower(tmp_path / "trainable", plan, "openvino", tmp_path / "serving")
    executed = lowering.facts["nodes_quantized"]
    note = f"OpenVINO executes {executed} of the 3 products in int8 that its graph has, and the rest in float"
    assert 1 <= executed <= 3
    assert (note in lowering.notes) == (executed < 3)
    inputs = example_inputs(model, 4, seed=7)
    (rounded,), (given,) = (
        outputs_of(simulate(model, plan), inputs).values(),
        load_executable(tmp_path / "serving", 1)(inputs).values(),
    )
    assert np.abs(given - rounded).max() <= 0.02 * np.abs(rounded).max()


def dilated(kind, rate):
    keras.utils.set_random_seed(1)
    image = keras.Input([None, None, 8], name="image")
    arguments = {"filters": 8} if kind is keras.layers.Conv2D else {}
    y = image
    for size, padding in ((3, "same"), ((3, 2), "same"), (3, "valid")):
        layer = kind(kernel_size=size, padding=padding, dilation_rate=rate, **arguments)
        y = keras.layers.ReLU()(layer(y))
    return keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(y)))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("rate", [2, (1, 2)])
@pytest.mark.parametrize("kind", [keras.layers.Conv2D, keras.layers.DepthwiseConv2D])
def test_dilated_convolutions_of_images_of_any_size_are_single_ones_in_int8_too(kind, rate, runtime, tmp_path):
    model = dilated(kind, rate)
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    batches = [example_inputs(model, 8, seed, size=16) for seed in range(2)]
    plan = make_plan(tmp_path / "trainable", "int8", lambda: iter(batches))
    facts = lower(tmp_path / "trainable", plan, runtime, tmp_path / "int8").facts
    assert facts["nodes_quantized"] == len(plan.parts) >= 3
    lower(tmp_path / "trainable", FP32, runtime, tmp_path / "fp32")
    operators = [node.op_type for node in onnx.load(str(tmp_path / "fp32" / "model.onnx")).graph.node]
    assert operators.count("Conv") == 3
    assert not {"SpaceToDepth", "DepthToSpace", "Pad", "Reshape"} & set(operators)
    for size in (16, 21):
        inputs = example_inputs(model, 4, seed=7, size=size)
        (exact,), (simulated,) = (outputs_of(form, inputs).values() for form in (model, simulate(model, plan)))
        (given,) = load_executable(tmp_path / "fp32", 1)(inputs).values()
        np.testing.assert_allclose(given, exact, atol=1e-4 * np.abs(exact).max())
        (given,) = load_executable(tmp_path / "int8", 1)(inputs).values()
        assert np.abs(given - simulated).max() <= 0.02 * np.abs(exact).max()


@pytest.mark.parametrize("length", [32, 45])
def test_dilated_convolutions_of_sequences_of_any_length_are_single_ones(length, tmp_path):
    series = keras.Input([None, 8], name="series")
    y = keras.layers.Conv1D(8, 3, padding="same", dilation_rate=4)(series)
    model = keras.Model(series, keras.layers.Conv1D(8, 4, padding="same", dilation_rate=3)(y))
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    lower(tmp_path / "trainable", FP32, "onnxruntime", tmp_path / "serving")
    operators = {node.op_type for node in onnx.load(str(tmp_path / "serving" / "model.onnx")).graph.node}
    assert operators <= {"Conv", "Squeeze", "Unsqueeze", "Transpose"}
    inputs = example_inputs(model, size=length)
    (exact,), (given,) = outputs_of(model, inputs).values(), load_executable(tmp_path / "serving", 1)(inputs).values()
    np.testing.assert_allclose(given, exact, atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_padding_that_the_model_gives_stays_beside_the_convolution_that_reads_it(runtime, tmp_path):
    image = keras.Input([8, 8, 3], name="image")
    padded = keras.layers.ZeroPadding2D(2, name="padded")(image)
    model = keras.Model(image, [padded, keras.layers.Conv2D(4, 3, name="convolved")(padded)])
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    lower(tmp_path / "trainable", FP32, runtime, tmp_path / "serving")
    inputs = example_inputs(model)
    given = load_executable(tmp_path / "serving", 1)(inputs)
    for name, expected in outputs_of(model, inputs).items():
        np.testing.assert_allclose(given[name], expected, atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_convolution_of_volumes_has_its_groups(runtime, tmp_path):
    keras.utils.set_random_seed(0)
    x = keras.Input([6, 6, 6, 4], name="x")
    y = keras.layers.Conv3D(8, 3, groups=2, padding="same", activation="relu")(x)
    model = keras.Model(x, keras.layers.Conv3D(2, 3, strides=2, name="y")(y))
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    lower(tmp_path / "trainable", FP32, runtime, tmp_path / "serving")
    inputs = example_inputs(model)
    (given,), (expected,) = (
        found.values() for found in (load_executable(tmp_path / "serving", 1)(inputs), outputs_of(model, inputs))
    )
    np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize("runtime", ["tensorflow", "onnxruntime", "openvino"])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_batch_norm_that_every_call_would_change_is_refused_with_the_remedy(frozen, runtime, tmp_path):
    x = keras.Input([8, 8, 3], name="x")
    norm = keras.layers.BatchNormalization(trainable=not frozen, name="norm")
    model = keras.Model(x, keras.layers.Conv2D(2, 3, name="y")(norm(x, training=True)))
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    if not frozen:
        with pytest.raises(LoweringError, match="batch norm 'norm' is called with training=True, so"):
            lower(tmp_path / "trainable", FP32, runtime, tmp_path / "serving")
        return
    lower(tmp_path / "trainable", FP32, runtime, tmp_path / "serving")
    inputs = example_inputs(model)
    (given,) = load_executable(tmp_path / "serving", 1)(inputs).values()
    np.testing.assert_allclose(given, outputs_of(model, inputs)["y"], atol=1e-5)


def test_the_example_of_the_documentation_runs(tmp_path, monkeypatch):
    page = Path(__file__).parents[3] / "docs" / "runtimes.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    model = build_topology("two_outputs")
    images = example_inputs(model)["image"]
    names = {"model": model, "images": images}
    exec(example, names)
    np.testing.assert_allclose(names["outputs"]["fine"], outputs_of(model, {"image": images})["fine"], atol=1e-4)
