"""Any functional model is kept without code, and its canonical form computes the same."""

import json

import numpy as np
import pytest

from optops.models.base import WEIGHTS_FILE, load_architecture
from optops.models.functional.config import from_config, to_config
from optops.models.functional.folding import fold_batch_norms
from optops.models.functional.tensors import named_tensors
from optops.models.keras import keras, tf
from optops.testing import check_architecture
from optops.testing.topologies import TOPOLOGIES, build_topology, example_inputs, outputs_of, randomize

L = keras.layers
FOLDABLE_LEFT = {"dense_connections": 2, "odd_paddings": 1, "shared": 2, "tail_of_batch_norms": 4}
"""Batch norms that must stay: nothing before them could take them in exactly."""


def batch_norms(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, L.BatchNormalization)]


def largest_difference(model, other, inputs):
    one, two = outputs_of(model, inputs), outputs_of(other, inputs)
    pairs = zip(one.values(), two.values(), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_model_of_any_topology_is_saved_and_loaded(name, tmp_path):
    architecture = load_architecture("functional")
    model = build_topology(name)
    check_architecture(architecture, to_config(model), tmp_path / "fresh")
    architecture.save(model, tmp_path / "model", {})
    assert largest_difference(model, architecture.load(tmp_path / "model"), example_inputs(model)) == 0


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_canonical_form_computes_the_same_without_batch_norms_that_can_be_folded(name):
    model = build_topology(name)
    before = [weight.numpy() for weight in model.weights]
    folded = fold_batch_norms(model)
    assert largest_difference(model, folded, example_inputs(model)) <= 1e-5
    assert len(batch_norms(folded)) == FOLDABLE_LEFT.get(name, 0)
    assert all(np.array_equal(one, two.numpy()) for one, two in zip(before, model.weights, strict=True))
    assert not any(isinstance(layer, keras.Model) for layer in folded.layers)


def test_layers_that_are_shared_by_images_of_two_sizes_are_folded():
    large, small = keras.Input([8, 8, 3], name="large"), keras.Input([4, 4, 3], name="small")
    shared, norm = L.Conv2D(8, 3, padding="same"), L.BatchNormalization()
    pooled = [L.GlobalAveragePooling2D()(norm(shared(image))) for image in (large, small)]
    model = keras.Model([large, small], L.Add()(pooled))
    randomize(model)
    folded = fold_batch_norms(model)
    assert not batch_norms(folded)
    assert largest_difference(model, folded, example_inputs(model)) <= 1e-5


def test_an_activation_that_does_nothing_is_left_out_and_one_that_casts_is_not():
    x = keras.Input((4,), name="x")
    plain = L.Activation("linear", name="plain")(L.Dense(3, name="exact")(x))
    cast = L.Activation("linear", name="cast", dtype="float32")(L.Dense(3, name="half", dtype="float16")(x))
    folded = fold_batch_norms(keras.Model(x, [plain, cast]))
    assert [layer.name for layer in folded.layers if isinstance(layer, L.Activation)] == ["cast"]
    assert [tensor.dtype.name for tensor in folded.outputs] == ["float32", "float32"]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("rectified", [True, False])
def test_the_canonical_form_of_a_canonical_form_is_the_same(rectified, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = normed_twice(rectified)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    folded = fold_batch_norms(model)
    again = fold_batch_norms(folded)
    kinds = [[type(layer) for layer in form.layers] for form in (folded, again)]
    assert kinds[0] == kinds[1] == [L.InputLayer, L.Conv2D, *[L.ReLU] * rectified, L.Conv2D, L.Dense]
    assert list(named_tensors(folded)) == list(named_tensors(again))
    inputs = example_inputs(model)
    np.testing.assert_array_equal(folded(inputs["image"]), again(inputs["image"]))
    assert largest_difference(model, folded, inputs) <= (1e-5 if policy == "float32" else 0.05)


def normed_twice(rectified):
    """Two batch norms after a convolution, and layers that do nothing after it and after the outputs."""
    image = keras.Input([8, 8, 3], name="image")
    y = L.BatchNormalization()(L.Dropout(0.1)(L.BatchNormalization()(L.Conv2D(8, 3)(image))))
    y = L.Activation("linear", dtype="float32")(L.ReLU()(y) if rectified else y)
    y = L.Dense(3, activation="softmax")(L.Conv2D(8, 3)(y))
    model = keras.Model(image, L.Activation("linear", dtype="float32", name="scores")(y))
    randomize(model)
    return model


@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetB0"])
def test_published_networks_are_folded(name):
    keras.utils.set_random_seed(2)
    model = getattr(keras.applications, name)(input_shape=(64, 64, 3), weights=None)
    randomize(model)
    folded = fold_batch_norms(model)
    assert batch_norms(model)
    assert not batch_norms(folded)
    assert largest_difference(model, folded, example_inputs(model)) <= 1e-4


def test_tensors_are_named_after_the_layers_that_give_them_and_the_call():
    folded = fold_batch_norms(build_topology("shared"))
    (first, second), dense = [name for name in folded.layers if type(name) is L.Conv2D], folded.layers[-1]
    named = named_tensors(folded)
    assert list(named)[:2] == ["left", "right"]
    assert {first.name, f"{first.name}:1", second.name, f"{second.name}:1"} <= set(named)
    for layer, *taken in ((first, "left", "right"), (second, "re_lu", "re_lu:1"), (dense, "global_max_pooling2d")):
        inputs = [layer.get_input_at(call) for call in range(len(taken))]
        assert {id(named[name]) for name in taken} == set(map(id, inputs))


def test_layers_of_nested_models_that_are_named_alike_get_names_of_their_own():
    folded = fold_batch_norms(build_topology("nested"))
    assert {"inner", "block/inner"} <= set(named_tensors(folded))


def test_a_batch_norm_that_is_called_in_training_stays():
    x = keras.Input([8, 8, 3])
    model = keras.Model(x, L.BatchNormalization()(L.Conv2D(4, 3)(x), training=True))
    folded = fold_batch_norms(model)
    assert len(batch_norms(folded)) == 1
    assert largest_difference(model, folded, example_inputs(model)) <= 1e-6


def test_what_a_call_says_of_training_by_place_holds_in_the_canonical_form():
    x, image = keras.Input([8, 8, 3]), keras.Input([8, 8, 3])
    inner = keras.Model(x, L.Dropout(0.5, name="drops")(x, None), name="inner")
    y = L.Dropout(0.5, name="idle")(
        L.BatchNormalization(name="learns")(L.Conv2D(4, 3)(inner(image, True)), True), False
    )
    folded = fold_batch_norms(keras.Model(image, y))
    assert [type(layer) for layer in folded.layers[1:]] == [L.Dropout, L.Conv2D, L.BatchNormalization]
    ones = np.ones((16, 8, 8, 3), np.float32)
    dropped = keras.Model(folded.input, folded.layers[1].output)(ones, training=False)
    assert set(np.unique(dropped)) == {0, 2}
    np.testing.assert_allclose(np.mean(folded(ones, training=False), axis=(0, 1, 2)), 0, atol=1e-4)


class Doubling(L.Layer):
    def call(self, inputs):
        return 2 * inputs


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def _with(layer):
    x = keras.Input([4], name="features")
    return keras.Model(x, layer(x))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: _with(L.Lambda(lambda x: x, name="secret")), "layer 'secret' is a Lambda"),
        (lambda: _with(Doubling(name="twice")), "layer 'twice' is a Doubling"),
        (lambda: _with(L.Dense(3, activation=lambda x: x, name="head")), "'head'"),
        (lambda: Subclassed(name="own"), "model 'own' is a Subclassed"),
        (lambda: keras.Sequential([L.Dense(3)], name="loose"), "model 'loose' has no graph yet"),
        (lambda: _with(lambda x: tf.strings.as_string(x)), "calls tf.strings.as_string"),
    ],
)
def test_a_model_that_carries_code_is_refused_by_name(model, message):
    with pytest.raises(ValueError, match=message):
        to_config(model())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"TFOpLambda": "io.write_file"}, r"calls tf\.io\.write_file"),
        ({"TFOpLambda": "raw_ops.WriteFile"}, r"calls tf\.raw_ops\.WriteFile"),
        ({"TFOpLambda": "py_function"}, r"calls tf\.py_function"),
        ({"module": "os"}, "of os, which carries code"),
        ({"module": "keras.utils"}, r"of keras\.utils, which carries code"),
    ],
)
def test_a_config_that_would_run_code_is_refused(change, message):
    x = keras.Input([4])
    text = json.dumps(to_config(keras.Model(x, tf.math.tanh(L.Dense(3)(x)))))
    for kind, value in change.items():
        old = '"function": "math.tanh"' if kind == "TFOpLambda" else '"module": "keras.layers", "class_name": "Dense"'
        new = f'"function": "{value}"' if kind == "TFOpLambda" else f'"module": "{value}", "class_name": "Dense"'
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(ValueError, match=message):
        from_config(json.loads(text))


