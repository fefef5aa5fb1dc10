"""A stage that is killed in mid-training and started again."""

import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from optops.pipeline import make_spec
from optops.recipe_file import read_recipe
from optops.runners.base import StageFailed
from optops.runners.subprocess import SubprocessRunner
from optops.stage_spec import RunReference
from optops.tracking import KEY_TAG, Tracking

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def children_of(process: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{process}/task").iterdir() for child in _words(task / "children")]


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []


def process_of(stage: str) -> int:
    """Returns the process that this test started for a stage: the child of a guard, which is a child of ours."""
    for guard in children_of(os.getpid()):
        for child in children_of(guard):
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            if words[1:4] == ["-m", "optops.stages", stage]:
                return child
    raise AssertionError(f"no process of ours runs the stage {stage}")


def test_a_killed_training_goes_on_from_its_checkpoint_in_the_same_mlflow_run(run, home):
    recipe = read_recipe(home / "numbers.yaml", {"seed": 5, "distill": "off", "train.epochs": 15})
    reference = RunReference("", recipe.experiment, "", "killed")
    results = {}

    def execute(stage, on_line=lambda line: None):
        spec = make_spec(stage, recipe, reference, results)
        results[stage] = [SubprocessRunner().run(spec, on_line, lambda name, url: None)]
        return results[stage][0]

    reference = replace(reference, run_id=execute("open_run").output["run_id"])
    execute("check_labels")

    killed = []

    def kill_after_the_first_epoch(line):
        # A fast machine does not get a line of every epoch.
        if not killed and re.search(r"baseline: epoch ([2-9]|1[0-4])/", line):
            killed.append(line)
            os.kill(process_of("train"), signal.SIGKILL)

    with pytest.raises(StageFailed) as failure:
        execute("train", kill_after_the_first_epoch)
    assert failure.value.retry

    lines = []
    trained = execute("train", lines.append)
    epochs = [line for line in lines if "baseline: epoch" in line]
    assert epochs
    assert not [line for line in epochs if "epoch 1/" in line], "it began from the start"
    client = Tracking().client
    experiment = client.get_run(reference.run_id).info.experiment_id
    runs = client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{trained.key}'")
    assert [found.info.status for found in runs] == ["FINISHED"]
