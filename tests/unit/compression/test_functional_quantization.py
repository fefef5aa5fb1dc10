"""Functional models are quantised as runtimes execute them: ranges, rounding, corrected biases, what stays in float."""

import re
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from optops.compression import quantize
from optops.compression.quantization.functional import make_plan
from optops.compression.quantization.functional.calibrate import decibels_of
from optops.compression.quantization.functional.edges import edge_layers, kept_in_float
from optops.compression.quantization.functional.harm import output_errors
from optops.compression.quantization.functional.measured import measure
from optops.compression.quantization.functional.network import Network
from optops.compression.quantization.functional.placement import placement
from optops.compression.quantization.functional.simulate import simulate
from optops.compression.quantization.quantize import PLAN_FILE
from optops.compression.quantization.rounding import grid_of, round_weights, weight_scales
from optops.graph.lowering import LoweringError
from optops.models.base import load_architecture
from optops.models.functional.output_names import output_names
from optops.models.keras import keras, tf
from optops.precision import PrecisionPlan
from optops.runtimes.base import load_executable
from optops.testing.topologies import TOPOLOGIES, build_topology, example_inputs, outputs_of

L = keras.layers


def images(count=12, size=16, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, 3)).astype(np.float32)


def normed(tensor, filters, **arguments):
    tensor = L.Conv2D(filters, 3, padding="same", use_bias=False, **arguments)(tensor)
    return L.BatchNormalization()(tensor)


def residual_network():
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3), name="image")
    trunk = L.LeakyReLU(0.1, name="leaky")(normed(image, 16, name="stem"))
    branch = L.ReLU(name="inner")(normed(trunk, 16, name="one"))
    branch = normed(L.DepthwiseConv2D(3, padding="same", name="depthwise")(branch), 16, name="two")
    trunk = L.ReLU(name="outer")(L.Add(name="sum")([trunk, branch]))
    pooled = L.MaxPooling2D(name="pool")(trunk)
    side = L.UpSampling2D(name="up")(L.Conv2D(8, 1, activation="relu", name="side")(pooled))
    joined = L.Concatenate(name="joined")([trunk, side])
    last = L.Conv2D(16, 3, activation="relu", name="late")(joined)
    model = keras.Model(image, L.Dense(10, name="scores")(L.GlobalAveragePooling2D(name="mean")(last)))
    generator = np.random.default_rng(1)
    for weight in model.weights:
        if "moving_mean" in weight.name or "beta" in weight.name:
            weight.assign(generator.normal(size=weight.shape) * 0.3)
        if "variance" in weight.name or "gamma" in weight.name:
            weight.assign(generator.uniform(0.5, 1.5, size=weight.shape))
    return model


# Where it is rounded


def test_runtimes_stay_in_int8_between_layers_and_outputs_stay_in_float():
    network = Network.of(residual_network())
    chosen = [name for name in network.quantizable if name != "scores"]
    # Before a rectifier (one, sum) nothing is rounded, after it (inner, outer) it is; scores take float.
    assert placement(network, chosen) == {
        *("image", "stem", "leaky", "inner", "depthwise", "two", "outer", "pool", "side", "up", "joined", "late"),
    }
    everything = placement(network, network.quantizable)
    assert {"mean"} <= everything
    assert "scores" not in everything


def test_a_layer_in_float_takes_its_neighbours_out_of_int8():
    network = Network.of(residual_network())
    assert placement(network, ["side"]) == {"pool", "side"}
    assert placement(network, []) == set()


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


def test_int8_of_a_whole_network_stays_close_to_float():
    model, data = residual_network(), images()
    quantized = quantize(model, [data[:4], data[4:8], data[8:]])
    exact, rounded = model(data).numpy(), quantized.simulated(data).numpy()
    assert set(quantized.plan.parts) >= {"one", "two", "late"}
    assert np.abs(exact - rounded).max() > 0
    assert np.square(exact - rounded).mean() < 1e-3 * exact.var()
    assert quantized.simulated.output_names == model.output_names


