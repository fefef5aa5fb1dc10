"""Models of Keras 3 become models of Keras 2 that compute the same, or are refused by what they can not become."""

import keras as keras_3
import numpy as np
import pytest

from optops.compression import prune_channels
from optops.models.functional.config import from_config, to_config
from optops.models.functional.keras_3 import to_keras_2
from optops.models.importing import import_functional
from optops.models.keras import tf
from optops.runtimes import load_executable

L = keras_3.layers


def sequential(shape, *layers, **settings):
    return keras_3.Sequential([keras_3.Input(shape, name="x", **settings), *layers])


def image_network():
    x = keras_3.Input((16, 16, 3), name="x")
    y = L.Rescaling(1 / 127.5, offset=-1.0)(L.RandomFlip("horizontal")(x))
    y = L.Conv2D(16, 3, padding="same", use_bias=False, name="first")(y)
    y = L.ReLU(max_value=6.0)(L.BatchNormalization()(y))
    z = L.LeakyReLU(negative_slope=0.1)(L.SeparableConv2D(16, 3, padding="same", activation="swish")(y))
    y = keras_3.ops.maximum(z + y, L.PReLU()(z) * 0.5)
    y = L.Conv2DTranspose(8, 2, strides=2, activation="gelu")(y)[:, 1:-1]
    return keras_3.Model(x, L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(y)))


def hard_activations():
    x = keras_3.Input((12, 12, 3), name="x")
    y = L.Activation("hard_silu")(L.Conv2D(8, 3)(x))
    gate = L.Activation("hard_sigmoid")(L.Conv2D(8, 1)(L.GlobalAveragePooling2D(keepdims=True)(y)))
    return keras_3.Model(x, L.Dense(2)(L.Flatten()(L.Multiply()([y, gate]))))


def encoder():
    x = keras_3.Input((None, 16), name="x")
    y = L.LayerNormalization()(x + L.MultiHeadAttention(2, 8)(x, x))
    return keras_3.Model(x, L.GlobalAveragePooling1D()(L.Dense(8, activation="tanh")(y)))


def several():
    a, b = keras_3.Input((4,), name="a"), keras_3.Input((6,), name="b")
    shared = L.Dense(5, name="shared")
    both = keras_3.ops.concatenate([shared(a), L.Dense(5)(b)], axis=-1)
    return keras_3.Model({"a": a, "b": b}, {"p": L.Dense(1, name="p")(both), "q": shared(a * 2.0)})


def nested():
    base = sequential((8, 8, 3), L.Conv2D(4, 3), L.BatchNormalization())
    base.trainable = False
    x = keras_3.Input((8, 8, 3), name="x")
    return keras_3.Model(x, L.Dense(2)(L.GlobalMaxPooling2D()(base(x, training=False))))


def adapted():
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(0).normal(1, 3, (50, 4)))
    return sequential((4,), layer, L.Dropout(0.3), L.Dense(2))


def mixed():
    keras_3.mixed_precision.set_global_policy("mixed_float16")
    try:
        return sequential((8,), L.Dense(16, activation="relu"), L.Dense(2, dtype="float32"))
    finally:
        keras_3.mixed_precision.set_global_policy("float32")


def operations():
    x = keras_3.Input((5, 8), name="x")
    y = keras_3.ops.softmax(keras_3.ops.relu(keras_3.ops.mean(x, axis=1)) / 3.0)
    return keras_3.Model(x, keras_3.ops.transpose(keras_3.ops.reshape(y, (-1, 2, 4)), (0, 2, 1)))


MODELS = {
    "image network": image_network,
    "hard activations": hard_activations,
    "encoder": encoder,
    "several inputs and outputs": several,
    "nested": nested,
    "adapted": adapted,
    "mixed precision": mixed,
    "operations": operations,
    "recurrent": lambda: sequential(
        (20,), L.Embedding(100, 8, mask_zero=True), L.Bidirectional(L.LSTM(4, return_sequences=True)), L.GRU(3)
    ),
    "over time": lambda: sequential((5, 8, 8, 3), L.TimeDistributed(L.Conv2D(4, 3)), L.TimeDistributed(L.Flatten())),
    "constrained": lambda: sequential((4,), L.Dense(2, kernel_regularizer="l2", kernel_constraint="non_neg")),
}


def with_other_weights(model):
    """Gives each weight other values than it began with, those of variances too."""
    draw = np.random.default_rng(1)
    for layer in model._flatten_layers():
        if not isinstance(layer, L.Normalization) and not hasattr(layer, "layers"):
            layer.set_weights([draw.uniform(0.2, 0.6, w.shape).astype(w.dtype) for w in layer.get_weights()])
    return model


def inputs_of(model):
    draw = np.random.default_rng(2)
    return {x.name: draw.integers(0, 2, [3, *(n or 7 for n in x.shape[1:])]).astype(np.float32) for x in model.inputs}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_model_of_keras_2_computes_the_same_and_can_be_built_again(make):
    original = with_other_weights(make())
    converted = to_keras_2(original)
    again = from_config(to_config(converted))
    again.set_weights(converted.get_weights())
    inputs = inputs_of(original)
    given = inputs if len(inputs) > 1 else inputs["x"]
    expected = tf.nest.flatten(original(given, training=False))
    for model in (converted, again):
        found = tf.nest.flatten(model(given, training=False))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=0.02 if make is mixed else 1e-5)
    assert len(converted.trainable_weights) == len(original.trainable_weights)


def test_a_file_of_keras_3_is_taken_over_and_served_by_the_names_of_its_inputs(tmp_path):
    original = with_other_weights(several())
    original.save(tmp_path / "model.keras")
    import_functional(tmp_path / "model.keras", tmp_path / "model", {})
    inputs = inputs_of(original)
    found = load_executable(tmp_path / "model" / "serving", 1)(inputs)
    expected = original(inputs)
    assert set(found) == {"p", "q"}
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5)


def test_channels_of_what_was_of_keras_3_can_be_pruned():
    smaller = prune_channels(to_keras_2(with_other_weights(image_network())), 0.5)
    assert smaller.get_layer("first").filters == 8


class Doubled(L.Layer):
    def call(self, x):
        return 2 * x


X = keras_3.Input((4,), name="x")
REFUSED = {
    "a lambda": (lambda: sequential((4,), L.Lambda(lambda x: x)), "Lambda of .*, which carries code"),
    "a layer of one's own": (lambda: sequential((4,), Doubled()), "Doubled of .*, which carries code"),
    "an operation": (lambda: keras_3.Model(X, keras_3.ops.einsum("bi,bj->bij", X, X)), "the operation Einsum"),
    "texts": (lambda: sequential((), L.StringLookup(vocabulary=["a"]), dtype="string"), "input 'x' is of texts"),
    "no graph": (lambda: keras_3.Sequential([L.Dense(2)]), "neither functional nor a built sequential"),
    "a setting": (lambda: sequential((4,), L.LayerNormalization(rms_scaling=True)), "has rms_scaling=True"),
    "another activation": (lambda: sequential((4,), L.Dense(2, activation="hard_silu")), "hard_silu"),
    "another result": (lambda: sequential((4,), L.Dense(9, activation="hard_sigmoid")), "computes something else"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_counterpart_is_refused_with_the_reason(make, reason):
    with pytest.raises(ValueError, match=f"of Keras 3 .*{reason}"):
        to_keras_2(make())
