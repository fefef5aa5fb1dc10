"""The one test that every decision about quality rests on: non-inferiority by paired bootstrap."""

from dataclasses import dataclass

import numpy as np

from optops.measurement.statistics import NonInferiority, Tolerance, bootstrap_weights, margins, non_inferiority
from optops.stages.base import Job, StageError


@dataclass(frozen=True)
class Sample:
    """One model's statistics on the examples of a split, shape (examples, ...), and the metric on all of them."""

    statistics: np.ndarray
    metric: float


def judge(job: Job, candidate: Sample, reference: Sample, name: str, confidence: float | None = None) -> NonInferiority:
    """Tests whether a candidate is no worse than a reference by more than the recipe's tolerance.

    Args:
        job: The stage's job.
        candidate: On the same examples as the reference.
        reference: What it is held against.
        name: Of the candidate, for errors.
        confidence: One-sided; the recipe's if None.

    Raises:
        StageError: If the test can not be made.
    """
    gate = job.recipe.gate
    try:
        return non_inferiority(
            *_resampled(job, candidate, reference),
            candidate_point=candidate.metric,
            reference_point=reference.metric,
            tolerance=Tolerance(gate.tolerance, gate.tolerance_kind),
            higher_is_better=job.workload.higher_is_better,
            confidence=confidence or gate.confidence,
            anomalous_gain=gate.anomalous_gain,
        )
    except ValueError as error:
        raise StageError(f"{name} can not be judged: {error}") from error


def bootstrap_margins(job: Job, candidate: Sample, reference: Sample) -> np.ndarray:
    """Returns the tested quantity D on each resample, shape (resamples,)."""
    gate = job.recipe.gate
    return margins(
        *_resampled(job, candidate, reference),
        Tolerance(gate.tolerance, gate.tolerance_kind),
        higher_is_better=job.workload.higher_is_better,
    )


def _resampled(job: Job, candidate: Sample, reference: Sample) -> tuple[np.ndarray, np.ndarray]:
    # What stands for one example may differ in size: a detector's statistics have a row for each box that it found.
    if len(candidate.statistics) != len(reference.statistics):
        raise StageError(
            f"statistics of {len(candidate.statistics)} and of {len(reference.statistics)} examples can not be compared"
        )
    weights = bootstrap_weights(len(reference.statistics), job.recipe.gate.resamples, job.recipe.seed)
    return job.workload.metric(candidate.statistics, weights), job.workload.metric(reference.statistics, weights)
