"""Functional models learn through the roundings of their plan, and what is trained is what is executed."""

from dataclasses import replace

import numpy as np
import pytest

from optops.compression import quantize
from optops.compression.quantization.functional import simulate, training_form
from optops.compression.quantization.functional.rounded import round_kernel, round_tensor
from optops.compression.quantization.rounding import grid_of, round_weights
from optops.models.functional.output_names import output_names
from optops.models.keras import keras, tf
from optops.models.training import TrainingDivergedError, TrainingSettings
from optops.precision import PrecisionPlan
from optops.runtimes.base import load_executable
from optops.testing.topologies import build_topology, example_inputs, outputs_of, randomize

L = keras.layers
SETTINGS = TrainingSettings(
    epochs=8, learning_rate=3e-4, schedule="cosine", warmup_steps=8, replicas=1, average_checkpoints=1
)


def uneven_network():
    """A network that int8 hurts: channels of very uneven size, which the weights that read them make up for."""
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3), name="image")
    tensor = L.ReLU()(L.Conv2D(8, 3, padding="same", name="stem")(image))
    pairs = []
    for number in range(3):
        depthwise = L.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depthwise_{number}")
        pointwise = L.Conv2D(8, 1, name=f"pointwise_{number}")
        tensor = L.ReLU()(pointwise(L.ReLU()(depthwise(tensor))))
        pairs.append((depthwise, pointwise))
    model = keras.Model(image, L.Dense(5, name="scores")(L.GlobalAveragePooling2D()(tensor)))
    random = np.random.default_rng(1)
    for depthwise, pointwise in pairs:
        scales = np.exp(2 * random.normal(size=(8, 1)))
        depthwise.depthwise_kernel.assign(depthwise.depthwise_kernel * scales)
        pointwise.kernel.assign(pointwise.kernel / scales)
    return model


def images(count, seed):
    random = np.random.default_rng(seed)
    return (random.normal(size=(count, 12, 12, 3)) + random.normal(size=(count, 1, 1, 3))).astype(np.float32)


def in_batches(data, size=16):
    """Gives the examples of arrays by name, in another order in each epoch."""
    count = len(next(iter(data.values())))

    def batches(epoch):
        order = np.random.default_rng(epoch).permutation(count)
        return [{name: array[part] for name, array in data.items()} for part in np.split(order, count // size)]

    return batches


def error(model, exact, data):
    wanted = exact(data).numpy()
    return float(np.square(model(data).numpy() - wanted).mean() / wanted.var())


@pytest.fixture(scope="module")
def model():
    return uneven_network()


@pytest.fixture(scope="module")
def quantized(model):
    return quantize(model, [images(64, seed=0)])


@pytest.fixture(scope="module")
def trained(quantized):
    return quantized.train(in_batches({"image": images(128, seed=0)}), settings=SETTINGS)


# The gradient


def test_a_rounded_tensor_passes_the_gradient_where_it_is_not_clipped():
    grid = grid_of((-1.0, 2.0))
    values = np.linspace(-2, 3, 1001, dtype=np.float32)
    variable, weights = tf.Variable(values), np.arange(1001, dtype=np.float32)
    with tf.GradientTape() as tape:
        rounded = round_tensor(variable, grid)
        value = tf.reduce_sum(rounded * weights)
    np.testing.assert_array_equal(rounded.numpy(), grid.round(values))
    ends = np.float32([-grid.zero_point, 255 - grid.zero_point]) * grid.scale
    inside = (values >= ends[0]) & (values <= ends[1])
    assert 0 < inside.sum() < len(values)
    np.testing.assert_array_equal(tape.gradient(value, variable).numpy(), np.where(inside, weights, 0))


@pytest.mark.parametrize(("shape", "channels"), [((3, 3, 4, 6), (3,)), ((3, 3, 5, 2), (2, 3)), ((7, 4), (1,))])
@pytest.mark.parametrize("levels", [127, 63])
def test_a_rounded_kernel_passes_all_of_the_gradient(shape, channels, levels):
    random = np.random.default_rng(0)
    kernel, weights = (random.normal(size=shape).astype(np.float32) for _ in range(2))
    variable = tf.Variable(kernel)
    with tf.GradientTape() as tape:
        rounded = round_kernel(variable, channels, levels)
        value = tf.reduce_sum(rounded * weights)
    np.testing.assert_array_equal(rounded.numpy(), round_weights(kernel, channels, levels))
    np.testing.assert_array_equal(tape.gradient(value, variable).numpy(), weights)


# The form that is trained


@pytest.mark.parametrize("name", ["two_outputs", "two_inputs", "nested", "shared", "sequence", "tail_of_batch_norms"])
def test_the_form_that_is_trained_gives_what_is_simulated(name):
    model = build_topology(name)
    inputs = example_inputs(model)
    plan = quantize(model, [inputs]).plan
    form = training_form(model, plan)
    simulated = simulate(form.trained, form.plan)
    assert form.model.output_names == simulated.output_names == model.output_names
    found, wanted = outputs_of(form.model, inputs), outputs_of(simulated, inputs)
    assert list(found) == list(wanted) == output_names(model)
    for output, values in wanted.items():
        np.testing.assert_array_equal(found[output], values)
    for output, values in outputs_of(simulate(model, plan), inputs).items():
        np.testing.assert_array_equal(wanted[output], values)


@pytest.mark.parametrize("rectified", [True, False])
def test_what_follows_several_batch_norms_is_trained_and_executed_as_simulated(rectified, tmp_path):
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 3), name="image")
    y = L.BatchNormalization()(L.Dropout(0.1)(L.BatchNormalization()(L.Conv2D(8, 3)(image))))
    y = L.Conv2D(8, 3)(L.ReLU()(y) if rectified else y)
    model = keras.Model(image, L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(y)))
    randomize(model)
    data = example_inputs(model, examples=32)
    quantized = quantize(model, [data])
    form = training_form(model, quantized.plan)
    (learns,), (simulated,) = (outputs_of(one, data).values() for one in (form.model, quantized.simulated))
    np.testing.assert_array_equal(learns, simulated)
    trained = quantized.train(in_batches(data), settings=replace(SETTINGS, epochs=1))
    trained.export(tmp_path, "onnxruntime")
    (simulated,) = outputs_of(trained.simulated, data).values()
    (given,) = load_executable(tmp_path, threads=1)(data).values()
    assert np.abs(given - simulated).max() < 0.02


