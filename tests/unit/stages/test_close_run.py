"""How the MLflow run ends."""

from pathlib import Path

import pytest

from optops.pipeline import make_spec
from optops.recipe_file import read_recipe
from optops.stage_spec import RunReference, StageResult
from optops.stages.execution import run_stage
from optops.tracking import Tracking

RECIPE = Path(__file__).parents[3] / "dags" / "recipes" / "travel_phrases.yaml"
REFUSED = {"accepted": False, "verdict": {"verdict": "regression", "markdown": "Worse."}}


@pytest.mark.usefixtures("optops_home")
@pytest.mark.parametrize(
    ("gate", "states", "status"),
    [
        (REFUSED, {"gate": "success"}, "FINISHED"),
        (REFUSED, {"promote": "failed"}, "FAILED"),
        (None, {"train": "skipped", "gate": "skipped"}, "FAILED"),
        (REFUSED | {"accepted": True}, {"gate": "success", "register": "stopped"}, "FAILED"),
    ],
    ids=["refused", "failed", "without a verdict", "stopped"],
)
def test_a_run_is_finished_if_it_has_a_verdict_and_nothing_failed_or_was_stopped(gate, states, status):
    recipe = read_recipe(RECIPE)
    reference = RunReference("", recipe.experiment, "", "manual__1")
    opened = run_stage(make_spec("open_run", recipe, reference, {}))
    judged = () if gate is None else (StageResult("gate", "g", output=gate),)
    run_stage(make_spec("close_run", recipe, reference, {"open_run": (opened,), "gate": judged}, state=states))
    assert Tracking().client.get_run(opened.output["run_id"]).info.status == status
