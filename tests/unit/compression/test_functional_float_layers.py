"""Which layers of a functional model stay in float, why, and in what order the others go back to it."""

import numpy as np
import pytest

from optops.compression import quantize
from optops.compression.quantization.functional.edges import edge_layers, kept_in_float
from optops.compression.quantization.functional.harm import output_errors
from optops.compression.quantization.functional.measured import measure
from optops.graph.lowering import LoweringError
from optops.models.keras import keras, tf

L = keras.layers


def images(count=12, size=16, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, 3)).astype(np.float32)


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
