"""What is timed beside the executables and what becomes of those that can not be, with real worker processes."""

import numpy as np
import pytest

from optops.measurement import timing
from optops.measurement.worker_process import Contender
from optops.registry import promote
from optops.stage_spec import StageResult
from optops.stages import benchmark
from optops.stages.base import Job, StageError
from optops.stages.champion import CHAMPION_NAME
from optops.tracking import Tracking
from optops.workloads.translation.workload import TranslationWorkload

NAME = "travel_phrases_en_de"
LOADER = """
import time

import numpy as np

def sleeper(folder, threads):
    seconds, largest = np.load(folder / "sleeper.npy")
    def call(inputs):
        if len(inputs["x"]) > largest:
            raise ValueError(f"at most {largest:g} examples")
        time.sleep(seconds)
        return inputs
    return call
"""


def sleeper(seconds=0.001, largest=8):
    """The files of an executable that takes so long for a call, of so many examples at most."""
    return {"serving/sleeper.npy": np.array([seconds, largest])}


@pytest.fixture
def champion(stored, version):
    """Gives a function that makes a champion of these files."""

    def make(files):
        made = stored("champion", files)
        promote(Tracking().client, NAME, version(made), None)
        return made

    return make


@pytest.fixture
def timed(job, stored, monkeypatch, tmp_path):
    """Gives a function that runs the stage over these executables, in batches of 8 and of 1, which is the primary cell.

    It takes the error, too, of making inputs for a model with `assets/other.npy`.
    """
    (tmp_path / "benchmark_loader.py").write_text(LOADER, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(timing, "LEG_SECONDS", 0.005)
    monkeypatch.setattr(benchmark, "Contender", lambda *given: Contender(*given, "benchmark_loader:sleeper"))
    monkeypatch.setattr(Job, "examples", lambda job, split: range(8))
    monkeypatch.setattr(Tracking, "log_metrics", lambda *_: None)
    monkeypatch.setattr(Tracking, "log_file", lambda *_: None)

    def timed(candidates, error=None):
        def inputs(workload, examples, assets, batch, seed):
            if error and (assets / "other.npy").exists():
                raise error
            return [{"x": np.ones(batch)}]

        monkeypatch.setattr(TranslationWorkload, "benchmark_inputs", inputs)
        results = {
            "train": StageResult("train", "t", candidates=(stored("baseline", sleeper(0.002)),)),
            "fuse": StageResult("fuse", "f", candidates=tuple(candidates)),
        }
        settings = {"batches": [8, 1], "primary_batch": 1, "seconds_per_cell": 0.01}
        return benchmark.run(job("benchmark", results, **{f"benchmark.{key}": v for key, v in settings.items()}))

    return timed


def test_that_no_executable_can_be_timed_is_an_error_whether_the_champion_can_or_not(timed, stored, champion):
    champion(sleeper())
    with pytest.raises(StageError, match=r"(?s)not one executable could be timed: broken.* at most 0 examples"):
        timed([stored("broken", sleeper(largest=0))])


def test_a_champion_among_the_executables_is_as_fast_as_itself(timed, stored, champion):
    made = champion(sleeper())
    result = timed([stored("other", sleeper()), made])
    table = result.output["table"]
    assert set(table) == {"other", "champion", CHAMPION_NAME}
    assert table[CHAMPION_NAME]["cells"] == table["champion"]["cells"]
    assert not result.dropped


def test_a_champion_among_the_executables_that_fails_has_no_speed_and_the_reason(timed, stored, champion):
    made = champion(sleeper(largest=0))
    result = timed([stored("other", sleeper()), made])
    assert set(result.output["table"]) == {"other"}
    assert result.dropped[CHAMPION_NAME] == result.dropped["champion"]
    assert "at most 0 examples" in result.dropped[CHAMPION_NAME]


def test_a_model_that_fails_in_another_cell_still_has_its_speed_in_the_primary_one(timed, stored, champion):
    champion(sleeper(largest=1))
    result = timed([stored("good", sleeper())])
    assert set(result.output["table"][CHAMPION_NAME]["cells"]) == {"batch 1"}
    assert result.dropped[CHAMPION_NAME].startswith("batch 8: ")
    assert set(result.output["table"]["good"]["cells"]) == {"batch 1", "batch 8"}


OTHER = sleeper() | {"assets/other.npy": np.zeros(1)}


@pytest.mark.parametrize("error", [KeyError("ids"), FileNotFoundError("tokenizer.model")])
def test_a_champion_that_this_runs_data_do_not_fit_is_not_timed(timed, stored, champion, error):
    champion(OTHER)
    result = timed([stored("good", sleeper())], error)
    assert set(result.output["table"]) == {"good"}
    assert f"it takes other inputs than this run has: {type(error).__name__}" in result.output["champion_unfit"]


@pytest.mark.parametrize("error", [ConnectionError("refused"), OSError(28, "No space left on device"), MemoryError()])
def test_what_ails_the_store_or_the_host_is_no_fault_of_the_champion(timed, stored, champion, error):
    champion(OTHER)
    with pytest.raises(type(error)):
        timed([stored("good", sleeper())], error)
