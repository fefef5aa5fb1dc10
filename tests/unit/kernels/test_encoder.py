"""The encoder in one call computes what its layers do, on every instruction set, whatever stands beside a sentence."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.special import erf

from optops.kernels import EncoderLayerWeights, PackedEncoder, instruction_set

PAIRS = [field.name for field in fields(EncoderLayerWeights) if field.name not in ("heads", "precisions")]
LENGTHS = [5, 70, 1, 64, 33]
TOLERANCE = {"fp32": 2e-5, "bf16": 5e-2, "int8": 1e-1}
RUN = """
from optops.kernels import EncoderLayerWeights, PackedEncoder
names = sorted({key.split("/")[1] for key in arrays if key.startswith("0/")} - {"heads", "precisions"})
def pair(name): return arrays[f"{name}/0"], arrays[f"{name}/1"]
count = len({key.split("/")[0] for key in arrays if key[0].isdigit()})
layers = []
for i in range(count):
    parts = {}
    for name in names: parts[name] = pair(f"{i}/{name}")
    layers.append(EncoderLayerWeights(int(arrays[f"{i}/heads"]), **parts))
last_norm = pair("last_norm") if "last_norm/0" in arrays else None
for precision in ("fp32", "bf16", "int8"):
    settings = {"head_size": int(arrays["head_size"]), "last_norm": last_norm, "activation": "gelu"}
    encoder = PackedEncoder(layers, **settings, precision=precision)
    for threads in (1, 2):
        found[f"{precision}/{threads}"] = encoder(arrays["x"], arrays["lengths"], threads=threads)
