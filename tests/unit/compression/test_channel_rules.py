"""What ties channels, and what keeps them: activations of any kind, other axes, layers that several models share."""

import numpy as np
import pytest

from optops.compression import follow_channels, prune_channels
from optops.compression.pruning.channels.rebuild import mask_channels, without_channels
from optops.models.keras import keras, tf
from optops.testing.topologies import example_inputs, outputs_of, randomize

L = keras.layers


def conv(filters, **settings):
    return L.Conv2D(filters, 3, **{"padding": "same", **settings})


def hard_swish(x):
    return x * tf.nn.relu6(x + 3.0) / 6.0


def assert_equals_its_masked_form(model):
    """Without half of each group, a model computes what it does with them masked."""
    randomize(model)
    graph, inputs = follow_channels(model), example_inputs(model)
    removed = {int(atom) for group in graph.groups for atom in group.channels[::2]}
    smaller = without_channels(model, graph, removed)
    mask_channels(graph, removed)
    assert smaller.count_params() < model.count_params()
    masked = outputs_of(model, inputs)
    for name, found in outputs_of(smaller, inputs).items():
        np.testing.assert_allclose(found, masked[name], atol=2e-5, rtol=2e-5)
    return graph


@pytest.mark.parametrize(
    "activation",
    [
        *("softmax", "log_softmax", tf.nn.softmax, lambda x: tf.math.l2_normalize(x, -1), lambda x: x[..., ::-1]),
        *(L.Softmax(), L.PReLU(shared_axes=[1, 2])),
    ],
    ids=["softmax", "log_softmax", "tf.nn.softmax", "l2_normalize", "reversed", "Softmax", "PReLU"],
)
@pytest.mark.parametrize("within", [True, False])
def test_an_activation_that_mixes_channels_needs_them_all(activation, within):
    x = keras.Input([8, 8, 3])
    mixed = conv(16, name="mixed", activation=activation if within else None)
    y = mixed(x) if within else L.Activation(activation)(mixed(x))
    graph = assert_equals_its_masked_form(keras.Model(x, conv(4)(conv(16, name="free")(y))))
    assert [group.layers for group in graph.groups] == [("free",)]
    assert "mixes all channels, or treats each its own way" in graph.left_whole["mixed"]


@pytest.mark.parametrize("activation", [hard_swish, tf.nn.silu, L.LeakyReLU(0.2), "gelu", "hard_sigmoid"])
def test_channels_before_any_activation_of_single_numbers_may_go(activation):
    x = keras.Input([8, 8, 3])
    y = L.Activation(activation)(conv(16, name="apart")(conv(16, name="within", activation=activation)(x)))
    graph = assert_equals_its_masked_form(keras.Model(x, conv(4)(y)))
    assert [group.layers for group in graph.groups] == [("within",), ("apart",)]


def test_one_minus_a_gate_is_channel_by_channel():
    x = keras.Input([8, 8, 3])
    y = conv(16)(x)
    gate = conv(16, activation="sigmoid")(y)
    graph = assert_equals_its_masked_form(keras.Model(x, conv(4)(gate * conv(16)(y) + (1.0 - gate) * y)))
    assert len(graph.groups) == 1


@pytest.mark.parametrize(
    "pool", [L.GlobalAveragePooling2D, L.GlobalMaxPooling2D, L.Flatten, lambda **settings: L.UpSampling2D(**settings)]
)
@pytest.mark.parametrize("moved", [True, False])
def test_what_takes_channels_from_another_axis_than_the_last_needs_them_all(pool, moved):
    x = keras.Input([8, 6, 3])
    y = conv(16, name="before")(x)
    y = L.Permute((3, 1, 2))(y) if moved else y
    y = L.Flatten()(pool(data_format="channels_first")(y))
    graph = assert_equals_its_masked_form(keras.Model(x, L.Dense(2)(L.Dense(16, name="after")(y))))
    assert [group.layers for group in graph.groups] == [("after",)]


def test_a_layer_that_several_nested_models_share_is_cut_once_and_keeps_its_weights():
    image = keras.Input([8, 8, 3])
    first, second = conv(16, activation="relu"), conv(16, activation="relu")
    deep = keras.Model(image, second(first(image)), name="deep")
    shallow = keras.Model(image, first(image), name="shallow")
    x = keras.Input([8, 8, 3])
    y = L.Concatenate()([deep(x), shallow(x), first(x)])
    model = keras.Model(x, L.Dense(2)(L.GlobalAveragePooling2D()(y)))
    assert_equals_its_masked_form(model)
    assert len(prune_channels(model, 0.5).trainable_variables) == len(model.trainable_variables)


