"""Timing with real worker processes: comparison, failures, silence while idle, end of life."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from optops.measurement.timing import Cell, compare, compare_all, noise_floor
from optops.measurement.worker_process import Contender, Worker, WorkerError

LOADERS = """
import os, sys, time
from pathlib import Path

def sleeper(folder, threads):
    seconds = float((Path(folder) / "seconds").read_text())
    def call(inputs):
        time.sleep(seconds)
        return {"sum": inputs["x"].sum(keepdims=True)}
    return call

def as_told(folder, threads):
    return lambda inputs: time.sleep(float(inputs["seconds"]))

def renamed(folder, threads):
    call = sleeper(folder, threads)
    return lambda inputs: call({"x": inputs["y"]})

def noisy(folder, threads):
    print("banner of a library", flush=True)
    os.write(1, b"from C\\n")
    def call(inputs):
        print("printed in a call", flush=True)
        return inputs
    return call

def crashing(folder, threads):
    def call(inputs):
        print("about to abort", file=sys.stderr, flush=True)
        os.abort()
    return call

def refusing(folder, threads):
    def call(inputs):
        raise ValueError("input x must be float32")
    return call

def unloadable(folder, threads):
    raise OSError(f"no model in {folder}")

def hanging(folder, threads):
    time.sleep(3600)

def environment(folder, threads):
    assert os.environ["OMP_NUM_THREADS"] == os.environ["TF_NUM_INTRAOP_THREADS"] == str(threads)
    return lambda inputs: inputs
