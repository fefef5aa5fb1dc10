"""Moves the alias `champion` to the accepted version, and remembers the one before."""

from optops.registry import CHAMPION, ROLLED_BACK_TAG, promote, version_by_alias
from optops.stage_spec import ANSWERED_AT, StageResult
from optops.stages.base import Job
from optops.tracking import model_version_url


def run(job: Job) -> StageResult:
    """Returns the champion that this run came to; skipped if nothing was registered, or it was the champion already."""
    registered = job.result("register")
    if not registered.output:
        return job.hand_on(skipped=registered.skipped or "nothing was registered")
    name, version = registered.output["name"], registered.output["version"]
    client = job.tracking.client
    rolled_back = client.get_model_version(name, version).tags.get(ROLLED_BACK_TAG)
    reigning = version_by_alias(client, name, CHAMPION)
    reigns_again = reigning is not None and reigning.version == version
    if rolled_back and not reigns_again and not _was_approved_since(rolled_back, job):
        return job.hand_on(
            skipped=f"version {version} of {name} was rolled back at {rolled_back}, and nobody approved it since; to "
            f"promote it again, delete its tag {ROLLED_BACK_TAG} in MLflow, or require approval and approve it"
        )
    compared = job.result("gate").output["champion"]
    # Of a champion too: what a promotion that was cut off, or a person, left out is made up for.
    previous = promote(client, name, version, compared)
    url = model_version_url(name, version)
    job.link("model_version", url)
    if compared == version:
        # A retry of what made it the champion compared with the one before.
        return job.hand_on(output=registered.output, skipped=f"version {version} of {name} is the champion already")
    job.log(f"version {version} of {name} is the champion; before it: {previous or 'none'}")
    output = {**registered.output, "previous": previous}
    return job.hand_on(candidates=registered.candidates, output=output, links={"model_version": url})


def _was_approved_since(rolled_back: str, job: Job) -> bool:
    # Both times are of one format, so that their order is that of the texts.
    answered = job.spec.state.get(ANSWERED_AT)
    return job.recipe.approval.mode == "required" and (answered is None or answered > rolled_back)
