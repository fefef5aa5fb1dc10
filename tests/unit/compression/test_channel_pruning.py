"""A model without some channels computes what it did with all that reads them set to zero, whatever its topology."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from optops.compression import follow_channels, prune_channels
from optops.compression.pruning.channels.batch_norm import measure_batch_norms, scale_penalty
from optops.compression.pruning.channels.criteria import (
    Criterion,
    batch_norm_scale,
    importance,
    l1_norm,
    l2_norm,
    taylor,
)
from optops.compression.pruning.channels.rebuild import mask_channels, without_channels
from optops.models.keras import keras, tf

L = keras.layers


def conv(filters, size=3, **settings):
    return L.Conv2D(filters, size, **{"padding": "same", **settings})


def residual():
    x = keras.Input([8, 8, 3])
    y = L.ReLU()(L.BatchNormalization()(conv(16)(x)))
    z = L.BatchNormalization()(conv(16)(L.ReLU()(conv(24)(y))))
    y = L.ReLU()(L.Add()([y, z]))
    return keras.Model(x, L.Dense(4)(L.GlobalAveragePooling2D()(y)))


def dense_connections():
    x = keras.Input([8, 8, 3])
    parts = [conv(16)(x)]
    for _ in range(2):
        y = parts[0] if len(parts) == 1 else L.Concatenate()(parts)
        parts.append(conv(8, activation="relu")(L.BatchNormalization()(y)))
    return keras.Model(x, conv(2, 1)(L.Concatenate()(parts)))


def depthwise_with_squeeze():
    x = keras.Input([8, 8, 3])
    y = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(conv(16, activation="swish")(x))
    s = L.Reshape((1, 1, 32))(L.GlobalAveragePooling2D()(y))
    s = conv(32, 1, activation="sigmoid")(conv(8, 1, activation="relu")(s))
    return keras.Model(x, conv(4, 1)(L.Multiply()([y, s])))


def grouped():
    x = keras.Input([8, 8, 3])
    y = conv(48, groups=3)(conv(24)(x))
    return keras.Model(x, conv(4)(L.PReLU(shared_axes=[1, 2])(y)))


def pyramid():
    x = keras.Input([9, 9, 3])
    y = L.MaxPooling2D(padding="same")(L.ZeroPadding2D(((0, 1), (2, 1)))(conv(16, padding="valid")(x)))
    z = L.UpSampling2D()(conv(24)(y))
    z = L.Concatenate()([L.Cropping2D(1)(z), L.Cropping2D(1)(L.UpSampling2D()(y))])
    return keras.Model(x, [conv(3, name="fine")(z), conv(5, name="coarse")(y)])


def pixel_shuffle():
    x = keras.Input([None, None, 3])
    y = conv(16)(x)
    y = tf.nn.depth_to_space(conv(64)(L.Add()([y, conv(16)(y)])), 2)
    return keras.Model(x, conv(3)(tf.nn.relu(y * 0.5 + 0.1)))


def flattened():
    x = keras.Input([4, 5, 3])
    y = L.Dropout(0.5)(L.Dense(32, activation="relu")(L.Flatten()(conv(16)(x))))
    return keras.Model(x, L.Softmax()(L.Dense(4)(L.BatchNormalization(scale=False)(y))))


def shared_layers():
    left, right = keras.Input([8, 8, 3]), keras.Input([8, 8, 3])
    first, second = conv(16), conv(24, activation="relu")
    y = L.Subtract()([second(first(left)), second(first(right))])
    return keras.Model([left, right], L.Dense(2)(L.GlobalMaxPooling2D()(y)))


def nested():
    a = keras.Input([8, 8, 16])
    block = keras.Model(a, L.Add()([a, conv(16, name="inner")(conv(24, activation="relu")(a))]))
    x = keras.Input([8, 8, 3])
    y = block(block(conv(16, name="inner")(x)))
    head = keras.Sequential([L.AveragePooling2D(), conv(8), L.Flatten(), L.Dense(3)])
    return keras.Model(x, head(y))


def transposed_and_separable():
    x = keras.Input([8, 8, 3])
    y = L.SeparableConv2D(16, 3, padding="same", depth_multiplier=2, activation="relu")(x)
    y = L.SeparableConv2D(24, 3, padding="same")(y)
    return keras.Model(x, L.Conv2DTranspose(3, 3, strides=2)(L.Conv2DTranspose(16, 3, strides=2)(y)))


def sequence():
    ids = keras.Input([12], dtype="int32")
    y = L.Conv1D(24, 3, padding="causal", activation="relu")(L.Embedding(30, 16)(ids))
    return keras.Model(ids, L.Dense(5)(tf.concat([y, L.Dense(16)(y)], axis=-1)))


MODELS = [
    *(residual, dense_connections, depthwise_with_squeeze, grouped, pyramid, pixel_shuffle, flattened),
    *(shared_layers, nested, transposed_and_separable, sequence),
]


def build(make, seed=1):
    """The model with random values in all of its weights."""
    keras.utils.set_random_seed(seed)
    model, random = make(), np.random.default_rng(seed)
    for weight in model.weights:
        positive = weight.name.endswith(("moving_variance:0", "gamma:0"))
        weight.assign(random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.4, weight.shape))
    return model


def inputs_of(model, seed=0):
    random, found = np.random.default_rng(seed), []
    for tensor in model.inputs:
        shape = [2, *(size or 6 for size in tensor.shape[1:])]
        integers = tensor.dtype.is_integer
        found.append(random.integers(0, 30, shape) if integers else random.normal(size=shape).astype(np.float32))
    return found


def outputs_of(model, inputs):
    return [np.asarray(output) for output in tf.nest.flatten(model(inputs if len(inputs) > 1 else inputs[0]))]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_without_channels_computes_what_it_does_with_them_masked(make, seed):
    model = build(make)
    graph, random = follow_channels(model), np.random.default_rng(seed)
    assert graph.groups
    removed = {
        int(atom)
        for group in graph.groups
        for atom in random.choice(group.channels, random.integers(0, len(group.channels)), replace=False)
    }
    inputs = inputs_of(model)
    smaller = without_channels(model, graph, removed)
    mask_channels(graph, removed)
    assert smaller.count_params() < model.count_params()
    for found, expected in zip(outputs_of(smaller, inputs), outputs_of(model, inputs), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("make", MODELS)
def test_a_pruned_model_is_smaller_its_widths_are_multiples_and_it_can_be_saved(make, tmp_path):
    model = build(make)
    smaller = prune_channels(model, 0.5)
    assert smaller.count_params() < 0.8 * model.count_params()
    assert [tensor.shape for tensor in smaller.outputs] == [tensor.shape for tensor in model.outputs]
    for group in follow_channels(smaller).groups:
        assert all(len(group.channels) * count % 8 == 0 for count in group.multiplicities)
    inputs = inputs_of(model)
    smaller.save(tmp_path / "smaller.keras")
    again = keras.models.load_model(tmp_path / "smaller.keras")
    for found, expected in zip(outputs_of(again, inputs), outputs_of(smaller, inputs), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_groups_are_those_that_the_topology_ties():
    model = build(residual)
    first, inner, last = (layer.name for layer in model.layers if isinstance(layer, L.Conv2D))
    found = {group.layers: len(group.channels) for group in follow_channels(model).groups}
    assert found == {(first, last): 16, (inner,): 24}
    shuffled = follow_channels(build(pixel_shuffle)).groups
    assert sorted((len(group.channels), group.multiplicities) for group in shuffled) == [(16, (1, 1)), (16, (4,))]


def test_the_example_of_the_docs_runs_and_leaves_half_of_the_channels():
    page = Path(__file__).parents[3] / "docs" / "extending.md"
    code = re.search(
        r"```python\n(from optops.compression import follow_channels.*?)```",
        page.read_text(encoding="utf-8"),
        re.DOTALL,
    ).group(1)
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=4)
    random = np.random.default_rng(0)
    names = {"model": model, "images": random.random((8, 32, 32, 3)), "labels": random.integers(0, 4, 8)}
    exec(code, names)

    def channels(model):
        return sum(len(group.channels) for group in follow_channels(model).groups)

    assert channels(names["smaller"]) / channels(model) == pytest.approx(0.5, abs=0.02)


def test_removing_nothing_changes_no_bit():
    model = build(residual)
    same = without_channels(model, follow_channels(model), set())
    for one, other in zip(model.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_not_known_is_left_whole_and_said_so():
    class Mixer(L.Layer):
        def call(self, x):
            return tf.reverse(x, [-1])

    x = keras.Input([8, 8, 3])
    y = Mixer(name="mixer")(conv(16, name="before")(x))
    model = keras.Model(x, conv(3, name="last")(conv(16, name="after")(y)))
    graph = follow_channels(model)
    assert [group.layers for group in graph.groups] == [("after",)]
    assert "mixer (Mixer) needs them all: what it does to channels is not known" in graph.left_whole["before"]
    assert "an output of the model" in graph.left_whole["last"]
    assert "left whole: before: mixer (Mixer)" in str(graph)
    smaller = prune_channels(model, 0.5)
    assert smaller.get_layer("before").filters == 16
    assert smaller.get_layer("after").filters == 8


def test_a_softmax_over_channels_and_one_that_is_spread_need_them_all():
    x = keras.Input([8, 8, 3])
    gate = conv(1, name="gate", activation="sigmoid")(x)
    y = L.Multiply()([conv(16, name="wide")(x), gate])
    y = conv(4)(L.Activation("softmax", name="mix")(conv(16, name="scores")(y)))
    graph = follow_channels(keras.Model(x, y))
    assert [group.layers for group in graph.groups] == [("wide",)]
    assert "spreads it over 16 channels" in graph.left_whole["gate"]
    assert "mix (Activation) needs them all: it mixes all channels" in graph.left_whole["scores"]


def test_a_layer_norm_needs_all_channels_and_a_softmax_over_places_does_not():
    x = keras.Input([8, 8, 3])
    y = L.LayerNormalization(name="norm")(conv(16, name="normed")(x))
    y = L.Softmax(axis=[1, 2])(conv(16, name="attended")(y))
    graph = follow_channels(keras.Model(x, conv(4)(y)))
    assert [group.layers for group in graph.groups] == [("attended",)]
    assert "norm (LayerNormalization) needs them all: it normalises all" in graph.left_whole["normed"]


def test_a_number_for_each_channel_needs_them_all():
    x = keras.Input([8, 8, 3])
    y = conv(16, name="scaled")(x) * np.arange(16, dtype=np.float32)
    graph = follow_channels(keras.Model(x, conv(4)(tf.nn.relu(conv(16, name="free")(y)))))
    assert [group.layers for group in graph.groups] == [("free",)]
    assert "it takes a ndarray, which may have a number for each channel" in graph.left_whole["scaled"]


def test_channels_that_do_nothing_go_first_by_every_criterion():
    x = keras.Input([8, 8, 3])
    y = L.ReLU()(L.BatchNormalization(name="norm")(conv(16, name="wide")(x)))
    model = build(lambda: keras.Model(x, L.Dense(2)(L.GlobalAveragePooling2D()(y))))
    idle = [0, 3, 4, 7, 8, 11, 12, 15]
    kernel, bias = model.get_layer("wide").get_weights()
    kernel[..., idle] *= 0.01
    model.get_layer("wide").set_weights([kernel, bias])
    gamma, *rest = model.get_layer("norm").get_weights()
    gamma[idle] *= 0.01
    model.get_layer("norm").set_weights([gamma, *rest])
    batch = (inputs_of(model)[0], np.ones((2, 2), np.float32))
    by_loss = taylor(model, lambda model, batch: tf.reduce_mean((model(batch[0]) - batch[1]) ** 2), [batch])
    busy = sorted(set(range(16)) - set(idle))
    for criterion in (l1_norm, l2_norm, batch_norm_scale, by_loss):
        smaller = prune_channels(model, 0.5, criterion=criterion)
        np.testing.assert_array_equal(smaller.get_layer("wide").get_weights()[0], kernel[..., busy])


def test_taylor_is_the_change_of_the_loss_to_first_order():
    x = keras.Input([8, 8, 3])
    y = L.GlobalAveragePooling2D()(conv(16, name="wide", activation="swish")(x))
    model = build(lambda: keras.Model(x, L.Dense(4)(y)))
    batch = (inputs_of(model)[0], np.ones((2, 4), np.float32))

    def loss(model, batch):
        return tf.reduce_mean((model(batch[0]) - batch[1]) ** 2)

    graph = follow_channels(model)
    measured = importance(graph, taylor(model, loss, [batch]))
    layer = model.get_layer("wide")
    kernel, step = layer.kernel.numpy(), 1e-2
    losses = []
    for sign in (1, -1):
        changed = kernel.copy()
        changed[..., 5] *= 1 + sign * step
        layer.kernel.assign(changed)
        losses.append(float(loss(model, batch)))
    atom = int(graph.trace.ties.roots(graph.trace.slots[layer, "out"])[5])
    assert measured[atom] == pytest.approx(abs(losses[0] - losses[1]) / (2 * step), rel=0.02, abs=1e-4)


def normed_and_bare():
    """Two convolutions with batch norms and one without, all of 16 channels."""
    x = keras.Input([8, 8, 3])
    y = L.ReLU()(L.BatchNormalization(name="norm")(conv(16, name="normed")(x)))
    y = L.ReLU()(L.BatchNormalization(scale=False)(conv(16, name="unscaled")(y)))
    y = conv(16, name="bare", activation="swish")(y)
    return keras.Model(x, L.Dense(4)(L.GlobalAveragePooling2D()(y)))


def squares(model, batch):
    """A loss as training has it: batch norms get the statistics of the batch."""
    return tf.reduce_mean((model(batch, training=True) - 1) ** 2)


def test_taylor_is_the_change_of_the_loss_without_what_a_batch_norm_makes():
    model = build(normed_and_bare)
    batch = inputs_of(model)[0]
    graph = follow_channels(model)
    measured = importance(graph, taylor(model, squares, [batch]))
    norm = model.get_layer("norm")
    scale, offset = norm.gamma.numpy(), norm.beta.numpy()
    losses = []
    for sign in (1, -1):
        factor = np.ones(16, np.float32)
        factor[5] += sign * 1e-2
        norm.gamma.assign(scale * factor)
        norm.beta.assign(offset * factor)
        losses.append(float(tf.reduce_mean((model(batch) - 1) ** 2)))
    atom = int(graph.trace.ties.roots(graph.trace.slots[norm, "in"])[5])
    assert measured[atom] == pytest.approx(abs(losses[0] - losses[1]) / 2e-2, rel=0.02, abs=1e-4)


def test_taylor_sees_what_stands_in_front_of_a_batch_norm_in_a_loss_of_training():
    model = build(normed_and_bare)
    batches = [inputs_of(model)[0] for _ in range(4)]
    graph = follow_channels(model)
    measured = importance(graph, taylor(model, squares, batches))
    found = {
        name: np.median(
            [measured[atom] for atom in graph.trace.ties.roots(graph.trace.slots[model.get_layer(name), "out"])]
        )
        for name in ("normed", "unscaled", "bare")
    }
    assert min(found.values()) > 0.01 * max(found.values()), found
    assert all(layer.trainable for layer in model.layers)


def test_taylor_is_the_mean_over_batches():
    model = keras.Sequential([L.Dense(8, input_shape=[4]), L.Dense(3)])
    batches = np.random.default_rng(4).normal(size=(3, 5, 4)).astype(np.float32)
    graph = follow_channels(model)
    whole, *parts = (
        importance(graph, taylor(model, lambda model, batch: tf.reduce_mean(model(batch) ** 2), given))
        for given in (batches, *batches[:, None])
    )
    assert whole == pytest.approx({atom: np.mean([part[atom] for part in parts]) for atom in whole})


def test_taylor_keeps_no_more_for_more_batches():
    model = keras.Sequential([L.Dense(512, input_shape=[512]), L.Dense(1)])

    def peak(count):
        tracemalloc.start()
        taylor(model, lambda model, batch: tf.reduce_mean(model(batch)), [tf.ones([1, 512])] * count)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(8) < 1.2 * peak(2)


@pytest.mark.parametrize("what", [np.nan, None])
def test_taylor_leaves_a_model_as_it_is_where_it_can_not_measure_it(what):
    model = build(residual)
    before = model.get_weights()

    def loss(model, batch):
        outputs = model(batch, training=True)
        if what is None:
            raise ValueError("not finite either")
        return tf.reduce_mean(outputs) * what

    with pytest.raises(ValueError, match="not finite"):
        taylor(model, loss, inputs_of(model))
    for value, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_taylor_says_whether_batches_are_missing_or_weights_that_can_learn():
    model = build(residual)

    def loss(model, batch):
        return tf.reduce_mean(model(batch, training=True))

    with pytest.raises(ValueError, match="there are no batches"):
        taylor(model, loss, [])
    model.trainable = False
    with pytest.raises(ValueError, match="no trainable weight"):
        taylor(model, loss, inputs_of(model))


def normed(scales):
    """Convolutions of 16 channels with batch norms of these scales, between a first and a last one."""
    x = keras.Input([8, 8, 3])
    y = x
    for number in range(len(scales)):
        y = L.ReLU()(L.BatchNormalization(name=f"norm_{number}")(conv(16, name=f"conv_{number}")(y)))
    model = build(lambda: keras.Model(x, L.Dense(2)(L.GlobalAveragePooling2D()(y))))
    for number, scale in enumerate(scales):
        model.get_layer(f"norm_{number}").gamma.assign(np.linspace(0.1, 1, 16) * scale)
    return model


def test_scales_of_batch_norms_are_compared_as_they_are_and_norms_within_their_layer():
    model = normed([1.0, 0.02])
    by_scale = prune_channels(model, 0.5, criterion=batch_norm_scale, multiple=1)
    assert by_scale.get_layer("conv_0").filters > 12
    assert by_scale.get_layer("conv_1").filters < 4
    kernel, bias = model.get_layer("conv_1").get_weights()
    model.get_layer("conv_1").set_weights([kernel * 1e-3, bias])
    by_norm = prune_channels(model, 0.5, multiple=1)
    assert min(by_norm.get_layer(f"conv_{number}").filters for number in (0, 1)) >= 5


def test_the_penalty_is_on_scales_whose_channels_may_go_and_drives_them_to_zero():
    model = normed([1.0, 0.5])
    graph = follow_channels(model)
    assert float(scale_penalty(graph)) == pytest.approx(1.5 * np.linspace(0.1, 1, 16).sum(), rel=1e-5)
    scale = model.get_layer("norm_0").gamma
    for _ in range(50):
        with tf.GradientTape() as tape:
            penalty = scale_penalty(graph)
        scale.assign_sub(0.01 * tape.gradient(penalty, scale))
    assert float(tf.reduce_max(tf.abs(scale))) == pytest.approx(0.5, abs=0.01)
    assert float(tf.reduce_min(tf.abs(scale))) < 0.011
    with pytest.raises(ValueError, match="no batch norm has a scale"):
        scale_penalty(follow_channels(build(grouped)))


@pytest.mark.parametrize("use_bias", [True, False])
def test_what_channels_without_a_scale_say_is_folded_into_biases_where_no_zeros_are_padded(use_bias):
    x = keras.Input([8, 8, 3])
    y = L.ReLU()(L.BatchNormalization(name="norm_0")(conv(16)(x)))
    z = L.ReLU()(L.BatchNormalization(name="norm_1")(conv(16, padding="valid", use_bias=use_bias)(y)))
    z = L.Concatenate()([z, L.Cropping2D(1)(conv(8, 1, use_bias=use_bias)(y))])
    model = build(lambda: keras.Model(x, L.Dense(4)(L.GlobalAveragePooling2D()(L.MaxPooling2D()(z)))))
    for name in ("norm_0", "norm_1"):
        scale = model.get_layer(name).gamma
        scale.assign(np.where(np.arange(16) % 2, 0, scale.numpy()))
    (inputs,) = inputs_of(model)
    kept = {name: model.get_layer(name).gamma.numpy() for name in ("norm_0", "norm_1")}
    smaller = prune_channels(model, 0.5, criterion=batch_norm_scale, inputs=inputs)
    assert smaller.get_layer("norm_0").gamma.shape == smaller.get_layer("norm_1").gamma.shape == [8]
    np.testing.assert_allclose(smaller(inputs), model(inputs), atol=2e-5)
    assert np.abs(prune_channels(model, 0.5, criterion=batch_norm_scale)(inputs) - model(inputs)).max() > 0.1
    for name, scale in kept.items():
        np.testing.assert_array_equal(model.get_layer(name).gamma, scale)


def test_a_new_bias_does_not_change_places_with_the_slopes_of_the_activation():
    x = keras.Input([6])
    y = L.ReLU()(L.BatchNormalization(name="norm")(L.Dense(16)(x)))
    # As many slopes as biases: nothing but their order tells them apart.
    y = L.Dense(32, use_bias=False, activation=L.PReLU(), name="reader")(y)
    model = build(lambda: keras.Model(x, L.Dense(4)(y)))
    model.get_layer("norm").gamma.assign(np.arange(16) % 2)
    model.get_layer("norm").beta.assign(np.ones(16))
    (inputs,) = inputs_of(model)
    smaller = prune_channels(model, 0.5, criterion=batch_norm_scale, inputs=inputs)
    assert smaller.get_layer("norm").gamma.shape == [8]
    assert np.abs(smaller.get_layer("reader").bias).max() > 0.1
    np.testing.assert_allclose(smaller(inputs), model(inputs), atol=2e-5)


def test_what_passes_a_zero_padding_is_not_folded():
    x = keras.Input([8, 8, 3])
    y = L.ReLU()(L.BatchNormalization(name="norm")(conv(16)(x)))
    padded = keras.Model(x, conv(4, padding="valid", name="last")(L.ZeroPadding2D()(y)))
    for model in (padded, keras.Model(x, conv(4, name="last")(y))):
        model.get_layer("norm").gamma.assign(np.arange(16) % 2)
        model.get_layer("norm").beta.assign(np.ones(16))
        smaller = prune_channels(model, 0.5, criterion=batch_norm_scale, inputs=inputs_of(model)[0])
        np.testing.assert_array_equal(smaller.get_layer("last").bias, model.get_layer("last").bias)


def test_measured_batch_norms_have_the_statistics_of_the_batches():
    model = normed([1.0])
    batches = [np.random.default_rng(seed).normal(seed, 2, (16, 8, 8, 3)).astype(np.float32) for seed in range(3)]
    measure_batch_norms(model, batches)
    layer = model.get_layer("norm_0")
    outputs = [np.asarray(model.get_layer("conv_0")(batch)).reshape(-1, 16) for batch in batches]
    np.testing.assert_allclose(layer.moving_mean, np.mean([o.mean(0) for o in outputs], axis=0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(layer.moving_variance, np.mean([o.var(0) for o in outputs], axis=0), rtol=5e-3)
    assert layer.momentum == 0.99
    with pytest.raises(ValueError, match="there are no batches"):
        measure_batch_norms(model, [])
    with pytest.raises(ValueError, match="what reaches 'norm_0' is NaN"):
        measure_batch_norms(model, [np.full((2, 8, 8, 3), np.nan, np.float32)])


def test_a_frozen_batch_norm_is_measured_too_and_stays_frozen():
    model, free = normed([1.0]), normed([1.0])
    model.get_layer("norm_0").trainable = False
    free.set_weights(model.get_weights())
    batch = np.random.default_rng(1).normal(3, 2, (16, 8, 8, 3)).astype(np.float32)
    for each in (model, free):
        measure_batch_norms(each, [batch])
    found, expected = (each.get_layer("norm_0") for each in (model, free))
    assert not found.trainable
    np.testing.assert_array_equal(found.moving_mean, expected.moving_mean)
    np.testing.assert_array_equal(found.moving_variance, expected.moving_variance)


def test_a_shared_batch_norm_has_the_statistics_of_all_of_its_calls():
    left, right = keras.Input([4], name="left"), keras.Input([4], name="right")
    norm = L.BatchNormalization()
    model = keras.Model([left, right], L.Concatenate()([norm(left), norm(right)]))
    batches = [np.random.default_rng(seed).normal(seed, 2, (2, 16, 4)).astype(np.float32) for seed in range(3)]
    measure_batch_norms(model, [list(batch) for batch in batches])
    taken = np.stack(batches)
    np.testing.assert_allclose(norm.moving_mean, taken.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, taken.var(axis=2).mean(axis=(0, 1)), rtol=1e-4)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_batch_norms_of_a_network_that_is_called_for_inference_are_measured_too(frozen):
    base = normed([1.0])
    base.trainable = not frozen
    x = keras.Input([8, 8, 3])
    model, alone = keras.Model(x, L.Dense(2)(base(x, training=False))), keras.models.clone_model(base)
    alone.set_weights(base.get_weights())
    batch = np.random.default_rng(1).normal(3, 2, (16, 8, 8, 3)).astype(np.float32)
    for each in (model, alone):
        measure_batch_norms(each, [batch])
    for found, expected in zip(base.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert {layer.trainable for layer in base._flatten_layers()} == {not frozen}
    before = base.get_weights()
    model(batch, training=True)
    for found, expected in zip(base.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda m: prune_channels(m, 1.0), ValueError, r"pruning ratio is 1.0; it must be in \[0, 1\)"),
        (lambda m: prune_channels(m, 0.5, floor=1.0), ValueError, "floor is 1.0"),
        (
            lambda m: prune_channels(m, 0.5, criterion=Criterion(lambda weight: None, comparable=True)),
            ValueError,
            "no channel may be pruned",
        ),
        (lambda m: prune_channels(keras.Sequential([conv(3)]), 0.5), TypeError, "a functional or a built sequential"),
        (lambda m: taylor(m, None, []), ValueError, "no batches to measure importance on"),
    ],
)
def test_what_can_not_be_pruned_is_refused_with_the_reason(call, error, says):
    with pytest.raises(error, match=says):
        call(build(residual))


@pytest.mark.parametrize("weight", ["kernel:0", "bias:0", "gamma:0", "moving_variance:0"])
def test_weights_that_are_not_finite_are_refused_by_name(weight):
    model = build(residual)
    variable = next(variable for variable in model.weights if variable.name.endswith(weight))
    values = variable.numpy()
    values.flat[0] = np.nan
    variable.assign(values)
    with pytest.raises(ValueError, match=f"the weights {variable.name} are not finite"):
        prune_channels(model, 0.5)
