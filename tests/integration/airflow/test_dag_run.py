"""Whole runs of a recipe's DAG in a real Airflow; the stages are stand-ins that keep the contract."""

import json

import pytest

# One process for all runs: importing Airflow costs more than a run.
DRIVER = """
import json, logging, os, sys
from functools import partial
sys.path.insert(0, sys.argv[1])
import stand_in
from airflow.api.common.mark_tasks import set_dag_run_state_to_failed, set_dag_run_state_to_success
from airflow.models.asset import AssetEvent
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.models.trigger import handle_event_submit
from airflow.sdk.timezone import utcnow
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import TriggerEvent
from airflow.utils.session import create_session

def answer(option, ti, session):
    answered = session.get(HITLDetail, ti.id)
    answered.responded_at, answered.chosen_options = utcnow(), [option]
    answered.responded_by = {"id": "ann", "name": "ann"}
    handle_event_submit(TriggerEvent(answered.as_resume_event_payload()), task_instance=ti, session=session)

approve, reject = partial(answer, "Approve"), partial(answer, "Reject")

def mark_as_success(ti, session):
    ti.set_state("success", session=session)

def ask_again(ti, session):
    session.get(HITLDetail, ti.id).body = "The verdict before the run was cleared."
    session.flush()  # under the task instance's id of now, which a clear changes
    clear_task_instances([ti], session)

def mark_run(set_state, ti, session):
    dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(stand_in.dag))
    set_state(dag=dag, run_id=ti.run_id, commit=True, session=session)

mark_run_as_failed = partial(mark_run, set_dag_run_state_to_failed)
mark_run_as_success = partial(mark_run, set_dag_run_state_to_success)

class Person(logging.Handler):
    # Acts when Airflow says that it waits: before that, it still has to write down that the task asks.
    def __init__(self, act):
        super().__init__()
        self.act = act

    def emit(self, record):
        if self.act and record.msg.startswith("Waiting for Human-in-the-loop"):
            act, self.act = self.act, None
            with create_session() as session:
                act(session.query(TaskInstance).filter_by(task_id="approve", state="awaiting_input").one(), session)

def link(run, task, key):
    ti = run.get_task_instance(task)
    return ti.xcom_pull(task_ids=task, key=key)

loop = logging.getLogger("airflow.sdk.definitions.dag")
loop.setLevel(logging.INFO)
answers = {}
for name, (conf, behaviour, act) in json.loads(sys.argv[2]).items():
    person = Person(globals()[act] if act else None)
    loop.addHandler(person)
    record = os.path.join(sys.argv[3], name)
    os.makedirs(record)
    os.environ["OPTOPS_STAND_IN"] = json.dumps({**behaviour, "record": record})
    run = stand_in.dag.test(run_conf=conf)
    loop.removeHandler(person)
    label = lambda ti: ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"
    tasks = {label(ti): ti for ti in run.get_task_instances()}
    answers[name] = {
        "state": str(run.state.value),
        "tasks": {task: str(ti.state) for task, ti in tasks.items()},
        "labels": {task: ti.rendered_map_index for task, ti in tasks.items() if ti.map_index >= 0},
        "link": link(run, "train", "_link_MlflowRunLink"),
    }

with create_session() as session:
    answers["events"] = [event.extra for event in session.query(AssetEvent)]
print(json.dumps(answers))
"""

ASKING = {"approval.mode": "required", "approval.approvers": ["ann"]}

# Parameters, what the stages do, and what a person does once asked.
RUNS = {
    "accepted": ({}, {}, ""),
    "item_failed": ({"prune": True, "gate.tolerance": 0.07}, {"fail": {"baseline int8": "no range for conv1"}}, ""),
    "refused": ({}, {"refuse": "regression"}, ""),
    "bad_labels": ({}, {"fail": {"check_labels": "3 rows are empty"}}, ""),
    "approved": (ASKING, {}, "approve"),
    "rejected": (ASKING, {}, "reject"),
    "marked_as_success": (ASKING, {}, "mark_as_success"),
    "asked_again": (ASKING, {}, "ask_again"),
    "stopped": (ASKING, {}, "mark_run_as_failed"),
    "ended": (ASKING, {}, "mark_run_as_success"),
}

MAPPED = {"quantize": 2, "fuse": 3}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(home, tmp_path_factory):
    """What became of the runs; `record` has the specs that their stages were given."""
    home.add_stand_in()
    home.python("import sys; from airflow.__main__ import main; sys.argv[1:] = ['db', 'migrate']; main()")
    record = tmp_path_factory.mktemp("record")
    answers = json.loads(home.python(DRIVER, str(home.dags), json.dumps(RUNS), str(record)))
    return answers | {"record": record}


def specs(runs, name):
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (runs["record"] / name).iterdir()}


def test_a_run_goes_through_all_stages_to_promotion(runs):
    run = runs["accepted"]
    assert run["state"] == "success"
    skipped = [task for task, state in run["tasks"].items() if state == "skipped"]
    assert skipped == ["prune"]
    assert {state for task, state in run["tasks"].items() if task != "prune"} == {"success"}


def test_a_stage_that_is_off_passes_its_input_on(runs):
    handed = specs(runs, "accepted")["quantize baseline int8"]["results"]["prune"]
    assert [candidate["name"] for candidate in handed[0]["candidates"]] == ["baseline", "made by distill"]


