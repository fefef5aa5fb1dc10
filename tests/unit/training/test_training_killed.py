"""A training process that is killed with SIGKILL in mid-epoch goes on where it was."""

import signal
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np

PROGRAM = Path(__file__).with_name("killed_training.py")


def load_program():
    spec = spec_from_file_location("killed_training", PROGRAM)
    program = module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def test_killed_in_mid_epoch_and_retried_it_ends_as_if_nothing_had_happened(tmp_path):
    command = [sys.executable, str(PROGRAM), str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.split() == ["3", "2"]:
                process.kill()
                break
        assert process.wait() == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "killed").iterdir())[-1] == "epoch-0002"
    program = load_program()
    epochs = set()
    resumed = program.train(tmp_path / "killed", on_step=lambda epoch, step: epochs.add((epoch, step)))
    straight = program.train(tmp_path / "straight")
    assert {epoch for epoch, step in epochs if step > 1} == {1, 3, 4}  # 1 is read for its shapes
    for left, right in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)
