"""Trains the baseline, or imports it; its serving form is executed by stock TensorFlow."""

from optops.candidate import Candidate
from optops.models.base import Description
from optops.models.training.threads import share_cores
from optops.pipeline import TRAIN
from optops.stage_spec import StageResult
from optops.stages.base import Job
from optops.stages.naive import warn_of_naive
from optops.stages.training import fit_model, judge_serving, pretrain_model, publish

BASELINE = "baseline"
PRETRAINING = "pretraining"


def run(job: Job) -> StageResult:
    """Returns the baseline as the one candidate that goes on."""
    baseline = _train(job) if job.workload.trainable(job.recipe.model) else _import(job)
    warn_of_naive(job, baseline.metrics[job.workload.metric_name])
    return job.hand_on(candidates=(baseline,))


def _train(job: Job) -> Candidate:
    share_cores(job.recipe.train.replicas)
    folder = job.new_folder()
    assets = folder / "assets"
    assets.mkdir()
    examples = job.examples(TRAIN)
    job.workload.prepare(job.recipe, examples, assets)
    architecture, model = job.workload.build(job.recipe, assets)
    job.log(f"{architecture} with {model.count_params():,} parameters, {len(examples)} training examples")
    first = job.workload.pretraining(job.recipe, model, examples, assets)
    if first is not None:
        pretrain_model(job, model, first, PRETRAINING)
    loss = job.workload.loss(job.recipe.train)
    fit_model(job, model, architecture, examples, loss, job.recipe.train, assets, BASELINE)
    return publish(job, folder, model, architecture, name=BASELINE, parents=())


def _import(job: Job) -> Candidate:
    folder = job.new_folder()
    job.workload.import_model(job.recipe, folder)
    metrics = judge_serving(job, folder, BASELINE)
    trainable = (folder / "trainable").is_dir()
    architecture = Description.load(folder / "trainable").architecture if trainable else "saved_model"
    return job.add(
        folder,
        name=BASELINE,
        parents=(),
        architecture=architecture,
        precision="fp32",
        runtime="tensorflow",
        trainable=trainable,
        metrics=metrics,
    )
