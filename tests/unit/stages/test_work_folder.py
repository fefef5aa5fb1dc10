"""Which folder a stage works in when two runs need the same at once."""

from dataclasses import replace
from pathlib import Path

import pytest

from optops.pipeline import STAGES, make_spec
from optops.recipe_file import read_recipe
from optops.stage_spec import RunReference, StageResult
from optops.stages.base import Job, new_job
from optops.tracking import Tracking

RECIPE = Path(__file__).parents[3] / "dags" / "recipes" / "travel_phrases.yaml"


def job_of_run(stage: str, run_id: str, folder: Path) -> Job:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for split in ("train", "validation", "test"):
        for language in ("en", "de"):
            (data / f"{split}.{language}").write_text("a\n", encoding="utf-8")
    recipe = read_recipe(RECIPE, {"data.folder": str(data)})
    results = {name: (StageResult(name, f"{name}-1", "0"),) for name in STAGES[stage].reads}
    spec = make_spec(stage, recipe, RunReference("", recipe.experiment, "", run_id), results)
    return replace(new_job(spec, Tracking()), run_id=run_id)


@pytest.mark.parametrize("stage", ["benchmark", "nominate", "gate", "register"])
def test_two_runs_that_judge_the_same_work_in_folders_of_their_own(stage, optops_home, tmp_path):
    first, second = (job_of_run(stage, run_id, tmp_path) for run_id in ("one", "two"))
    assert first.key == second.key
    kept = second.new_folder()
    first.new_folder()
    first.forget_work()
    assert kept.is_dir()


def test_a_retry_of_a_training_finds_the_checkpoints_of_the_killed_run(optops_home, tmp_path):
    first, second = (job_of_run("train", run_id, tmp_path) for run_id in ("one", "two"))
    assert first.work_folder == second.work_folder
