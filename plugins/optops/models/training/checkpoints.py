"""Checkpoints on disk: one folder per epoch, complete or absent, vouched for by digests, and no pickle in them."""

import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.candidate import digest_file
from optops.models.training.settings import EpochRecord, TrainingSettings

WEIGHTS_FILE = "weights.npz"
OPTIMIZER_FILE = "optimizer.npz"
STATE_FILE = "state.json"

Arrays = Sequence[NDArray[Any]]
log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint can't be written, or can't be used for this run."""


@dataclass(frozen=True)
class State:
    """What a checkpoint says next to its arrays.

    Attributes:
        epoch: The last complete epoch, from 1.
        step: Steps done since the start of the run.
        records: One per epoch done.
        settings: Those of the run.
    """

    epoch: int
    step: int
    records: tuple[EpochRecord, ...]
    settings: TrainingSettings


class CheckpointFolder:
    """The checkpoints of one run, `epoch-0001`, `epoch-0002`, ...

    Each holds `weights.npz` and `state.json` with the digests of the arrays; `optimizer.npz` stays only as long as a
    retry may need it. A checkpoint is written under another name and renamed when it is complete and on disk, so a
    process may be killed at any moment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*.partial"):
            shutil.rmtree(leftover)

    def path(self, epoch: int) -> Path:
        """Returns the folder of one epoch's checkpoint."""
        return self.folder / f"epoch-{epoch:04d}"

    def epochs(self) -> list[int]:
        """Returns the epochs that have a checkpoint, intact or not, in order."""
        return sorted(int(path.name.removeprefix("epoch-")) for path in self.folder.glob("epoch-*"))

    def save(self, state: State, weights: Arrays, optimizer: Arrays) -> Path:
        """Writes the checkpoint of an epoch and returns its folder.

        Raises:
            CheckpointError: If it can't be written (a full disk, say); earlier checkpoints are untouched.
        """
        partial = self.folder / f".epoch-{state.epoch:04d}.partial"
        try:
            partial.mkdir()
            _write_arrays(partial / WEIGHTS_FILE, weights)
            _write_arrays(partial / OPTIMIZER_FILE, optimizer)
            _write_state(partial, state)
            if self.path(state.epoch).exists():  # only a damaged one is ever written again
                shutil.rmtree(self.path(state.epoch))
            partial.rename(self.path(state.epoch))
            _sync(self.folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            free = shutil.disk_usage(self.folder).free
            size = sum(array.nbytes for array in (*weights, *optimizer))
            raise CheckpointError(
                f"{self.path(state.epoch)}: can't write this checkpoint of {size / 1e6:.1f} MB ({error}; "
                f"{free / 1e6:.1f} MB are free); make room and retry, training goes on after the checkpoint before"
            ) from error
        return self.path(state.epoch)

    def latest(self) -> tuple[State, list[NDArray[Any]], list[NDArray[Any]]] | None:
        """Returns state, weights and optimizer of the last intact checkpoint, or None; a damaged one is reported."""
        for epoch in reversed(self.epochs()):
            try:
                return self.state(epoch), self.weights(epoch), self._arrays(epoch, OPTIMIZER_FILE)
            except CheckpointError as error:
                log.warning("%s; the checkpoint before it is used instead", error)
        return None

    def state(self, epoch: int) -> State:
        """Returns the state of one checkpoint.

        Raises:
            CheckpointError: If it is missing or damaged.
        """
        data = self._state_data(epoch)
        return State(
            epoch=data["epoch"],
            step=data["step"],
            records=tuple(EpochRecord.from_json(record) for record in data["records"]),
            settings=TrainingSettings(**data["settings"]),
        )

    def weights(self, epoch: int) -> list[NDArray[Any]]:
        """Returns the weights of one checkpoint, in the order of `model.weights`.

        Raises:
            CheckpointError: If they are missing or damaged.
        """
        return self._arrays(epoch, WEIGHTS_FILE)

    def discard(self, *, keep: set[int], resumable: set[int]) -> None:
        """Deletes the checkpoints of epochs outside `keep`, and the optimizer's state outside `resumable`."""
        for epoch in self.epochs():
            if epoch not in keep | resumable:
                partial = self.folder / f".epoch-{epoch:04d}.partial"
                self.path(epoch).rename(partial)
                shutil.rmtree(partial)
            elif epoch not in resumable:
                (self.path(epoch) / OPTIMIZER_FILE).unlink(missing_ok=True)

    def _state_data(self, epoch: int) -> dict[str, Any]:
        path = self.path(epoch) / STATE_FILE
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: missing or damaged ({error})") from error
        return data

    def _arrays(self, epoch: int, name: str) -> list[NDArray[Any]]:
        path = self.path(epoch) / name
        expected = self._state_data(epoch)["digests"][name]
        if not path.is_file() or digest_file(path) != expected:
            raise CheckpointError(f"{path}: missing or damaged, its sha256 is not {expected}")
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[key] for key in sorted(arrays.files)]


def _write_arrays(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as stream:
        # By position: tf_keras numbers layers per process, so names differ between a run and its retry.
        named: dict[str, Any] = {f"{index:06d}": array for index, array in enumerate(arrays)}
        np.savez(stream, **named)
        stream.flush()
        os.fsync(stream.fileno())


def _write_state(folder: Path, state: State) -> None:
    digests = {name: digest_file(folder / name) for name in (WEIGHTS_FILE, OPTIMIZER_FILE)}
    with (folder / STATE_FILE).open("w", encoding="utf-8") as stream:
        json.dump({**asdict(state), "digests": digests}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    _sync(folder)


def _sync(folder: Path) -> None:
    """Makes a rename in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
