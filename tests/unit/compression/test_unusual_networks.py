"""Networks that Keras allows and few write are quantised as they compute, too."""

import numpy as np
import pytest

from optops.compression import prune_channels, quantize
from optops.compression.quantization.functional import training_form
from optops.models.functional.folding import fold_batch_norms
from optops.models.keras import keras, tf
from optops.runtimes import load_executable
from optops.runtimes.base import ExecutableInfo
from optops.testing.topologies import example_inputs, outputs_of, randomize

L = keras.layers


def hard_swish(x):
    return x * tf.nn.relu6(x + 3.0) / 6.0


def siamese():
    """A layer called twice and one whose name is that of the second call's tensor with an underscore."""
    left, right = keras.Input([8, 8, 3], name="left"), keras.Input([8, 8, 3], name="right")
    first = L.Conv2D(8, 3, padding="same", name="conv2d")
    y = L.Conv2D(8, 3, name="conv2d_1")(L.Concatenate()([first(left), first(right)]))
    return keras.Model([left, right], L.Dense(2)(L.GlobalAveragePooling2D()(y)))


def activated(activation, leaves=False):
    x = keras.Input([8, 8, 3])
    y = L.Conv2D(8, 3, activation=activation, name="activated")(L.Conv2D(8, 3, padding="same")(x))
    return keras.Model(x, y if leaves else L.Conv2D(4, 3)(y))


def attention():
    x = keras.Input([8, 8, 3])
    y = L.Reshape((16, 16))(L.Conv2D(16, 2, strides=2)(x))
    y = L.LayerNormalization()(L.Add()([y, L.MultiHeadAttention(2, 8)(y, value=y)]))
    return keras.Model(x, L.Dense(3)(L.Dense(16, activation="gelu")(y)))


def relative_error(found, expected):
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.var(expected)))


@pytest.mark.parametrize("make", [siamese, lambda: activated(L.PReLU(shared_axes=[1, 2])), attention])
def test_what_onnxruntime_executes_is_close_to_the_float_model(make, tmp_path):
    keras.utils.set_random_seed(1)
    model = make()
    randomize(model)
    inputs = example_inputs(model, examples=8)
    expected = outputs_of(model, inputs)
    quantized = quantize(model, [inputs])
    quantized.export(tmp_path, "onnxruntime")
    executed = load_executable(tmp_path, 1)(inputs)
    assert "int8" in quantized.plan.parts.values()
    for name, found in outputs_of(quantized.simulated, inputs).items():
        assert relative_error(found, expected[name]) < 0.1
        assert relative_error(executed[name], expected[name]) < 0.1


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("activation", [L.PReLU(shared_axes=[1, 2]), L.PReLU(), hard_swish])
def test_an_activation_of_any_kind_is_computed_in_the_canonical_form_and_simulated(activation, leaves):
    model = activated(activation, leaves)
    for weight in model.weights:
        weight.assign(np.random.default_rng(1).normal(0, 0.3, weight.shape))
    inputs = example_inputs(model, examples=8)
    (expected,) = outputs_of(model, inputs).values()
    (folded,) = outputs_of(fold_batch_norms(model), inputs).values()
    np.testing.assert_allclose(folded, expected, atol=1e-5)
    (simulated,) = outputs_of(quantize(model, [inputs]).simulated, inputs).values()
    assert 0 < relative_error(simulated, expected) < 0.1


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_float32_model_is_quantised_alike_whatever_the_global_policy_is(policy):
    keras.utils.set_random_seed(1)
    inner = activated("gelu")
    # Folded, its output is another layer's, and is called as before by one more.
    model = keras.Model(inner.input, L.BatchNormalization(name="named")(inner.output))
    inputs = example_inputs(model, examples=8)
    expected = outputs_of(quantize(model, [inputs]).simulated, inputs)
    keras.mixed_precision.set_global_policy(policy)
    try:
        quantized = quantize(model, [inputs])
        trained = training_form(model, quantized.plan).model
        found = [outputs_of(form, inputs) for form in (quantized.simulated, trained)]
    finally:
        keras.mixed_precision.set_global_policy("float32")
    for values in found:
        np.testing.assert_array_equal(values["named"], expected["named"])


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_dilated_transposed_convolution_keeps_nothing_but_itself_in_float(runtime, tmp_path):
    x = keras.Input([8, 8, 3])
    y = L.Conv2D(8, 3, padding="same", activation="relu")(x)
    y = L.Conv2DTranspose(8, 3, padding="same", dilation_rate=2, activation="relu", name="wide")(y)
    model = keras.Model(x, L.GlobalAveragePooling2D()(L.Conv2D(8, 3, activation="relu")(y)))
    randomize(model)
    inputs = example_inputs(model, examples=8)
    notes = quantize(model, [inputs]).export(tmp_path, runtime)
    assert ExecutableInfo.load(tmp_path).facts["nodes_quantized"] == 2
    assert [note for note in notes if note.startswith("wide stays in float: ")]
    (expected,), (given,) = outputs_of(model, inputs).values(), load_executable(tmp_path, 1)(inputs).values()
    assert relative_error(given, expected) < 0.1