@pytest.mark.parametrize(("runtime", "nearness"), [("onnxruntime", 0.5), ("openvino", 1.0)])
def test_an_exported_model_computes_in_int8_what_was_simulated(runtime, nearness, tmp_path):
    model, data = residual_network(), images()
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


def test_each_tensors_calibrator_is_on_record_with_its_signal():
    plan = quantize(residual_network(), [images()]).plan
    assert set(plan.ranges) == set(plan.range_notes)
    assert "dB" in plan.range_notes["leaky"]
    assert all(low <= 0 < high for low, high in plan.ranges.values())
    assert plan.ranges["pool"] == plan.ranges["outer"]
    assert plan.ranges["outer"][0] == 0


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precisions_round_weights_alone(precision):
    model = residual_network()
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


# What stays in float


def edged(places):
    """A dense network whose first and last layer are small beside what is between."""
    keras.utils.set_random_seed(1)
    x = keras.Input((2,), name="x")
    y = L.Dense(4, name="first")(x)
    for _ in range(4):
        y = L.Dense(places)(y)
    return keras.Model(x, L.Dense(1, name="last")(y))


def test_small_first_and_last_layers_stay_in_float_with_the_reason():
    model = edged(400)
    data = np.random.default_rng(3).normal(size=(32, 2)).astype(np.float32)
    measured = measure(model, lambda: [data])
    notes = kept_in_float(measured)
    assert set(notes) == {"first"}  # what the last one takes is an eighth of all values
    assert "first layer with 0.0% of the arithmetic and 0.2% of the values, at most 1%" in notes["first"]
    assert edge_layers(measured.network) == {"first": "first", "last": "last"}
    assert sum(measured.shares.values()) == pytest.approx(1)
    assert measured.layers["first"].macs == 2 * 4
    assert measured.layers["last"].moved == 400 + 1


def test_a_first_layer_that_gives_many_of_all_values_runs_in_int8():
    keras.utils.set_random_seed(1)
    x = keras.Input((8, 8, 3), name="x")
    middle = L.Conv2D(64, 3, padding="same", name="middle")(L.Conv2D(16, 1, name="first")(x))
    measured = measure(keras.Model(x, L.Conv2D(1, 1, name="last")(middle)), lambda: [images(4, 8)])
    assert measured.shares["first"] < 0.01
    assert kept_in_float(measured) == {}


@pytest.mark.parametrize("examples", [1, 2, 16, 64])
def test_a_layer_that_int8_drowns_in_noise_stays_in_float_however_few_examples_show_it(examples):
    x = keras.Input((16,), name="x")
    dense = L.Dense(8, name="spiked")
    model = keras.Model(x, dense(x))
    kernel = np.random.default_rng(0).normal(size=(16, 8)) * 1e-3
    kernel[0] = 1000.0
    dense.kernel.assign(kernel)
    data = np.random.default_rng(1).normal(size=(examples, 16)).astype(np.float32)
    data[:, 0] = 0
    assert "signal-to-noise ratio" in kept_in_float(measure(model, lambda: [data]))["spiked"]


@pytest.mark.parametrize(("kind", "reason"), [("recurrent", "none of the model's layers"), ("double", "takes float64")])
def test_a_model_none_of_which_int8_can_run_is_told_why_in_the_report_and_when_it_is_exported(kind, reason, tmp_path):
    if kind == "recurrent":
        x = keras.Input((6, 4), name="x")
        model = keras.Model(x, L.LSTM(4)(x))
    else:
        x = keras.Input((8,), name="x", dtype="float64")
        model = keras.Model(x, L.Dense(3, dtype="float64", name="scores")(x))
    quantized = quantize(model, [np.random.default_rng(0).normal(size=(8, *x.shape[1:]))])
    assert "no layer can run in int8" in str(quantized) and reason in str(quantized)
    with pytest.raises(LoweringError, match=f"no layer can run in int8.*{reason}"):
        quantized.export(tmp_path, "onnxruntime")


