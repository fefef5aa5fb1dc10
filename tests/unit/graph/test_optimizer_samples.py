"""Random inputs show what a model does with padding, ids and images, not with full sentences alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optops.graph import optimize
from optops.graph.optimizer.loading import load
from optops.graph.optimizer.samples import Sample, accepted_samples
from optops.models.keras import tf

ROWS = 30
TABLE = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)


def samples(folder: Path, function: Any, *specs: tf.TensorSpec) -> list[Sample]:
    module = tf.Module()
    module.serve = tf.function(function, input_signature=list(specs))
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": module.serve})
    model = load(folder / "model", folder / "scratch" / "source")
    signature = model.signatures["serving_default"]
    assert signature.graph is not None
    return accepted_samples(signature, signature.graph)


def padded_lengths(array: np.ndarray) -> list[int]:
    """Returns the length of each row that is not 0 up to there, and 0 behind; nothing if a row is otherwise."""
    lengths = (array != 0).sum(axis=1)
    return lengths.tolist() if np.array_equal(array != 0, np.arange(array.shape[1]) < lengths[:, None]) else []


def embed(ids: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": tf.gather(tf.constant(TABLE), ids) * tf.cast(mask, tf.float32)[:, :, None]}


@pytest.mark.parametrize("sizes", [(None, None), (None, 12), (3, 12)])
def test_one_sample_has_sentences_of_different_lengths_that_ids_and_mask_agree_on(sizes: Any, tmp_path: Path) -> None:
    specs = [tf.TensorSpec(sizes, tf.int32, name) for name in ("ids", "mask")]
    hidden = []
    for sample in samples(tmp_path, embed, *specs):
        lengths = padded_lengths(sample["mask"])
        assert sample["ids"].max() < ROWS
        if lengths and min(lengths) > 0 and max(lengths) < sample["mask"].shape[1]:
            hidden.append(lengths)
            assert padded_lengths(sample["ids"]) == lengths
    assert any(len(set(lengths)) > 1 for lengths in hidden)


@pytest.mark.parametrize("dtype", [tf.int32, tf.float32])
@pytest.mark.parametrize("compare", [tf.not_equal, tf.equal])
def test_sentences_are_padded_with_the_id_that_a_model_compares_ids_with(
    compare: Any, dtype: Any, tmp_path: Path
) -> None:
    def embed_padded(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return embed(tf.cast(ids, tf.int32), compare(ids, 1))

    found = samples(tmp_path, embed_padded, tf.TensorSpec([None, None], dtype, "ids"))
    assert max(sample["ids"].max() for sample in found) > ROWS / 2
    lengths = [padded_lengths(np.where(sample["ids"] == 1, 0, 1)) for sample in found]
    assert any(len(set(each)) > 1 for each in lengths)
    assert any((sample["ids"] != 1).all() and (sample["ids"] == 0).any() for sample in found)


def attend(ids: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
    """Adds a mask of any rank to the scores of an attention with one head."""
    x = tf.gather(tf.constant(TABLE), ids)
    scores = tf.matmul(x, x, transpose_b=True)[:, None]
    mask = tf.cast(mask, tf.float32)
    while mask.shape.rank < 4:
        mask = mask[:, None]
    return {"y": tf.matmul(tf.nn.softmax(scores + mask), x[:, None])}


@pytest.mark.parametrize("dtype", [tf.int32, tf.bool, tf.float32])
@pytest.mark.parametrize("sizes", [(None,), (1, None), (1, 1, None), (1, None, None), (2, None, None)])
def test_a_mask_of_any_rank_ends_where_the_ids_do(sizes: Any, dtype: Any, tmp_path: Path) -> None:
    specs = [tf.TensorSpec([None, None], tf.int32, "ids"), tf.TensorSpec([None, *sizes], dtype, "mask")]
    found = samples(tmp_path, attend, *specs)
    assert len(found) == 4
    rows = [sample["mask"].reshape(-1, sample["mask"].shape[-1]) for sample in found]
    assert any((each == 1).all() for each in rows)
    assert any((each == 0).all() for each in rows)
    padded = [set(padded_lengths(each)) for each in rows]
    ids = [set(padded_lengths(sample["ids"])) for sample in found]
    assert any(len(one) > 1 and one == two for one, two in zip(padded, ids, strict=True))


def test_lengths_are_those_of_the_ids(tmp_path: Path) -> None:
    def embed_up_to(ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        return embed(ids, tf.sequence_mask(lengths, tf.shape(ids)[1]))

    specs = [tf.TensorSpec([None, None], tf.int32, "ids"), tf.TensorSpec([None], tf.int64, "lengths")]
    found = samples(tmp_path, embed_up_to, *specs)
    assert any((sample["lengths"] == sample["ids"].shape[1]).all() for sample in found)
    assert any(
        len(set(sample["lengths"])) > 1 and sample["lengths"].tolist() == padded_lengths(sample["ids"])
        for sample in found
    )


def test_one_sentence_without_a_batch_has_several_lengths(tmp_path: Path) -> None:
    found = samples(
        tmp_path, lambda ids: {"y": tf.gather(tf.constant(TABLE), ids)}, tf.TensorSpec([None], tf.int32, "ids")
    )
    assert len({sample["ids"].size for sample in found}) == 4
    assert max(sample["ids"].size for sample in found) == 32


def test_images_beside_a_text_have_sides_of_images(tmp_path: Path) -> None:
    def serve(ids: tf.Tensor, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reduce_sum(tf.gather(tf.constant(TABLE), ids)) + tf.nn.avg_pool2d(image, 32, 32, "VALID")}

    specs = [tf.TensorSpec([None, None], tf.int32, "ids"), tf.TensorSpec([None, None, None, 3], tf.float32, "image")]
    assert {sample["image"].shape[1] for sample in samples(tmp_path, serve, *specs)} == {32, 64, 48, 224}


def test_sentences_are_padded_also_where_a_model_takes_one_length_alone(tmp_path: Path) -> None:
    def fixed(ids: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        return embed(tf.ensure_shape(ids, [None, 128]), mask)

    specs = [tf.TensorSpec([None, None], tf.int32, name) for name in ("ids", "mask")]
    found = samples(tmp_path, fixed, *specs)
    assert len(found) == 4
    assert any(len(set(padded_lengths(sample["ids"]))) > 1 for sample in found)


@pytest.mark.parametrize(
    ("dtype", "value"), [(tf.string, ""), (tf.float32, np.inf), (tf.float32, np.nan), (tf.bool, True)]
)
def test_what_is_compared_with_a_value_that_is_no_integer_is_optimised(dtype: Any, value: Any, tmp_path: Path) -> None:
    module = tf.Module()
    spec = tf.TensorSpec([None, None], dtype, "x")
    module.serve = tf.function(lambda x: {"y": tf.not_equal(x, value)}, input_signature=[spec])
    report = optimize(module, tmp_path / "out", kernels=False, benchmark=False, picture=False).signatures[0]
    assert report.level != "original", report.notes


def test_some_sentences_have_no_padding_and_some_have_id_0_anywhere(tmp_path: Path) -> None:
    found = samples(tmp_path, lambda ids: embed(ids, tf.ones_like(ids)), tf.TensorSpec([None, 200], tf.int32, "ids"))
    assert any((sample["ids"] != 0).all() for sample in found)
    assert any((sample["ids"] == 0).any() and not padded_lengths(sample["ids"]) for sample in found)


def test_states_are_0_behind_the_ends_of_some_sentences(tmp_path: Path) -> None:
    found = samples(tmp_path, lambda x: {"y": x * 2.0}, tf.TensorSpec([None, None, 4], tf.float32, "x"))
    lengths = [padded_lengths(np.abs(sample["x"]).sum(axis=-1)) for sample in found]
    assert any(len(set(each)) > 1 for each in lengths)
    assert any(min(each) == sample["x"].shape[1] for each, sample in zip(lengths, found, strict=True))


def test_images_of_bytes_have_all_values(tmp_path: Path) -> None:
    spec = tf.TensorSpec([None, 32, 32, 3], tf.uint8, "x")
    found = samples(tmp_path, lambda x: {"y": tf.cast(x, tf.float32) / 255.0}, spec)
    assert any(sample["x"].min() == 0 and sample["x"].max() == 255 for sample in found)


@pytest.mark.parametrize(
    "function", [tf.math.log, tf.sqrt, lambda x: 1.0 / tf.cast(x == 1.0, tf.float32) - 1.0], ids=["log", "sqrt", "one"]
)
def test_a_model_that_has_numbers_for_some_inputs_alone_is_given_these(function: Any, tmp_path: Path) -> None:
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reduce_sum(function(x), axis=1)}

    found = samples(tmp_path, serve, tf.TensorSpec([None, 64], tf.float32, "x"))
    assert len(found) == 4
    assert all(np.isfinite(serve(tf.constant(sample["x"]))["y"]).any() for sample in found)


def test_a_model_that_has_no_numbers_is_left_as_it_is_with_the_remedy(tmp_path: Path) -> None:
    spec = tf.TensorSpec([None, 4], tf.float32, "x")
    assert samples(tmp_path, lambda x: {"y": x * np.nan, "z": x}, spec) == []
    report = optimize(tmp_path / "model", tmp_path / "out", kernels=False, benchmark=False, picture=False)
    (note,) = report.signatures[0].notes
    assert note == "left as it is: it has numbers for none of the random inputs; give it `inputs`"


def test_a_model_of_one_size_is_given_several_inputs_of_it(tmp_path: Path) -> None:
    found = samples(tmp_path, lambda x: {"y": x * 2.0}, tf.TensorSpec([1, 8, 8, 3], tf.float32, "x"))
    assert len({sample["x"].tobytes() for sample in found}) == len(found) == 4


def test_a_slow_model_of_one_size_is_given_two_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optops.graph.optimizer.samples.SLOW", 0.0)
    assert len(samples(tmp_path, lambda x: {"y": x * 2.0}, tf.TensorSpec([3], tf.float32, "x"))) == 2
