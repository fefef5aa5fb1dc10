"""What people are asked before a promotion, and that nothing but their answer to it promotes."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput
from airflow.sdk.execution_time import task_runner

from optops.operators.approve import ApproveOperator, check_approval
from optops.operators.base import freeze_recipe, frozen_recipe
from optops.stage_spec import StageResult

ANSWERED_AT = datetime(2026, 11, 30, 8, tzinfo=UTC)


class Airflow:
    """Keeps the question of each task as Airflow does: the first for ever, and its answer until it is asked again."""

    def __init__(self):
        self.questions = {}
        self.answered = set()

    def send(self, msg):
        self.answered.discard(msg.ti_id)
        if msg.ti_id not in self.questions:
            self.questions[msg.ti_id] = msg
            self.answered.add(msg.ti_id)
        return self.questions[msg.ti_id]


@pytest.fixture
def run(monkeypatch, recipe_file, ti, store):
    """A run that waits for approval by ann."""
    airflow = Airflow()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
    context = {"ti": ti, "task_instance": ti, "run_id": ti.run_id, "params": {}, "task_state_store": store}

    def push(task, value, key="return_value"):
        ti.task_id = task
        ti.xcom_push(key, value.to_json() if isinstance(value, StageResult) else value)

    def opens(approval):
        ti.task_id = "open_run"
        freeze_recipe(str(recipe_file(f"approval: {approval}\n")), context)

    def judges(markdown, accepted=True):
        verdict = {"verdict": "accept" if accepted else "regression", "markdown": markdown}
        push("gate", StageResult("gate", "g", output={"accepted": accepted, "verdict": verdict}))

    def registers(version):
        push(
            "register", StageResult("register", "r", output={"name": "phrases", "version": version} if version else {})
        )

    def asks():
        ti.task_id = "approve"
        ti.xcoms.pop(("approve", "return_value"), None)
        return ApproveOperator(task_id="approve").execute(context)

    def answers(option, person="ann", at=ANSWERED_AT):
        user = {"id": person, "name": person}
        answer = {"chosen_options": [option], "params_input": {}, "responded_at": at, "responded_by_user": user}
        ti.xcoms["approve", "return_value"] = answer

    opens("{mode: required, approvers: [ann]}")
    judges("as good")
    registers("7")
    return SimpleNamespace(
        **{do.__name__: do for do in (opens, judges, registers, asks, answers)},
        question=lambda: airflow.questions[ti.id],
        is_answered=lambda: ti.id in airflow.answered,
        check=lambda: check_approval(frozen_recipe(context).read(), context),
    )


def test_the_approvers_are_asked_about_a_version_by_its_verdict(run):
    with pytest.raises(TaskAwaitingInput):
        run.asks()
    question = run.question()
    assert (question.subject, question.body) == ("Promote version 7 of phrases?", "as good")
    assert [user.id for user in question.assigned_users] == ["ann"]
    assert question.defaults == ["Reject"]


def test_an_answer_that_is_given_at_once_is_kept(run):
    with pytest.raises(TaskAwaitingInput):
        run.asks()
    assert run.is_answered()


def test_the_wait_for_an_answer_has_an_end(run):
    with pytest.raises(TaskAwaitingInput) as waiting:
        run.asks()
    assert (waiting.value.method_name, waiting.value.timeout.total_seconds()) == ("execute_complete", 72 * 3600)


def test_the_same_is_asked_again_after_a_clear(run):
    for _ in range(2):
        with pytest.raises(TaskAwaitingInput):
            run.asks()


CHANGES = {
    "verdict": lambda run: run.judges("not as good"),
    "version": lambda run: run.registers("8"),
    "approvers": lambda run: run.opens("{mode: required, approvers: [bob]}"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_run_that_would_show_what_it_asked_before_fails(run, change):
    with pytest.raises(TaskAwaitingInput):
        run.asks()
    change(run)
    with pytest.raises(AirflowFailException, match=r"what this run asked first.*; start a new run"):
        run.asks()


def test_what_was_approved_is_promoted(run):
    with pytest.raises(TaskAwaitingInput):
        run.asks()
    run.answers("Approve")
    assert run.check() == ANSWERED_AT


@pytest.mark.parametrize("forged", [{"person": "bob"}, {"at": None}], ids=["by another", "without a time"])
def test_an_answer_that_airflow_did_not_take_from_an_approver_promotes_nothing(run, forged):
    with pytest.raises(TaskAwaitingInput):
        run.asks()
    run.answers("Approve", **forged)
    with pytest.raises(AirflowFailException, match="Nobody answered that"):
        run.check()


def test_anybody_may_answer_where_the_recipe_names_no_approvers(run):
    run.opens("{mode: required}")
    with pytest.raises(TaskAwaitingInput):
        run.asks()
    run.answers("Approve", person="bob")
    assert run.check() == ANSWERED_AT


def test_an_approval_of_what_is_not_on_record_says_to_start_a_new_run(run):
    run.answers("Approve")
    with pytest.raises(AirflowFailException, match=r"not on record, as an earlier optops left it; start a new run$"):
        run.check()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_approval_of_something_else_promotes_nothing(run, change):
    with pytest.raises(TaskAwaitingInput):
        run.asks()
    run.answers("Approve")
    change(run)
    with pytest.raises(AirflowFailException, match="clear the task approve"):
        run.check()


@pytest.mark.parametrize("asked", [False, True])
def test_marking_the_approval_a_success_promotes_nothing(run, asked):
    if asked:
        with pytest.raises(TaskAwaitingInput):
            run.asks()
    with pytest.raises(AirflowFailException, match=r"^Promote version 7 of phrases\? Nobody answered that"):
        run.check()


def test_what_was_rejected_is_not_promoted(run):
    with pytest.raises(TaskAwaitingInput):
        run.asks()
    run.answers("Reject")
    with pytest.raises(AirflowFailException, match="with Approve"):
        run.check()


def test_nothing_to_promote_and_automatic_approval_need_nobody(run):
    run.registers(None)
    assert run.check() is None
    run.registers("7")
    run.opens("{mode: automatic}")
    assert run.check() is None
    assert run.asks()["chosen_options"] == ["Approve"]


def test_an_approval_without_a_verdict_says_what_to_clear(run, ti):
    del ti.xcoms["gate", "return_value"]
    with pytest.raises(AirflowFailException, match="gate handed on nothing; clear it"):
        run.asks()
