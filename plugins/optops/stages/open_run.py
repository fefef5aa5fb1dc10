"""Opens the MLflow run that a DAG run is; every stage's run is its child."""

import yaml

from optops.registry import check_ours
from optops.stage_spec import StageResult
from optops.stages.base import Job
from optops.tracking import KEY_TAG

RUN_TAG = "optops.run"


def run(job: Job) -> StageResult:
    """Opens the parent run, or finds it again if this is a retry."""
    recipe, reference, tracking = job.recipe, job.spec.run, job.tracking
    # Here, and not after hours of training.
    check_ours(tracking.client, recipe.registry.name)
    name = f"{recipe.name} {reference.label}"
    found = tracking.client.search_runs(
        [tracking.experiment(recipe.experiment)],
        # Two recipes may share an experiment, and Airflow's labels of scheduled runs are times.
        f"tags.`{RUN_TAG}` = '{reference.label}' and params.recipe = '{recipe.name}'",
        max_results=1,
    )
    if found:
        run_id = found[0].info.run_id
        tracking.client.update_run(run_id, status="RUNNING")
    else:
        tags = {RUN_TAG: reference.label, KEY_TAG: "", "mlflow.note.content": recipe.description}
        run_id = tracking.open_run(recipe.experiment, name, tags)
        gate = recipe.gate
        tracking.log_params(
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
        tracking.client.log_text(run_id, yaml.safe_dump(job.spec.recipe, sort_keys=False), "recipe.yaml")
    url = tracking.run_url(run_id)
    job.link("mlflow_run", url)
    job.log(f"MLflow run {run_id} of experiment {recipe.experiment}: {url}")
    return job.hand_on(output={"run_id": run_id, "experiment": recipe.experiment}, links={"mlflow_run": url})
