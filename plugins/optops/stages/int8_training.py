"""Trains a model for its int8 plan where the plan alone costs too much quality: quantisation-aware training."""

from optops.candidate import Candidate
from optops.models.base import load_architecture, load_function
from optops.models.training.threads import share_cores
from optops.pipeline import TRAIN
from optops.precision import Judge, PrecisionPlan
from optops.sections import Int8Train, Teaching
from optops.stages.base import Job
from optops.stages.teaching import with_assets
from optops.stages.training import NotFiniteError, fit_model, publish


def train_for(
    job: Job, candidate: Candidate, plan: PrecisionPlan, judge: Judge, settings: Int8Train
) -> tuple[PrecisionPlan, tuple[Candidate, ...]] | None:
    """Returns a plan in which no layer goes back to float for the judge, and the model that was trained for it.

    None is trained if the plan is good enough as it is. The model learns what it says in float from the training split.

    Args:
        job: The stage's job.
        candidate: A model whose architecture can be trained for a plan.
        plan: Made without a judge.
        judge: Says how good is good enough.
        settings: How to train.

    Returns:
        None if the trained model is not good enough either, or the model can not be trained.
    """
    share_cores(settings.replicas)
    architecture = load_architecture(candidate.architecture)
    trainer = architecture.quantization_trainer()
    assert trainer is not None, "the plan stage asks for training only where there is a trainer"
    exact = architecture.load(job.fetch(candidate) / "trainable")
    required = judge.evaluate(exact) - judge.allowed
    try:
        form = load_function(trainer)(exact, plan)
    except ValueError as error:
        job.log(f"{candidate.name} can not be trained for int8: {error}; layers go back to float instead")
        return None
    if judge.evaluate(form.model) >= required:
        job.log(f"{candidate.name} is good enough in int8 without training")
        return plan, ()
    name, folder = f"{candidate.name} trained for int8", with_assets(job, candidate)
    job.log(f"{candidate.name} loses more in int8 than the {judge.allowed:.2g} it may: it is trained for it")
    loss = job.workload.distillation_loss(exact, form.model, Teaching(labels="given", alpha=1.0, train=settings))
    try:
        history = fit_model(
            *(job, form.model, candidate.architecture, job.examples(TRAIN), loss, settings, folder / "assets"),
            name=name.replace(" ", "-"),
        )
        if history.validation >= required:
            made = publish(job, folder, form.trained, candidate.architecture, name=name, parents=(candidate.key,))
            return form.plan, (made,)
        reason = f"{name} is still not good enough"
    except NotFiniteError as error:
        reason = str(error)
    job.log(f"{reason}: layers go back to float instead")
    return None
