"""The one test that every decision about quality rests on: non-inferiority by paired bootstrap."""

import numpy as np

from optops.measurement.non_inferiority import (
    NonInferiority,
    Tolerance,
    estimated_examples,
    estimated_resolution,
    least_examples,
    margins,
    non_inferiority,
)
from optops.measurement.sample import Sample, sample
from optops.sections import Gate
from optops.stages.base import Job, StageError
from optops.workloads.base import Workload


def sample_of(job: Job, statistics: np.ndarray) -> Sample:
    """Returns what was measured of a model, by the statistics of its answers; on the resamples that all are held to."""
    return sample(job.workload.metric, statistics, job.recipe.gate.resamples, job.recipe.seed)


def judge(job: Job, candidate: Sample, baseline: Sample, name: str, confidence: float | None = None) -> NonInferiority:
    """Tests whether a candidate is no worse than the baseline by more than the recipe's tolerance.

    Args:
        job: The stage's job.
        candidate: On the same examples as the baseline.
        baseline: What it is held against.
        name: Of the candidate, for errors.
        confidence: One-sided; the recipe's if None.

    Raises:
        StageError: If the test can not be made.
    """
    gate = job.recipe.gate
    tolerance = Tolerance(gate.tolerance, gate.tolerance_kind)
    return _test(job, candidate, baseline, name, tolerance, confidence or gate.confidence, gate.anomalous_gain)


def judge_against_champion(
    job: Job, candidate: Sample, champion: Sample, name: str, confidence: float
) -> NonInferiority:
    """Tests the same against the reigning champion; arguments as for `judge`.

    A gain of any size is believed, for better data are a good reason. A relative tolerance is taken of the champion's
    metric on all examples: a champion whose explained variance has sunk below zero has still to be replaced.
    """
    gate = job.recipe.gate
    share = abs(champion.metric) if gate.tolerance_kind == "relative" else 1.0
    return _test(job, candidate, champion, name, Tolerance(gate.tolerance * share, "absolute"), confidence, None)


def judge_superiority(job: Job, candidate: Sample, reference: Sample, name: str) -> NonInferiority:
    """Tests whether a model is better than something, by any amount: so it is where `margin_lower` is above zero.

    What the examples do not show counts as lost of neither: the question is of all examples together.
    """
    tolerance = Tolerance(0.0, "absolute")
    return _test(job, candidate, reference, name, tolerance, job.recipe.gate.confidence, None, fails_whole=False)


def _test(
    job: Job,
    candidate: Sample,
    reference: Sample,
    name: str,
    tolerance: Tolerance,
    confidence: float,
    anomalous_gain: float | None,
    *,
    fails_whole: bool = True,
) -> NonInferiority:
    if candidate.examples != reference.examples:
        raise StageError(f"statistics of {candidate.examples} and of {reference.examples} examples can not be compared")
    try:
        return non_inferiority(
            candidate.resampled,
            reference.resampled,
            candidate_point=candidate.metric,
            reference_point=reference.metric,
            examples=reference.examples,
            tolerance=tolerance,
            higher_is_better=job.workload.higher_is_better,
            confidence=confidence,
            anomalous_gain=anomalous_gain,
            fails_whole=fails_whole and job.workload.fails_whole,
        )
    except ValueError as error:
        raise StageError(f"{name} can not be judged: {error}") from error


def bootstrap_margins(job: Job, candidate: Sample, reference: Sample) -> np.ndarray:
    """Returns the tested quantity D on each resample, shape (resamples,)."""
    gate = job.recipe.gate
    tolerance = Tolerance(gate.tolerance, gate.tolerance_kind)
    return margins(candidate.resampled, reference.resampled, tolerance, higher_is_better=job.workload.higher_is_better)


def unprovable(gate: Gate, examples: int, workload: Workload) -> str | None:
    """Returns why so many test examples can hardly prove the recipe's tolerance, with the remedy; None if they can.

    An estimate from their number alone. It tells nothing of an absolute tolerance, nor of examples that show a worse
    model each by itself.
    """
    confidence, examples_name = gate.confidence_of(1, gate.nominees), workload.examples_name
    least = least_examples(confidence)
    if examples < least:
        return (
            f"fewer than {least} test {examples_name} prove nothing at a confidence of {confidence:.3g}, and these are "
            f"{examples}: expect the verdict `inconclusive`; add test examples"
        )
    provable = estimated_resolution(examples, confidence)
    if gate.tolerance_kind != "relative" or not workload.fails_whole or provable <= gate.tolerance:
        return None
    needed = estimated_examples(gate.tolerance, confidence)
    more = f"about {needed:,} would do" if needed else "though none prove 0 of a model that is no better"
    return (
        f"{examples:,} test {examples_name} can prove a tolerance of about {provable:.1%}, not {gate.tolerance:.1%}: "
        f"expect the verdict `inconclusive`; add test examples ({more}) or raise `gate.tolerance`"
    )
