"""What is padded is left out of a quantised network wherever the network leaves it out."""

import numpy as np
import pytest

from optops.compression import quantize
from optops.compression.quantization.functional import training_form
from optops.compression.quantization.functional.harm import output_errors
from optops.compression.quantization.functional.measured import measure
from optops.models.functional.folding import fold_batch_norms
from optops.models.keras import keras, tf
from optops.runtimes import load_executable

L = keras.layers
LENGTHS = np.array([3, 12, 1, 6, 2, 9, 4, 5])


def pooled_words():
    ids = keras.Input([12], dtype="int32", name="sequence")
    table = keras.initializers.RandomNormal(stddev=1.0)
    words = L.Embedding(30, 16, mask_zero=True, embeddings_initializer=table)(ids)
    hidden = L.Dense(32, activation="relu", name="hidden", bias_initializer="ones")(words)
    return keras.Model(ids, L.Dense(4, name="head")(L.GlobalAveragePooling1D()(hidden)))


def recurrent():
    steps = keras.Input([12, 5], name="sequence")
    hidden = L.Dense(16, activation="gelu", name="hidden", bias_initializer="ones")(L.Masking()(steps))
    return keras.Model(steps, L.Dense(4, name="head")(L.LSTM(8)(hidden)))


def padded(model):
    random = np.random.default_rng(1)
    (taken,) = model.inputs
    drawn = random.integers(1, 30, [8, 12]) if taken.dtype == tf.int32 else random.normal(size=[8, 12, 5])
    there = np.arange(12) < LENGTHS[:, None]
    return (drawn * there.reshape(there.shape + (1,) * (drawn.ndim - 2))).astype(taken.dtype.as_numpy_dtype)


@pytest.fixture(scope="module", params=[pooled_words, recurrent])
def model(request):
    keras.utils.set_random_seed(1)
    return request.param()


@pytest.fixture(scope="module")
def quantized(model):
    return quantize(model, [padded(model)])


def relative_error(found, expected):
    return float(np.sqrt(np.mean(np.square(np.asarray(found) - expected)) / np.var(expected)))


def test_a_quantised_model_and_its_form_for_training_leave_out_what_is_padded(model, quantized):
    expected, data = model(padded(model)).numpy(), padded(model)
    assert "hidden" in quantized.plan.parts
    assert relative_error(fold_batch_norms(model)(data), expected) < 1e-5
    assert 0 < relative_error(quantized.simulated(data), expected) < 0.05
    np.testing.assert_array_equal(training_form(model, quantized.plan).model(data), quantized.simulated(data))


def test_layers_are_measured_without_what_is_padded(model):
    data = padded(model)
    measured = measure(model, lambda: [data])
    assert measured.layers["head"].power == pytest.approx(np.square(model(data)).sum(), rel=1e-4)
    limits = {name: chosen.limits for name, chosen in measured.ranges.items()}
    assert output_errors(measured.network, [data], ["hidden"], limits, 127)["hidden"] < 0.01


def test_what_onnxruntime_executes_leaves_out_what_is_padded(tmp_path):
    keras.utils.set_random_seed(1)
    model = pooled_words()
    data = padded(model)
    quantize(model, [data]).export(tmp_path, "onnxruntime")
    (found,) = load_executable(tmp_path, 1)({"sequence": data}).values()
    assert relative_error(found, model(data).numpy()) < 0.05