@pytest.mark.parametrize(
    ("runtime", "kind", "shape"), [("onnxruntime", L.Conv2DTranspose, [8, 8, 8]), ("openvino", L.Conv1D, [64, 8])]
)
def test_nothing_is_rounded_for_the_sake_of_layers_that_a_runtime_leaves_in_float(runtime, kind, shape, tmp_path):
    keras.utils.set_random_seed(1)
    image, other = keras.Input([8, 8, 8], name="image"), keras.Input(shape, name="other")
    whole = L.Conv2D(16, 3, activation="relu")(L.Conv2D(16, 3, activation="relu")(image))
    exact = kind(16, 3, name="second")(kind(16, 3, activation="relu", name="first")(other))
    model = keras.Model(
        [image, other], [L.Dense(4, name="rounded")(L.Flatten()(whole)), L.Flatten(name="exact")(exact)]
    )
    randomize(model)
    inputs = example_inputs(model, examples=8)
    quantized = quantize(model, [inputs])
    notes = quantized.export(tmp_path, runtime)
    left = {note.split(" ")[0] for note in notes if " stays in float: " in note}
    assert left & set(quantized.plan.parts) == {"first", "second"}
    expected, given = outputs_of(model, inputs), load_executable(tmp_path, 1)(inputs)
    np.testing.assert_allclose(given["exact"], expected["exact"], atol=1e-5)
    assert 0 < relative_error(given["rounded"], expected["rounded"]) < 0.1


def largest(y):
    return L.GlobalMaxPooling2D()(y)


@pytest.mark.parametrize(
    "reduce",
    [
        largest,
        lambda y: tf.reduce_min(y, [1, 2]),
        lambda y: L.ReLU()(L.BatchNormalization()(largest(y))),
        lambda y: L.Concatenate()([L.GlobalAveragePooling2D()(y), largest(y)]),
    ],
    ids=["largest", "smallest", "normed", "beside the mean"],
)
def test_openvino_computes_what_the_plan_says_of_extremes_of_numbers_in_float(reduce, tmp_path):
    keras.utils.set_random_seed(1)
    x = keras.Input([8, 8, 3], name="x")
    y = L.Conv2D(16, 3)(L.Conv2D(16, 3, activation="relu")(x))
    model = keras.Model(x, L.Dense(4, name="last")(reduce(tf.nn.silu(y))))
    randomize(model)
    inputs = example_inputs(model, examples=8)
    quantized = quantize(model, [inputs])
    assert quantized.plan.parts["last"] == "int8"
    notes = quantized.export(tmp_path, "openvino")
    assert [note for note in notes if note.startswith("last stays in float: ")]
    assert ExecutableInfo.load(tmp_path).facts["nodes_quantized"] == 2
    (expected,), (given,) = outputs_of(model, inputs).values(), load_executable(tmp_path, 1)(inputs).values()
    assert relative_error(given, expected) < 0.1


def test_openvino_computes_what_the_plan_says_of_a_recurrent_layer_behind_convolutions(tmp_path):
    keras.utils.set_random_seed(1)
    x = keras.Input([8, 8, 3], name="x")
    y = L.Reshape((8, 128))(L.Conv2D(16, 3, padding="same", activation="relu", name="before")(x))
    y = L.Bidirectional(L.LSTM(8, return_sequences=True))(y)
    model = keras.Model(x, L.Dense(5, name="after")(y))
    randomize(model)
    inputs = example_inputs(model, examples=8)
    quantized = quantize(model, [inputs])
    assert quantized.plan.parts == {"before": "int8", "after": "int8"}
    notes = quantized.export(tmp_path, "openvino")
    assert [note for note in notes if note.startswith("before stays in float: ")]
    assert ExecutableInfo.load(tmp_path).facts["nodes_quantized"] == 1
    (expected,), (given,) = outputs_of(model, inputs).values(), load_executable(tmp_path, 1)(inputs).values()
    assert relative_error(given, expected) < 0.1


FACTORS = np.linspace(0.5, 1.5, 6, dtype=np.float32)[:, None]