def test_a_model_that_two_others_have_within_them_is_cut_once():
    a, b, c = (keras.Input([8, 8, 16]) for _ in range(3))
    block = keras.Model(a, conv(16, activation="relu")(conv(24)(a)), name="block")
    one = keras.Model(b, block(b), name="one")
    two = keras.Model(c, L.Add()([block(c), c]), name="two")
    x = keras.Input([8, 8, 3])
    assert_equals_its_masked_form(keras.Model(x, conv(2)(two(one(conv(16)(x))))))


def test_a_nested_model_takes_its_inputs_by_name_in_any_order():
    z, a = keras.Input([8, 8, 16], name="z"), keras.Input([8, 8, 24], name="a")
    inner = keras.Model([z, a], L.Concatenate()([conv(16)(z), conv(8)(a)]), name="inner")
    x = keras.Input([8, 8, 3])
    y = inner({"a": conv(24, name="second")(x), "z": conv(16, name="first")(x)})
    graph = assert_equals_its_masked_form(keras.Model(x, conv(2)(y)))
    assert ("first",) in [group.layers for group in graph.groups]


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize(
    "masked", [L.GlobalAveragePooling1D, lambda: L.Softmax(axis=1)], ids=["GlobalAveragePooling1D", "Softmax"]
)
def test_what_a_layer_that_is_given_a_mask_takes_is_left_whole(masked, by_name):
    ids, layer = keras.Input([6], dtype="int32", name="ids"), masked()
    y = L.Conv1D(16, 3, name="free", padding="same")(L.Embedding(30, 8)(ids))
    y = L.Conv1D(16, 3, name="whole", padding="same")(y)
    mask = tf.not_equal(ids, 0)
    mask = tf.expand_dims(mask, -1) if isinstance(layer, L.Softmax) else mask
    y = layer(y, mask=mask) if by_name else layer(y, mask)
    graph = assert_equals_its_masked_form(keras.Model(ids, L.Dense(2)(y)))
    assert ("free",) in [group.layers for group in graph.groups]
    assert "it takes a mask" in graph.left_whole["whole"]


@pytest.mark.parametrize("large_first", [True, False])
def test_one_reshape_of_maps_of_two_sizes_keeps_the_channels_of_both(large_first):
    x, flat = keras.Input([8, 8, 3]), L.Reshape((-1,))
    large, small = conv(16, name="large")(x), conv(8, strides=2, name="small")(x)
    parts = [flat(y) for y in ([large, small] if large_first else [small, large])]
    graph = assert_equals_its_masked_form(keras.Model(x, L.Dense(2)(L.Concatenate()(parts))))
    assert sorted(group.layers for group in graph.groups) == [("large",), ("small",)]


@pytest.mark.parametrize("known_first", [True, False])
def test_one_reshape_of_tensors_of_two_widths_needs_all_channels_of_both(known_first):
    x, rows = keras.Input([4, 4, 3]), L.Reshape((-1, 16), name="rows")
    known, unknown = conv(16, name="known")(conv(16, name="free")(x)), conv(32, name="unknown")(x)
    parts = [rows(y) for y in ([known, unknown] if known_first else [unknown, known])]
    graph = assert_equals_its_masked_form(keras.Model(x, [L.Dense(2)(part) for part in parts]))
    assert [group.layers for group in graph.groups] == [("free",)]
    assert "it makes 16 channels out of 32" in graph.left_whole["known"]


@pytest.mark.parametrize(
    "join", [lambda parts: tf.concat(parts, -1), L.Concatenate()], ids=["tf.concat", "Concatenate"]
)
def test_channels_beside_a_constant_are_left_whole(join):
    x = keras.Input(batch_shape=[1, 8, 8, 3])
    places = tf.constant(np.random.default_rng(1).normal(size=(1, 8, 8, 2)), tf.float32)
    y = join([conv(16, name="beside")(conv(16, name="free")(x)), places])
    graph = follow_channels(keras.Model(x, conv(4)(y)))
    assert [group.layers for group in graph.groups] == [("free",)]
    assert "may have a number for each channel" in graph.left_whole["beside"]