"""


@pytest.fixture
def loaders(tmp_path, monkeypatch):
    (tmp_path / "measured_loaders.py").write_text(LOADERS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def inputs(tmp_path) -> Path:
    path = tmp_path / "cell.npz"
    np.savez(path, x=np.ones((2, 3), np.float32))
    return path


def contender(folder: Path, loader: str, name: str | None = None, seconds: float = 0.001) -> Contender:
    name = name or loader
    (folder / name).mkdir()
    (folder / name / "seconds").write_text(str(seconds))
    return Contender(name, folder / name, threads=1, loader=f"measured_loaders:{loader}")


def is_stopped(process_id: int) -> bool:
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_faster_candidate_shows_its_speed_up(loaders, inputs):
    slow = contender(loaders, "sleeper", "slow", 0.008)
    fast = contender(loaders, "sleeper", "fast", 0.002)
    with Worker(slow) as reference, Worker(fast) as candidate:
        comparison = compare(reference, candidate, cell_inputs=[inputs], items=2, seconds=0.1, seed=0)
    assert 1.3 < comparison.speed_up.low <= comparison.speed_up.ratio <= comparison.speed_up.high < 8
    assert comparison.speed_up.blocks == len(comparison.log_ratios) >= 6
    assert comparison.reference.latency["p50"] >= 0.008
    assert comparison.candidate.latency["p50"] >= 0.002
    assert comparison.candidate.calls == 2 * comparison.candidate.calls_per_leg * comparison.speed_up.blocks
    assert 0 < comparison.candidate.items_per_second < 2 / 0.002
    assert comparison.candidate.peak_memory_bytes >= comparison.candidate.memory_after_load_bytes > 0
    assert comparison.candidate.load_seconds > 0
    assert json.loads(json.dumps(asdict(comparison), allow_nan=False))["candidate"]["name"] == "fast"


def test_the_median_latency_lies_in_its_interval_where_inputs_take_unlike_times(loaders, tmp_path):
    paths = [tmp_path / f"input-{number}.npz" for number in range(3)]
    for path, seconds in zip(paths, (0.004, 0.004, 0.04), strict=True):
        np.savez(path, seconds=seconds)
    with Worker(contender(loaders, "as_told")) as worker:
        timed = noise_floor(worker, cell_inputs=paths, items=1, seconds=0.1, seed=0).comparison.candidate
    low, high = timed.p50_interval
    assert 0.9 * low <= timed.latency["p50"] <= 1.1 * high
    assert high < 0.012


def test_a_contender_is_as_fast_as_itself_within_the_noise(loaders, inputs):
    with Worker(contender(loaders, "sleeper")) as worker:
        floor = noise_floor(worker, cell_inputs=[inputs], items=2, seconds=0.1, seed=0)
    assert floor.comparison.speed_up.low <= 1 + floor.resolution
    assert floor.comparison.speed_up.high >= 1 / (1 + floor.resolution)
    assert 0 <= floor.resolution < 1


def test_all_candidates_are_compared_on_all_cells_and_a_failing_one_is_recorded(loaders, inputs):
    candidates = [
        contender(loaders, "unloadable"),
        contender(loaders, "refusing"),
        contender(loaders, "sleeper", "good"),
    ]
    cells = [Cell("batch 1", [inputs], 1), Cell("batch 2", [inputs], 2)]
    progress = []
    with Worker(contender(loaders, "sleeper", "baseline")) as baseline:
        result = compare_all(
            baseline, candidates, cells, seconds=0.01, seed=0, on_progress=lambda *step: progress.append(step)
        )
    assert [(m.candidate, m.cell) for m in result.comparisons] == [("good", "batch 1"), ("good", "batch 2")]
    assert [(f.candidate, f.cell) for f in result.failures] == [("unloadable", None), ("refusing", "batch 1")]
    assert "no model in" in result.failures[0].reason
    assert "input x must be float32" in result.failures[1].reason
    assert progress[0] == (0, 6, "unloadable: loading")
    assert progress[-1] == (6, 6, "done")


def test_a_contender_may_take_the_examples_in_a_form_of_its_own(loaders, inputs):
    own = [inputs.with_name(f"own-{number}.npz") for number in range(3)]
    for path in own:
        np.savez(path, y=np.ones((2, 5), np.float32))
    cells = [Cell("batch 1", [inputs], 1, inputs_of={"other": own})]
    candidates = [contender(loaders, "sleeper", "same"), contender(loaders, "renamed", "other", seconds=0.002)]
    with Worker(contender(loaders, "sleeper", "baseline")) as baseline:
        result = compare_all(baseline, candidates, cells, seconds=0.01, seed=0)
    assert not result.failures
    assert [m.candidate for m in result.comparisons] == ["same", "other"]
    assert result.comparisons[1].comparison.candidate.calls_per_leg % 3 == 0


def test_a_failing_reference_is_an_error(loaders, inputs):
    cells = [Cell("batch 1", [inputs], 1)]
    with Worker(contender(loaders, "refusing")) as refusing, pytest.raises(WorkerError, match="must be float32"):
        compare_all(refusing, [contender(loaders, "sleeper")], cells, seconds=0.01, seed=0)


def test_contenders_of_one_name_are_refused(loaders, inputs):
    one = contender(loaders, "sleeper")
    with Worker(one) as worker, pytest.raises(ValueError, match="distinct names"):
        compare_all(worker, [one], [Cell("batch 1", [inputs], 1)], seconds=0.01, seed=0)


def test_what_a_library_prints_does_not_reach_the_protocol(loaders, inputs):
    with Worker(contender(loaders, "noisy")) as worker:
        worker.load_inputs([inputs])
        assert worker.run(5).shape == (5,)


def test_a_crash_is_reported_with_its_signal_and_last_words(loaders, inputs):
    with Worker(contender(loaders, "crashing")) as worker:
        worker.load_inputs([inputs])
        with pytest.raises(WorkerError, match=r"(?s)crashing .*SIGABRT.*about to abort"):
            worker.run(1)
        with pytest.raises(WorkerError, match="died"):
            worker.report()


def test_a_worker_killed_while_idle_is_reported(loaders, inputs):
    with Worker(contender(loaders, "sleeper")) as worker:
        os.kill(worker.process_id, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"SIGKILL \(out of memory\?\)"):
            worker.load_inputs([inputs])


def test_an_error_in_a_call_leaves_the_worker_usable(loaders, inputs):
    with Worker(contender(loaders, "refusing")) as worker:
        with pytest.raises(WorkerError, match="send load_inputs before run"):
            worker.run(1)
        worker.load_inputs([inputs])
        with pytest.raises(WorkerError, match="must be float32"):
            worker.run(1)
        assert worker.report().peak_memory_bytes > 0


def test_pickled_inputs_are_refused(loaders, tmp_path):
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    with (
        Worker(contender(loaders, "sleeper")) as worker,
        pytest.raises(WorkerError, match="allow_pickle=False"),
    ):
        worker.load_inputs([tmp_path / "objects.npz"])


def test_a_loader_that_hangs_is_ended(loaders):
    with pytest.raises(WorkerError, match=r"no answer within 0\.5 s"):
        Worker(contender(loaders, "hanging"), reply_timeout=0.5)


def test_threads_are_fixed_before_any_import(loaders, inputs):
    with Worker(contender(loaders, "environment")) as worker:
        worker.load_inputs([inputs])
        assert len(worker.run(1)) == 1


def test_too_few_threads_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        Contender("none", tmp_path, threads=0)


def test_an_idle_worker_is_frozen_and_a_stopped_one_is_gone(loaders, inputs):
    with Worker(contender(loaders, "sleeper")) as worker:
        assert is_stopped(worker.process_id)
        worker.load_inputs([inputs])
        assert worker.run(3).min() >= 0.001
        assert is_stopped(worker.process_id)
    with pytest.raises(ProcessLookupError):
        os.kill(worker.process_id, 0)
    with pytest.raises(WorkerError, match="has been stopped"):
        worker.run(1)


def test_a_frozen_worker_does_not_outlive_its_killed_parent(loaders):
    slow = contender(loaders, "sleeper")
    parent = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from optops.measurement.worker_process import Contender, Worker
        worker = Worker(Contender("orphan", Path({str(slow.folder)!r}), 1, "measured_loaders:sleeper"))
        print(worker.process_id, flush=True)
        sys.stdin.read()
        """
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    worker_id = int(process.stdout.readline())
    assert is_stopped(worker_id)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    # Whoever adopts the orphan may be slow to reap it: a zombie is as dead as one that is gone.
    while is_alive(worker_id):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(process_id: int) -> bool:
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