@pytest.mark.parametrize(
    "scale",
    [L.BatchNormalization(axis=1), lambda y: (y + 0.5) * tf.constant(FACTORS), lambda y: y / tf.constant(FACTORS)],
    ids=["normed", "times", "by"],
)
def test_openvino_computes_what_the_plan_says_of_products_that_are_scaled_by_place(scale, tmp_path):
    keras.utils.set_random_seed(1)
    x = keras.Input([6, 16], name="x")
    model = keras.Model(x, scale(L.Dense(16, name="last")(L.Dense(16, activation="relu")(x))))
    randomize(model)
    inputs = example_inputs(model, examples=8)
    quantized = quantize(model, [inputs])
    assert quantized.plan.parts["last"] == "int8"
    notes = quantized.export(tmp_path, "openvino")
    assert [note for note in notes if note.startswith("last stays in float: ")]
    (expected,), (given,) = outputs_of(model, inputs).values(), load_executable(tmp_path, 1)(inputs).values()
    assert relative_error(given, expected) < 0.1


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_relu6_within_a_layer_is_what_it_is_after_it(runtime, tmp_path):
    def network(within):
        keras.utils.set_random_seed(1)
        x = keras.Input([8, 8, 3], name="x")
        first, second = (L.Conv2D(16, 3, activation="relu6" if within else None) for _ in range(2))
        y = second(first(x)) if within else L.ReLU(6.0)(second(L.ReLU(6.0)(first(x))))
        model = keras.Model(x, L.Dense(4)(L.Flatten()(y)))
        for layer in (first, second):
            layer.set_weights([4 * layer.get_weights()[0], layer.get_weights()[1]])
        return model

    inputs = example_inputs(network(within=True), examples=8)
    given = []
    for within in (True, False):
        quantize(network(within), [inputs]).export(tmp_path / str(within), runtime)
        (values,) = load_executable(tmp_path / str(within), 1)(inputs).values()
        given.append((ExecutableInfo.load(tmp_path / str(within)).facts["nodes_quantized"], values))
    assert given[0][0] == given[1][0] == 3
    np.testing.assert_array_equal(given[0][1], given[1][1])


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("activation", "shape"), [(None, [16]), ("relu", [16]), (None, [4, 16])])
def test_an_output_that_a_layer_in_int8_reads_is_in_float(activation, shape, runtime, tmp_path):
    keras.utils.set_random_seed(1)
    x = keras.Input(shape, name="x")
    latent = L.Dense(16, activation=activation, name="latent")(L.Dense(32, activation="relu")(x))
    model = keras.Model(x, [latent, L.Dense(16, name="again")(L.Dense(32, activation="relu")(latent))])
    randomize(model)
    inputs = example_inputs(model, examples=128)
    quantized = quantize(model, [inputs])
    quantized.export(tmp_path, runtime)
    left = runtime == "onnxruntime" and activation is None and len(shape) == 1
    assert set(quantized.plan.parts) == {layer.name for layer in model.layers[1:]}
    assert ExecutableInfo.load(tmp_path).facts["nodes_quantized"] == len(quantized.plan.parts) - left
    expected, given = outputs_of(model, inputs), load_executable(tmp_path, 1)(inputs)
    for name in expected:
        assert relative_error(given[name], expected[name]) < 0.1
        assert len(np.unique(given[name])) > 255


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("activation", ["relu", "relu6", "tanh", None])
@pytest.mark.parametrize("within", [True, False])
def test_a_dense_layer_before_one_in_float_is_in_int8(within, activation, runtime, tmp_path):
    keras.utils.set_random_seed(1)
    x = keras.Input([64], name="x")
    y = L.Dense(64, activation=activation if within else None)(L.Dense(64, activation="relu")(x))
    model = keras.Model(x, L.LayerNormalization()(y if within else L.Activation(activation)(y)))
    randomize(model)
    inputs = example_inputs(model, examples=32)
    quantized = quantize(model, [inputs])
    quantized.export(tmp_path, runtime)
    assert ExecutableInfo.load(tmp_path).facts["nodes_quantized"] == len(quantized.plan.parts) == 2
    (simulated,) = outputs_of(quantized.simulated, inputs).values()
    (given,) = load_executable(tmp_path, 1)(inputs).values()
    assert relative_error(given, simulated) < 0.02


def test_a_rectified_product_that_is_an_output_stays_in_float_in_onnxruntime_and_the_rest_does_not(tmp_path):
    keras.utils.set_random_seed(1)
    x = keras.Input([16], name="x")
    model = keras.Model(x, L.Dense(16, activation="relu", name="last")(L.Dense(16, activation="relu")(x)))
    randomize(model)
    inputs = example_inputs(model, examples=32)
    notes = quantize(model, [inputs]).export(tmp_path, "onnxruntime")
    assert [note for note in notes if note.startswith("last stays in float: ")]
    assert ExecutableInfo.load(tmp_path).facts["nodes_quantized"] == 1
    (expected,), (given,) = outputs_of(model, inputs).values(), load_executable(tmp_path, 1)(inputs).values()
    assert relative_error(given, expected) < 0.1


