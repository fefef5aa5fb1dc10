"""StageOperator: real stage processes; only Airflow's side of the task is played by a small stand-in."""

import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from optops.operators.base import freeze_recipe
from optops.operators.parameters import defaults
from optops.operators.stages import (
    BenchmarkOperator,
    CheckLabelsOperator,
    CloseRunOperator,
    DistillOperator,
    OpenRunOperator,
    summary,
)
from optops.recipe_file import read_recipe
from optops.stage_spec import StageResult

PROGRAM = """
import json, sys, time
result, spec = sys.argv[5], json.load(open(sys.argv[3]))
answer = json.load(open(sys.argv[0] + ".answer"))
for line in answer.get("says", []):
    print(line, flush=True)
time.sleep(answer.get("seconds", 0))
json.dump(answer["result"], open(result, "w"))
json.dump(spec, open(sys.argv[0] + ".spec", "w"))
sys.exit(answer.get("status", 0))
"""


@pytest.fixture
def task(tmp_path, recipe_file, ti, store):
    """Gives a function that executes an operator in a run that is open, with what its stage answers."""
    program = tmp_path / "stage.py"
    program.write_text(PROGRAM, encoding="utf-8")
    recipe = str(recipe_file())
    context = {"ti": ti, "run_id": ti.run_id, "params": {"gate.tolerance": 0.5}, "task_state_store": store}
    ti.task_id = "open_run"
    freeze_recipe(recipe, context)
    ti.xcom_push("return_value", StageResult("open_run", "k", output={"run_id": "parent"}).to_json())
    ti.task_id = "the_task"

    def make(operator_class):
        return operator_class(task_id="the_task", recipe=recipe, command=(sys.executable, str(program)))

    def execute(operator, **answer):
        answer.setdefault("result", StageResult(operator.stage, "k").to_json())
        (tmp_path / "stage.py.answer").write_text(json.dumps(answer), encoding="utf-8")
        return operator.execute(context)

    def spec():
        return json.loads((tmp_path / "stage.py.spec").read_text(encoding="utf-8"))

    return SimpleNamespace(make=make, execute=execute, spec=spec, ti=ti, store=store, recipe=recipe, context=context)


def failing(message: str, *details: str) -> dict:
    return {"failed": {"message": message, "details": details}}


def test_the_stage_gets_the_runs_recipe_and_mlflow_run(task):
    task.execute(task.make(CheckLabelsOperator))
    spec = task.spec()
    assert spec["recipe"]["gate"]["tolerance"] == 0.5
    assert spec["run"] == {
        "tracking_uri": "",
        "experiment": "optops/phrases",
        "run_id": "parent",
        "label": "manual__1",
        "identity": "",
    }
    assert list(spec["results"]) == ["open_run"]


def test_the_result_is_plain_data(task):
    answer = StageResult("check_labels", "k", output={"defects": 3}, dropped={"a": "too slow"})
    assert StageResult.from_json(task.execute(task.make(CheckLabelsOperator), result=answer.to_json())) == answer


def test_a_stage_that_did_nothing_is_skipped_but_hands_on(task):
    passed_on = StageResult("distill", "k", skipped="distill is off in the recipe")
    with pytest.raises(AirflowSkipException, match="distill is off"):
        task.execute(task.make(DistillOperator), result=passed_on.to_json())
    assert StageResult.from_json(task.ti.xcoms["the_task", "return_value"]) == passed_on


def test_the_stages_message_is_the_tasks_and_no_retry_follows(task):
    with pytest.raises(AirflowFailException, match=r"^3 rows are empty$"):
        task.execute(task.make(CheckLabelsOperator), result=failing("3 rows are empty"), status=3)


def test_an_unreachable_server_may_be_tried_again(task):
    with pytest.raises(AirflowException, match=r"^MLflow is gone$") as failure:
        task.execute(task.make(CheckLabelsOperator), result=failing("MLflow is gone"), status=75)
    assert not isinstance(failure.value, AirflowFailException)


def test_an_announced_link_is_on_its_button_while_the_stage_runs(task):
    url = "http://127.0.0.1:5000/#/runs/1"
    with pytest.raises(AirflowFailException):
        task.execute(
            task.make(CheckLabelsOperator),
            says=[f"::optops::link mlflow_run {url}", "::optops::link data_docs mlflow-artifacts:/docs"],
            result=failing("no"),
            status=3,
        )
    assert task.ti.xcoms["the_task", "_link_MlflowRunLink"] == url
    assert ("the_task", "_link_DataDocsLink") not in task.ti.xcoms


