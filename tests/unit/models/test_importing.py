"""Finished models come in with what they compute; what can not come in is refused by name."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest

from optops.graph.functional_live import live
from optops.models.base import load_architecture
from optops.models.functional.batches import model_inputs
from optops.models.importing import ServedOnlyError, import_functional, import_keras, import_saved_model
from optops.models.keras import keras as keras_2
from optops.models.keras import tf
from optops.runtimes import load_executable


def functional(keras):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((4,), name="features")
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, name="scores")(hidden))


def outputs_of(folder, features):
    (array,) = load_executable(folder, 1)({"features": features}).values()
    return array


@pytest.mark.parametrize("version", [2, 3])
def test_a_keras_file_computes_what_the_model_did(version, tmp_path):
    keras = keras_2 if version == 2 else pytest.importorskip("keras")
    model = functional(keras)
    model.save(tmp_path / "model.keras")
    info = import_keras(tmp_path / "model.keras", tmp_path / "serving")
    assert info.inputs == {"features": {"dtype": "float32", "shape": [None, 4]}}
    features = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(outputs_of(tmp_path / "serving", features), np.asarray(model(features)), atol=1e-6)


@pytest.mark.parametrize("version", [2, 3])
def test_a_keras_file_that_carries_code_is_refused(version, tmp_path):
    keras = keras_2 if version == 2 else pytest.importorskip("keras")
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs)).save(tmp_path / "code.keras")
    with pytest.raises(ValueError, match=rf"code\.keras \(Keras {version}\..*can not be loaded"):
        import_keras(tmp_path / "code.keras", tmp_path / "serving")


@pytest.mark.parametrize(
    ("kind", "output"), [("Ragged", tf.RaggedTensor.from_tensor), ("Sparse", tf.sparse.from_dense)]
)
def test_a_tensor_that_is_no_array_is_refused_by_name_with_the_remedy(kind, output, tmp_path):
    module, spec = tf.Module(), tf.TensorSpec([None, 3], name="x")
    module.serve = tf.function(lambda x: {"odd": output(x), "y": x * 2.0}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "theirs"), signatures={"serving_default": module.serve})
    with pytest.raises(ValueError, match=rf"'odd' .* no plain tensor \({kind}TensorSpec\); .*to_tensor.*to_dense"):
        import_saved_model(tmp_path / "theirs", tmp_path / "serving")


def _call(class_name, config, constant, **more):
    """A layer that Keras calls on a constant while it builds the model."""
    inbound = [[["_CONSTANT_VALUE", -1, constant, more]]]
    return {"class_name": class_name, "name": "l", "config": {"name": "l", **config}, "inbound_nodes": inbound}


def _written(path, *layers, **top):
    """A file of Keras 2 by hand: an input, layers that are called while the model is built, no weights."""
    inputs = {
        "class_name": "InputLayer",
        "name": "x",
        "config": {"name": "x", "batch_input_shape": [None, 4], "dtype": "float32"},
        "inbound_nodes": [],
    }
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [["x", 0, 0]]}
    config = {"name": "m", "layers": [inputs, *layers], **ends}
    model = {"module": "keras", "class_name": "Functional", "config": config, "registered_name": "Functional", **top}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
        archive.writestr("config.json", json.dumps(model))


@pytest.mark.parametrize("take", [import_keras, lambda source, folder: import_functional(source, folder, {})])
@pytest.mark.parametrize("way", ["function", "operation", "module", "registered", "dotted"])
def test_a_keras_file_that_names_code_to_run_is_refused_before_it_runs(take, way, tmp_path, monkeypatch):
    path, ran = tmp_path / "evil.keras", tmp_path / "ran"
    module = f"imported_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(f"open({str(ran)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    dense = {"class_name": "Dense", "name": "l", "inbound_nodes": [[["x", 0, 0, {}]]]}
    dotted = {"class_name": "generic_utils.func_load", "module": "tf_keras.src.layers.core.lambda_layer", "config": {}}
    function = {"class_name": "function", "module": "subprocess", "config": "getoutput", "registered_name": "getoutput"}
    shell = {"function": function, "function_type": "function", "output_shape": None, "output_shape_type": "raw"}
    layers, top = {
        "function": ([_call("Lambda", shell, f"touch {ran}")], {}),
        "operation": ([_call("TFOpLambda", {"function": "io.write_file"}, str(ran), contents="x")], {}),
        "module": ([], {"module": module}),
        "registered": ([], {"module": "keras.models", "class_name": "Nothing", "registered_name": "load_model"}),
        "dotted": ([{**dense, "config": {"name": "l", "units": 1, "activation": dotted}}], {}),
    }[way]
    _written(path, *layers, **top)
    if take is import_keras:
        message = r"evil\.keras.* (carries code|calls tf).*export it as a SavedModel yourself"
        with pytest.raises(ValueError, match=message):
            take(path, tmp_path / "serving")
    else:
        with pytest.raises(ServedOnlyError, match=r"carries code|calls tf"):
            take(path, tmp_path / "model")
    assert not ran.exists()


def _reading(way, secret):
    """A layer, as its config says it, that reads a file."""
    words = {"name": "words", "vocabulary": secret}
    numbers = {"num_oov_indices": 1, "mask_token": None, "oov_token": -1, "vocabulary_dtype": "int64"}
    text = {"class_name": "TextVectorization", "config": {**words, "standardize": None, "split": "whitespace"}}
    column = {"class_name": "VocabularyFileCategoricalColumn", "config": {"key": "x", "vocabulary_file": secret}}
    columns = [{"class_name": "IndicatorColumn", "config": {"categorical_column": column}}]
    return {
        "strings": {"class_name": "StringLookup", "config": {**words, "invert": True}},
        "integers": {"class_name": "IntegerLookup", "config": {**words, **numbers}},
        "texts": text,
        "wrapped": {"class_name": "TimeDistributed", "config": {"name": "each", "layer": text}},
        "nested": {"class_name": "Sequential", "config": {"name": "inner", "layers": [text]}},
        "columns": {"class_name": "DenseFeatures", "config": {"name": "words", "feature_columns": columns}},
    }[way]


@pytest.mark.parametrize("way", ["strings", "integers", "texts", "wrapped", "nested", "columns"])
def test_a_keras_file_whose_layer_reads_a_file_of_this_machine_is_refused(way, tmp_path):
    (tmp_path / "secret").write_text("7\n")
    layer = {**_reading(way, str(tmp_path / "secret")), "name": "l", "inbound_nodes": [[["x", 0, 0, {}]]]}
    _written(tmp_path / "evil.keras", layer)
    with pytest.raises(ServedOnlyError):
        import_functional(tmp_path / "evil.keras", tmp_path / "model", {})
    reads = "has feature columns" if way == "columns" else r"from the file '.*secret', which is not in the model"
    with pytest.raises(ValueError, match=rf"evil\.keras .*layer 'words' .*{reads}"):
        import_keras(tmp_path / "evil.keras", tmp_path / "serving")
    assert not (tmp_path / "model").exists()


def _kernel_elsewhere(way, folder):
    """Returns what writes the first kernel of a file of weights so that it is in another file."""
    (folder / "secret").write_bytes(bytes(32 * 4))
    with h5py.File(folder / "other.h5", "w") as other:
        other["0"] = np.zeros((4, 8), np.float32)

    def write(group):
        if way == "bytes":
            group.create_dataset("0", (4, 8), np.float32, external=[(str(folder / "secret"), 0, 32 * 4)])
        elif way == "virtual":
            layout = h5py.VirtualLayout((4, 8), np.float32)
            layout[:] = h5py.VirtualSource(folder / "other.h5", "0", (4, 8))
            group.create_virtual_dataset("0", layout)
        else:
            group["0"] = h5py.ExternalLink(folder / "other.h5", "0") if way == "external" else h5py.SoftLink("/other")

    return write


@pytest.mark.parametrize("way", ["bytes", "virtual", "external", "soft"])
def test_a_keras_file_whose_weights_are_in_another_file_is_refused(way, tmp_path):
    functional(keras_2).save(tmp_path / "model.keras")
    write = _kernel_elsewhere(way, tmp_path)
    with zipfile.ZipFile(tmp_path / "model.keras") as good, zipfile.ZipFile(tmp_path / "evil.keras", "w") as evil:
        weights = io.BytesIO(good.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            del file["layers/dense/vars/0"]
            write(file["layers/dense/vars"])
        for name in ("metadata.json", "config.json"):
            evil.writestr(name, good.read(name))
        evil.writestr("model.weights.h5", weights.getvalue())
    with pytest.raises(ServedOnlyError):
        import_functional(tmp_path / "evil.keras", tmp_path / "taken", {})
    with pytest.raises(ValueError, match=r"evil\.keras .*weight 'layers/dense/vars/0' is in another file"):
        import_keras(tmp_path / "evil.keras", tmp_path / "serving")


def test_a_file_that_is_none_by_its_name_is_not_read_as_another_format(tmp_path):
    functional(keras_2).save(tmp_path / "model.keras")
    (tmp_path / "model.keras").rename(tmp_path / "model.h5")
    with pytest.raises(ValueError, match=r"model\.h5 is no \.keras file by its name"):
        import_keras(tmp_path / "model.h5", tmp_path / "serving")


@pytest.mark.parametrize("change", [{"config": None}, {"class_name": 3}, {"config": {"layers": [{}]}}])
def test_a_config_that_describes_no_model_is_refused_by_the_name_of_its_file(change, tmp_path):
    _written(tmp_path / "odd.keras", **change)
    with pytest.raises(ValueError, match=r"odd\.keras \(Keras 2\.15\.0\) can not be loaded"):
        import_keras(tmp_path / "odd.keras", tmp_path / "serving")


def test_a_file_as_keras_2_15_names_its_modules_is_taken_over(tmp_path):
    model = functional(keras_2)
    model.save(tmp_path / "now.keras")
    with zipfile.ZipFile(tmp_path / "now.keras") as now, zipfile.ZipFile(tmp_path / "model.keras", "w") as then:
        for name in now.namelist():
            content = now.read(name)
            then.writestr(name, content.replace(b"tf_keras.src", b"keras.src") if name == "config.json" else content)
    assert b"keras.src" in zipfile.ZipFile(tmp_path / "model.keras").read("config.json")
    import_functional(tmp_path / "model.keras", tmp_path / "model", {})


@pytest.mark.parametrize("value", [np.eye(4), np.eye(4).tolist()], ids=["array", "list"])
def test_a_file_whose_weights_begin_as_given_numbers_is_taken_over_and_served(value, tmp_path):
    ids = keras_2.Input((3,), dtype="int32", name="ids")
    constant = keras_2.initializers.Constant
    words = keras_2.layers.Embedding(4, 4, embeddings_initializer=constant(value))(ids)
    bias = constant([0.1, 0.2])
    model = keras_2.Model(ids, keras_2.layers.Dense(2, bias_initializer=bias)(words))
    model.save(tmp_path / "model.keras")
    import_functional(tmp_path / "model.keras", tmp_path / "model", {})
    import_keras(tmp_path / "model.keras", tmp_path / "serving")
    given = np.array([[0, 3, 1]], np.int32)
    for folder in (tmp_path / "serving", tmp_path / "model" / "serving"):
        (found,) = load_executable(folder, 1)({"ids": given}).values()
        np.testing.assert_allclose(found, model(given), atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"PK not a zip", None])
def test_a_file_that_is_none_is_refused(content, tmp_path):
    path = tmp_path / "model.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.keras is no \.keras file"):
        import_keras(path, tmp_path / "serving")


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is no SavedModel: saved_model\.pb is missing"):
        import_saved_model(tmp_path, tmp_path / "serving")


def test_a_saved_model_without_the_signature_is_refused(tmp_path):
    module = tf.Module()
    module.double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"double": module.double})
    with pytest.raises(ValueError, match=r"no signature 'serving_default' \(it has double\)"):
        import_saved_model(tmp_path / "model", tmp_path / "serving")


def test_a_functional_keras_file_can_be_trained_on_and_is_served(tmp_path):
    model = functional(keras_2)
    model.compile("adam", "mse")
    model.save(tmp_path / "model.keras")
    constraints = {"inputs": {"features": {"minimum": -1}}}
    import_functional(tmp_path / "model.keras", tmp_path / "model", constraints)
    features = np.random.default_rng(0).uniform(-1, 1, (5, 4)).astype(np.float32)
    expected = np.asarray(model(features))
    trainable = load_architecture("functional").load(tmp_path / "model" / "trainable")
    np.testing.assert_array_equal(np.asarray(trainable(features)), expected)
    np.testing.assert_allclose(outputs_of(tmp_path / "model" / "serving", features), expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"input 'features' holds -2\.0; the smallest value allowed is -1"):
        outputs_of(tmp_path / "model" / "serving", features * 0 - 2)


def test_what_was_frozen_when_it_was_saved_can_learn(tmp_path):
    image = keras_2.Input((8, 8, 3))
    backbone = keras_2.layers.Conv2D(4, 3, use_bias=False)(image)
    backbone = keras_2.Model(image, keras_2.layers.BatchNormalization()(backbone))
    backbone.trainable = False
    x = keras_2.Input((8, 8, 3), name="image")
    pooled = keras_2.layers.GlobalAveragePooling2D()(backbone(x, training=False))
    keras_2.Model(x, keras_2.layers.Dense(2)(pooled)).save(tmp_path / "model.keras")
    import_functional(tmp_path / "model.keras", tmp_path / "model", {})
    taken = load_architecture("functional").load(tmp_path / "model" / "trainable")
    assert len(taken.trainable_variables) == 5, "a kernel, scale and offset of the backbone, and the head"


def _two_inputs(keras):
    first, second = keras.Input((4,), name="in-put"), keras.Input((4,), name="a/b")
    mixed = keras.layers.Dense(8, name="a_b")(first) + keras.layers.Dense(8)(second)
    hidden = keras.layers.ReLU()(keras.layers.BatchNormalization()(mixed))
    return keras.Model({"in-put": first, "a/b": second}, keras.layers.Dense(3, name="scores")(hidden))


def test_inputs_that_no_signature_can_name_have_one_name_in_training_and_serving(tmp_path):
    keras_2.utils.set_random_seed(3)
    model = _two_inputs(keras_2)
    model.save(tmp_path / "model.keras")
    import_functional(tmp_path / "model.keras", tmp_path / "model", {})
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    expected = np.asarray(model({"in-put": x[0], "a/b": x[1]}))
    # `a_b` is a layer's name already.
    batch = {"in_put": x[0], "a_b_": x[1]}
    trainable = load_architecture("functional").load(tmp_path / "model" / "trainable")
    (scores,) = load_executable(tmp_path / "model" / "serving", 1)(batch).values()
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(live(trainable, {})(batch)["scores"], expected, atol=1e-6)
    np.testing.assert_allclose(trainable(model_inputs(trainable, batch)), expected, atol=1e-6)


def test_a_sequential_file_with_an_input_of_such_a_name_is_taken_over(tmp_path):
    model = keras_2.Sequential([keras_2.Input((4,), name="input.1"), keras_2.layers.Dense(3)])
    model.save(tmp_path / "model.keras")
    import_functional(tmp_path / "model.keras", tmp_path / "model", {})
    x = np.ones((2, 4), np.float32)
    trainable = load_architecture("functional").load(tmp_path / "model" / "trainable")
    np.testing.assert_allclose(trainable(model_inputs(trainable, {"input_1": x})), np.asarray(model(x)), atol=1e-6)


def _lambda(keras):
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))


@pytest.mark.parametrize("version", [2, 3])
def test_a_file_with_code_is_not_taken_over(version, tmp_path):
    _lambda(keras_2 if version == 2 else pytest.importorskip("keras")).save(tmp_path / "model.keras")
    with pytest.raises(ServedOnlyError, match=r"[Ll]ambda"):
        import_functional(tmp_path / "model.keras", tmp_path / "model", {})
    assert not (tmp_path / "model").exists()


def test_a_functional_keras_file_with_weights_that_are_not_finite_is_refused(tmp_path):
    model = functional(keras_2)
    model.layers[-1].bias.assign([0, np.nan, 0])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="weight 'scores/1/bias' holds NaN or infinity"):
        import_functional(tmp_path / "model.keras", tmp_path / "model", {})


L = keras_2.layers
WORDS, NUMBERS = np.array([["red"], ["blue"], ["green"], ["blue"]]), np.array([[7], [3], [9], [3]])
REALS = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
TABLES = {
    "given strings": (lambda: L.StringLookup(vocabulary=["blue", "red"]), WORDS, False),
    "learnt strings": (L.StringLookup, WORDS, True),
    "given integers": (lambda: L.IntegerLookup(vocabulary=[3, 7]), NUMBERS, False),
    "learnt integers": (lambda: L.IntegerLookup(output_mode="multi_hot", max_tokens=5), NUMBERS, True),
    "given texts": (lambda: L.TextVectorization(vocabulary=["blue", "red"], output_sequence_length=2), WORDS, False),
    "learnt texts": (lambda: L.TextVectorization(output_sequence_length=2), WORDS, True),
    "learnt bins": (lambda: L.Discretization(num_bins=4), REALS, True),
}


def _with_table(kind):
    make, examples, learns = TABLES[kind]
    layer = make()
    if learns:
        layer.adapt(examples)
    dtype = {"U": "string", "i": "int64", "f": "float32"}[examples.dtype.kind]
    x = keras_2.Input((1,), dtype=dtype, name="x")
    return keras_2.Model(x, layer(x)), examples


@pytest.mark.parametrize("kind", TABLES)
def test_a_model_that_keeps_a_vocabulary_or_learnt_bins_is_served_as_it_is(kind, tmp_path):
    model, examples = _with_table(kind)
    model.save(tmp_path / "model.keras")
    with pytest.raises(ServedOnlyError):
        import_functional(tmp_path / "model.keras", tmp_path / "model", {})
    assert not (tmp_path / "model").exists()
    import_keras(tmp_path / "model.keras", tmp_path / "serving")
    (found,) = load_executable(tmp_path / "serving", 1)({"x": examples}).values()
    np.testing.assert_array_equal(found, model(tf.constant(examples)))
    assert len(np.unique(found)) > 1


def test_a_model_whose_bins_were_given_is_taken_over(tmp_path):
    x = keras_2.Input((1,), name="x")
    model = keras_2.Model(x, L.Discretization(bin_boundaries=[0.2, 0.7])(x))
    model.save(tmp_path / "model.keras")
    import_functional(tmp_path / "model.keras", tmp_path / "model", {})
    (found,) = load_executable(tmp_path / "model" / "serving", 1)({"x": REALS}).values()
    np.testing.assert_array_equal(found, model(REALS))


def test_a_model_for_a_fixed_number_of_examples_is_served_as_it_is(tmp_path):
    x = keras_2.Input(batch_shape=(4, 2), name="x")
    model = keras_2.Model(x, tf.reshape(L.Dense(6)(x), [4, 2, 3]))
    model.save(tmp_path / "model.keras")
    with pytest.raises(ServedOnlyError):
        import_functional(tmp_path / "model.keras", tmp_path / "model", {})
    assert not (tmp_path / "model").exists()
    import_keras(tmp_path / "model.keras", tmp_path / "serving")
    given = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    (found,) = load_executable(tmp_path / "serving", 1)({"x": given}).values()
    np.testing.assert_allclose(found[:4], model(given[:4]), atol=1e-6)
    assert found.shape == (6, 2, 3)


@pytest.mark.parametrize("version", [2, 3])
def test_a_model_with_a_ragged_input_is_refused_with_what_to_do(version, tmp_path):
    keras = keras_2 if version == 2 else pytest.importorskip("keras")
    steps = keras.Input((None, 3), ragged=True, name="steps")
    keras.Model(steps, keras.layers.GlobalAveragePooling1D()(steps)).save(tmp_path / "model.keras")
    with pytest.raises(ServedOnlyError):
        import_functional(tmp_path / "model.keras", tmp_path / "model", {})
    with pytest.raises(ValueError, match=r"input 'steps'.* is ragged.*RaggedTensor\.from_tensor"):
        import_keras(tmp_path / "model.keras", tmp_path / "serving")


def test_outputs_in_a_dictionary_are_called_by_its_keys_whichever_way_the_model_comes_in(tmp_path):
    x = keras_2.Input((4,), name="x")
    model = keras_2.Model(x, {"sex": L.Dense(2)(x), "age": L.Dense(1)(x)})
    model.save(tmp_path / "model.keras")
    import_functional(tmp_path / "model.keras", tmp_path / "model", {})
    import_keras(tmp_path / "model.keras", tmp_path / "serving")
    given = {"x": np.ones((3, 4), np.float32)}
    trainable = load_architecture("functional").load(tmp_path / "model" / "trainable")
    ways = [load_executable(tmp_path / "model" / "serving", 1), load_executable(tmp_path / "serving", 1)]
    for executable in (*ways, live(trainable, {})):
        found = executable(given)
        assert set(found) == {"age", "sex"}
        for name, array in model(given["x"]).items():
            np.testing.assert_allclose(found[name], array, atol=1e-6)