class Gate(L.Layer):
    """Has an activation that is none of its settings."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.activation = tf.math.sigmoid

    def call(self, inputs):
        return inputs * self.activation(inputs)


def test_a_layer_of_ones_own_with_an_activation_that_is_no_setting_is_pruned_and_quantised():
    x = keras.Input([8, 8, 3])
    y = Gate()(L.Conv2D(16, 3, name="whole")(L.Conv2D(16, 3, name="free")(x)))
    model = keras.Model(x, L.Conv2D(4, 1)(y))
    inputs = example_inputs(model)
    (expected,), (found,) = (outputs_of(m, inputs).values() for m in (model, quantize(model, [inputs]).simulated))
    assert relative_error(found, expected) < 0.1
    assert [prune_channels(model, 0.5).get_layer(name).filters for name in ("free", "whole")] == [8, 16]


class Still(keras.constraints.Constraint):
    def __call__(self, weight):
        return weight


def squares(weight):
    return tf.reduce_sum(weight**2)


def halves(shape, dtype=None):
    return tf.fill(shape, tf.constant(0.5, dtype))


OWN = {"kernel_regularizer": squares, "kernel_initializer": halves, "kernel_constraint": Still()}


@pytest.mark.parametrize(
    "make",
    [
        lambda: L.Dense(16, **OWN),
        lambda: L.TimeDistributed(L.Dense(16, activation=hard_swish, **OWN)),
        lambda: L.TimeDistributed(TwoProducts()),
    ],
    ids=["Dense", "TimeDistributed", "TimeDistributed of one's own"],
)
def test_settings_of_ones_own_that_are_not_registered_are_those_of_the_copy(make):
    keras.utils.set_random_seed(1)
    x = keras.Input([4, 8], name="x")
    model = keras.Model(x, L.Dense(4)(make()(L.Dense(16)(L.Dense(16)(x)))))
    inputs = example_inputs(model)
    (expected,) = outputs_of(model, inputs).values()
    same = prune_channels(model, 0.0)
    np.testing.assert_allclose(same(inputs["x"]), expected, atol=1e-5)
    np.testing.assert_allclose(same.losses, model.losses, rtol=1e-5)
    assert relative_error(quantize(model, [inputs]).simulated(inputs["x"]), expected) < 0.1


class Cell(L.Layer):
    state_size = output_size = 16

    def call(self, inputs, states):
        return inputs + states[0], [inputs]


@pytest.mark.parametrize("compress", [lambda model: prune_channels(model, 0.5), fold_batch_norms])
def test_what_keras_does_not_find_within_a_layer_is_said_with_the_name_of_the_layer(compress):
    x = keras.Input([4, 8], name="x")
    model = keras.Model(x, L.RNN(Cell(), name="cells")(L.Dense(16)(L.Dense(16)(x))))
    with pytest.raises(TypeError, match=r"cells \(RNN\) can not be made again .*Cell[^$]*custom_object_scope"):
        compress(model)
    with keras.utils.custom_object_scope({"Cell": Cell}):
        assert compress(model).count_params() <= model.count_params()


class Adapted(L.Layer):
    """A frozen product and one of low rank that is learnt beside it."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.whole, self.down, self.up = L.Dense(16), L.Dense(4, use_bias=False), L.Dense(16, use_bias=False)

    def call(self, inputs):
        return self.whole(inputs) + self.up(self.down(inputs))


class TwoProducts(L.Layer):
    """A frozen product before one that learns."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.whole, self.last = L.Dense(16), L.Dense(16)

    def call(self, inputs):
        return self.last(tf.nn.relu(self.whole(inputs)))


@pytest.mark.parametrize("make", [Adapted, TwoProducts])
def test_what_is_frozen_within_a_layer_of_ones_own_keeps_its_place_and_stays_frozen(make):
    keras.utils.set_random_seed(1)
    x, layer = keras.Input([4, 8], name="x"), make()
    model = keras.Model(x, L.Dense(4)(layer(L.Dense(16)(L.Dense(16)(x)))))
    layer.whole.trainable = False
    inputs = example_inputs(model)
    (expected,) = outputs_of(model, inputs).values()
    same = prune_channels(model, 0.0)
    folded = fold_batch_norms(model)
    for copy in (same, folded):
        np.testing.assert_allclose(copy(inputs["x"]), expected, atol=1e-5)
        assert len(copy.trainable_weights) == len(model.trainable_weights)
    simulated = quantize(model, [inputs]).simulated
    assert relative_error(simulated(inputs["x"]), expected) < 0.1
