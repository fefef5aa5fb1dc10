"""Executes one stage: its MLflow run, its place in the cache, its locks, and what becomes of a failure."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib import import_module
from types import FrameType

from mlflow import MlflowException

from optops.home import file_lock
from optops.measurement.host import host_lock
from optops.pipeline import STAGES
from optops.stage_spec import StageResult, StageSpec
from optops.stages import checkpoints
from optops.stages.base import Job, new_job, passed_on
from optops.tracking import KEY_TAG, STAGE_TAG, Tracking

BRACKETS = ("open_run", "close_run")
"""Stages that handle the parent run itself and have no run of their own."""


def run_stage(spec: StageSpec) -> StageResult:
    """Runs a stage, or takes over its earlier result, and returns what it hands on.

    Raises:
        StageError: If the stage fails for a reason people can act upon.
    """
    tracking = Tracking(spec.run.tracking_uri)
    job = new_job(spec, tracking)
    if spec.stage in BRACKETS:
        return _implementation(job)(job)
    stage = STAGES[spec.stage]
    if stage.switch and job.recipe.is_off(stage.switch):
        return passed_on(job, stage.reads[-1], f"{stage.switch} is off in the recipe")
    waiting = lambda seconds: job.log(f"another run makes the same ({job.key}); waiting {seconds:.0f} s so far")  # noqa: E731
    # Two runs that need the same result make it once: the second finds it in the cache.
    with file_lock(job.key, waiting) if stage.cached else nullcontext(), _interruptible():
        earlier = tracking.cached(spec.run.experiment, job.key) if stage.cached else None
        return _take_over(job, earlier) if earlier else _make(job, stage.exclusive)


def _implementation(job: Job) -> Callable[[Job], StageResult]:
    # Imported late: what is taken over from the cache needs no TensorFlow.
    run: Callable[[Job], StageResult] = import_module(f"optops.stages.{job.spec.stage}").run
    return run


def _take_over(job: Job, earlier: StageResult) -> StageResult:
    tags = {KEY_TAG: job.key, STAGE_TAG: job.spec.stage, "optops.cached_from": earlier.run_id}
    run_id = job.tracking.open_run(job.spec.run.experiment, _run_name(job), tags, job.spec.run.run_id)
    job.log(f"{job.key}: taken over from run {earlier.run_id}")
    job.tracking.end_run(run_id, "FINISHED")
    return replace(earlier, links={**earlier.links, "mlflow_run": job.tracking.run_url(earlier.run_id)})


def _run_name(job: Job) -> str:
    return job.spec.stage if job.spec.item is None else f"{job.spec.stage} {job.spec.item['label']}"


def _make(job: Job, exclusive: bool) -> StageResult:
    run = _implementation(job)
    reference, tracking = job.spec.run, job.tracking
    job.run_id = tracking.unfinished_run(reference, job.key) or tracking.open_run(
        reference.experiment,
        _run_name(job),
        {KEY_TAG: job.key, STAGE_TAG: job.spec.stage, "optops.cached_from": ""},
        reference.run_id,
    )
    url = tracking.run_url(job.run_id)
    job.link("mlflow_run", url)
    try:
        waiting = lambda seconds: job.log(f"waiting for the host, {seconds:.0f} s so far")  # noqa: E731
        with host_lock(exclusive=exclusive, on_wait=waiting):
            result = run(job)
        result = replace(result, links={"mlflow_run": url, **result.links})
        tracking.log_result(job.run_id, result)
        tracking.end_run(job.run_id, "FINISHED")
    except BaseException as error:
        tracking.end_run(job.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    try:
        checkpoints.remove(job)
    except (OSError, MlflowException) as error:  # the result is there, and must not be made again for this
        job.log(f"checkpoints that are no longer needed stay in the store: {error}")
    job.forget_work()
    return result


@contextmanager
def _interruptible() -> Iterator[None]:
    # SIGTERM (the runner stops us) must pass through `finally` and end the MLflow run.
    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
