"""Checkpoints in a real artifact store, and two hosts that take turns at one training."""

from types import SimpleNamespace

import pytest

from optops.stages import checkpoints
from optops.tracking import Tracking

NAME = "baseline"


@pytest.fixture
def attempt(optops_home, tmp_path):
    """What of a job is asked for here: its MLflow run, and a folder for what is on its way."""
    del optops_home
    tracking = Tracking()

    def new_folder():
        folder = tmp_path / "new"
        folder.mkdir(exist_ok=True)
        return folder

    run_id = tracking.open_run("optops/test", "train", {})
    return SimpleNamespace(tracking=tracking, run_id=run_id, new_folder=new_folder, log=print)


def train(attempt, folder, *epochs):
    """Writes the checkpoints of some epochs and keeps them; the trainer needs the last two alone."""
    for epoch in epochs:
        made = folder / f"epoch-{epoch:04d}"
        made.mkdir(parents=True)
        (made / "weights.npz").write_bytes(b"weights")
        for old in sorted(folder.iterdir())[:-2]:
            (old / "weights.npz").unlink()
            old.rmdir()
        checkpoints.keep(attempt, made, NAME)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_training_goes_on_from_the_newest_checkpoint_whichever_host_made_it(attempt, tmp_path):
    first, second = tmp_path / "first host", tmp_path / "second host"
    train(attempt, first, 1, 2)
    checkpoints.restore(attempt, second, NAME)
    assert names(second) == ["epoch-0001", "epoch-0002"]
    train(attempt, second, 3, 4)
    checkpoints.restore(attempt, first, NAME)
    assert names(first) == ["epoch-0003", "epoch-0004"]
    train(attempt, first, 5)
    stored = attempt.tracking.client.list_artifacts(attempt.run_id, f"{checkpoints.FOLDER}/{NAME}")
    assert sorted(file.path.rpartition("/")[2] for file in stored) == ["epoch-0004", "epoch-0005"]


def test_what_another_run_left_on_this_host_is_stored_with_the_first_checkpoint_of_this_one(attempt, tmp_path):
    first, second = tmp_path / "first host", tmp_path / "second host"
    for epoch in (2, 4):  # the best one and the newest of a run that was killed
        (first / f"epoch-{epoch:04d}").mkdir(parents=True)
        (first / f"epoch-{epoch:04d}" / "weights.npz").write_bytes(b"weights")
    checkpoints.keep(attempt, first / "epoch-0004", NAME)
    checkpoints.restore(attempt, second, NAME)
    assert names(second) == ["epoch-0002", "epoch-0004"]


def test_a_checkpoint_that_is_not_in_the_store_yet_is_not_lost(attempt, tmp_path):
    here = tmp_path / "host"
    train(attempt, here, 1, 2)
    (here / "epoch-0003").mkdir()
    checkpoints.restore(attempt, here, NAME)
    assert "epoch-0003" in names(here)
