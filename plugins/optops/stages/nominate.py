"""Chooses what the gate will judge, on validation quality and measured speed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from optops.candidate import Candidate
from optops.measurement import plots
from optops.measurement.non_inferiority import NonInferiority
from optops.measurement.prospect import chance_of_acceptance
from optops.measurement.sample import Sample
from optops.pipeline import TEST, VALIDATION
from optops.stage_spec import StageResult
from optops.stages.base import Job, decimals_of
from optops.stages.judgement import judge, sample_of
from optops.stages.speed import Speed, judge_speed


@dataclass(frozen=True)
class Contestant:
    """An executable that was timed, with its quality on validation.

    Attributes:
        candidate: The executable.
        quality: The test on validation.
        speed: As measured.
        first: Its chance to be accepted on the test split as the first that the gate tries.
        later: The same after another.
    """

    candidate: Candidate
    quality: NonInferiority
    speed: Speed
    first: float
    later: float

    @property
    def name(self) -> str:
        """Of the candidate."""
        return self.candidate.name


def run(job: Job) -> StageResult:
    """Returns at most `gate.nominees` nominees, in the order that promises most; none if nothing can pass."""
    baseline = _sample(job, job.baseline)
    timed = job.result("benchmark").output["table"]
    contestants = [_contestant(job, c, baseline) for c in job.result("benchmark").candidates if c.name in timed]
    dropped = {c.name: reason for c in contestants if (reason := _reason(job, c))}
    good = sorted((c for c in contestants if c.name not in dropped), key=lambda c: _merit(job, c), reverse=True)
    for one in good:
        better = next((other for other in good if _dominates(job, other, one)), None)
        if better:
            dropped[one.name] = f"worse and slower than {better.name}"
    left = [c for c in good if c.name not in dropped]
    chosen = _most_promising(job, left)
    nominees = [one.candidate for one in chosen]
    for one in left:
        if one not in chosen:
            dropped[one.name] = (
                f"beyond the {len(chosen)} nominees that promise most; its chance to be proved on the test split is "
                f"{one.first:.0%}"
            )
    for name, reason in dropped.items():
        job.log(f"not nominated: {name}: {reason}")
    names = ", ".join(f"{one.name} (chance {_chance(one, chosen):.0%})" for one in chosen)
    job.log(f"nominees, first to be judged first: {names}" if nominees else "no nominee: infeasible")
    _plot(job, contestants, nominees)
    _log_deltas(job, contestants)
    return job.hand_on(candidates=tuple(nominees), dropped=dropped, output={"infeasible": not nominees})


def _contestant(job: Job, candidate: Candidate, baseline: Sample) -> Contestant:
    quality = judge(job, _sample(job, candidate), baseline, candidate.name)
    gate, examples = job.recipe.gate, int(job.result("check_labels").output["examples"][TEST])
    first, later = (
        chance_of_acceptance(quality, examples, gate.confidence_of(number, gate.nominees)) for number in (1, 2)
    )
    return Contestant(candidate, quality, judge_speed(job, candidate.name), first, later)


def _sample(job: Job, candidate: Candidate) -> Sample:
    statistics = np.load(job.fetch(candidate) / "predictions" / f"{VALIDATION}.npy", allow_pickle=False)
    return sample_of(job, statistics)


def _reason(job: Job, contestant: Contestant) -> str:
    """Returns why a candidate can not be nominated; empty if it can."""
    quality = contestant.quality
    if quality.margin < 0:
        found, baseline = (f"{v:.{decimals_of(job)}f}" for v in (quality.candidate_point, quality.reference_point))
        return (
            f"{job.workload.metric_name} {found} on validation is worse by {-quality.margin:.2g} than the tolerance "
            f"allows (baseline {baseline})"
        )
    return contestant.speed.shortfall or contestant.speed.slower_than_champion


def _merit(job: Job, contestant: Contestant) -> float:
    """Returns how many times as fast it is as the baseline, or a number that grows so as its files get smaller."""
    if job.recipe.benchmark.objective == "size":
        return 1 / contestant.candidate.metrics["compressed_bytes"]
    assert contestant.speed.nominee is not None, "what failed in the primary cell is not ranked"
    return float(contestant.speed.nominee["ratio"])


def _dominates(job: Job, one: Contestant, other: Contestant) -> bool:
    # What looks better may be less certain: it does not drop what is likelier to pass, by a percent or more.
    if round(one.first, 2) < round(other.first, 2):
        return False
    name, sign = job.workload.metric_name, 1 if job.workload.higher_is_better else -1
    better = sign * (one.candidate.metrics[name] - other.candidate.metrics[name])
    return better >= 0 and _merit(job, one) > _merit(job, other)


def _most_promising(job: Job, contestants: Sequence[Contestant]) -> tuple[Contestant, ...]:
    """Returns the nominees in the order in which what the gate accepts first can be expected to be best.

    The gate goes on with the next only where one was not accepted: a fast one that may well fail can come before a safe
    one, and a hopeless one takes no place beside one that may pass, for it costs the others part of the level.
    """
    contestants = [one for one in contestants if one.first > 0] or contestants
    count = min(job.recipe.gate.nominees, len(contestants))

    def expected(order: tuple[Contestant, ...]) -> float:
        total, left = 0.0, 1.0
        for one in order:
            total += left * _chance(one, order) * _merit(job, one)
            left *= 1 - _chance(one, order)
        return total

    return max(permutations(contestants, count), key=expected)


def _chance(one: Contestant, order: Sequence[Contestant]) -> float:
    return one.first if one is order[0] else one.later


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