def test_mapped_stages_have_an_item_for_each_entry_of_the_plan_under_its_label(runs):
    labels = runs["accepted"]["labels"]
    for stage, count in MAPPED.items():
        assert sum(task.startswith(f"{stage}[") for task in labels) == count
    assert labels["fuse[2]"] == "baseline int8 onnxruntime"


def test_a_stage_gets_what_it_declares_and_every_result_of_a_mapped_one(runs):
    handed = specs(runs, "accepted")["benchmark benchmark"]["results"]
    assert {stage: len(results) for stage, results in handed.items()} == {"check_labels": 1, "train": 1, "fuse": 3}


def test_the_mlflow_run_is_open_for_every_stage(runs):
    for name, spec in specs(runs, "accepted").items():
        assert spec["run"]["run_id"] == ("" if name.startswith("open_run") else "parent-run")


def test_the_link_to_mlflow_is_on_the_task(runs):
    assert runs["accepted"]["link"] == "http://127.0.0.1:1/#/runs/train"


def test_promotion_is_an_asset_event_with_version_run_and_metrics(runs):
    expected = {"name": "stand_in_model", "version": "7", "run": "parent-run", "metrics": {"quality": 0.5}}
    promoted = [name for name in RUNS if runs[name]["tasks"]["promote"] == "success"]
    assert promoted == ["accepted", "item_failed", "approved"]
    assert runs["events"] == [expected] * len(promoted)


def test_parameters_reach_the_stages(runs):
    recipe = specs(runs, "item_failed")["train train"]["recipe"]
    assert recipe["gate"]["tolerance"] == 0.07
    assert recipe["prune"] != "off"
    assert runs["item_failed"]["tasks"]["prune"] == "success"


def test_a_failed_item_stops_what_stands_on_it_and_nothing_else(runs):
    tasks = runs["item_failed"]["tasks"]
    assert {task for task, state in tasks.items() if state == "failed"} == {
        "quantize[1]",
        "fuse[1]",
        "fuse[2]",
        "close_run",
    }
    assert tasks["fuse[0]"] == tasks["benchmark"] == tasks["promote"] == "success"


def test_a_run_with_a_failed_item_is_not_green_but_is_closed(runs):
    assert runs["item_failed"]["state"] == "failed"
    state = specs(runs, "item_failed")["close_run close_run"]["state"]
    assert state["quantize[1]"] == "failed"
    assert state["promote"] == "success"


def test_a_refused_nominee_is_no_failure_and_nothing_is_promoted(runs):
    run = runs["refused"]
    assert run["state"] == "success"
    assert [run["tasks"][task] for task in ("register", "approve", "promote")] == ["skipped"] * 3
    assert run["tasks"]["close_run"] == "success"


def test_bad_labels_stop_the_run_which_is_closed_as_failed(runs):
    run = runs["bad_labels"]
    assert run["state"] == "failed"
    assert {task for task, state in run["tasks"].items() if state == "failed"} == {"check_labels", "close_run"}
    assert run["tasks"]["train"] == "upstream_failed"
    assert "close_run close_run" in specs(runs, "bad_labels")


def test_what_a_person_approved_is_promoted(runs):
    assert runs["approved"]["state"] == "success"
    assert runs["approved"]["tasks"]["approve"] == runs["approved"]["tasks"]["promote"] == "success"
    assert set(specs(runs, "approved")["promote promote"]["state"]) == {"answered_at"}


def test_what_a_person_rejected_is_not_promoted_and_no_failure(runs):
    run = runs["rejected"]
    assert run["state"] == "success"
    assert (run["tasks"]["approve"], run["tasks"]["promote"]) == ("success", "skipped")
    assert specs(runs, "rejected")["close_run close_run"]["state"]["promote"] == "skipped"


def test_an_approval_that_is_marked_as_a_success_promotes_nothing(runs):
    run = runs["marked_as_success"]
    assert run["state"] == "failed"
    assert {task for task, state in run["tasks"].items() if state == "failed"} == {"promote", "close_run"}


def test_a_question_that_airflow_would_show_as_it_was_before_is_not_asked(runs):
    run = runs["asked_again"]
    assert run["state"] == "failed"
    assert (run["tasks"]["approve"], run["tasks"]["promote"]) == ("failed", "upstream_failed")


def test_a_run_that_is_marked_as_failed_is_closed(runs):
    run = runs["stopped"]
    assert run["state"] == "failed"
    assert (run["tasks"]["approve"], run["tasks"]["promote"]) == ("failed", "skipped")
    assert specs(runs, "stopped")["close_run close_run"]["state"]["approve"] == "failed"


def test_a_run_that_is_marked_as_a_success_before_what_was_accepted_is_promoted_is_none(runs):
    run = runs["ended"]
    assert run["state"] == "failed"
    assert (run["tasks"]["approve"], run["tasks"]["promote"]) == ("success", "skipped")
    assert specs(runs, "ended")["close_run close_run"]["state"]["promote"] == "stopped"


def test_runs_of_airflow_have_identities_of_their_own(runs):
    identities = {specs(runs, name)["open_run open_run"]["run"]["identity"] for name in RUNS}
    assert len(identities) == len(RUNS) and all(identities)
