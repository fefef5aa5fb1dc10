"""The flow without Airflow: the same stages, the same specs, one after the other through a runner."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Literal

from optops.pipeline import FLOW, STAGES, Stage, make_spec
from optops.recipe import Recipe
from optops.runners.base import Runner, StageFailed
from optops.stage_spec import Json, RunReference, StageResult, StageSpec

OPEN, CLOSE, PLAN, GATE, REGISTER, PROMOTE = "open_run", "close_run", "plan", "gate", "register", "promote"
APPROVE = "approve"
RETRY_DELAYS = (15.0, 30.0)
"""Seconds to wait before each further attempt of a stage that lost its server or was killed."""

State = Literal["success", "failed", "skipped", "upstream_failed"]
Answer = Literal["approved", "rejected", "unanswered"]
RunnerFactory = Callable[[], Runner]
Listener = Callable[["Event"], None]
OnApproval = Callable[[Recipe, str], Answer]
"""Takes the recipe and the verdict in Markdown and returns what a person said."""


@dataclass(frozen=True)
class Task:
    """One thing that the flow did: a stage, an item of a mapped stage, or the approval.

    Attributes:
        name: Name of the stage; the third item of `fuse` is `fuse[2]`.
        stage: Name of the stage.
        label: What people call the item of a mapped stage.
        state: How it ended, in Airflow's words.
        seconds: How long it took.
        message: Why it failed or was skipped.
        details: Further lines about a failure.
        result: What it handed on.
    """

    name: str
    stage: str
    label: str
    state: State
    seconds: float = 0.0
    message: str = ""
    details: tuple[str, ...] = ()
    result: StageResult | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened while the flow ran.

    Attributes:
        kind: `started`, `line` (of the stage's log), `link` (`text` is its name and URL) or `ended`.
        task: Name of the task.
        label: Of its item.
        text: The line or the link.
        outcome: The task, once it ended.
    """

    kind: Literal["started", "line", "link", "ended"]
    task: str
    label: str = ""
    text: str = ""
    outcome: Task | None = None


@dataclass(frozen=True)
class FlowOutcome:
    """What a run of the flow came to.

    Attributes:
        run: The MLflow parent run.
        tasks: What was done, in order.
        answer: What a person said to the promotion, if asked.
        interrupted: Whether a person or the system stopped it.
    """

    run: RunReference
    tasks: tuple[Task, ...]
    answer: Answer | None
    interrupted: bool

    def result(self, stage: str) -> StageResult | None:
        """Returns the result of a stage that is not mapped, or None if it delivered none."""
        return next((task.result for task in self.tasks if task.stage == stage and task.result), None)

    @property
    def failed(self) -> tuple[Task, ...]:
        """The tasks that failed."""
        return tuple(task for task in self.tasks if task.state == "failed")

    @property
    def verdict(self) -> str | None:
        """The gate's verdict, or None if it never judged."""
        judged = self.result(GATE)
        return None if judged is None else str(judged.output["verdict"]["verdict"])

    @property
    def champion(self) -> Json | None:
        """Name, version and URI of what this run came to, if it is the champion now; it may have been so before."""
        result = self.result(PROMOTE)
        return result.output if result and result.output else None

    @property
    def promoted(self) -> Json | None:
        """Name, version and URI of the new champion, or None if nothing was promoted."""
        result = self.result(PROMOTE)
        return None if result and result.skipped else self.champion

    @property
    def exit_status(self) -> int:
        """What `optops run` exits with.

        0: what the run came to is the champion. 2: nothing was promoted, for a reason on record. 1: a stage failed.
        130: interrupted.
        """
        if self.interrupted:
            return 130
        if self.failed:
            return 1
        return 0 if self.champion else 2


def run_flow(
    recipe: Recipe,
    runner_factory: RunnerFactory,
    *,
    label: str,
    listeners: Iterable[Listener],
    approve: OnApproval,
    retry_delays: Sequence[float] = RETRY_DELAYS,
) -> FlowOutcome:
    """Executes the flow; whatever happens, `close_run` ends the MLflow run.

    SIGINT, SIGTERM and SIGHUP end the stage that is running, with everything it started, and then the run.

    Args:
        recipe: With this run's overrides.
        runner_factory: Makes a runner for one stage.
        label: Names the run; an MLflow run of the same label and recipe is gone on in.
        listeners: Each is told as things happen; one that can not take it any more, its disk full or its reader gone,
            is told nothing from then on.
        approve: Asked before a promotion if the recipe requires it.
        retry_delays: Seconds before each further attempt where one may help.
    """
    flow = _Flow(recipe, runner_factory, label, listeners, approve, retry_delays)
    with flow.interruptible():
        try:
            for stage in FLOW[:-1]:
                if stage.name == PROMOTE:
                    flow.ask()
                flow.run_stage(stage)
        finally:
            flow.close()
    return FlowOutcome(flow.reference, tuple(flow.tasks), flow.answer, flow.interrupted)