def test_buttons_show_what_the_result_names(task):
    operator = task.make(CheckLabelsOperator)
    result = StageResult("check_labels", "k", links={"data_docs": "https://host/docs"})
    task.execute(operator, result=result.to_json())
    links = {link.name: link.get_link(operator, ti_key=None) for link in operator.operator_extra_links}
    assert links == {"MLflow run": "", "Data Docs": "https://host/docs"}


def test_killing_the_task_ends_the_stage(task):
    operator = task.make(CheckLabelsOperator)
    timer = threading.Timer(1.0, operator.on_kill)
    timer.start()
    with pytest.raises(AirflowException, match="stopped"):
        task.execute(operator, seconds=300)


def test_killing_a_task_that_has_not_started_does_nothing(task):
    assert task.make(CheckLabelsOperator).on_kill() is None


def test_opening_freezes_the_recipe_for_the_run(task):
    task.ti.xcoms.clear()
    task.execute(task.make(OpenRunOperator))
    assert task.ti.xcoms["the_task", "recipe"]["overrides"] == {"gate.tolerance": 0.5}


def test_a_run_has_an_identity_that_a_clear_does_not_change_and_no_other_run_has(task):
    def identity():
        task.execute(task.make(OpenRunOperator))
        return task.spec()["run"]["identity"]

    first = identity()
    assert first and identity() == first
    task.store.clear()
    assert identity() != first


def test_a_cleared_run_takes_over_an_edit_but_for_what_it_was_started_to_change(task, recipe_file):
    form = defaults(read_recipe(Path(task.recipe)))
    task.store.clear()
    # As the form gives them: all, of which one was changed.
    task.context["params"] = form | {"seed": 5}

    def recipe():
        task.execute(task.make(OpenRunOperator))
        return task.spec()["recipe"]

    assert (recipe()["gate"]["tolerance"], recipe()["seed"]) == (0.03, 5)
    edited = Path(task.recipe).read_text(encoding="utf-8").replace("tolerance: 0.03", "tolerance: 0.01")
    recipe_file("approval: {mode: required, approvers: [ann]}\nseed: 9\n", text=edited)
    cleared = recipe()
    assert (cleared["gate"]["tolerance"], cleared["seed"], cleared["approval"]["mode"]) == (0.01, 5, "required")


def test_what_a_run_changes_is_in_the_log_of_the_task_that_opens_it(task, capsys):
    task.execute(task.make(OpenRunOperator))
    assert "this run changes the recipe: gate.tolerance is 0.5" in capsys.readouterr().out


def test_a_stage_of_a_run_without_an_mlflow_run_says_what_to_clear(task):
    del task.ti.xcoms["open_run", "return_value"]
    with pytest.raises(AirflowFailException, match="open_run opened no MLflow run; clear it"):
        task.execute(task.make(CheckLabelsOperator))


def test_parameters_that_make_no_recipe_fail_without_a_retry(task):
    operator = task.make(OpenRunOperator)
    task.store.clear()
    with pytest.raises(AirflowFailException, match=r"gate\.tolerance"):
        operator.execute({**task.context, "params": {"gate.tolerance": "much"}})


def test_a_run_that_never_opened_says_so(task):
    task.ti.xcoms.clear()
    with pytest.raises(AirflowFailException, match="open_run left no recipe"):
        task.execute(task.make(CheckLabelsOperator))


def test_closing_tells_the_stage_every_tasks_state(task):
    task.ti.states = {"train": "success", "fuse_0": "success", "fuse_12": "skipped", "fuse_items": "success"}
    task.execute(task.make(CloseRunOperator))
    expected = {"train": "success", "fuse[0]": "success", "fuse[12]": "skipped", "fuse_items": "success"}
    assert task.spec()["state"] == expected


def test_closing_a_run_with_a_failed_task_closes_it_and_fails(task):
    task.ti.states = {"train": "success", "fuse_1": "failed"}
    with pytest.raises(AirflowFailException, match=r"failed: fuse\[1\]"):
        task.execute(task.make(CloseRunOperator))
    assert ("the_task", "return_value") in task.ti.xcoms


