"""Opens the MLflow run that a DAG run is; every stage's run is its child."""

import hashlib
from collections.abc import Mapping, Sequence

import yaml
from mlflow.entities import Run

from optops.candidate import canonical_json
from optops.registry import check_ours
from optops.stage_spec import StageResult
from optops.stages.base import Job
from optops.tracking import KEY_TAG

RUN_TAG, IDENTITY_TAG, RECIPE_TAG = "optops.run", "optops.identity", "optops.recipe_digest"


def run(job: Job) -> StageResult:
    """Opens the parent run, or finds it again if this is a retry: its recipe is the same, and so is what started it."""
    recipe, reference, tracking = job.recipe, job.spec.run, job.tracking
    # Here, and not after hours of training.
    check_ours(tracking.client, recipe.registry.name)
    tags = {
        RUN_TAG: reference.label,
        IDENTITY_TAG: reference.identity,
        RECIPE_TAG: hashlib.sha256(canonical_json(job.spec.recipe).encode()).hexdigest(),
    }
    found = _search(job, tags)
    _end_superseded(job, found)
    if found:
        run_id = str(found[0].info.run_id)
        tracking.client.update_run(run_id, status="RUNNING")
    else:
        tags |= {KEY_TAG: "", "mlflow.note.content": recipe.description}
        run_id = tracking.open_run(recipe.experiment, f"{recipe.name} {reference.label}", tags)
    _log_recipe(job, run_id)
    url = tracking.run_url(run_id)
    job.link("mlflow_run", url)
    job.log(f"MLflow run {run_id} of experiment {recipe.experiment}: {url}")
    return job.hand_on(output={"run_id": run_id, "experiment": recipe.experiment}, links={"mlflow_run": url})


def _search(job: Job, tags: Mapping[str, str]) -> list[Run]:
    experiment = job.tracking.experiment(job.recipe.experiment)
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    return list(job.tracking.client.search_runs([experiment], query))


def _end_superseded(job: Job, found: Sequence[Run]) -> None:
    """Ends what the same DAG run opened of its recipe in other words: no `close_run` will."""
    kept = {run.info.run_id for run in found}
    if job.spec.run.identity:
        for earlier in _search(job, {IDENTITY_TAG: job.spec.run.identity}):
            if earlier.info.status == "RUNNING" and earlier.info.run_id not in kept:
                job.log(f"MLflow run {earlier.info.run_id} is of this recipe before it was edited, and ends here")
                job.tracking.end_stages(job.recipe.experiment, earlier.info.run_id)
                job.tracking.end_run(earlier.info.run_id, "KILLED")


def _log_recipe(job: Job, run_id: str) -> None:
    recipe, gate = job.recipe, job.recipe.gate
    job.tracking.log_params(
        run_id,
        {
            "recipe": recipe.name,
            "workload": recipe.workload,
            "metric": job.workload.metric_name,
            "tolerance": f"{gate.tolerance} {gate.tolerance_kind}",
            "minimum_speedup": gate.minimum_speedup,
            "target": f"{recipe.target.device}, {recipe.target.threads} threads",
            "seed": recipe.seed,
        },
    )
    job.tracking.client.log_text(run_id, yaml.safe_dump(job.spec.recipe, sort_keys=False), "recipe.yaml")
