"""Makes a version of the registered model from the accepted nominee and sets the alias `challenger`."""

from mlflow import MlflowClient

from optops.candidate import Candidate
from optops.pipeline import VALIDATION
from optops.registry import ARTIFACT_TAG, CANDIDATE_TAG, DIGEST_TAG, set_challenger
from optops.served_model import CARD_FILE, log_served_model
from optops.stage_spec import StageResult
from optops.stages.base import Job
from optops.stages.model_card import model_card
from optops.tracking import fitting, model_version_url

LONGEST_DESCRIPTION = 5000
"""Characters that MLflow's tables hold of a version's description; PostgreSQL and MySQL refuse more."""


def run(job: Job) -> StageResult:
    """Returns the version; skipped if the gate accepted nothing."""
    gate = job.result("gate")
    if not gate.output["accepted"]:
        return job.hand_on(skipped=f"the verdict is {gate.output['verdict']['verdict']}: nothing to register")
    nominee, client, name = gate.candidates[0], job.tracking.client, job.recipe.registry.name
    card = model_card(job, nominee)
    version = version_made_from(client, name, nominee)
    if version is None:
        version = _new_version(job, nominee, card)
    else:
        job.log(f"version {version} of {name} was made from the same candidate already")
    # The files of a version that was made before hold the card of the run that made it.
    client.log_text(job.run_id, card, CARD_FILE)
    whole = f"`{CARD_FILE}` of MLflow run {job.run_id}"
    client.update_model_version(name, version, description=fitting(card, LONGEST_DESCRIPTION, whole))
    for tag, value in _tags(job, nominee).items():
        client.set_model_version_tag(name, version, tag, value)
    set_challenger(client, name, version)
    url = model_version_url(name, version)
    job.link("model_version", url)
    job.log(f"version {version} of {name} is the challenger: {url}")
    return job.hand_on(
        candidates=(nominee,),
        output={"name": name, "version": version, "uri": f"models:/{name}/{version}"},
        links={"model_version": url},
    )


def version_made_from(client: MlflowClient, name: str, nominee: Candidate) -> str | None:
    """Returns the version of a registered model that has the files of a candidate, if there is one."""
    made = client.search_model_versions(f"name = '{name}' and tags.`{CANDIDATE_TAG}` = '{nominee.key}'")
    # A key says what a model was made from: made again elsewhere, it may have other weights.
    same = [str(version.version) for version in made if version.tags.get(DIGEST_TAG) == nominee.artifact.digest]
    return same[0] if same else None


def _new_version(job: Job, nominee: Candidate, card: str) -> str:
    uri = log_served_model(
        job.run_id,
        nominee=nominee,
        folder=job.fetch(nominee),
        recipe=job.recipe,
        input_example=job.workload.input_example(job.examples(VALIDATION)),
        card=card,
        tags=_tags(job, nominee),
    )
    import mlflow

    version = mlflow.register_model(uri, job.recipe.registry.name, tags=_tags(job, nominee))
    return str(version.version)


def _tags(job: Job, nominee: Candidate) -> dict[str, str]:
    gate, digests = job.result("gate"), job.result("check_labels").output["digests"]
    tags = {
        CANDIDATE_TAG: nominee.key,
        ARTIFACT_TAG: nominee.artifact.uri,
        DIGEST_TAG: nominee.artifact.digest,
        "optops.verdict": gate.output["verdict"]["verdict"],
        "optops.recipe": job.recipe.name,
        "optops.run": job.spec.run.run_id,
        "optops.runtime": nominee.runtime or "",
        "optops.precision": nominee.precision,
        "optops.parents": ", ".join(nominee.parents),
    }
    return tags | {f"optops.data.{split}": digest for split, digest in digests.items()}