def test_closing_a_run_that_a_person_stopped_before_its_verdict_closes_it_and_fails(task):
    task.ti.states = {"train": "success", "benchmark": "skipped", "gate": "skipped"}
    with pytest.raises(AirflowFailException, match="before the gate judged"):
        task.execute(task.make(CloseRunOperator))
    assert task.spec()["state"]["benchmark"] == "skipped"


def accepts(task):
    """Lets the gate accept and all tasks up to the promotion succeed."""
    task.ti.xcoms["gate", "return_value"] = StageResult("gate", "g", output={"accepted": True}).to_json()
    task.ti.states = dict.fromkeys(["open_run", "gate", "register", "approve", "promote"], "success")


STOPPED_AT = {
    "register": "before what the gate accepted was registered",
    "approve": "before what the gate accepted was approved",
    "promote": "before what the gate accepted was promoted",
}


@pytest.mark.parametrize(("first", "message"), STOPPED_AT.items(), ids=STOPPED_AT)
def test_closing_a_run_that_a_person_stopped_after_its_verdict_closes_it_and_fails(task, first, message):
    accepts(task)
    tasks = list(STOPPED_AT)
    task.ti.states |= dict.fromkeys(tasks[tasks.index(first) :], "skipped")
    with pytest.raises(AirflowFailException, match=message):
        task.execute(task.make(CloseRunOperator))
    assert task.spec()["state"][first] == "stopped"


REASONS = {
    "rejected": ("approve", {"chosen_options": ["Reject"]}),
    "rolled back": ("promote", StageResult("promote", "p", skipped="version 2 was rolled back").to_json()),
}


@pytest.mark.parametrize(("name", "handed_on"), REASONS.values(), ids=REASONS)
def test_a_promotion_that_was_skipped_for_a_reason_is_no_failure(task, name, handed_on):
    accepts(task)
    task.ti.states["promote"] = "skipped"
    task.ti.xcoms[name, "return_value"] = handed_on
    task.execute(task.make(CloseRunOperator))
    assert task.spec()["state"]["promote"] == "skipped"


def test_a_refused_nominee_is_no_failure(task):
    accepts(task)
    task.ti.xcoms["gate", "return_value"] = StageResult("gate", "g", output={"accepted": False}).to_json()
    task.ti.states |= dict.fromkeys(STOPPED_AT, "skipped")
    task.execute(task.make(CloseRunOperator))
    assert [task.spec()["state"][name] for name in STOPPED_AT] == ["skipped"] * len(STOPPED_AT)


def test_closing_a_run_that_never_opened_fails(task):
    task.ti.xcoms.clear()
    with pytest.raises(AirflowFailException, match="did not open a run"):
        task.execute(task.make(CloseRunOperator))


def test_what_items_of_an_earlier_longer_plan_handed_on_is_left_out(task):
    def hands_on(name, result):
        task.ti.xcoms[name, "return_value"] = result.to_json()

    hands_on("plan", StageResult("plan", "p", output={"quantize": [], "fuse": [{"label": "a"}, {"label": "b"}]}))
    for index in (1, 2):
        hands_on(f"fuse[{index}]", StageResult("fuse", f"fuse-{index}"))
    task.execute(task.make(BenchmarkOperator))
    # Item 0 failed, item 2 is not planned any more.
    assert [result["key"] for result in task.spec()["results"]["fuse"]] == ["fuse-1"]


def test_closing_counts_only_what_was_handed_on_since_the_run_was_cleared(task):
    for stage in ("train", "distill", "gate", "promote"):
        task.ti.xcoms[stage, "return_value"] = StageResult(stage, stage).to_json()
    task.ti.xcoms["distill", "return_value"] = StageResult("distill", "d", skipped="off").to_json()
    task.ti.states = {
        "open_run": "success",
        "train": "success",
        "distill": "skipped",
        "gate": "upstream_failed",
        # Rejected this time; it was promoted before.
        "promote": "skipped",
    }
    with pytest.raises(AirflowFailException):
        task.execute(task.make(CloseRunOperator))
    handed_on = {name for name, results in task.spec()["results"].items() if results}
    assert handed_on == {"open_run", "train", "distill"}


def test_the_summary_tells_failed_from_not_run():
    states = {"train": "failed", "gate": "upstream_failed", "open_run": "success"}
    assert summary(states) == "failed: train; so these did not run: gate"
