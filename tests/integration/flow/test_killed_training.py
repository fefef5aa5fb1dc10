"""A stage that is killed in mid-training and started again."""

import os
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


def process_of(stage: str) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[1:4] == ["-m", "optops.stages", stage]:
            return int(folder.name)
    raise AssertionError(f"no process runs the stage {stage}")


def test_a_killed_training_goes_on_from_its_checkpoint_in_the_same_mlflow_run(run, home):
    recipe = read_recipe(home / "numbers.yaml", {"seed": 5, "distill": "off"})
    reference = RunReference("", recipe.experiment, "", "killed")
    results = {}

    def execute(stage, on_line=lambda line: None):
        spec = make_spec(stage, recipe, reference, results)
        results[stage] = [SubprocessRunner().run(spec, on_line, lambda name, url: None)]
        return results[stage][0]

    reference = replace(reference, run_id=execute("open_run").output["run_id"])
    execute("check_labels")

    def kill_in_the_third_epoch(line):
        if "epoch 3/" in line:
            os.kill(process_of("train"), signal.SIGKILL)

    with pytest.raises(StageFailed) as failure:
        execute("train", kill_in_the_third_epoch)
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
