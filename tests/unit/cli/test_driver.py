"""The flow without Airflow, through the real subprocess runner with stand-in stages that need no libraries."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optops.driver import Answer, Event, FlowOutcome, Listener, run_flow
from optops.pipeline import ORDER
from optops.recipe_file import read_recipe
from optops.runners.subprocess import SubprocessRunner

HERE = Path(__file__).parent
RECIPE = HERE.parents[2] / "dags" / "recipes" / "travel_phrases.yaml"
STAGE = (sys.executable, str(HERE / "hanging_stage.py"))
Run = Callable[..., FlowOutcome]


@pytest.fixture
def counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COUNTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def run(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(
        changes: dict[str, Any] | None = None,
        answer: Answer = "approved",
        delays: Any = (0.01, 0.01),
        deaf: tuple[Listener, ...] = (),
        **behaviour: str,
    ) -> FlowOutcome:
        for name, value in behaviour.items():
            monkeypatch.setenv(name, value)
        recipe = read_recipe(RECIPE, changes or {})
        approve: Any = lambda recipe, verdict: answer  # noqa: E731
        return run_flow(
            recipe,
            lambda: SubprocessRunner(STAGE, grace_seconds=1),
            label="l",
            listeners=[*deaf, events.append],
            approve=approve,
            retry_delays=delays,
        )

    return run


def states(outcome: FlowOutcome) -> dict[str, str]:
    return {task.name: task.state for task in outcome.tasks}


def test_a_run_goes_through_all_stages_in_order_and_promotes(run: Run, events: list[Event], counts: Path) -> None:
    outcome = run()
    mapped = [
        name
        for stage in ORDER
        for name in ([f"{stage}[0]", f"{stage}[1]"] if stage in ("quantize", "fuse") else [stage])
    ]
    mapped.insert(mapped.index("promote"), "approve")
    assert list(states(outcome)) == mapped
    assert states(outcome) == {name: "skipped" if name == "prune" else "success" for name in mapped}
    assert (outcome.exit_status, outcome.verdict) == (0, "accept")
    assert outcome.promoted is not None and outcome.promoted["version"] == "7"
    assert outcome.run.run_id == "parent"
    assert Event("line", "fuse[1]", text="at work on f1") in events
    told = json.loads((counts / "close_run.txt").read_text(encoding="utf-8"))
    assert told["state"] == {name: state for name, state in states(outcome).items() if name != "close_run"}
    assert told["run"]["run_id"] == "parent"


def test_a_refused_nominee_is_no_failure_but_nothing_is_promoted(run: Run) -> None:
    outcome = run(REFUSE="regression")
    assert outcome.exit_status == 2
    assert (outcome.verdict, outcome.promoted) == ("regression", None)
    assert {states(outcome)[name] for name in ("register", "approve", "promote")} == {"skipped"}


def test_a_run_that_came_to_the_champion_again_succeeded_without_a_promotion(run: Run) -> None:
    outcome = run(REIGNING="version 7 is the champion already")
    assert states(outcome)["promote"] == "skipped"
    assert (outcome.exit_status, outcome.promoted) == (0, None)
    assert outcome.champion is not None and outcome.champion["version"] == "7"


def test_a_stage_whose_upstream_failed_does_not_run_and_the_run_is_closed(run: Run, counts: Path) -> None:
    outcome = run(FAIL=json.dumps({"train": "no memory"}))
    assert outcome.exit_status == 1
    (failed,) = outcome.failed
    assert (failed.name, failed.message, failed.details) == ("train", "no memory", ("a row",))
    after = ORDER[ORDER.index("train") + 1 : -1]
    assert {states(outcome)[name] for name in (*after, "approve")} == {"upstream_failed"}
    assert states(outcome)["close_run"] == "success"
    assert not (counts / "distill.txt").exists()
    assert json.loads((counts / "close_run.txt").read_text())["state"]["train"] == "failed"


@pytest.mark.parametrize("item", ["q0", "f1"])
def test_a_failed_item_is_recorded_and_the_others_go_on(run: Run, item: str) -> None:
    outcome = run(FAIL=json.dumps({item: "can not be lowered"}))
    assert [task.label for task in outcome.failed] == [item]
    assert states(outcome)["benchmark"] == states(outcome)["promote"] == "success"
    assert outcome.exit_status == 1


def test_without_one_executable_there_is_no_benchmark(run: Run, counts: Path) -> None:
    outcome = run(FAIL=json.dumps({"f0": "no", "f1": "no"}))
    assert states(outcome)["benchmark"] == "upstream_failed"
    assert not (counts / "benchmark.txt").exists()


def test_a_run_that_could_not_be_opened_runs_nothing_else(run: Run, counts: Path) -> None:
    outcome = run(FAIL=json.dumps({"open_run": "the experiment is deleted"}))
    assert outcome.exit_status == 1
    assert [path.stem for path in counts.iterdir()] == ["open_run"]


def test_a_lost_server_is_tried_again_twice(run: Run, counts: Path, events: list[Event]) -> None:
    assert run(LOSE="train", LOST="2").exit_status == 0
    assert len((counts / "train.txt").read_text().splitlines()) == 3
    assert sum("another attempt" in event.text for event in events) == 2


def test_after_the_last_attempt_the_stage_has_failed(run: Run, counts: Path) -> None:
    outcome = run(LOSE="train", LOST="9")
    assert [task.message for task in outcome.failed] == ["the server is gone"]
    assert len((counts / "train.txt").read_text().splitlines()) == 3


def test_a_failure_for_good_is_not_tried_again(run: Run, counts: Path) -> None:
    run(FAIL=json.dumps({"train": "no memory"}))
    assert len((counts / "train.txt").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("answer", "status", "approve", "promote"),
    [
        ("approved", 0, "success", "success"),
        ("rejected", 2, "skipped", "skipped"),
        ("unanswered", 2, "skipped", "skipped"),
    ],
)
def test_where_the_recipe_wants_it_a_person_decides(
    run: Run, answer: Answer, status: int, approve: str, promote: str
) -> None:
    outcome = run({"approval.mode": "required"}, answer)
    assert (outcome.exit_status, outcome.answer) == (status, answer)
    assert (states(outcome)["approve"], states(outcome)["promote"]) == (approve, promote)
    assert states(outcome)["register"] == "success"


def test_nobody_is_asked_about_what_the_gate_refused(run: Run) -> None:
    assert run({"approval.mode": "required"}, REFUSE="inconclusive").answer is None


@pytest.mark.parametrize("gone", [OSError(28, "No space left on device"), SystemExit(1)], ids=["full", "closed"])
def test_a_listener_that_can_take_no_more_ends_neither_the_run_nor_what_others_are_told(
    run: Run, events: list[Event], gone: BaseException
) -> None:
    heard: list[Event] = []

    def deaf(event: Event) -> None:
        heard.append(event)
        if event.task == "train" and event.kind == "line":
            raise gone

    assert run(deaf=(deaf,)).exit_status == 0
    assert heard[-1].text == "at work on train"
    assert events[-1].task == "close_run" and any("no longer does" in event.text for event in events)


def test_two_listeners_that_can_take_no_more_at_once_end_nothing(run: Run, events: list[Event]) -> None:
    def deaf(event: Event) -> None:
        raise OSError(28, "No space left on device")

    assert run(deaf=(deaf, lambda event: deaf(event))).exit_status == 0
    assert events[-1].task == "close_run"


def test_a_run_whose_listener_has_a_bug_is_closed(run: Run, counts: Path) -> None:
    def listener(event: Event) -> None:
        if event.task == "train":
            raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        run(deaf=(listener,))
    assert json.loads((counts / "close_run.txt").read_text(encoding="utf-8"))["run"]["run_id"] == "parent"


@pytest.mark.parametrize(
    ("hanging", "numbers"),
    [
        ("train", [signal.SIGINT]),
        ("train", [signal.SIGTERM]),
        ("train", [signal.SIGHUP]),
        ("close_run", [signal.SIGINT, signal.SIGTERM]),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(number.name for number in value),
)
def test_an_interrupted_run_stops_its_stage_but_is_closed_whatever_comes(
    tmp_path: Path, hanging: str, numbers: list[signal.Signals]
) -> None:
    environment = {**os.environ, "HANG": hanging, "SECONDS": "60" if hanging == "train" else "2"}
    command = [sys.executable, str(HERE / "interrupted_flow.py"), str(RECIPE)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith(f"line {hanging} at work"):
                started = time.monotonic()
                for number in numbers:
                    process.send_signal(number)
                    time.sleep(0.2)
        assert time.monotonic() - started < 30, "the stage sleeps for 60 s"
    found = json.loads(lines[-1].removeprefix("outcome "))
    assert found["status"] == 130
    assert found["states"]["close_run"] == "success"
    if hanging == "train":
        assert found["states"]["train"] == "failed"
        assert found["states"]["distill"] == "upstream_failed"
