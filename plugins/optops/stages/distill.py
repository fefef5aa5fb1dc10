"""Teaches a faster student with the trained model's outputs and its distribution."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from optops.candidate import Candidate
from optops.graph.lowering import lower
from optops.models.base import load_architecture
from optops.pipeline import TRAIN
from optops.precision import PrecisionPlan
from optops.recipe import Distill
from optops.runtimes import load_runtime
from optops.stage_spec import StageResult
from optops.stages.base import Job
from optops.stages.training import fit_model, publish

if TYPE_CHECKING:
    from optops.runtimes import Executable

STUDENT = "student"
FASTEST_RUNTIME = "onnxruntime"

LEAST_ANSWERED = 0.5
"""Share of the training examples that a teacher must give an answer to, lest it be taken for garbage."""


def run(job: Job) -> StageResult:
    """Returns the candidates so far and the student."""
    settings = job.recipe.distill
    assert isinstance(settings, Distill)
    teacher_candidate = job.baseline
    source = job.fetch(teacher_candidate)
    folder = job.new_folder()
    shutil.copytree(source / "assets", folder / "assets")
    teacher = load_architecture(teacher_candidate.architecture).load(source / "trainable")
    student = job.workload.student(job.recipe, teacher)
    job.log(f"student with {student.count_params():,} of the teacher's {teacher.count_params():,} parameters")
    examples = job.examples(TRAIN)
    if settings.teacher_labels:
        teach = _fast_teacher(job, teacher_candidate, source)
        examples = job.workload.teacher_labels(
            examples,
            teach,
            teacher_candidate.key,
            folder / "assets",
            job.work_folder / "teacher_labels",
            job.progress,
        )
        if len(examples) < LEAST_ANSWERED * job.manifest(TRAIN).examples:
            reason = (
                f"the teacher gives an answer to only {len(examples)} of {job.manifest(TRAIN).examples} training "
                "examples: it has nothing to teach; train it longer or look at its data"
            )
            job.log(f"{STUDENT} is dropped: {reason}")
            return job.hand_on(candidates=job.result("train").candidates, dropped={STUDENT: reason})
    loss = job.workload.distillation_loss(teacher, settings)
    fit_model(job, student, examples, loss, settings.train, folder / "assets", STUDENT)
    candidate = publish(
        job, folder, student, teacher_candidate.architecture, name=STUDENT, parents=(teacher_candidate.key,)
    )
    return job.hand_on(candidates=(*job.result("train").candidates, candidate))


def _fast_teacher(job: Job, teacher: Candidate, source: Path) -> "Executable":
    # The teacher writes a translation of every training example: the same model, lowered, does that in less time.
    lowerings = load_architecture(teacher.architecture).lowerings()
    if FASTEST_RUNTIME in lowerings and load_runtime(FASTEST_RUNTIME).unavailable() is None:
        lowered = job.new_folder()
        lower(source / "trainable", PrecisionPlan("fp32"), FASTEST_RUNTIME, lowered / "serving")
        return job.load(lowered)
    return job.load(source)