class _Flow:
    def __init__(
        self,
        recipe: Recipe,
        runner_factory: RunnerFactory,
        label: str,
        listeners: Iterable[Listener],
        approve: OnApproval,
        retry_delays: Sequence[float],
    ):
        self.recipe, self.runner_factory, self.listeners = recipe, runner_factory, list(listeners)
        self.approve, self.retry_delays = approve, retry_delays
        self.reference = RunReference("", recipe.experiment, "", label)
        self.tasks: list[Task] = []
        self.results: dict[str, tuple[StageResult, ...]] = {}
        self.answer: Answer | None = None
        self.interrupted = False
        self._runner: Runner | None = None
        self._waiting = self._closing = False

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Lets a signal end the stage or the wait that is under way; a thread leaves signals alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it
            numbers.append(signal.SIGHUP)
        previous = {number: signal.signal(number, self._interrupt) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.interrupted = True
        if self._closing:
            return  # else nobody would end the MLflow run
        if self._runner is not None:
            self._runner.stop()
        elif self._waiting:
            raise KeyboardInterrupt

    @contextmanager
    def _wait(self) -> Iterator[None]:
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def run_stage(self, stage: Stage) -> None:
        """Runs a stage, all items of it if it is mapped, unless what it stands on is missing."""
        if stage.name == PROMOTE and self._states(APPROVE) == ["skipped"]:
            self._end(Task(PROMOTE, PROMOTE, "", "skipped", message=self.tasks[-1].message))
        elif self.interrupted or not self._is_ready(stage):
            self._end(Task(stage.name, stage.name, "", "upstream_failed"))
        elif stage.over is None:
            self._run_task(stage.name, stage.name)
        else:
            for index, item in enumerate(self.results[PLAN][0].output[stage.over]):
                self._run_task(f"{stage.name}[{index}]", stage.name, item)
        if stage.name == OPEN and OPEN in self.results:
            self.reference = replace(self.reference, run_id=str(self.results[OPEN][0].output["run_id"]))

    def ask(self) -> None:
        """Gets the answer to the promotion, where there is something to promote and the recipe wants one."""
        registered = self.results.get(REGISTER, ())
        if self.interrupted or not registered:
            self._end(Task(APPROVE, APPROVE, "", "upstream_failed"))
        elif registered[0].skipped:
            self._end(Task(APPROVE, APPROVE, "", "skipped", message=registered[0].skipped))
        elif self.recipe.approval.mode == "automatic":
            self._end(Task(APPROVE, APPROVE, "", "success", message="the recipe's approval is automatic"))
        else:
            self._ask_people(str(self.results[GATE][0].output["verdict"]["markdown"]))

    def _ask_people(self, verdict: str) -> None:
        self._tell(Event("started", APPROVE))
        started = time.monotonic()
        try:
            with self._wait():
                self.answer = self.approve(self.recipe, verdict)
        except KeyboardInterrupt:
            self.answer, self.interrupted = "unanswered", True
        state: State = "success" if self.answer == "approved" else "skipped"
        self._end(Task(APPROVE, APPROVE, "", state, time.monotonic() - started, f"the promotion is {self.answer}"))

    def close(self) -> None:
        """Ends the MLflow run, if one was opened."""
        self._closing = True
        if OPEN in self.results:
            self._run_task(CLOSE, CLOSE)
        else:
            self._end(Task(CLOSE, CLOSE, "", "upstream_failed"))

    def _states(self, stage: str) -> list[State]:
        return [task.state for task in self.tasks if task.stage == stage]

    def _is_ready(self, stage: Stage) -> bool:
        upstream = {*stage.reads, *([PLAN] if stage.over else [])}
        return all(self._has_delivered(name, stage) for name in upstream)

    def _has_delivered(self, name: str, reader: Stage) -> bool:
        states = self._states(name)
        if STAGES[name].over:
            # An item whose own input is missing fails by itself, so that the others go on; what joins them needs one.
            return bool(reader.over) or "success" in states
        return not {"failed", "upstream_failed"}.intersection(states)

    def _run_task(self, name: str, stage: str, item: Json | None = None) -> None:
        label = "" if item is None else str(item["label"])
        if self.interrupted and stage != CLOSE:
            return self._end(Task(name, stage, label, "upstream_failed"))
        self._tell(Event("started", name, label))
        started = time.monotonic()
        state = {task.name: task.state for task in self.tasks} if stage == CLOSE else None
        spec = make_spec(stage, self.recipe, self.reference, self.results, item, state)
        try:
            result = self._attempt(name, spec)
        except StageFailed as failure:
            outcome = Task(name, stage, label, "failed", 0, failure.message, failure.details)
        else:
            self.results[stage] = (*self.results.get(stage, ()), result)
            ended: State = "skipped" if result.skipped else "success"
            outcome = Task(name, stage, label, ended, 0, result.skipped, (), result)
        return self._end(replace(outcome, seconds=time.monotonic() - started))

    def _attempt(self, name: str, spec: StageSpec) -> StageResult:
        for delay in self.retry_delays:
            try:
                return self._run_once(name, spec)
            except StageFailed as failure:
                if not failure.retry or self.interrupted:
                    raise
                self._tell(Event("line", name, text=f"{failure.message}; another attempt in {delay:.0f} s"))
                try:
                    with self._wait():
                        time.sleep(delay)
                except KeyboardInterrupt:
                    raise failure from None
        return self._run_once(name, spec)

    def _run_once(self, name: str, spec: StageSpec) -> StageResult:
        self._runner = self.runner_factory()
        try:
            return self._runner.run(
                spec,
                lambda line: self._tell(Event("line", name, text=line)),
                lambda link, url: self._tell(Event("link", name, text=f"{link} {url}")),
            )
        finally:
            self._runner = None

    def _end(self, task: Task) -> None:
        self.tasks.append(task)
        self._tell(Event("ended", task.name, task.label, outcome=task))

    def _tell(self, event: Event) -> None:
        for listener in tuple(self.listeners):
            if listener not in self.listeners:
                continue  # it could not take what was told of another one
            try:
                listener(event)
            except (OSError, SystemExit) as error:  # the latter is what rich makes of a reader that is gone
                self.listeners.remove(listener)
                self._tell(Event("line", event.task, text=f"what followed this run no longer does: {error!r}"))
