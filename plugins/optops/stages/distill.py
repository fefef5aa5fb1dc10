"""Teaches a faster student with the trained model's outputs, its distribution and its features."""

from optops.models.base import load_architecture
from optops.models.training.threads import share_cores
from optops.sections import Distill
from optops.stage_spec import StageResult
from optops.stages.base import Job, allowed_loss
from optops.stages.teaching import NothingToTeachError, taught_examples, with_assets
from optops.stages.training import NotFiniteError, fit_model, publish

STUDENT = "student"


def run(job: Job) -> StageResult:
    """Returns the candidates so far and the student."""
    allowed_loss(job)  # a tolerance that is none for this baseline is told before hours of teaching
    settings = job.recipe.distill
    assert isinstance(settings, Distill)
    share_cores(settings.train.replicas)
    baseline = job.baseline
    folder = with_assets(job, baseline)
    job.workload.adapt_assets(job.recipe, folder / "assets")
    teacher = load_architecture(baseline.architecture).load(job.fetch(baseline) / "trainable")
    student = job.workload.student(job.recipe, teacher)
    job.log(f"student with {student.count_params():,} of the teacher's {teacher.count_params():,} parameters")
    try:
        examples = taught_examples(job, baseline, settings)
    except NothingToTeachError as error:
        job.log(f"{STUDENT} is dropped: {error}")
        return job.hand_on(candidates=job.result("train").candidates, dropped={STUDENT: str(error)})
    loss = job.workload.distillation_loss(teacher, student, settings)
    try:
        fit_model(job, student, baseline.architecture, examples, loss, settings.train, folder / "assets", STUDENT)
        candidate = publish(job, folder, student, baseline.architecture, name=STUDENT, parents=(baseline.key,))
    except NotFiniteError as error:
        job.log(f"{STUDENT} is dropped: {error}")
        return job.hand_on(candidates=job.result("train").candidates, dropped={STUDENT: str(error)})
    return job.hand_on(candidates=(*job.result("train").candidates, candidate))