"""


RUN_IN_LITTLE_MEMORY = """
import resource
from pathlib import Path
from optops.kernels import PackedEncoder
encoder = PackedEncoder.from_bytes(arrays["block"])
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (5 << 28), taken + (5 << 28)))
found["y"] = encoder(arrays["x"], arrays["lengths"])
"""


def make_layer(random, width, heads, head_size, units):
    def product(inputs, outputs):
        kernel = random.normal(size=(inputs, outputs)) / np.sqrt(inputs)
        return kernel.astype(np.float32), random.normal(size=outputs).astype(np.float32) * np.float32(0.1)

    def norm():
        return tuple((random.normal(size=width) * 0.1 + centre).astype(np.float32) for centre in (1, 0))

    inner = heads * head_size
    return EncoderLayerWeights(
        heads,
        norm(),
        product(width, 3 * inner),
        product(inner, width),
        norm(),
        product(width, units),
        product(units, width),
    )


def reference(x, layers, head_size, last_norm):
    """One sentence in float64, with GELU."""
    x = x.astype(np.float64)

    def norm(x, pair):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * pair[0] + pair[1]

    def attention(x, layer):
        part = layer.heads * head_size
        joined = x @ layer.query_key_value[0] + layer.query_key_value[1]
        contexts = []
        for start in range(0, part, head_size):
            q, k, v = (joined[:, offset + start : offset + start + head_size] for offset in (0, part, 2 * part))
            scores = q @ k.T / np.sqrt(head_size)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            contexts.append(scores / scores.sum(-1, keepdims=True) @ v)
        return np.concatenate(contexts, axis=1) @ layer.output[0] + layer.output[1]

    def feed_forward(x, layer):
        hidden = x @ layer.expand[0] + layer.expand[1]
        return 0.5 * hidden * (1 + erf(hidden / np.sqrt(2))) @ layer.contract[0] + layer.contract[1]

    for layer in layers:
        if last_norm:
            x = x + attention(norm(x, layer.attention_norm), layer)
            x = x + feed_forward(norm(x, layer.feed_forward_norm), layer)
        else:
            x = norm(x + attention(x, layer), layer.attention_norm)
            x = norm(x + feed_forward(x, layer), layer.feed_forward_norm)
    return norm(x, last_norm) if last_norm else x


# Heads and hidden units of two layers; of the second, rows are multiples of 1 KB, which are kept apart in memory.
TAILS, KILOBYTES = ((3, 72), (1, 24)), ((16, 256), (1, 512))


def make_model(norm_first, sizes=TAILS, head_size=16):
    random = np.random.default_rng(0)
    layers = [make_layer(random, 40, heads, head_size, units) for heads, units in sizes]
    last_norm = make_layer(random, 40, 1, 16, 16).attention_norm if norm_first else None
    x = random.normal(size=(len(LENGTHS), 80, 40)).astype(np.float32)
    return layers, last_norm, x


def as_arrays(layers, last_norm, x, lengths, head_size=16):
    """What RUN reads."""
    arrays = {"x": x, "lengths": lengths, "head_size": head_size}
    arrays |= {f"{i}/heads": layer.heads for i, layer in enumerate(layers)}
    for i, layer in enumerate(layers):
        arrays |= {f"{i}/{name}/{j}": getattr(layer, name)[j] for name in PAIRS for j in (0, 1)}
    return arrays | ({f"last_norm/{j}": last_norm[j] for j in (0, 1)} if last_norm else {})


@pytest.fixture(params=TOLERANCE)
def any_encoder(request):
    layers, last_norm, _ = make_model(norm_first=True)
    return PackedEncoder(layers, head_size=16, last_norm=last_norm, activation="gelu", precision=request.param)


@pytest.fixture
def encoder():
    layers, last_norm, _ = make_model(norm_first=True)
    return PackedEncoder(layers, head_size=16, last_norm=last_norm, activation="gelu")


@pytest.mark.parametrize(
    ("norm_first", "sizes", "head_size"),
    [(True, TAILS, 16), (False, TAILS, 16), (False, KILOBYTES, 16), (True, TAILS, 5), (True, TAILS, 72)],
)
def test_it_agrees_with_float64_and_threads_change_no_bit(isa, norm_first, sizes, head_size, run_under):
    layers, last_norm, x = make_model(norm_first, sizes, head_size)
    found = run_under(isa, RUN, as_arrays(layers, last_norm, x, LENGTHS, head_size))
    for precision, tolerance in TOLERANCE.items():
        np.testing.assert_array_equal(found[f"{precision}/1"], found[f"{precision}/2"])
        for row, length in enumerate(LENGTHS):
            expected = reference(x[row, :length], layers, head_size, last_norm)
            np.testing.assert_allclose(found[f"{precision}/1"][row, :length], expected, atol=tolerance, rtol=0)
            assert not found[f"{precision}/1"][row, length:].any()


@pytest.mark.parametrize("size", [1, 9, 40])
def test_scores_beyond_what_an_exponential_holds_are_weighed_too(isa, size, run_under):
    layer = make_layer(np.random.default_rng(0), 40, 1, 40, 24)
    # Tokens that differ in one feature each: a query's score of itself is size^2 / sqrt(40), of others it is 0.
    kernel, bias = (part.copy() for part in layer.query_key_value)
    kernel[:, :40] = kernel[:, 40:80] = size * np.eye(40)
    bias[:80] = 0
    layers = [replace(layer, query_key_value=(kernel, bias))]
    x = np.eye(40, dtype=np.float32)[None]
    found = run_under(isa, RUN, as_arrays(layers, None, x, [40], 40))
    for precision, tolerance in TOLERANCE.items():
        np.testing.assert_allclose(found[f"{precision}/1"][0], reference(x[0], layers, 40, None), atol=tolerance)


def test_so_many_sentences_that_each_thread_has_some_of_its_own_come_out_the_same(isa, run_under):
    layers, last_norm, _ = make_model(norm_first=True)
    x = np.random.default_rng(1).normal(size=(48, 80, 40)).astype(np.float32)
    lengths = [80] * 23 + [1, 80, 79] + [80] * 22
    found = run_under(isa, RUN, as_arrays(layers, last_norm, x, lengths))
    for precision in TOLERANCE:
        np.testing.assert_array_equal(found[f"{precision}/1"], found[f"{precision}/2"])


def test_neither_padding_nor_order_nor_neighbours_change_a_bit(any_encoder):
    _, _, x = make_model(norm_first=True)
    encoder = any_encoder
    whole = encoder(x, LENGTHS)
    garbage = x.copy()
    for row, length in enumerate(LENGTHS):
        garbage[row, length:] = np.nan
    np.testing.assert_array_equal(encoder(garbage, LENGTHS), whole)
    order = np.array([3, 0, 4, 2, 1])
    np.testing.assert_array_equal(encoder(x[order], np.array(LENGTHS)[order]), whole[order])
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(encoder(x[row : row + 1, :length], [length])[0], whole[row, :length])


def test_the_encoder_of_a_keras_model_gives_what_the_model_does():
    from optops.models.keras import keras, tf
    from optops.models.transformer.config import DecoderLayerSize, LayerSize, TransformerConfig
    from optops.models.transformer.model import Transformer

    keras.utils.set_random_seed(0)
    sizes = (LayerSize(4, 96), LayerSize(2, 48), LayerSize(3, 16))
    model = Transformer(TransformerConfig(50, 48, 12, sizes, (DecoderLayerSize(1, 1, 16),), dropout=0.0))
    ids = np.zeros((3, 9), np.int32)
    lengths = [9, 2, 6]
    for row, length in enumerate(lengths):
        ids[row, :length] = np.random.default_rng(row).integers(4, 50, length)
    expected = model.encode(tf.constant(ids)).numpy()
    found = PackedEncoder.from_keras(model)(model.embed(tf.constant(ids)).numpy(), lengths)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(found[row, :length], expected[row, :length], atol=1e-5)


def test_layers_that_share_their_weights_may_be_given_several_times():
    layers, _, x = make_model(norm_first=False)
    shared = PackedEncoder([layers[0]] * 3, head_size=16, activation="gelu")
    expected = reference(x[0, :5], [layers[0]] * 3, 16, None)
    np.testing.assert_allclose(shared(x[:1], [5])[0, :5], expected, atol=1e-4)


def test_a_sentence_that_is_not_finite_does_not_touch_its_neighbours(any_encoder):
    _, _, x = make_model(norm_first=True)
    encoder = any_encoder
    clean = encoder(x, LENGTHS)
    x[1, 3, 7] = np.inf
    found = encoder(x, LENGTHS)
    assert not np.isfinite(found[1, : LENGTHS[1]]).any()
    others = [0, 2, 3, 4]
    np.testing.assert_array_equal(found[others], clean[others])


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([5, 70, 0, 64, 33], "lengths are 0 to 70; each must be 1 to 80"),
        ([5, 81, 1, 64, 33], "lengths are 1 to 81"),
        ([5, 70], r"lengths have shape \(2,\); for x \(5, 80, 40\) it is \(5,\)"),
        ([5, 70, 2**32 + 1, 64, 33], "lengths hold 4294967297; they must be integers of 32 bits"),
        ([5.9, 70, 1, 64, 33], "lengths are float64; they must be integers of 32 bits"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(encoder, lengths, message):
    with pytest.raises(ValueError, match=message):
        encoder(make_model(norm_first=True)[2], lengths)


def test_many_sentences_take_no_more_memory_than_some_and_give_the_same_bits(run_under):
    random = np.random.default_rng(0)
    encoder = PackedEncoder([make_layer(random, 16, 1, 16, 1 << 17)], head_size=16)
    x, lengths = random.normal(size=(3, 600, 16)).astype(np.float32), [600, 590, 580]
    arrays = {"block": encoder.to_bytes(), "x": x, "lengths": lengths}
    # All hidden units at once would be 0.9 GB, and as much again for the product that follows.
    found = run_under(instruction_set(), RUN_IN_LITTLE_MEMORY, arrays)["y"]
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(found[row : row + 1], encoder(x[row : row + 1], [length]))


def test_a_large_call_gives_its_memory_back(resident):
    encoder = PackedEncoder([make_layer(np.random.default_rng(0), 16, 1, 16, 2048)], head_size=16)
    x = np.ones((32, 512, 16), np.float32)
    encoder(x[:1], [512])
    before = resident()
    encoder(x, [512] * 32)  # between its two last products there are 128 MB
    assert resident() - before < 32 << 20


def test_inputs_and_weights_that_do_not_fit_are_refused(encoder):
    with pytest.raises(ValueError, match=r"x has shape \(2, 3\); it must be \[sentences, time, 40\]"):
        encoder(np.ones((2, 3), np.float32), [1, 1])
    layers, _, _ = make_model(norm_first=False)
    broken = replace(layers[0], output=(layers[0].output[0][:-1], layers[0].output[1]))
    with pytest.raises(ValueError, match=r"output has an array of shape \(47, 40\); \(48, 40\) is wanted"):
        PackedEncoder([broken], head_size=16)
    poisoned = replace(layers[0], contract=(layers[0].contract[0] * np.float32(np.nan), layers[0].contract[1]))
    with pytest.raises(ValueError, match=r"the weight of input 0 and output 0 is -?nan"):
        PackedEncoder([poisoned], head_size=16)
    with pytest.raises(ValueError, match="at least one layer"):
        PackedEncoder([], head_size=16)
    with pytest.raises(ValueError, match="epsilon is 0"):
        PackedEncoder(layers, head_size=16, epsilon=0.0)


def test_no_sentences_are_no_error(encoder):
    assert encoder(np.ones((0, 4, 40), np.float32), []).shape == (0, 4, 40)
