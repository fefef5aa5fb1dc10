"""The operators in TensorFlow graphs are those on arrays, survive a SavedModel, and refuse what does not fit."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy
from tests.unit.kernels.reference import HEAD_SIZE, make_model, make_sentences

from optops.kernels import PackedEncoder, PackedProduct, PackedTranslator

LENGTHS = [5, 17, 1, 33]
LIMITS = [12, 40, 9, 3]


@pytest.fixture(scope="module")
def operators():
    from optops.kernels import tensorflow

    return tensorflow


@pytest.fixture(scope="module")
def translator():
    return PackedTranslator(**make_model(norm_first=True).arguments(), precision="int8")


@pytest.fixture(scope="module")
def encoder():
    model = make_model(norm_first=True)
    return PackedEncoder(model.encoder, head_size=HEAD_SIZE, last_norm=model.encoder_norm)


@pytest.fixture
def call(translator):
    """Arguments of `translate` that are in order."""
    return {
        "source": make_sentences(LENGTHS)[1],
        "lengths": LENGTHS,
        "limits": LIMITS,
        "weights": translator.to_bytes(),
        "beam": 3,
    }


def test_dense_gives_what_it_gives_on_arrays(operators):
    random = np.random.default_rng(0)
    product = PackedProduct(random.normal(size=(20, 70)).astype(np.float32), precision="int8")
    x = random.normal(size=(2, 3, 20)).astype(np.float32)
    found = operators.dense(x, product.to_bytes(), activation="gelu")
    np.testing.assert_array_equal(found, product(x, activation="gelu"))


def test_functions_give_in_a_graph_what_they_give_on_arrays(operators):
    from optops import kernels
    from optops.models.keras import tf

    random = np.random.default_rng(0)
    x, residual = (random.normal(size=(2, 3, 20)).astype(np.float32) for _ in range(2))
    scale, offset = x[0, 0], x[0, 1]
    counts = np.array([[0, 7, 20], [1, 2, 3]])
    rows = tf.TensorSpec([None, None, 20], tf.float32)
    graph = tf.function(
        lambda x, y: (
            operators.bias_activation(x, offset, "silu"),
            operators.residual_norm(x, y, scale, offset, 1e-5),
            operators.masked_softmax(x, counts),
            operators.attention(x, y, y, heads=4, lengths=[2, 3]),
            operators.attention(x, y, y, heads=5, causal=True, scale=0.5),
        ),
        input_signature=[rows, rows],
    )
    expected = (
        kernels.bias_activation(x, offset, "silu"),
        kernels.residual_norm(x, residual, scale, offset, 1e-5),
        kernels.masked_softmax(x, counts),
        kernels.attention(x, residual, residual, heads=4, lengths=[2, 3]),
        kernels.attention(x, residual, residual, heads=5, causal=True, scale=0.5),
    )
    for found, wanted in zip(graph(x, residual), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numpy.mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=4, max_side=20), st.booleans())
def test_a_residual_is_added_as_tensorflow_adds_it(operators, shapes, alone):
    random = np.random.default_rng(0)
    x, residual = (random.normal(size=shape).astype(np.float32) for shape in shapes.input_shapes)
    z = (x if alone else x + residual).astype(np.float64)
    scale, offset = random.normal(size=(2, z.shape[-1])).astype(np.float32)
    centred = z - z.mean(-1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * scale + offset
    found = operators.residual_norm(x, None if alone else residual, scale, offset, 1e-3)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_what_can_not_be_added_is_refused_when_it_runs(operators):
    from optops.models.keras import tf

    dynamic = tf.TensorSpec([None, 20], tf.float32)
    norm = tf.function(lambda x, y: operators.residual_norm(x, y, x[0], x[0]), input_signature=[dynamic, dynamic])
    with pytest.raises(tf.errors.InvalidArgumentError, match="axes of sizes 3 and 2 can not be added"):
        norm(tf.ones([3, 20]), tf.ones([2, 20]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o, x: o.bias_activation(x, x[0, 0, :3]), "bias has 3 values for 20 columns of x"),
        (lambda o, x: o.dense(x[0, 0, 0], x), "x is one number; it must have rows"),
        (lambda o, x: o.residual_norm(x, x, x[0, :2, 0], x[0, 0]), "scale has 2 values for 20 columns of x"),
        (lambda o, x: o.residual_norm(x, x, x[0, 0], x[0, 0], epsilon=-1.0), "epsilon is -1; it must be above 0"),
        (lambda o, x: o.masked_softmax(x, 21), "row 0 counts 21; it may be 0 to 20"),
        (lambda o, x: o.masked_softmax(x, np.int64(2**32)), "row 0 counts 2147483647; it may be 0 to 20"),
        (lambda o, x: o.masked_softmax(x, -(2**32)), "row 0 counts -2147483648; it may be 0 to 20"),
        (lambda o, x: o.attention(x, x, x, heads=3), "queries are 20 wide, which is no multiple of 3 heads"),
        (
            lambda o, x: o.attention(*[np.ones((1, 0, 2**32 + 8), np.float32)] * 3, heads=1, lengths=[0], scale=1.0),
            "a head of 4294967304 is wider than any library takes",
        ),
        (lambda o, x: o.attention(x, x, x, heads=0), "heads is 0; it must be at least 1"),
        (lambda o, x: o.attention(x, x, x, heads=0, scale=1.0), "heads is 0; it must be at least 1"),
        (lambda o, x: o.attention(*[x[..., :0]] * 3, heads=2), "queries are 0 wide, which is no multiple of 2 heads"),
        (
            lambda o, x: o.attention(x, x[:1], x, heads=4),
            r"keys are \[1, 3, 20\]; to the other inputs fit \[2, 3, 20\]",
        ),
        (lambda o, x: o.attention(x, x, x, heads=4, lengths=[1]), "there are 1 lengths for 2 sentences"),
        (lambda o, x: o.attention(x, x, x, heads=4, lengths=[1, -1]), "sentence 1 has -1 keys; there may be 0 to 3"),
    ],
)
def test_functions_of_what_does_not_fit_are_errors_of_tensorflow(operators, call, message):
    from optops.models.keras import tf

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call(operators, np.ones((2, 3, 20), np.float32))


@pytest.mark.slow  # TensorFlow waits ten seconds for memory
def test_an_output_that_no_memory_holds_is_out_of_memory(operators):
    from optops.models.keras import tf

    side = 1 << 23  # a result of 2^48 bytes, more than a process can address
    column, row = tf.ones([side, 1]), tf.ones([1, side])
    with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM when allocating tensor"):
        operators.residual_norm(column, row, row[0], row[0])


def test_counts_that_are_no_integers_are_refused(operators):
    with pytest.raises(TypeError, match="counts are float32; they must be integers"):
        operators.masked_softmax(np.ones((2, 4), np.float32), [2.9, 1.0])


def test_encoding_gives_what_it_gives_on_arrays(operators, encoder):
    x = np.random.default_rng(0).normal(size=(4, 33, 40)).astype(np.float32)
    np.testing.assert_array_equal(operators.encode(x, LENGTHS, encoder.to_bytes()), encoder(x, LENGTHS))


def test_translating_and_decoding_give_what_they_give_on_arrays(operators, translator, call):
    expected = translator.translate(call["source"], LENGTHS, LIMITS, beam=3, results=2, minimum_length=2)
    found = operators.translate(**call, results=2, minimum_length=2)
    memory = translator.encode(call["source"], LENGTHS)
    rest = {name: value for name, value in call.items() if name != "source"}
    decoded = operators.decode(memory, **rest, results=2, minimum_length=2)
    for name in ("ids", "lengths", "scores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        np.testing.assert_array_equal(getattr(decoded, name), getattr(expected, name))


RELOAD = """
import sys, numpy as np
from optops.kernels.tensorflow import load_operators
from optops.models.keras import tf
load_operators()
ids = np.load(sys.argv[2])
model = tf.saved_model.load(sys.argv[1])
found = model.serve(tf.constant(ids))
np.savez(sys.argv[3], ids=found.ids, scores=found.scores)
"""


def test_a_saved_model_gives_the_same_bits_in_a_fresh_process(operators, translator, tmp_path):
    from optops.models.keras import tf

    class Served(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(translator.to_bytes(), trainable=False)

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
        def serve(self, ids):
            lengths = tf.fill([tf.shape(ids)[0]], tf.shape(ids)[1])
            return operators.translate(ids, lengths, lengths + 5, self.weights, beam=3)

    served, ids = Served(), make_sentences([9, 9])[1]
    here = served.serve(tf.constant(ids))
    tf.saved_model.save(served, str(tmp_path / "model"))
    np.save(tmp_path / "ids.npy", ids)
    command = [sys.executable, "-c", RELOAD, tmp_path / "model", tmp_path / "ids.npy", tmp_path / "found.npz"]
    subprocess.run(command, check=True)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(found["ids"], here.ids)
        np.testing.assert_array_equal(found["scores"], here.scores)


def test_other_weights_of_the_same_size_in_the_same_place_are_seen(operators, call):
    from optops.models.keras import tf

    blocks = [
        PackedTranslator(**make_model(norm_first=True, seed=seed).arguments(), precision="int8").to_bytes()
        for seed in (0, 1)
    ]
    weights = tf.Variable(blocks[0])
    run = tf.function(lambda: operators.translate(**{**call, "weights": weights}).scores)
    first = run().numpy()
    weights.assign(blocks[1])
    second = run().numpy()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(second, operators.translate(**{**call, "weights": blocks[1]}).scores)


def test_many_callers_at_once_get_what_one_gets(operators, call):
    from optops.models.keras import tf

    call["weights"] = tf.Variable(call["weights"])
    run = tf.function(lambda: operators.translate(**call))
    expected = run()
    with ThreadPoolExecutor(8) as callers:
        for found in callers.map(lambda _: run(), range(64)):
            np.testing.assert_array_equal(found.ids, expected.ids)
            np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": np.full((4, 33), 170, np.int32)}, "token 0 is 170; ids may be 0 to 169"),
        ({"source": np.ones(4, np.int32)}, "ids has 1 dimensions; it must have 2"),
        ({"lengths": [5, 17, 0, 33]}, "length 2 is 0; it must be 1 to 33"),
        ({"lengths": [5, 17, 34, 33]}, "length 2 is 34"),
        ({"lengths": [5]}, "there are 1 lengths for 4 sentences"),
        ({"limits": [5, 17]}, "there are 2 limits for 4 sentences"),
        ({"limits": [5, 17, -3, 2**31 - 1]}, "the limit of sentence 2 is -3"),
        ({"limits": [5, 17, 3, 65]}, "the limit of sentence 3 is 65"),
        ({"beam": 0}, "beam is 0; it may be 1 to 255"),
        ({"beam": 256}, "beam is 256; it may be 1 to 255"),
        ({"results": 4}, "results is 4; it may be 1 to the beam, 3"),
        ({"threads": -2}, "threads is -2"),
        ({"weights": np.zeros(0, np.uint8)}, "blob"),
        ({"weights": np.zeros(640, np.uint8)}, "no weights of this library"),
    ],
)
def test_calls_that_make_no_sense_are_errors_of_tensorflow(operators, call, change, message):
    from optops.models.keras import tf

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        operators.translate(**call | change)


def test_sentences_without_positions_are_encoded_as_none(operators, encoder):
    for lengths in ([0, 0], [1, 1]):
        made = operators.encode(np.ones((2, 0, 40), np.float32), lengths, encoder.to_bytes())
        assert made.shape == (2, 0, 40)


def test_damaged_and_foreign_weights_are_errors_of_tensorflow(operators, call, encoder):
    from optops.models.keras import tf

    call["weights"][-1] ^= 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="checksum"):
        operators.translate(**call)
    with pytest.raises(tf.errors.InvalidArgumentError, match="kind 2, and kind 3 is wanted"):
        operators.translate(**call | {"weights": encoder.to_bytes()})
    with pytest.raises(tf.errors.InvalidArgumentError, match="x is 41 wide; the weights take 40"):
        operators.encode(np.ones((4, 33, 41), np.float32), LENGTHS, encoder.to_bytes())


def test_fused_layers_in_a_keras_model_are_saved_and_loaded_with_it(encoder, translator, call, tmp_path):
    from optops.kernels.keras_layers import FusedDecoder, FusedEncoder, FusedTranslator
    from optops.models.keras import keras

    x = np.random.default_rng(0).normal(size=(4, 33, 40)).astype(np.float32)
    states = keras.Input([33, 40])
    model = keras.Model(states, FusedEncoder.of(encoder)(states))
    model.save(tmp_path / "encoder.keras")
    again = keras.models.load_model(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(again(x), encoder(x, [33] * 4))
    np.testing.assert_array_equal(model(x), again(x))
    layer = FusedTranslator.of(translator, beam=3)
    copy = FusedTranslator.from_config(layer.get_config())
    copy.set_weights(layer.get_weights())
    expected = translator.translate(call["source"], LENGTHS, LIMITS, beam=3)
    np.testing.assert_array_equal(copy(call["source"], LENGTHS, LIMITS).ids, expected.ids)
    memory = translator.encode(call["source"], LENGTHS)
    np.testing.assert_array_equal(FusedDecoder.of(translator, beam=3)(memory, LENGTHS, LIMITS).ids, expected.ids)


def test_a_fused_encoder_leaves_out_what_a_mask_leaves_out(encoder):
    from optops.kernels.keras_layers import FusedEncoder
    from optops.models.keras import keras, tf

    ids = keras.Input([None], dtype="int32")
    states = FusedEncoder.of(encoder)(keras.layers.Embedding(9, 40, mask_zero=True)(ids))
    model = keras.Model(ids, keras.layers.GlobalAveragePooling1D()(states))
    padded, alone = model(tf.constant([[5, 6, 0, 0], [1, 2, 3, 4]])), model(tf.constant([[5, 6]]))
    np.testing.assert_allclose(padded[0], alone[0], rtol=1e-6)
    np.testing.assert_allclose(padded[1], model(tf.constant([[1, 2, 3, 4]]))[0], rtol=1e-6)
    for call in (model, tf.function(model)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="in the mask tokens follow padding"):
            call(tf.constant([[5, 0, 6, 0]]))


def test_fused_layers_compute_in_float32_where_the_policy_is_bfloat16(encoder, translator, call):
    from optops.kernels.keras_layers import FusedDecoder, FusedEncoder
    from optops.models.keras import keras, tf

    x = np.random.default_rng(0).normal(size=(4, 33, 40)).astype(np.float32)
    x, memory = (tf.cast(states, tf.bfloat16) for states in (x, translator.encode(call["source"], LENGTHS)))
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        states = FusedEncoder.of(encoder)(x, LENGTHS)
        found = FusedDecoder.of(translator, beam=3)(memory, LENGTHS, LIMITS)
    finally:
        keras.mixed_precision.set_global_policy(before)
    np.testing.assert_array_equal(states, encoder(tf.cast(x, tf.float32).numpy(), LENGTHS))
    expected = translator.decode(tf.cast(memory, tf.float32).numpy(), LENGTHS, LIMITS, beam=3)
    np.testing.assert_array_equal(found.ids, expected.ids)