def sensitive_network():
    """The outputs of `bad` are a large constant with a small signal, and what reads them takes the constant away."""
    keras.utils.set_random_seed(7)
    x = keras.Input((8, 8, 4), name="x")
    tensor = x
    for name in ("a", "b", "bad", "c", "d"):
        convolution = L.Conv2D(8, 3, padding="same", name=name, bias_initializer="random_normal")
        tensor = convolution(tensor)
        if name == "bad":
            convolution.bias.assign(np.full(8, 500.0))
            # Each of these names its operation in canonical form.
            tensor = tensor - 500.0
        tensor = L.Activation("tanh", name=f"{name}_tanh")(tensor)
    return keras.Model(x, L.GlobalAveragePooling2D()(tensor))


def test_exactly_the_layer_that_was_made_sensitive_goes_back_to_float():
    model = sensitive_network()
    data = np.random.default_rng(3).normal(size=(32, 8, 8, 4)).astype(np.float32)
    exact = model(data).numpy()

    def evaluate(candidate):
        return -float(np.abs(candidate(data).numpy() - exact).mean() / exact.std())

    whole = quantize(model, [data])
    assert "bad" in whole.plan.parts
    judged = quantize(model, [data], evaluate=evaluate, tolerance=0.1)
    assert set(whole.plan.parts) - set(judged.plan.parts) == {"bad"}
    assert evaluate(whole.simulated) < -0.1 <= evaluate(judged.simulated)
    assert "of the arithmetic" in judged.reasons["bad"]
    assert judged.fallback.evaluations <= 6
    assert "bad: float" in str(judged)
    slow = dict.fromkeys(judged.measured.layers, 1.0) | {"bad": 12.5}
    in_time = quantize(model, [data], evaluate=evaluate, tolerance=0.1, milliseconds=slow)
    assert "12.5 ms" in in_time.reasons["bad"]


def test_nothing_is_random_while_a_network_is_measured():
    image = keras.Input((8, 8, 3), name="image")
    hidden = L.Conv2D(4, 3, activation="relu", name="hidden")(L.RandomFlip()(image))
    model = keras.Model(image, L.Dense(3, name="scores")(L.Flatten()(hidden)))
    data = images(4, 8)
    one, other = (measure(model, lambda: [data]) for _ in range(2))
    assert one.layers["scores"].power == other.layers["scores"].power
    expected = np.square(model(data, training=False) - model.get_layer("scores").bias).sum()
    assert one.layers["scores"].power == pytest.approx(expected, rel=1e-4)
    limits = {name: chosen.limits for name, chosen in one.ranges.items()}
    assert output_errors(one.network, [data], ["scores"], limits, 127)["scores"] < 0.01


def test_layers_are_ranked_where_outputs_hold_minus_infinity_too():
    x = keras.Input((6,), name="x")
    scores = L.Dense(5, name="scores")(L.Dense(8, activation="relu", name="hidden")(x))
    allowed = tf.constant([True, False, True, True, False])
    model = keras.Model(x, tf.where(allowed, scores, -np.inf))
    data = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    measured = measure(model, lambda: [data])
    limits = {name: chosen.limits for name, chosen in measured.ranges.items()}
    errors = output_errors(measured.network, [data], list(measured.layers), limits, 7)
    assert all(0 < error < 1 for error in errors.values())


def test_a_layer_that_int8_makes_outputs_infinite_with_is_ranked_as_the_most_harmful():
    x = keras.Input((2,), name="x")
    thin = L.Dense(1, use_bias=False, name="thin")
    model = keras.Model(x, tf.math.log(thin(x)))
    thin.kernel.assign([[1.0], [1e-4]])  # in int8 the second is zero
    data = np.eye(2, dtype=np.float32)
    measured = measure(model, lambda: [data])
    limits = {name: chosen.limits for name, chosen in measured.ranges.items()}
    assert output_errors(measured.network, [data], ["thin"], limits, 127) == {"thin": np.inf}


# Data that does not fit


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_is_named(bad):
    data = images(4)
    data[1, 2, 3, 0] = bad
    with pytest.raises(ValueError, match="tensor 'image' are NaN or infinite"):
        quantize(residual_network(), [data])


