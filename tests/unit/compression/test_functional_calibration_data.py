"""What calibration data may be, in which pieces it is run, and what is refused: a value that is not finite is named."""

import tracemalloc

import numpy as np
import pytest

from optops.compression import quantize
from optops.compression.quantization.functional.calibrate import decibels_of
from optops.compression.quantization.functional.measured import measure
from optops.compression.quantization.functional.network import Network
from optops.models.keras import keras, tf

L = keras.layers


def images(count=12, size=16, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_is_named(bad, residual_network):
    data = images(4)
    data[1, 2, 3, 0] = bad
    with pytest.raises(ValueError, match="tensor 'image' are NaN or infinite"):
        quantize(residual_network, [data])


def test_weights_that_are_not_finite_are_named(residual_network):
    model = residual_network
    kernel = model.get_layer("side").kernel
    kernel.assign(tf.where(tf.equal(kernel, kernel[0, 0, 0, 0]), np.float32(np.nan), kernel))
    with pytest.raises(ValueError, match="'side'"):
        quantize(model, [images(4)])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bias_that_is_not_finite_is_named_in_the_last_layer_too(bad, residual_network):
    model = residual_network
    model.get_layer("scores").bias.assign(np.where(np.arange(10) == 3, bad, 0.0))
    with pytest.raises(ValueError, match="layer 'scores': 1 of its weights are NaN or infinite"):
        quantize(model, [images(4)])


def test_outputs_that_are_too_large_are_named():
    x = keras.Input((4,), name="x")
    model = keras.Model(x, L.Dense(2, kernel_initializer=keras.initializers.Constant(1e30), name="scores")(x))
    with pytest.raises(ValueError, match="layer 'scores': its outputs are not finite, or too large"):
        quantize(model, [np.full((4, 4), 10.0, np.float32)])


def test_a_ratio_of_what_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match=r"power nan to noise of power 1\.0 is not a number"):
        decibels_of(np.nan, 1.0)


def test_calibration_data_that_can_not_be_used_is_refused_with_the_remedy(residual_network):
    model = residual_network
    with pytest.raises(TypeError, match="read twice; give a list"):
        quantize(model, (batch for batch in [images(1)]))
    with pytest.raises(ValueError, match="there are no batches"):
        quantize(model, [])
    with pytest.raises(ValueError, match="not the model's input 'image'"):
        quantize(model, [{"picture": images(1)}])
    with pytest.raises(ValueError, match=r"'image' is \[.*\] in a batch; the model takes \(None, "):
        quantize(model, [images(4)[..., 0]])
    with pytest.raises(ValueError, match="together"):
        quantize(model, [images(1)], tolerance=0.1)
    with pytest.raises(TypeError, match="functional"):
        quantize(keras.layers.Dense(3), [images(1)])


@pytest.mark.parametrize("reads", [1, 2])
def test_calibration_that_is_used_up_when_it_is_read_again_is_refused_with_the_remedy(reads, residual_network):
    model = residual_network
    given = [iter([images(2)]) for _ in range(reads)]
    with pytest.raises(ValueError, match="no batches when it was read again; return a new iterator each time"):
        # Without enough quality the layers are ranked, for which the data is read a third time.
        quantize(model, lambda: given.pop(0) if given else iter(()), evaluate=rounds_nothing, tolerance=0.1)


def rounds_nothing(model):
    return float(not any("rounded" in layer.name for layer in model.layers))


def test_memory_does_not_grow_with_the_number_of_calibration_examples():
    model = keras.Sequential([L.Conv2D(4, 3, input_shape=(None, None, 3)), L.ReLU(), L.Conv2D(4, 3)])

    def peak(count):
        tracemalloc.start()
        measure(model, lambda: (images(1, 256, seed) for seed in range(count)))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(10) < 1.2 * peak(2)


def test_a_large_batch_is_run_in_pieces(residual_network):
    network = Network.of(residual_network)
    sizes = [len(piece["image"]) for piece in network.pieces([images(40, 64)])]
    assert sum(sizes) == 40
    assert max(sizes) * 64 * 64 * 3 <= 1 << 18


def test_examples_that_come_one_by_one_are_run_together_where_they_have_one_shape(residual_network):
    network = Network.of(residual_network)
    sides = [16] * 40 + [24] * 3 + [16]
    pieces = [piece["image"] for piece in network.pieces(images(1, side, seed) for seed, side in enumerate(sides))]
    assert [len(piece) for piece in pieces] == [16, 16, 8, 3, 1]
    one_by_one = [images(1, side, seed) for seed, side in enumerate(sides)]
    for side in (16, 24):
        given = np.concatenate([image for image in one_by_one if image.shape[1] == side])
        np.testing.assert_array_equal(np.concatenate([p for p in pieces if p.shape[1] == side]), given)
