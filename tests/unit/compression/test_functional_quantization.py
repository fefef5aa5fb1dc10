"""Functional models are quantised as runtimes execute them: ranges, rounding, corrected biases, what stays in float."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from optops.compression import quantize
from optops.compression.quantization.functional import make_plan
from optops.compression.quantization.functional.measured import measure
from optops.compression.quantization.functional.network import Network
from optops.compression.quantization.functional.placement import placement
from optops.compression.quantization.functional.simulate import simulate
from optops.compression.quantization.quantize import PLAN_FILE
from optops.compression.quantization.rounding import grid_of, round_weights, weight_scales
from optops.models.base import load_architecture
from optops.models.functional.output_names import output_names
from optops.models.keras import keras
from optops.precision import PrecisionPlan
from optops.runtimes.base import load_executable
from optops.testing.topologies import TOPOLOGIES, build_topology, example_inputs, outputs_of

L = keras.layers


def images(count=12, size=16, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, 3)).astype(np.float32)


# Where it is rounded


def test_runtimes_stay_in_int8_between_layers_and_outputs_stay_in_float(residual_network):
    network = Network.of(residual_network)
    chosen = [name for name in network.quantizable if name != "scores"]
    # Before a rectifier (one, sum) nothing is rounded, after it (inner, outer) it is; scores take float.
    assert placement(network, chosen) == {
        *("image", "stem", "leaky", "inner", "depthwise", "two", "outer", "pool", "side", "up", "joined", "late"),
    }
    everything = placement(network, network.quantizable)
    assert {"mean"} <= everything
    assert "scores" not in everything


def test_a_layer_in_float_takes_its_neighbours_out_of_int8(residual_network):
    network = Network.of(residual_network)
    assert placement(network, ["side"]) == {"pool", "side"}
    assert placement(network, []) == set()


def test_what_a_mean_over_all_places_reads_is_rounded_and_what_it_gives_to_a_layer_in_float_is_not():
    image = keras.Input([8, 8, 4], name="image")
    first = keras.layers.Conv2D(4, 3, padding="same", name="first")(image)
    second = keras.layers.Conv2D(4, 3, padding="same", name="second")(first)
    total = keras.layers.ReLU(name="rectified")(keras.layers.Add(name="total")([first, second]))
    mean = keras.layers.GlobalAveragePooling2D(name="mean")(total)
    network = Network.of(keras.Model(image, keras.layers.Dense(2, name="logits")(mean)))
    assert placement(network, ["first", "second"]) == {"image", "first", "second", "rectified"}


def test_an_output_that_a_layer_reads_too_is_rounded_for_that_layer_alone():
    x = keras.Input((4,), name="x")
    first = L.Dense(4, name="first")(x)
    model = keras.Model(x, [first, L.Dense(3, name="second")(first)])
    plan = PrecisionPlan("int8", {"second": "int8"}, dynamic=False, ranges={"first": (-0.5, 0.5)})
    data = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    exact, rounded = model(data), simulate(model, plan)(data)
    np.testing.assert_array_equal(exact[0], rounded[0])
    assert np.abs(exact[1] - rounded[1]).max() > 1e-3


def test_an_activation_within_a_layer_comes_after_its_rounding():
    image = keras.Input((8, 8, 3), name="image")
    tensor = L.Conv2D(8, 3, activation="swish", name="swish")(image)
    tensor = L.Conv2D(8, 3, activation=L.LeakyReLU(0.2), name="leaky")(tensor)
    model = keras.Model(image, L.Conv2D(4, 1, activation="sigmoid", name="scores")(tensor))
    network = Network.of(model)
    assert placement(network, ["swish", "leaky"]) == {"image", "swish", "swish_activation", "leaky"}
    assert "leaky_activation" in placement(network, network.quantizable)
    assert network.model.output_names == ["scores"]
    np.testing.assert_allclose(network.model(images(2, 8)), model(images(2, 8)), atol=1e-6)


def test_a_separable_convolution_is_quantised_as_the_two_that_it_is():
    keras.utils.set_random_seed(1)
    image = keras.Input((9, 9, 3), name="image")
    wide = L.SeparableConv2D(16, 3, padding="same", depth_multiplier=2, activation="swish", name="wide")(image)
    strided = L.SeparableConv2D(8, 3, strides=2, use_bias=False, name="strided")(wide)
    tensor = L.ReLU()(L.BatchNormalization(name="norm")(strided))
    model = keras.Model(image, L.SeparableConv2D(4, 3, padding="same", name="last")(tensor))
    norm = model.get_layer("norm")
    norm.set_weights([np.linspace(0.5, 1.5, 8), np.linspace(-1, 1, 8), np.linspace(-1, 1, 8), np.linspace(1, 2, 8)])
    network = Network.of(model)
    assert list(network.quantizable) == [
        *("wide_depthwise", "wide", "strided_depthwise", "strided", "last_depthwise", "last"),
    ]
    assert network.model.output_names == ["last"]
    np.testing.assert_allclose(network.model(images(2, 9)), model(images(2, 9)), atol=1e-5)


def test_a_dense_product_that_float_follows_gives_float():
    x = keras.Input((6,), name="x")
    hidden = L.Dense(8, name="hidden")(x)
    network = Network.of(keras.Model(x, L.Dense(3, name="head")(L.LayerNormalization(name="norm")(hidden))))
    assert placement(network, ["hidden"]) == {"x"}
    assert placement(network, ["hidden", "head"]) == {"x", "norm"}


# What is computed


def test_a_simulated_layer_computes_what_whole_numbers_do():
    keras.utils.set_random_seed(3)
    x = keras.Input((6, 6, 5), name="x")
    convolution = L.Conv2D(7, 3, strides=2, activation="relu", name="conv")
    model = keras.Model(x, L.Flatten()(L.Conv2D(2, 2, name="head")(convolution(x))))
    convolution.bias.assign(np.linspace(-1, 1, 7))
    measured = measure(model, lambda: [np.random.default_rng(0).normal(size=(32, 6, 6, 5)).astype(np.float32)])
    plan = measured.plan(["conv"], {})
    data = np.random.default_rng(1).normal(size=(4, 6, 6, 5)).astype(np.float32)

    grid, kernel = grid_of(plan.ranges["x"]), convolution.kernel.numpy()
    quantized = np.clip(np.rint(data / grid.scale) + grid.zero_point, 0, 255).astype(np.int64) - grid.zero_point
    scales = weight_scales(kernel, (3,), plan.weight_levels)
    weights = np.rint(kernel / scales).astype(np.int64)
    sums = np.zeros((4, 2, 2, 7), np.int64)
    for row in range(2):
        for column in range(2):
            patch = quantized[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            sums[:, row, column] = np.einsum("bhwi,hwio->bo", patch, weights)
    bias = convolution.bias.numpy() + np.array(plan.bias_corrections["conv"])
    outputs = np.maximum(sums * float(grid.scale) * scales.reshape(-1).astype(np.float64) + bias, 0)
    wanted = grid_of(plan.ranges["conv"]).round(outputs)

    simulated = simulate(model, plan)
    found = keras.Model(simulated.inputs, simulated.get_layer("conv_rounded").output)(data).numpy()
    step = float(grid_of(plan.ranges["conv"]).scale)
    # Where float32 decides otherwise between two neighbours, it is off by one step, and that is rare.
    assert np.abs(found - wanted).max() <= 1.01 * step
    assert np.mean(np.abs(found - wanted) > 1e-4 * step) < 0.01


def test_weights_have_a_scale_of_their_own_per_channel_in_depthwise_layers_too():
    kernel = np.ones((3, 3, 4, 2), np.float32) * np.arange(1, 9, dtype=np.float32).reshape(4, 2)
    np.testing.assert_allclose(weight_scales(kernel, (2, 3), 127).reshape(-1), np.arange(1, 9) / 127, rtol=1e-6)
    np.testing.assert_allclose(round_weights(kernel, (2, 3), 127), kernel, rtol=1e-6)


def test_int8_of_a_whole_network_stays_close_to_float(residual_network):
    model, data = residual_network, images()
    quantized = quantize(model, [data[:4], data[4:8], data[8:]])
    exact, rounded = model(data).numpy(), quantized.simulated(data).numpy()
    assert set(quantized.plan.parts) >= {"one", "two", "late"}
    assert np.abs(exact - rounded).max() > 0
    assert np.square(exact - rounded).mean() < 1e-3 * exact.var()
    assert quantized.simulated.output_names == model.output_names


@pytest.mark.parametrize(("runtime", "nearness"), [("onnxruntime", 0.5), ("openvino", 1.0)])
def test_an_exported_model_computes_in_int8_what_was_simulated(runtime, nearness, tmp_path, residual_network):
    model, data = residual_network, images()
    quantized = quantize(model, [data[:4], data[4:8], data[8:]])
    assert quantized.export(tmp_path / "serving", runtime)
    executable = load_executable(tmp_path / "serving", threads=1)
    (found,) = executable({"image": data}).values()
    assert executable.info.facts["nodes_quantized"] == len(quantized.plan.parts)
    exact, simulated = model(data).numpy(), quantized.simulated(data).numpy()
    # Small beside what int8 changes: runtimes sum in whole numbers and fuse layers in ways of their own. OpenVINO also
    # rounds less often than was simulated.
    changed = np.square(exact - simulated).mean()
    assert np.square(found - simulated).mean() < nearness * changed
    assert np.square(found - exact).mean() < 1.1 * changed


def test_each_tensors_calibrator_is_on_record_with_its_signal(residual_network):
    plan = quantize(residual_network, [images()]).plan
    assert set(plan.ranges) == set(plan.range_notes)
    assert "dB" in plan.range_notes["leaky"]
    assert all(low <= 0 < high for low, high in plan.ranges.values())
    assert plan.ranges["pool"] == plan.ranges["outer"]
    assert plan.ranges["outer"][0] == 0


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precisions_round_weights_alone(precision, residual_network):
    model = residual_network
    names = dict.fromkeys(Network.of(model).quantizable, precision)
    data = images(2)
    difference = np.abs(model(data).numpy() - simulate(model, PrecisionPlan(precision, names))(data).numpy()).max()
    assert 0 < difference < 0.1


# Corrected biases


@pytest.mark.parametrize("kind", ["convolution", "depthwise", "dense"])
def test_the_mean_error_of_every_channel_vanishes(kind):
    keras.utils.set_random_seed(5)
    x = keras.Input((10, 10, 4), name="x")
    layers = {
        "convolution": L.Conv2D(6, 3, name="layer"),
        "depthwise": L.DepthwiseConv2D(3, name="layer"),
        "dense": L.Dense(6, name="layer"),
    }
    model = keras.Model(x, layers[kind](x))
    data = np.abs(np.random.default_rng(2).normal(size=(16, 10, 10, 4))).astype(np.float32) + 1
    measured = measure(model, lambda: [data])
    plan = measured.plan(["layer"], {})
    without = PrecisionPlan("int8", plan.parts, dynamic=False, ranges=plan.ranges, weight_levels=plan.weight_levels)
    exact = model(data).numpy()
    errors = [np.abs((exact - simulate(model, p)(data).numpy()).mean(axis=(0, 1, 2))).max() for p in (without, plan)]
    assert errors[1] < 0.02 * errors[0]


def test_biases_are_corrected_from_sixteen_outputs_on_and_the_report_says_so(tmp_path):
    keras.utils.set_random_seed(5)
    x = keras.Input((12,), name="x")
    model = keras.Model(x, L.Dense(6, use_bias=False, name="scores")(L.Dense(8, activation="relu", name="hidden")(x)))
    data = np.random.default_rng(2).normal(size=(16, 12)).astype(np.float32)
    few, enough = (quantize(model, [data[:count]]) for count in (15, 16))
    assert not few.plan.bias_corrections
    assert all("bias not corrected: each channel gave 15 of the 16 outputs" in line for line in str(few).splitlines())
    assert set(enough.plan.bias_corrections) == set(enough.plan.parts) == {"hidden", "scores"}
    assert "not corrected" not in str(enough)
    few.export(tmp_path, "onnxruntime")
    (given,) = load_executable(tmp_path, threads=1)({"x": data}).values()
    np.testing.assert_allclose(given, few.simulated(data).numpy(), atol=0.05)


# Networks of any form


def test_several_inputs_shared_layers_and_nested_models_are_quantised():
    keras.utils.set_random_seed(2)
    inner_input = keras.Input((6,))
    inner = keras.Model(inner_input, L.Dense(6, activation="relu", name="inner_dense")(inner_input), name="inner")
    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two")
    shared = L.Dense(6, name="shared")
    joined = L.Concatenate()([inner(shared(one)), inner(shared(two))])
    model = keras.Model({"one": one, "two": two}, {"sum": L.Dense(6, name="head")(joined)})
    generator = np.random.default_rng(0)
    data = {name: generator.normal(size=(32, 6)).astype(np.float32) for name in ("one", "two")}
    quantized = quantize(model, [data])
    exact, rounded = model(data)["sum"].numpy(), quantized.simulated(data)["sum"].numpy()
    assert {"shared", "inner_dense"} <= set(quantized.plan.parts)
    assert {"shared", "shared:1"} <= set(quantized.plan.ranges)
    assert 0 < np.square(exact - rounded).mean() < 1e-2 * exact.var()


def test_a_layer_that_nested_models_share_stays_one_in_what_is_exported(tmp_path):
    keras.utils.set_random_seed(2)
    shared = L.Conv2D(16, 3, padding="same", activation="relu", name="shared")
    one, two, image = keras.Input((8, 8, 16)), keras.Input((8, 8, 16)), keras.Input((8, 8, 3), name="image")
    first = keras.Model(one, L.BatchNormalization()(shared(one)), name="first")
    second = keras.Model(two, L.Flatten()(L.MaxPooling2D()(shared(two))), name="second")
    hidden = second(first(L.Conv2D(16, 3, padding="same", activation="relu")(image)))
    model = keras.Model(image, [L.Dense(4, name="scores")(hidden), hidden])
    data = images(16, 8)
    quantized = quantize(model, [data])
    assert "shared" in quantized.plan.parts
    quantized.export(tmp_path / "serving", "onnxruntime")
    given = load_executable(tmp_path / "serving", threads=1)({"image": data})
    simulated = outputs_of(quantized.simulated, {"image": data})
    assert list(given) == list(simulated) == ["scores", "second"]
    for name, values in simulated.items():
        assert np.abs(given[name] - values).max() < 0.02 * np.abs(values).max()
    quantized.save(tmp_path)
    assert load_architecture("functional").load(tmp_path / "trainable").count_params() == model.count_params()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_model_of_any_topology_is_quantised_and_its_plan_is_of_what_is_saved(name, tmp_path):
    model = build_topology(name)
    inputs = example_inputs(model)
    quantized = quantize(model, [inputs])
    quantized.save(tmp_path)
    saved = load_architecture("functional").load(tmp_path / "trainable")
    assert output_names(saved) == output_names(model)
    again = simulate(saved, PrecisionPlan.load(tmp_path / PLAN_FILE))
    for one, other in zip(
        outputs_of(again, inputs).values(), outputs_of(quantized.simulated, inputs).values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert quantized.plan.parts or quantized.reasons
    assert list(quantized.simulated.output_names) == list(model.output_names)
    exact, rounded = outputs_of(model, inputs), outputs_of(quantized.simulated, inputs)
    for one, other in zip(exact.values(), rounded.values(), strict=True):
        assert np.square(one - other).mean() <= 0.02 * max(np.square(one).mean(), 1e-12)


def test_the_example_of_the_docs_runs(residual_network):
    page = Path(__file__).parents[3] / "docs" / "quantization.md"
    code = re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL).group(1)
    model, data = residual_network, images(16)
    labels = model(data).numpy().argmax(axis=-1)
    names = {
        "model": model,
        "images": data,
        "batches": [data[:8], data[8:]],
        "accuracy": lambda candidate: float(np.mean(candidate(data).numpy().argmax(axis=-1) == labels)),
    }
    with TemporaryDirectory() as folder:
        exec(code, names | {"folder": Path(folder)}, names)
        loaded = PrecisionPlan.load(Path(folder) / "precision_plan.json")
        assert loaded == names["accurate"].plan
        assert (
            make_plan(Path(folder) / "trainable", "int8", lambda: iter([data])).parts == names["quantized"].plan.parts
        )
        assert set(make_plan(Path(folder) / "trainable", "bf16").parts.values()) == {"bf16"}
    assert names["scores"].shape == names["learned"].shape == (16, 10)
    assert names["accuracy"](names["accurate"].simulated) >= 0.99