def test_weights_that_are_not_finite_are_named():
    model = residual_network()
    kernel = model.get_layer("side").kernel
    kernel.assign(tf.where(tf.equal(kernel, kernel[0, 0, 0, 0]), np.float32(np.nan), kernel))
    with pytest.raises(ValueError, match="'side'"):
        quantize(model, [images(4)])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bias_that_is_not_finite_is_named_in_the_last_layer_too(bad):
    model = residual_network()
    model.get_layer("scores").bias.assign(np.where(np.arange(10) == 3, bad, 0.0))
    with pytest.raises(ValueError, match="layer 'scores': 1 of its weights are NaN or infinite"):
        quantize(model, [images(4)])


def test_outputs_that_are_too_large_are_named():
    x = keras.Input((4,), name="x")
    model = keras.Model(x, L.Dense(2, kernel_initializer=keras.initializers.Constant(1e30), name="scores")(x))
    with pytest.raises(ValueError, match="layer 'scores': its outputs are not finite, or too large"):
        quantize(model, [np.full((4, 4), 10.0, np.float32)])


def test_a_ratio_of_what_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match=r"power nan to noise of power 1\.0 is not a number"):
        decibels_of(np.nan, 1.0)


def test_calibration_data_that_can_not_be_used_is_refused_with_the_remedy():
    model = residual_network()
    with pytest.raises(TypeError, match="read twice; give a list"):
        quantize(model, (batch for batch in [images(1)]))
    with pytest.raises(ValueError, match="there are no batches"):
        quantize(model, [])
    with pytest.raises(ValueError, match="not the model's input 'image'"):
        quantize(model, [{"picture": images(1)}])
    with pytest.raises(ValueError, match=r"'image' is \[.*\] in a batch; the model takes \(None, "):
        quantize(model, [images(4)[..., 0]])
    with pytest.raises(ValueError, match="together"):
        quantize(model, [images(1)], tolerance=0.1)
    with pytest.raises(TypeError, match="functional"):
        quantize(keras.layers.Dense(3), [images(1)])


@pytest.mark.parametrize("reads", [1, 2])
def test_calibration_that_is_used_up_when_it_is_read_again_is_refused_with_the_remedy(reads):
    model = residual_network()
    given = [iter([images(2)]) for _ in range(reads)]
    with pytest.raises(ValueError, match="no batches when it was read again; return a new iterator each time"):
        # Without enough quality the layers are ranked, for which the data is read a third time.
        quantize(model, lambda: given.pop(0) if given else iter(()), evaluate=rounds_nothing, tolerance=0.1)


def rounds_nothing(model):
    return float(not any("rounded" in layer.name for layer in model.layers))


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


def test_memory_does_not_grow_with_the_number_of_calibration_examples():
    model = keras.Sequential([L.Conv2D(4, 3, input_shape=(None, None, 3)), L.ReLU(), L.Conv2D(4, 3)])

    def peak(count):
        tracemalloc.start()
        measure(model, lambda: (images(1, 256, seed) for seed in range(count)))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(10) < 1.2 * peak(2)


def test_a_large_batch_is_run_in_pieces():
    network = Network.of(residual_network())
    sizes = [len(piece["image"]) for piece in network.pieces([images(40, 64)])]
    assert sum(sizes) == 40
    assert max(sizes) * 64 * 64 * 3 <= 1 << 18


def test_examples_that_come_one_by_one_are_run_together_where_they_have_one_shape():
    network = Network.of(residual_network())
    sides = [16] * 40 + [24] * 3 + [16]
    pieces = [piece["image"] for piece in network.pieces(images(1, side, seed) for seed, side in enumerate(sides))]
    assert [len(piece) for piece in pieces] == [16, 16, 8, 3, 1]
    one_by_one = [images(1, side, seed) for seed, side in enumerate(sides)]
    for side in (16, 24):
        given = np.concatenate([image for image in one_by_one if image.shape[1] == side])
        np.testing.assert_array_equal(np.concatenate([p for p in pieces if p.shape[1] == side]), given)


def test_the_example_of_the_docs_runs():
    page = Path(__file__).parents[3] / "docs" / "quantization.md"
    code = re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL).group(1)
    model, data = residual_network(), images(16)
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
