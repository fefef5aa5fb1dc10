"""Ends the MLflow run in whatever state, and sums up what the run came to."""

from optops.stage_spec import STOPPED, StageResult
from optops.stages.base import Job, cell_name
from optops.stages.summary import summarize
from optops.tracking import fitting

SUMMARY_FILE = "summary.md"

LONGEST_NOTE = 8000
"""Characters that MLflow holds of a tag, as a run's note is one; it leaves out more without a word."""


def run(job: Job) -> StageResult:
    """Ends the parent run as FINISHED, or FAILED if it did not come to its end; a refused nominee is no failure.

    What its stages left RUNNING ends too: nothing of a run that may be removed must look as if it were at work.
    """
    opened = job.results("open_run")
    if not opened:
        return job.hand_on(skipped="no run was opened")
    run_id, tracking = opened[0].output["run_id"], job.tracking
    failed = sorted(task for task, state in job.spec.state.items() if state == "failed")
    summary = summarize(job, failed)
    tracking.client.log_text(run_id, summary, SUMMARY_FILE)
    verdict = "none"
    if job.results("gate"):
        verdict = job.result("gate").output["verdict"]["verdict"]
    tracking.client.set_tag(run_id, "optops.verdict", verdict)
    note = fitting(summary, LONGEST_NOTE, f"`{SUMMARY_FILE}` of this run")
    tracking.client.set_tag(run_id, "mlflow.note.content", note)
    if job.results("benchmark") and job.results("gate"):
        _log_headline(job, run_id)
    tracking.end_stages(job.recipe.experiment, run_id)
    unfinished = failed or verdict == "none" or STOPPED in job.spec.state.values()
    tracking.end_run(run_id, "FAILED" if unfinished else "FINISHED")
    job.log(summary)
    return job.hand_on(
        output={"summary": summary, "failed": failed, "verdict": verdict},
        links={"mlflow_run": tracking.run_url(run_id)},
    )


def _log_headline(job: Job, run_id: str) -> None:
    table = job.result("benchmark").output["table"]
    for candidate in job.result("gate").candidates:
        cell = table[candidate.name]["cells"][cell_name(job.recipe.benchmark.primary_batch)]
        job.tracking.log_metrics(run_id, {"speedup": cell["speedup"]["ratio"]}, candidate)
