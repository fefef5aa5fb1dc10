"""Attentions outside of encoder layers become one operator; masks count as they did, whatever they hide."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy

from optops.graph import optimize
from optops.graph.optimizer.patterns import dot_product_attention
from optops.graph.optimizer.patterns.dot_product_attention import FEWEST_KEYS
from optops.graph.optimizer.patterns.mask import seen_keys
from optops.graph.optimizer.report import SignatureReport
from optops.kernels.tensorflow import load_operators
from optops.models.keras import tf

HEADS, SIZE, TIME = 2, 8, 48
WIDTH = HEADS * SIZE
Function = Callable[..., Any]


def states(name: str, time: int | None = None) -> tf.TensorSpec:
    return tf.TensorSpec([None, time, WIDTH], tf.float32, name)


Q, K, V = states("q"), states("k"), states("v")
MASK = tf.TensorSpec([None, None], tf.int32, "mask")


def split(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1], HEADS, SIZE])


def by_matmul(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, masked: Function = tf.identity) -> tf.Tensor:
    queries, keys, values = (tf.transpose(split(x), [0, 2, 1, 3]) for x in (q, k, v))
    weights = tf.nn.softmax(masked(tf.matmul(queries, keys, transpose_b=True) / 8.0**0.5))
    return tf.reshape(tf.transpose(tf.matmul(weights, values), [0, 2, 1, 3]), tf.shape(q))


def by_keys_on_their_side(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, masked: Function = tf.identity) -> tf.Tensor:
    queries, keys, values = (
        tf.transpose(split(x), order) for x, order in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3]))
    )
    weights = tf.nn.softmax(masked(tf.matmul(queries * 8.0**-0.5, keys)))
    return tf.reshape(tf.transpose(tf.matmul(weights, values), [0, 2, 1, 3]), tf.shape(q))


def by_einsum(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, masked: Function = tf.identity) -> tf.Tensor:
    weights = tf.nn.softmax(masked(tf.einsum("aecd,abcd->acbe", split(k), split(q)) * 8.0**-0.5))
    return tf.reshape(tf.einsum("acbe,aecd->abcd", weights, split(v)), tf.shape(q))


def by_one_head(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, masked: Function = tf.identity) -> tf.Tensor:
    return tf.matmul(tf.nn.softmax(masked(tf.matmul(q, k, transpose_b=True) * 0.25)), v)


FORMS = [by_matmul, by_keys_on_their_side, by_einsum, by_one_head]


def causal(scores: tf.Tensor) -> tf.Tensor:
    time = tf.shape(scores)[-1]
    return scores + (1.0 - tf.linalg.band_part(tf.ones([time, time]), -1, 0)) * -1e9


def chosen(scores: tf.Tensor) -> tf.Tensor:
    time = tf.range(tf.shape(scores)[-1])
    return tf.where(time[None, :] <= time[:, None], scores, -1e9)


def stable(scores: tf.Tensor) -> tf.Tensor:
    """As the softmax of transformers has it, which adds a number that changes nothing."""
    return causal(scores) + 1e-9


def known(scores: tf.Tensor) -> tf.Tensor:
    return scores + np.triu(np.full([TIME, TIME], -np.inf, np.float32), 1)


def hiding(mask: tf.Tensor) -> Function:
    def masked(scores: tf.Tensor) -> tf.Tensor:
        hidden = (1.0 - tf.cast(mask, tf.float32)) * -1e9
        return scores + tf.reshape(hidden, [tf.shape(mask)[0], *[1] * (scores.shape.rank - 2), tf.shape(mask)[1]])

    return masked


def rewritten(folder: Path, function: Function, *specs: tf.TensorSpec, **options: Any) -> SignatureReport:
    module = tf.Module()
    module.serve = tf.function(function, input_signature=list(specs))
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": module.serve})
    report = optimize(folder / "model", folder / "out", benchmark=False, picture=False, **options).signatures[0]
    assert report.difference <= 1e-4
    assert not report.rolled_back
    return report


def said(report: SignatureReport) -> list[str]:
    return [str(each["weights"]) for each in report.rewrites if each["pattern"] == "attention alone"]


def check(folder: Path, **inputs: np.ndarray) -> None:
    """Compares the rewritten model with the original."""
    load_operators()
    (wanted,), (found,) = (
        tf.saved_model.load(str(folder / name)).signatures["serving_default"](**inputs).values()
        for name in ("model", "out")
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_an_attention_in_any_form_becomes_one_operator(form: Function, tmp_path: Path) -> None:
    report = rewritten(tmp_path, lambda q, k, v: {"y": form(q, k, v)}, Q, K, V)
    heads, size = (1, WIDTH) if form is by_one_head else (HEADS, SIZE)
    assert said(report) == [f"{heads} heads of {size}, no mask"], report.left_alone
    for queries, keys in ((3, FEWEST_KEYS - 1), (1, FEWEST_KEYS), (5, 70)):
        check(tmp_path, q=random(2, queries, WIDTH), k=random(2, keys, WIDTH), v=random(2, keys, WIDTH) * 2)


@pytest.mark.parametrize("masked", [causal, chosen, stable])
@pytest.mark.parametrize("form", [by_matmul, by_einsum, by_one_head])
def test_a_causal_mask_is_told_from_its_values(form: Function, masked: Function, tmp_path: Path) -> None:
    report = rewritten(tmp_path, lambda x: {"y": form(x, x, x * 2.0, masked)}, states("x"))
    assert [each.rpartition(", ")[2] for each in said(report)] == ["causal mask"], report.left_alone
    check(tmp_path, x=random(2, 40, WIDTH))


def test_an_operator_that_is_wrong_where_a_mask_comes_in_with_long_sentences_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend = dot_product_attention._attend
    monkeypatch.setattr(dot_product_attention, "_attend", lambda *arguments: 2.0 * attend(*arguments))
    module = tf.Module()
    module.serve = tf.function(
        lambda x, mask: {"y": by_matmul(x, x, x * 2.0, hiding(mask))}, input_signature=[states("x"), MASK]
    )
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
    report = optimize(tmp_path / "model", tmp_path / "out", benchmark=False, picture=False).signatures[0]
    assert report.level == "plain"
    assert any(note.startswith("kernels is not used: as it is written, it does") for note in report.notes), report
    check(tmp_path, x=random(2, 40, WIDTH), mask=np.ones((2, 40), np.int32))


def test_what_a_constant_hides_is_not_looked_at_again(tmp_path: Path) -> None:
    report = rewritten(tmp_path, lambda x: {"y": by_matmul(x, x, x * 2.0, known)}, states("x", TIME))
    assert [each.rpartition(", ")[2] for each in said(report)] == ["causal mask"], report.left_alone
    added = [name for rewrite in report.rewrites for name in rewrite["after"]]  # type: ignore[attr-defined]
    assert not any(name.endswith("cond") for name in added)
    check(tmp_path, x=random(2, TIME, WIDTH))


@pytest.mark.parametrize("form", [by_matmul, by_one_head])
def test_masks_of_memories_count_as_they_did_whatever_they_hide(form: Function, tmp_path: Path) -> None:
    serve = lambda q, k, mask: {"y": form(q, k, k * 2.0, hiding(mask))}  # noqa: E731
    report = rewritten(tmp_path, serve, Q, K, MASK)
    assert [each.rpartition(", ")[2] for each in said(report)] == ["mask"], report.left_alone
    ends, holes = np.ones([2, 2, 40], np.int32)
    ends[0, 30:] = holes[1, ::3] = 0
    for mask in (ends, holes, np.ones_like(ends), np.zeros_like(ends)):
        check(tmp_path, q=random(2, 6, WIDTH), k=random(2, 40, WIDTH), mask=mask)


def test_weights_that_are_chosen_again_behind_the_softmax_are_those_of_the_mask(tmp_path: Path) -> None:
    def serve(q: tf.Tensor, k: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """As the softmax of Keras 3 has it."""
        seen = tf.cast(mask, tf.bool)[:, None, None, :]
        scores = tf.einsum("aecd,abcd->acbe", split(k), split(q) * 8.0**-0.5)
        weights = tf.where(seen, tf.nn.softmax(tf.where(seen, scores, -1e9)), 0.0)
        return {"y": tf.einsum("acbe,aecd->abcd", weights, split(k * 2.0))}

    report = rewritten(tmp_path, serve, Q, K, MASK)
    assert said(report) == [f"{HEADS} heads of {SIZE}, mask"], report.left_alone
    ends, holes = np.ones([2, 2, 40], np.int32)
    ends[0, 30:] = holes[1, ::3] = 0
    for mask in (ends, holes, np.zeros_like(ends)):
        check(tmp_path, q=random(2, 6, WIDTH), k=random(2, 40, WIDTH), mask=mask)


@pytest.mark.parametrize("form", [by_matmul, by_keys_on_their_side, by_one_head])
def test_one_memory_counts_for_a_whole_batch_as_it_did(form: Function, tmp_path: Path) -> None:
    report = rewritten(tmp_path, lambda q, k, v: {"y": form(q, k, v)}, Q, K, V)
    assert len(said(report)) == 1, report.left_alone
    check(tmp_path, q=random(4, 5, WIDTH), k=random(1, 40, WIDTH), v=random(1, 40, WIDTH) * 2)
    check(tmp_path, q=random(4, 5, WIDTH), k=random(4, 40, WIDTH), v=random(1, 40, WIDTH) * 2)


def test_one_memory_with_a_mask_or_a_length_that_is_known_counts_for_a_whole_batch_as_it_did(tmp_path: Path) -> None:
    masked = lambda q, k, mask: {"y": by_one_head(q, k, k * 2.0, hiding(mask))}  # noqa: E731
    assert len(said(rewritten(tmp_path / "masked", masked, Q, K, MASK))) == 1
    mask = (np.arange(40) < 30).astype(np.int32)[None]
    check(tmp_path / "masked", q=random(4, 6, WIDTH), k=random(1, 40, WIDTH), mask=mask)
    check(tmp_path / "masked", q=random(1, 6, WIDTH), k=random(4, 40, WIDTH), mask=np.repeat(mask, 4, 0))
    fixed = lambda q, k: {"y": by_one_head(q, k, k * 2.0)}  # noqa: E731
    assert len(said(rewritten(tmp_path / "fixed", fixed, Q, states("k", TIME)))) == 1
    check(tmp_path / "fixed", q=random(4, 6, WIDTH), k=random(1, TIME, WIDTH))


def test_batches_that_are_known_to_differ_are_left_alone_with_the_reason(tmp_path: Path) -> None:
    q, k = (tf.TensorSpec([batch, TIME, WIDTH], tf.float32, name) for batch, name in ((4, "q"), (1, "k")))
    report = rewritten(tmp_path, lambda q, k: {"y": by_one_head(q, k, k * 2.0)}, q, k)
    assert said(report) == []
    assert any("its batches are [1, 4]; one is wanted" in each["reason"] for each in report.left_alone)


@pytest.mark.parametrize("masked", [None, MASK], ids=["no mask", "mask"])
def test_no_queries_give_nothing_as_they_did(masked: Any, tmp_path: Path) -> None:
    function = lambda q, k, *mask: {"y": by_one_head(q, k, k * 2.0, *map(hiding, mask))}  # noqa: E731
    assert len(said(rewritten(tmp_path, function, Q, K, *([masked] if masked else [])))) == 1
    given = {"mask": np.ones([2, 40], np.int32)} if masked else {}
    check(tmp_path, q=random(2, 0, WIDTH), k=random(2, 40, WIDTH), **given)


class Worded(tf.Module):
    """Two attentions of words that are looked up, the first with a mask that no session can compute."""

    def __init__(self) -> None:
        super().__init__()
        words, ids = tf.constant(["the word", "42", "-1.5"]), tf.constant([1, 2, 3], tf.int64)
        self.ids = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(words, ids), 0)
        self.vectors = tf.Variable(random(4, WIDTH))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, "words"), MASK])
    def serve(self, words: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.gather(self.vectors, self.ids.lookup(words))
        exported = tf.cast(tf.size(self.ids.export()[0]), tf.float32)
        unknown = by_one_head(x, x, x * 2.0, lambda scores: scores + (causal(scores) - scores) * exported)
        return {"y": unknown + by_one_head(x, x, x * 3.0, hiding(mask))}


def test_lookups_are_known_and_what_can_not_be_computed_stops_no_search(tmp_path: Path) -> None:
    module = Worded()
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
    (report,) = optimize(tmp_path / "model", tmp_path / "out", benchmark=False, picture=False).signatures
    assert said(report) == [f"1 heads of {WIDTH}, mask"], report.left_alone
    reasons = [each["reason"] for each in report.left_alone if each["pattern"] == "attention alone"]
    assert len(reasons) == 1
    assert "what its mask hides can not be computed" in reasons[0]
    mask = (np.arange(40) < np.array([[40], [30]])).astype(np.int32)
    check(tmp_path, words=np.full([2, 40], "42"), mask=mask)


def multiplied(scores: tf.Tensor) -> tf.Tensor:
    time = tf.shape(scores)[-1]
    return scores * tf.linalg.band_part(tf.ones([time, time]), -1, 0)


def biased(scores: tf.Tensor) -> tf.Tensor:
    time = tf.cast(tf.range(tf.shape(scores)[-1]), tf.float32)
    return scores - tf.abs(time[None, :] - time[:, None])


def over_queries(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True), axis=1), v)


def read_elsewhere(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))
    return tf.matmul(weights, v) + tf.reduce_max(weights)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda q, k, v: by_matmul(q, k, v, multiplied), "multiplies the scores by what is no constant number"),
        (lambda q, k, v: by_matmul(q, q, v, biased), "hides other than ends, and what comes later"),
        (over_queries, "is read by Transpose, not by a product"),
        (read_elsewhere, "is not read by a product alone"),
        (lambda q, k, v: by_matmul(q, k, v, tf.abs), "(Abs) stands between the softmax and a product"),
        (
            lambda q, k, v: by_matmul(*(tf.ensure_shape(x, [None, 9, WIDTH]) for x in (q, k, v))),
            "it has 9 keys; TensorFlow is as fast",
        ),
    ],
    ids=["multiplied", "a bias", "over queries", "read elsewhere", "another function", "few keys"],
)
def test_what_only_looks_like_an_attention_is_left_alone_with_the_reason(
    function: Function, reason: str, tmp_path: Path
) -> None:
    time = 9 if "9 keys" in reason else None
    specs = [states(name, time) for name in ("q", "k", "v")]
    report = rewritten(tmp_path, lambda q, k, v: {"y": function(q, q, v)}, *specs)
    assert said(report) == []
    assert any(reason in each["reason"] for each in report.left_alone), report.left_alone


def over_the_batch(x: tf.Tensor) -> tf.Tensor:
    """A self-attention of what stands at the same position in the examples of a batch."""
    *kernels, output = random(4, WIDTH, WIDTH)
    queries, keys, values = (tf.transpose(split(tf.tensordot(x, kernel, 1)), [1, 2, 0, 3]) for kernel in kernels)
    seen = tf.matmul(tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True)), values)
    return tf.tensordot(tf.reshape(tf.transpose(seen, [2, 0, 1, 3]), tf.shape(x)), output, 1)


def test_an_attention_over_the_batch_is_not_taken_for_one_of_an_encoder_whatever_inputs_are_given(
    tmp_path: Path,
) -> None:
    single = {"x": random(3, 1, WIDTH)}  # where there is one position, it looks like one over three positions
    report = rewritten(tmp_path, lambda x: {"y": over_the_batch(x)}, states("x"), inputs=single)
    assert len(said(report)) == 1
    assert report.left_alone == []


@pytest.mark.parametrize(
    ("added", "sizes", "causal", "lengths"),
    [
        ([[[[0.0, 0.0, -1e9]]]], (2, 4, 5, 3), False, [2, 2]),
        ([[[[0.0, 0.0, -3.0]]]], (1, 1, 1, 3), False, None),
        ([[0.0, -1e9], [0.0, 0.0]], (3, 2, 2, 2), True, [2, 2, 2]),
        ([[0.0, -1e9], [0.0, -1e9]], (1, 2, 2), True, [1]),
        ([[0.0, 0.0]], (1, 1, 1, 2), True, None),
        ([[float("nan"), 0.0]], (1, 1, 1, 2), False, None),
        ([[0.0, -1e9]], (1, 1, 0, 2), False, None),
    ],
)
def test_masks_of_any_rank_say_what_they_leave(
    added: Any, sizes: tuple[int, ...], causal: bool, lengths: list[int] | None
) -> None:
    found, fits = seen_keys(tf.constant(added), sizes, causal=causal)
    assert bool(fits) == (lengths is not None)
    if lengths is not None:
        assert found.numpy().tolist() == lengths


@settings(max_examples=100)
@given(numpy.arrays(bool, st.tuples(st.just(2), st.just(1), st.integers(1, 3), st.integers(1, 3))), st.booleans())
def test_a_mask_fits_if_it_is_one_of_those_that_the_operator_knows(seen: np.ndarray, causal: bool) -> None:
    batch, _, queries, keys = seen.shape
    later = np.arange(keys) > np.arange(queries)[:, None]
    known = [
        np.stack([(np.arange(keys) < length) & ~(later & causal) for length in lengths])
        for lengths in itertools.product(range(1, keys + 1), repeat=batch)
    ]
    wanted = any(np.array_equal(seen[:, 0], each) for each in known) and (queries == keys or not causal)
    _, fits = seen_keys(tf.where(seen, 0.0, -1e9), (batch, 4, queries, keys), causal=causal)
    assert bool(fits) == wanted