def test_a_plan_of_another_model_is_refused():
    model = build_topology("residual")
    plan = quantize(model, [example_inputs(model)]).plan
    with pytest.raises(ValueError, match="the plan has a range for 'elsewhere', which is none of the model's tensors"):
        training_form(model, replace(plan, ranges={**plan.ranges, "elsewhere": (0.0, 1.0)}))


def test_layers_in_float_are_trained_in_float_and_statistics_stay():
    keras.utils.set_random_seed(1)
    x = keras.Input((6, 6, 4), name="x")
    norm = L.BatchNormalization(name="norm")(x)
    tensor = L.Dropout(0.5)(L.Conv2D(8, 3, activation="relu", name="rounded")(norm))
    model = keras.Model(x, L.Dense(2, name="exact")(L.GlobalAveragePooling2D()(tensor)))
    data = np.random.default_rng(0).normal(size=(32, 6, 6, 4)).astype(np.float32)
    plan = PrecisionPlan("int8", {"rounded": "int8"}, dynamic=False, ranges={"norm": (-3.0, 3.0)})
    form = training_form(model, plan)
    before = [value.copy() for value in form.trained.get_weights()]
    np.testing.assert_array_equal(form.model(data, training=True), form.model(data, training=False))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.square(form.model(data, training=True)))
    variables = form.model.trainable_variables
    gradients = tape.gradient(value, variables)
    assert {id(v) for v in variables} == {id(v) for v in form.trained.trainable_variables}
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)
    for now, then in zip(form.trained.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


# What training brings


def test_training_takes_away_most_of_the_error_of_rounding(model, quantized, trained):
    held_out = images(128, seed=5)
    before, after = (error(one.simulated, model, held_out) for one in (quantized, trained))
    assert before > 1e-3
    assert after < before / 4


def test_the_plan_stays_as_it_is_but_for_corrections_that_are_weights_now(model, quantized, trained):
    assert trained.plan.parts == quantized.plan.parts
    assert trained.plan.ranges == quantized.plan.ranges
    assert not trained.plan.bias_corrections
    for weight, original in zip(model.get_weights(), uneven_network().get_weights(), strict=True):
        np.testing.assert_array_equal(weight, original)


def test_what_onnxruntime_executes_is_what_was_trained(model, trained, tmp_path):
    data = images(32, seed=6)
    assert trained.export(tmp_path / "serving", "onnxruntime")
    executable = load_executable(tmp_path / "serving", threads=1)
    (found,) = executable({"image": data}).values()
    assert executable.info.facts["nodes_quantized"] == len(trained.plan.parts)
    exact, simulated = model(data).numpy(), trained.simulated(data).numpy()
    assert np.square(found - simulated).mean() < 0.5 * np.square(exact - simulated).mean()
    assert np.abs(found - simulated).max() < 0.02 * np.abs(simulated).max()


def test_the_same_training_gives_the_same_weights(quantized):
    short = TrainingSettings(epochs=1, learning_rate=1e-3, schedule="cosine", warmup_steps=1, replicas=1)
    batches = in_batches({"image": images(32, seed=0)})
    one, other = (quantized.train(batches, settings=short).model.get_weights() for _ in range(2))
    for weight, again in zip(one, other, strict=True):
        np.testing.assert_array_equal(weight, again)


def test_a_judge_chooses_the_epoch(quantized):
    told = iter([0.3, 0.9, 0.5])
    seen = []

    def judge(candidate):
        seen.append([weight.copy() for weight in candidate.get_weights()])
        return next(told)

    settings = TrainingSettings(
        epochs=3, learning_rate=1e-3, schedule="cosine", warmup_steps=1, replicas=1, average_checkpoints=1
    )
    chosen = quantized.train(in_batches({"image": images(16, seed=0)}), settings=settings, validate=judge)
    for weight, wanted in zip(chosen.model.get_weights(), seen[1], strict=True):
        np.testing.assert_array_equal(weight, wanted)


def test_shared_layers_and_nested_models_are_trained():
    keras.utils.set_random_seed(2)
    inner_input = keras.Input((6,))
    inner = keras.Model(inner_input, L.Dense(6, activation="relu", name="inner_dense")(inner_input), name="inner")
    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two")
    shared = L.Dense(6, name="shared")
    joined = L.Concatenate()([inner(shared(one)), inner(shared(two))])
    model = keras.Model({"one": one, "two": two}, {"sum": L.Dense(6, name="head")(joined)})
    random = np.random.default_rng(0)
    data = {name: random.normal(size=(64, 6)).astype(np.float32) for name in ("one", "two")}
    quantized = quantize(model, [data])
    trained = quantized.train(in_batches(data), settings=SETTINGS)
    exact = model(data)["sum"].numpy()
    errors = [np.square(q.simulated(data)["sum"].numpy() - exact).mean() for q in (quantized, trained)]
    assert errors[1] < errors[0]
    names = {layer.name: layer for layer in trained.model.layers}
    assert np.abs(names["shared"].kernel - shared.kernel).max() > 0
    assert np.abs(names["inner_dense"].kernel - inner.get_layer("inner_dense").kernel).max() > 0


@pytest.mark.parametrize("frozen", [True, False])
def test_separable_convolutions_learn_or_stay_as_their_layer_says_and_keep_what_regularises_them(frozen):
    x = keras.Input((6, 6, 4), name="x")
    settings = {"trainable": not frozen, "depthwise_regularizer": "l1", "pointwise_regularizer": "l2"}
    separable = L.SeparableConv2D(8, 3, bias_regularizer="l1", bias_initializer="ones", name="separable", **settings)
    model = keras.Model(x, L.Dense(2, name="scores")(L.GlobalAveragePooling2D()(L.ReLU()(separable(x)))))
    data = {"x": np.random.default_rng(0).normal(size=(32, 6, 6, 4)).astype(np.float32)}
    quantized = quantize(model, [data])
    form = training_form(model, replace(quantized.plan, bias_corrections={}))
    np.testing.assert_allclose(sum(form.model.losses), sum(model.losses), rtol=1e-6)
    trained = quantized.train(in_batches(data), settings=replace(SETTINGS, epochs=1, learning_rate=1e-2)).model
    depthwise, pointwise = (trained.get_layer(name) for name in ("separable_depthwise", "separable"))
    assert depthwise.trainable == pointwise.trainable == (not frozen)
    assert np.array_equal(depthwise.depthwise_kernel, separable.depthwise_kernel) == frozen
    assert np.array_equal(pointwise.kernel, separable.pointwise_kernel) == frozen


# What can not be trained


def test_a_loss_that_is_not_a_number_is_an_error_with_remedies(quantized):
    data = images(16, seed=0)
    data[3, 2, 1, 0] = np.nan
    with pytest.raises(TrainingDivergedError, match="lower learning_rate"):
        quantized.train(in_batches({"image": data}), settings=SETTINGS)


def test_what_has_nothing_to_learn_is_refused(quantized):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, tf.argmax(L.Dense(3, name="scores")(x), axis=-1))
    with pytest.raises(ValueError, match="is int64, which has no gradient"):
        training_form(model, PrecisionPlan("int8", {"scores": "int8"}, dynamic=False, ranges={"x": (-1.0, 1.0)}))
    with pytest.raises(ValueError, match="no layer in int8"):
        replace(quantized, plan=PrecisionPlan("int8")).train(in_batches({"image": images(16, seed=0)}))
    with pytest.raises(ValueError, match="not the model's input 'image'"):
        quantized.train(in_batches({"picture": images(16, seed=0)}), settings=SETTINGS)


@pytest.mark.parametrize("folded", [False, True])
def test_constraints_of_weights_hold_in_training_or_it_is_refused(folded):
    x = keras.Input((6,), name="x")
    wide = L.Dense(8, kernel_constraint="non_neg", kernel_initializer="ones", name="wide")(x)
    wide = L.BatchNormalization()(wide) if folded else wide
    model = keras.Model(x, L.Dense(2, name="scores")(L.ReLU()(wide)))
    data = np.abs(np.random.default_rng(0).normal(size=(32, 6))).astype(np.float32)
    plan = PrecisionPlan("int8", {"wide": "int8"}, dynamic=False, ranges={"x": (0.0, 3.0)})
    if folded:
        with pytest.raises(ValueError, match="of the constraints on wide/kernel:0, some are on weights"):
            training_form(model, plan)
        return
    quantized = replace(quantize(model, [data]), plan=plan)
    settings = replace(SETTINGS, epochs=1, learning_rate=3.0)
    trained = quantized.train(in_batches({"x": data}), settings=settings)
    kernel = trained.model.get_layer("wide").kernel.numpy()
    assert kernel.min() >= 0 and (kernel != 1).any()