def test_a_slope_that_all_channels_share_does_not_tie_what_it_is_called_on():
    x, slope = keras.Input([8, 8, 3]), L.PReLU(shared_axes=[1, 2, 3], alpha_initializer="ones")
    y = slope(conv(24, name="wide")(slope(conv(16, name="narrow")(x))))
    graph = assert_equals_its_masked_form(keras.Model(x, conv(4)(y)))
    assert [group.layers for group in graph.groups] == [("narrow",), ("wide",)]


@pytest.mark.parametrize("wrapped_first", [True, False])
@pytest.mark.parametrize("inner", ["model", "sequence", "layer"])
def test_a_layer_that_a_wrapper_shares_with_the_rest_is_left_whole_and_shared(inner, wrapped_first):
    x, rows = keras.Input([4, 8, 3]), keras.Input([8, 3])
    image = keras.Input([8, 3])
    shared = {
        "layer": lambda: L.Conv1D(16, 3, name="shared"),
        "model": lambda: keras.Model(image, L.Conv1D(16, 3, name="shared")(L.Conv1D(16, 3)(image))),
        "sequence": lambda: keras.Sequential([L.Conv1D(16, 3), L.BatchNormalization(), L.Conv1D(16, 3, name="shared")]),
    }[inner]()
    wrapped, direct = L.GlobalAveragePooling2D()(L.TimeDistributed(shared)(x)), L.GlobalMaxPooling1D()(shared(rows))
    # What is deeper is followed first.
    y = L.Concatenate()([L.ReLU()(wrapped), direct] if wrapped_first else [wrapped, L.ReLU()(direct)])
    model = keras.Model([x, rows], L.Dense(2)(L.Dense(16, name="free")(y)))
    graph = assert_equals_its_masked_form(model)
    assert [group.layers for group in graph.groups] == [("free",)]
    assert "(TimeDistributed) needs them all" in graph.left_whole["shared"]
    smaller = prune_channels(model, 0.5)
    assert len(smaller.trainable_variables) == len(model.trainable_variables)


def test_rows_that_a_vocabulary_gives_have_channels_that_may_go():
    words = keras.Input([6], dtype="int64", name="words")
    lookup = L.IntegerLookup(vocabulary=[3, 1, 4, 15])
    y = L.Conv1D(16, 3)(L.Embedding(lookup.vocabulary_size(), 16)(lookup(words)))
    graph = assert_equals_its_masked_form(keras.Model(words, L.Dense(2)(L.GlobalMaxPooling1D()(y))))
    assert len(graph.groups) == 2


def test_a_batch_norm_that_renormalises_is_cut_with_its_own_statistics():
    x = keras.Input([8, 8, 3])
    y = L.BatchNormalization(renorm=True)(conv(16)(x))
    model = keras.Model(x, L.Dense(2)(L.GlobalAveragePooling2D()(y)))
    assert len(assert_equals_its_masked_form(model).groups) == 1
    norm = prune_channels(model, 0.5).layers[2]
    assert norm.renorm_mean.shape == norm.renorm_stddev.shape == norm.gamma.shape == [8]


@pytest.mark.parametrize(("shape", "free"), [((None, 1, 1, 16), False), ((None, 8, 8, 1), True), (None, True)])
def test_dropout_whose_noise_has_a_number_for_each_channel_needs_them_all(shape, free):
    x = keras.Input([8, 8, 3])
    y = L.Dropout(0.5, noise_shape=shape)(conv(16, name="dropped")(conv(16)(x)))
    model = keras.Model(x, L.Dense(2)(L.GlobalAveragePooling2D()(y)))
    assert len(assert_equals_its_masked_form(model).groups) == 1 + free
    assert prune_channels(model, 0.5)(example_inputs(model)[model.input_names[0]], training=True).shape[-1] == 2


def test_a_pixel_shuffle_of_another_axis_needs_all_channels_however_it_says_so():
    x = keras.Input([8, 8, 3])
    y = L.Permute((3, 1, 2))(conv(16, name="shuffled")(conv(16, name="free")(x)))
    for shuffled in (tf.nn.depth_to_space(y, 2, "NCHW"), tf.nn.depth_to_space(y, 2, data_format="NCHW")):
        graph = follow_channels(keras.Model(x, shuffled))
        assert [group.layers for group in graph.groups] == [("free",)]


def test_a_call_that_keras_does_not_copy_is_named():
    x = keras.Input([8, 8, 3])
    y = conv(16)(conv(16)(x))
    model = keras.Model(x, conv(4)(tf.einsum("bhwc,bhwc->bhwc", y, y)))
    with pytest.raises(TypeError, match=r"tf.einsum: Keras loses .* within a layer of your own"):
        prune_channels(model, 0.5)