def test_a_recurrent_cell_that_is_wrapped_in_bytecode_is_refused():
    x = keras.Input([3, 4])
    plain = json.dumps(to_config(keras.Model(x, L.RNN(L.SimpleRNNCell(4))(x))))
    code = '"residual_fn": "4wAAAA==", "residual_fn_type": "lambda", '
    cell = '"class_name": "SimpleRNNCell", "config": {'
    wrapped = plain.replace(cell, cell.replace("SimpleRNNCell", "ResidualWrapper") + code)
    assert wrapped != plain
    with pytest.raises(ValueError, match="is a Lambda of keras, which carries code"):
        from_config(json.loads(wrapped))


def test_a_layer_that_nested_models_share_is_refused_by_name(tmp_path):
    shared, one, x = L.Dense(4, name="shared"), keras.Input([4]), keras.Input([4])
    inner = keras.Model(one, shared(one), name="inner")
    with pytest.raises(ValueError, match="layers 'inner/shared' and 'shared' are one, shared by nested models"):
        load_architecture("functional").save(keras.Model(x, shared(inner(x))), tmp_path, {})


def test_a_weight_that_is_missing_is_named(tmp_path):
    architecture = load_architecture("functional")
    architecture.save(build_topology("nested"), tmp_path, {})
    with np.load(tmp_path / WEIGHTS_FILE) as archive:
        arrays = dict(archive)
    del arrays["block/inner/0/kernel"]
    np.savez(tmp_path / WEIGHTS_FILE, **arrays)
    with pytest.raises(ValueError, match="weight 'block/inner/0/kernel' is missing"):
        architecture.load(tmp_path)
