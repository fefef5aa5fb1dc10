"""Functions of rows and attention: float64's results on every instruction set, tail and mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, softmax

from optops.kernels import attention, bias_activation, masked_softmax, residual_norm

WIDTHS = (1, 3, 15, 16, 17, 63, 64, 65, 130)
RUN = """
from optops.kernels import attention, bias_activation, masked_softmax, residual_norm
for width in arrays["widths"]:
    x, residual, scale, offset, counts = (arrays[f"{width}/{name}"] for name in ("x", "y", "scale", "offset", "counts"))
    for activation in ("relu", "gelu", "gelu_tanh", "silu"):
        found[f"{width}/{activation}"] = bias_activation(x, offset, activation)
    found[f"{width}/norm"] = residual_norm(x, residual, scale, offset, 1e-5)
    found[f"{width}/softmax"] = masked_softmax(x, counts)
for case, heads in zip(arrays["cases"], map(int, arrays["heads"])):
    queries, keys, values, lengths = (arrays[f"{case}/{name}"] for name in ("queries", "keys", "values", "lengths"))
    for causal in (False, True):
        for threads in (1, 3):
            found[f"{case}/{causal}/{threads}"] = attention(
                queries, keys, values, heads=heads, lengths=lengths, causal=causal, threads=threads
            )
"""
CASES = [(1, 1, 1, 1, 1), (2, 5, 7, 2, 3), (3, 50, 70, 3, 16), (2, 4, 129, 1, 65), (2, 65, 64, 2, 64)]


def activated(x, activation):
    return {
        "relu": lambda v: np.maximum(v, 0),
        "gelu": lambda v: 0.5 * v * (1 + erf(v / np.sqrt(2))),
        "gelu_tanh": lambda v: 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))),
        "silu": lambda v: v / (1 + np.exp(-v)),
    }[activation](x.astype(np.float64))


def normed(x, scale, offset, epsilon):
    x = x.astype(np.float64)
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon) * scale + offset


def masked(x, counts):
    there = np.arange(x.shape[-1]) < np.asarray(counts)[..., None]
    scores = np.where(there, x.astype(np.float64), -1e30)
    return np.where(there, softmax(scores, axis=-1), 0)


def attended(queries, keys, values, heads, lengths, causal):
    def split(array):
        return array.astype(np.float64).reshape(*array.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    q, k, v = map(split, (queries, keys, values))
    counts = np.broadcast_to(np.asarray(lengths)[:, None, None], (len(q), heads, q.shape[2]))
    if causal:
        counts = np.minimum(counts, np.arange(1, q.shape[2] + 1))
    weights = masked(q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1]), counts)
    return (weights @ v).transpose(0, 2, 1, 3).reshape(queries.shape)


def make_arrays():
    random = np.random.default_rng(0)

    def normal(*shape):
        return random.normal(size=shape).astype(np.float32)

    arrays = {"widths": np.array(WIDTHS), "cases": np.arange(len(CASES)), "heads": np.array([c[3] for c in CASES])}
    for width in WIDTHS:
        arrays |= {f"{width}/x": 3 * normal(7, width), f"{width}/y": normal(7, width)}
        arrays |= {f"{width}/scale": normal(width), f"{width}/offset": normal(width)}
        arrays[f"{width}/counts"] = random.integers(0, width + 1, 7)
    for case, (sentences, query_time, time, heads, size) in enumerate(CASES):
        arrays[f"{case}/queries"] = 2 * normal(sentences, query_time, heads * size)
        arrays |= {f"{case}/{name}": normal(sentences, time, heads * size) for name in ("keys", "values")}
        arrays[f"{case}/lengths"] = random.integers(0, time + 1, sentences)
        arrays[f"{case}/lengths"][0] = time
    return arrays


def test_every_instruction_set_gives_what_float64_gives(isa, run_under):
    arrays = make_arrays()
    found = run_under(isa, RUN, arrays)
    for width in WIDTHS:
        x, residual, scale, offset, counts = (
            arrays[f"{width}/{name}"] for name in ("x", "y", "scale", "offset", "counts")
        )
        for activation in ("relu", "gelu", "gelu_tanh", "silu"):
            expected = activated(x + offset, activation)
            np.testing.assert_allclose(found[f"{width}/{activation}"], expected, atol=2e-6, rtol=2e-6)
        expected = normed(x + residual, scale, offset, 1e-5)
        np.testing.assert_allclose(found[f"{width}/norm"], expected, atol=2e-5, rtol=1e-5)
        np.testing.assert_allclose(found[f"{width}/softmax"], masked(x, counts), atol=1e-6)
    for case, (*_, heads, _) in enumerate(CASES):
        queries, keys, values, lengths = (arrays[f"{case}/{name}"] for name in ("queries", "keys", "values", "lengths"))
        for causal in (False, True):
            one, three = found[f"{case}/{causal}/1"], found[f"{case}/{causal}/3"]
            np.testing.assert_array_equal(one, three)
            np.testing.assert_allclose(one, attended(queries, keys, values, heads, lengths, causal), atol=5e-6)


FAR = np.array([-3, -5.4, -5.6, -20, -87, -89, -1e3, -1e6, -1e30, -3e38], np.float32)
RUN_FAR = """
from optops.kernels import bias_activation
x, nothing = arrays["x"], arrays["x"] * 0
infinity = np.full((1, 1), -np.inf, np.float32)
for activation in ("relu", "gelu", "gelu_tanh", "silu"):
    found[activation] = bias_activation(x[None], nothing, activation)[0]
