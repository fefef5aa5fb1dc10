"""Checkpoints are whole or absent, damage is noticed, and a failed write leaves the earlier ones alone."""

import logging
import resource

import numpy as np
import pytest

from optops.models.training import CheckpointError, EpochRecord, TrainingSettings
from optops.models.training.checkpoints import CheckpointFolder, State

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(4, np.int64)]


def state(epoch):
    records = tuple(
        EpochRecord(number, number * 10, 0.5, 0.25, {"accuracy": 0.1}, 1.0) for number in range(1, epoch + 1)
    )
    return State(epoch, epoch * 10, records, TrainingSettings(epochs=9))


@pytest.fixture
def store(tmp_path):
    store = CheckpointFolder(tmp_path / "checkpoints")
    for epoch in (1, 2, 3):
        store.save(state(epoch), [array + epoch for array in ARRAYS], [array * epoch for array in ARRAYS])
    return store


def test_what_is_saved_is_read_back(store):
    found, weights, optimizer = CheckpointFolder(store.folder).latest()
    assert found == state(3)
    for array, weight, slot in zip(ARRAYS, weights, optimizer, strict=True):
        np.testing.assert_array_equal(weight, array + 3)
        np.testing.assert_array_equal(slot, array * 3)
        assert weight.dtype == array.dtype


@pytest.mark.parametrize("name", ["weights.npz", "optimizer.npz", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(store, caplog, name, damage):
    path = store.path(3) / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with caplog.at_level(logging.WARNING):
        found, weights, _ = store.latest()
    assert found.epoch == 2
    np.testing.assert_array_equal(weights[0], ARRAYS[0] + 2)
    assert str(path) in caplog.text
    assert "damaged" in caplog.text


def test_training_goes_on_from_the_checkpoint_before_a_truncated_one(small, tmp_path):
    straight, expected = small.train(tmp_path / "straight")
    small.train(tmp_path / "damaged")
    path = tmp_path / "damaged" / "epoch-0004" / "weights.npz"
    path.write_bytes(path.read_bytes()[:-100])
    resumed, history = small.train(tmp_path / "damaged")
    assert history == expected
    for left, right in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_without_an_intact_checkpoint_there_is_none(tmp_path):
    assert CheckpointFolder(tmp_path / "new").latest() is None


def test_a_half_written_checkpoint_is_no_checkpoint(store):
    partial = store.folder / ".epoch-0004.partial"
    partial.mkdir()
    (partial / "weights.npz").write_bytes(b"half")
    again = CheckpointFolder(store.folder)
    assert again.latest()[0].epoch == 3
    assert not partial.exists()


def test_a_write_that_fails_says_why_and_leaves_the_earlier_checkpoints(store):
    """A limit on file size stands for a full disk: both make the write fail half-way."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"epoch-0004: can't write this checkpoint of 4\.0 MB .*make room"):
            store.save(state(4), [np.zeros(1_000_000, np.float32)], ARRAYS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert store.latest()[0].epoch == 3
    assert sorted(path.name for path in store.folder.iterdir()) == ["epoch-0001", "epoch-0002", "epoch-0003"]


def test_only_what_is_asked_for_is_kept(store):
    store.discard(keep={1}, resumable={3})
    assert store.epochs() == [1, 3]
    assert not (store.path(1) / "optimizer.npz").exists()
    np.testing.assert_array_equal(store.weights(1)[0], ARRAYS[0] + 1)
    assert store.latest()[0].epoch == 3


def test_training_keeps_only_what_averaging_and_a_retry_need(small, tmp_path):
    scores = iter([0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    small.train(tmp_path, epochs=6, validate=lambda model: next(scores))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0001", "epoch-0002", "epoch-0005", "epoch-0006"]
    assert sorted(path.parent.name for path in tmp_path.glob("*/optimizer.npz")) == ["epoch-0005", "epoch-0006"]
