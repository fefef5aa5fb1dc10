"""Chooses what the gate will judge, on validation quality and measured speed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optops.candidate import Candidate
from optops.measurement import plots
from optops.measurement.non_inferiority import NonInferiority
from optops.pipeline import VALIDATION
from optops.stage_spec import StageResult
from optops.stages.base import Job, decimals_of
from optops.stages.judgement import Sample, judge
from optops.stages.speed import Speed, judge_speed


@dataclass(frozen=True)
class Contestant:
    """An executable that was timed, with its quality on validation."""

    candidate: Candidate
    quality: NonInferiority
    speed: Speed

    @property
    def name(self) -> str:
        """Of the candidate."""
        return self.candidate.name

    @property
    def proved(self) -> bool:
        """Whether it already passes the test on validation: it is likely to pass it on the test split too."""
        return self.quality.verdict == "accept"


def run(job: Job) -> StageResult:
    """Returns at most `gate.nominees` nominees, best first; none if nothing meets validation tolerance and speed."""
    baseline = _sample(job, job.baseline)
    timed = job.result("benchmark").output["table"]
    contestants = [
        Contestant(c, judge(job, _sample(job, c), baseline, c.name), judge_speed(job, c.name))
        for c in job.result("benchmark").candidates
        if c.name in timed
    ]
    dropped = {c.name: reason for c in contestants if (reason := _reason(job, c))}
    good = [c for c in contestants if c.name not in dropped]
    order = sorted(good, key=lambda c: (c.proved, _merit(job, c)), reverse=True)
    for one in order:
        better = next((other for other in order if _dominates(job, other, one)), None)
        if better:
            dropped[one.name] = f"worse and slower than {better.name}"
    left = [c for c in order if c.name not in dropped]
    nominees = [c.candidate for c in left[: job.recipe.gate.nominees]]
    for one in left[job.recipe.gate.nominees :]:
        dropped[one.name] = f"beyond the {job.recipe.gate.nominees} nominees the gate may judge"
    for name, reason in dropped.items():
        job.log(f"not nominated: {name}: {reason}")
    names = ", ".join(nominee.name for nominee in nominees)
    job.log(f"nominees, best first: {names}" if nominees else "no nominee: infeasible")
    _plot(job, contestants, nominees)
    _log_deltas(job, contestants)
    return job.hand_on(candidates=tuple(nominees), dropped=dropped, output={"infeasible": not nominees})


def _sample(job: Job, candidate: Candidate) -> Sample:
    statistics = np.load(job.fetch(candidate) / "predictions" / f"{VALIDATION}.npy", allow_pickle=False)
    return Sample(statistics, float(job.workload.metric(statistics)[0]))


def _reason(job: Job, contestant: Contestant) -> str:
    """Returns why a candidate can not be nominated; empty if it can."""
    quality = contestant.quality
    if quality.margin < 0:
        found, baseline = (f"{v:.{decimals_of(job)}f}" for v in (quality.candidate_point, quality.reference_point))
        return (
            f"{job.workload.metric_name} {found} on validation is worse by {-quality.margin:.2g} than the tolerance "
            f"allows (baseline {baseline})"
        )
    return contestant.speed.shortfall


def _merit(job: Job, contestant: Contestant) -> float:
    if job.recipe.benchmark.objective == "size":
        return -contestant.candidate.metrics["compressed_bytes"]
    assert contestant.speed.nominee is not None, "what failed in the primary cell is not ranked"
    return float(contestant.speed.nominee["ratio"])


def _dominates(job: Job, one: Contestant, other: Contestant) -> bool:
    # What is not proved may fail before the gate: it does not drop what is.
    if other.proved and not one.proved:
        return False
    name, sign = job.workload.metric_name, 1 if job.workload.higher_is_better else -1
    better = sign * (one.candidate.metrics[name] - other.candidate.metrics[name])
    return better >= 0 and _merit(job, one) > _merit(job, other)


def _plot(job: Job, contestants: Sequence[Contestant], nominees: Sequence[Candidate]) -> None:
    if not contestants:
        return
    reference = contestants[0].quality.reference_point
    points = [plots.QualityPoint("baseline", 1, 1, 1, reference, reference, reference, "baseline")]
    for contestant in contestants:
        quality, ratio = contestant.quality, contestant.speed.nominee
        if ratio:
            low, high = reference + quality.difference_low, reference + quality.difference_high
            role: plots.Role = "nominee" if nominees[:1] == [contestant.candidate] else "candidate"
            speed_up = ratio["ratio"], ratio["low"], ratio["high"]
            points.append(plots.QualityPoint(contestant.name, *speed_up, quality.candidate_point, low, high, role))
    gate = job.recipe.gate
    allowed = gate.tolerance * abs(reference) if gate.tolerance_kind == "relative" else gate.tolerance
    bound = reference - allowed if job.workload.higher_is_better else reference + allowed
    region = plots.AcceptedRegion(
        contestants[0].speed.minimum, bound, f"{job.workload.metric_name} on validation", job.workload.higher_is_better
    )
    picture = job.new_folder() / "quality_against_latency.png"
    plots.quality_against_latency(points, region, picture)
    job.tracking.log_file(job.run_id, picture)


def _log_deltas(job: Job, contestants: Sequence[Contestant]) -> None:
    for contestant in contestants:
        delta = {f"{job.workload.metric_name}.delta_validation": contestant.quality.difference}
        job.tracking.log_metrics(job.run_id, delta, contestant.candidate)