for activation in ("gelu", "silu"):
    found[f"{activation} of infinity"] = bias_activation(infinity, np.zeros(1, np.float32), activation)
"""


def test_activations_far_below_zero_are_zero(isa, run_under):
    found = run_under(isa, RUN_FAR, {"x": FAR})
    for activation in ("relu", "gelu", "gelu_tanh", "silu"):
        with np.errstate(over="ignore"):
            expected = activated(FAR, activation)
        np.testing.assert_allclose(found[activation], expected, atol=5e-7, rtol=2e-6)
        assert not found[activation][6:].any()
    assert not np.isfinite([found["gelu of infinity"], found["silu of infinity"]]).any()


def test_a_row_may_be_as_wide_as_a_vocabulary():
    scores = np.random.default_rng(2).normal(size=(2, 250_000)).astype(np.float32)
    expected = masked(scores, [250_000, 131_073])
    np.testing.assert_allclose(masked_softmax(scores, [250_000, 131_073]), expected, rtol=1e-4, atol=1e-9)


@given(
    width=st.integers(1, 40),
    rows=st.integers(0, 9),
    threads=st.integers(1, 4),
    large=st.sampled_from([1.0, 1e4, 1e30]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_softmax_is_a_distribution_over_what_counts_however_large_the_scores(width, rows, threads, large, seed):
    random = np.random.default_rng(seed)
    x = (large * random.normal(size=(rows, width))).astype(np.float32)
    counts = random.integers(0, width + 1, rows)
    y = masked_softmax(x, counts, threads=threads)
    np.testing.assert_allclose(y.sum(axis=1), counts > 0, atol=1e-5)
    assert (y[np.arange(width) >= counts[:, None]] == 0).all()
    np.testing.assert_array_equal(
        y, np.concatenate([masked_softmax(x[i : i + 1], counts[i : i + 1]) for i in range(rows)]) if rows else y
    )


def test_a_large_attention_gives_its_memory_back(resident):
    queries, keys = np.ones((1, 1, 128), np.float32), np.ones((1, 65536, 128), np.float32)
    attention(queries, keys[:, :64], keys[:, :64], heads=2, threads=2)
    before = resident()
    attention(queries, keys, keys, heads=2, threads=2)  # each thread turns 46 MB of keys and values
    assert resident() - before < 40 << 20


def test_what_stands_where_nothing_counts_does_not_matter():
    random = np.random.default_rng(1)
    queries, keys, values = (random.normal(size=(2, 9, 12)).astype(np.float32) for _ in range(3))
    before = attention(queries, keys, values, heads=3, lengths=[4, 9])
    keys[0, 4:] = np.nan
    values[0, 4:] = np.nan
    np.testing.assert_array_equal(attention(queries, keys, values, heads=3, lengths=[4, 9]), before)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: bias_activation(x, x[0, :2]), r"bias has shape \(2,\); for x \(4, 6\) it is \(6,\)"),
        (lambda x: bias_activation(x, x[0], "mish"), "activation is 'mish'; choose one of"),
        (lambda x: residual_norm(x, x[:2], x[0], x[0]), r"the residual has shape \(2, 6\); x has \(4, 6\)"),
        (lambda x: residual_norm(x, x, x[0], x[0], epsilon=0), "epsilon is 0; it must be above 0"),
        (lambda x: bias_activation(x, x[0], threads=-(2**32)), "threads is -4294967296; it must be an integer of 32"),
        (lambda x: masked_softmax(x, 7), "row 0 counts 7; it may be 0 to 6"),
        (lambda x: masked_softmax(x, 2**32), "counts hold 4294967296; they must be integers of 32 bits"),
        (lambda x: masked_softmax(x, [1.5] * 4), "counts are float64; they must be integers of 32 bits"),
        (lambda x: attention(x[None], x[None], x[None], heads=4), "the width a multiple of 4 heads"),
        (lambda x: attention(x[None, :, :0], x[None, :, :0], x[None, :, :0], heads=2), "a multiple of 2 heads"),
        (lambda x: attention(x[None], x[None], x[None, :2], heads=2), "values .* do not fit"),
        (lambda x: attention(x[None], x[None], x[None], heads=2, lengths=[5]), "sentence 0 has 5 keys"),
        (lambda x: attention(x[None], x[None], x[None], heads=2, lengths=[1, 1]), "lengths have shape"),
        (lambda x: attention(x[None], x[None], x[None], heads=2, lengths=[-(2**32)]), "lengths hold -4294967296"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, says):
    with pytest.raises(ValueError, match=says):
        call(np.ones((4, 6), np.float32))
