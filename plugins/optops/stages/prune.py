"""Makes each model so far really smaller: removes the heads and units that matter least, then fine-tunes."""

import shutil

from optops.candidate import Candidate
from optops.compression import prune
from optops.models.base import load_architecture
from optops.pipeline import TRAIN
from optops.recipe import Prune
from optops.stage_spec import StageResult
from optops.stages.base import Job
from optops.stages.training import fit_model, publish


def run(job: Job) -> StageResult:
    """Returns the candidates so far and their pruned forms."""
    settings = job.recipe.prune
    assert isinstance(settings, Prune)
    upstream = job.result("distill").candidates
    made = [_prune(job, settings, candidate) for candidate in upstream if candidate.trainable]
    return job.hand_on(candidates=(*upstream, *made))


def _prune(job: Job, settings: Prune, candidate: Candidate) -> Candidate:
    name = f"{candidate.name} pruned"
    source = job.fetch(candidate)
    folder = job.new_folder()
    shutil.copytree(source / "assets", folder / "assets")
    model = load_architecture(candidate.architecture).load(source / "trainable")
    examples = job.examples(TRAIN)
    sample = examples.sample(min(len(examples), settings.importance_examples), random_state=job.recipe.seed)
    loss = job.workload.loss(settings.train)
    batches = job.workload.batches(job.recipe, sample, folder / "assets", settings.train)
    pruned = prune(
        model, heads=settings.ratio if settings.heads else 0.0, feed_forward=settings.ratio, batches=batches(1)
    )
    job.log(f"{name}: {pruned.count_params():,} of {model.count_params():,} parameters left")
    fit_model(job, pruned, examples, loss, settings.train, folder / "assets", name.replace(" ", "-"))
    return publish(
        job,
        folder,
        pruned,
        candidate.architecture,
        name=name,
        parents=(candidate.key,),
        key=job.derived_key(parent=candidate.key),
    )
