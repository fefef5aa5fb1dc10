"""What distill and prune share: the examples with the teacher's outputs for labels."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from optops.candidate import Candidate, derive_key
from optops.graph.lowering import lower
from optops.home import file_lock, subfolder
from optops.models.base import load_architecture
from optops.pipeline import TRAIN
from optops.precision import PrecisionPlan
from optops.runtimes import load_runtime
from optops.sections import Teaching
from optops.stages.base import Job

if TYPE_CHECKING:
    import pandas as pd

    from optops.runtimes import Executable

FASTEST_RUNTIMES = {"teacher": ("tensorflow+kernels", "onnxruntime"), "interpolated": ("onnxruntime",)}
"""Runtimes that a teacher writes its labels through, fastest first; one alone tells all hypotheses of a beam."""

LEAST_ANSWERED = 0.5
"""Share of the training examples that a teacher must give an answer to, lest it be taken for garbage."""


class NothingToTeachError(Exception):
    """A teacher that answers too little of its own to be learnt from; says what to do."""


def taught_examples(job: Job, teacher: Candidate, teaching: Teaching) -> "pd.DataFrame":
    """Returns the training examples with the labels that the recipe's section asks for.

    What the teacher says is kept on this machine beyond the stage: a student with other sizes, or a pruned one, learns
    from the same.

    Raises:
        NothingToTeachError: If the teacher answers less than half of the examples.
    """
    examples = job.examples(TRAIN)
    if teaching.labels == "given":
        return examples
    source = job.fetch(teacher)
    asked = {"teacher": teacher.key, "digest": teacher.artifact.digest, "labels": teaching.labels}
    name = derive_key("teacher-labels", **asked)
    with file_lock(name, lambda seconds: job.log(f"another run writes the teacher's labels; waiting {seconds:.0f} s")):
        kept = subfolder("work", name)
        taught = job.workload.teacher_labels(
            examples,
            _fast_teacher(job, teacher, source, teaching.labels),
            teacher.key,
            source / "assets",
            kept,
            job.progress,
            teaching.labels,
        )
    if len(taught) < LEAST_ANSWERED * len(examples):
        raise NothingToTeachError(
            f"the teacher gives an answer of its own to only {len(taught)} of {len(examples)} training examples, "
            "and none or one and the same to the others: it has nothing to teach; train it longer or look at its data"
        )
    return taught


def _fast_teacher(job: Job, teacher: Candidate, source: Path, labels: str) -> "Executable":
    # The teacher writes a translation of every training example: the same model, lowered, does that in less time.
    lowerings = load_architecture(teacher.architecture).lowerings()
    for runtime in FASTEST_RUNTIMES[labels]:
        if runtime in lowerings and load_runtime(runtime).unavailable() is None:
            lowered = job.new_folder()
            lower(source / "trainable", PrecisionPlan("fp32"), runtime, lowered / "serving")
            return job.load(lowered)
    return job.load(source)


def with_assets(job: Job, candidate: Candidate) -> Path:
    """Returns an empty folder for a new candidate with the assets of the one it is made from."""
    folder = job.new_folder()
    shutil.copytree(job.fetch(candidate) / "assets", folder / "assets")
    return folder
