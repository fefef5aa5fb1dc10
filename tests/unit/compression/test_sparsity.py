"""Sparse weights are the right ones, stay zero while the model learns, and make the file smaller."""

import zlib

import numpy as np
import pytest

from optops.compression import sparsify
from optops.models.bert.config import BertConfig
from optops.models.bert.model import Bert
from optops.models.keras import keras
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    sizes = {"vocabulary": 12, "width": 16, "heads": 4, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 1}
    return Transformer(TransformerConfig.uniform(**sizes, dropout=0.0))


def matrices(model, suffix=""):
    return {weight.name: weight.numpy() for weight in model.weights if len(weight.shape) > 1 and suffix in weight.name}


def others(model):
    return {weight.name: weight.numpy() for weight in model.weights if len(weight.shape) < 2}


@pytest.mark.parametrize("sparsity", [0.3, 0.75])
def test_the_smallest_weights_of_each_matrix_are_zero_and_the_others_stay(model, sparsity):
    whole, kept = matrices(model), others(model)
    sparsify(model, sparsity=sparsity)
    for name, array in matrices(model).items():
        smallest = np.sort(np.abs(whole[name]), axis=None)
        threshold = smallest[round(array.size * sparsity)]
        np.testing.assert_array_equal(array, np.where(np.abs(whole[name]) >= threshold, whole[name], 0))
    for name, array in others(model).items():
        np.testing.assert_array_equal(array, kept[name])


def test_two_of_four_neighbours_along_the_inputs_are_zero_and_embeddings_stay(model):
    whole = matrices(model)
    sparsify(model, sparsity=0.5, pattern="two_of_four")
    for name, array in matrices(model, "kernel").items():
        groups = np.abs(whole[name]).T.reshape(-1, 4)
        smallest = np.argsort(groups, axis=1)[:, :2]
        expected = whole[name].T.reshape(-1, 4).copy()
        np.put_along_axis(expected, smallest, 0, axis=1)
        np.testing.assert_array_equal(array.T.reshape(-1, 4), expected)
    for name, array in matrices(model, "embeddings").items():
        np.testing.assert_array_equal(array, whole[name])


def test_convolutions_are_sparsified_too():
    model = keras.Sequential([keras.layers.Conv2D(8, 3, input_shape=(8, 8, 4)), keras.layers.BatchNormalization()])
    kept = others(model)
    sparsify(model, sparsity=0.5)
    (kernel,) = matrices(model).values()
    assert (kernel == 0).mean() == 0.5
    for name, array in others(model).items():
        np.testing.assert_array_equal(array, kept[name])


def test_the_tables_of_bert_are_sparsified_too():
    model = Bert(
        BertConfig.uniform(
            vocabulary=40, classes=2, max_positions=32, width=16, heads=4, feed_forward=32, layers=1, dropout=0.0
        )
    )
    sparsify(model, sparsity=0.75)
    tables = [array for name, array in matrices(model).items() if "token" in name or "position" in name]
    assert [(array == 0).mean() for array in tables] == [0.75, 0.75]


def test_two_of_four_takes_only_what_sums_over_its_inputs_along_one_axis():
    x = keras.Input([8, 8, 4])
    y = keras.layers.Conv2DTranspose(8, 3, name="transposed")(keras.layers.Conv2D(8, 3, name="plain")(x))
    y = keras.layers.Conv1D(4, 3, name="line")(keras.layers.Reshape((64, 8))(y))
    model = keras.Model(x, y)
    whole = matrices(model)
    sparsify(model, sparsity=0.5, pattern="two_of_four")
    for name, array in matrices(model).items():
        if "plain" in name:
            groups = array.transpose(0, 1, 3, 2).reshape(-1, 4)
            np.testing.assert_array_equal((groups == 0).sum(axis=1), 2)
        else:
            np.testing.assert_array_equal(array, whole[name])


def test_zeros_stay_zero_while_the_model_learns_again_and_its_file_is_smaller(reversing, tmp_path):
    model = reversing.build()
    model.set_weights(reversing.model.get_weights())
    keep_zeros = sparsify(model, sparsity=0.6)
    zero = {name: array == 0 for name, array in matrices(model).items()}
    spoiled = reversing.accuracy(model)
    history = reversing.learn(model, tmp_path, epochs=3, learning_rate=3e-3, after_update=keep_zeros)
    assert history.validation > max(spoiled, 0.9)
    for name, array in matrices(model).items():
        np.testing.assert_array_equal(array == 0, zero[name])
    compressed = {
        sparse: len(zlib.compress(b"".join(array.tobytes() for array in of.get_weights())))
        for sparse, of in ((True, model), (False, reversing.model))
    }
    assert compressed[True] < 0.6 * compressed[False]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sparsity": 0.0}, "sparsity is 0.0; it must be above 0 and below 1"),
        ({"sparsity": 1.0}, "sparsity is 1.0; it must be above 0 and below 1"),
        ({"sparsity": 0.7, "pattern": "two_of_four"}, "two of four is 0.5"),
    ],
)
def test_an_impossible_sparsity_is_refused_and_the_model_left_alone(model, arguments, says):
    before = matrices(model)
    with pytest.raises(ValueError, match=says):
        sparsify(model, **arguments)
    for name, array in matrices(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_model_without_matrices_is_refused():
    with pytest.raises(ValueError, match="no dense layer, convolution or embedding"):
        sparsify(keras.Sequential([keras.layers.LayerNormalization(input_shape=(4,))]), sparsity=0.5)
