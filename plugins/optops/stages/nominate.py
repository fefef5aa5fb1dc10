"""Chooses what the gate will judge, on validation quality and measured speed."""

from pathlib import Path
from typing import Any

import numpy as np

from optops.candidate import Candidate
from optops.measurement import plots
from optops.measurement.non_inferiority import NonInferiority
from optops.pipeline import VALIDATION
from optops.stage_spec import Json, StageResult
from optops.stages.base import Job, decimals_of
from optops.stages.benchmark import cell_name
from optops.stages.judgement import Sample, judge


def run(job: Job) -> StageResult:
    """Returns at most `gate.nominees` nominees, best first; none if nothing meets validation tolerance and speed."""
    table: Json = job.result("benchmark").output["table"]
    baseline = _sample(job, job.baseline)
    candidates = {c.name: c for c in job.result("benchmark").candidates if c.name in table}
    judged = {name: judge(job, _sample(job, c), baseline, name) for name, c in candidates.items()}
    dropped = {name: reason for name in candidates if (reason := _reason(job, table[name], judged[name]))}
    good = [name for name in candidates if name not in dropped]
    order = sorted(good, key=lambda name: _rank(job, candidates[name], table[name], judged[name]), reverse=True)
    for name in order[1:]:
        better = next((other for other in order if _dominates(job, candidates, table, other, name)), None)
        if better:
            dropped[name] = f"worse and slower than {better}"
    nominees = [name for name in order if name not in dropped][: job.recipe.gate.nominees]
    for name in [name for name in order if name not in dropped][job.recipe.gate.nominees :]:
        dropped[name] = f"beyond the {job.recipe.gate.nominees} nominees the gate may judge"
    for name, reason in dropped.items():
        job.log(f"not nominated: {name}: {reason}")
    job.log(f"nominees, best first: {', '.join(nominees)}" if nominees else "no nominee: infeasible")
    folder = job.new_folder()
    _plot(job, folder, table, judged, nominees)
    _log_deltas(job, candidates, judged)
    return job.hand_on(
        candidates=tuple(candidates[name] for name in nominees), dropped=dropped, output={"infeasible": not nominees}
    )


def _sample(job: Job, candidate: Candidate) -> Sample:
    statistics = np.load(job.fetch(candidate) / "predictions" / f"{VALIDATION}.npy", allow_pickle=False)
    return Sample(statistics, float(job.workload.metric(statistics)[0]))


def _reason(job: Job, row: Json, quality: NonInferiority) -> str | None:
    """Returns why a candidate can not be nominated."""
    benchmark, gate = job.recipe.benchmark, job.recipe.gate
    if quality.margin < 0:
        found, baseline = (f"{v:.{decimals_of(job)}f}" for v in (quality.candidate_point, quality.reference_point))
        return (
            f"{job.workload.metric_name} {found} on validation is worse by {-quality.margin:.2g} than the tolerance "
            f"allows (baseline {baseline})"
        )
    primary = row["cells"].get(cell_name(benchmark.primary_batch))
    if primary is None:
        return "it failed in the primary cell of the benchmark"
    bound = primary["speedup"]["lower_bound"]
    if bound < gate.minimum_speedup:
        return (
            f"speed-up {primary['speedup']['ratio']:.2f}, lower bound {bound:.2f}: "
            f"less than the minimum of {gate.minimum_speedup:.2f}"
        )
    floor = job.result("benchmark").output["noise_floor"]
    for batch in benchmark.batches:
        cell = row["cells"].get(cell_name(batch))
        if cell is None:
            return f"it failed in the cell `{cell_name(batch)}` of the benchmark"
        if cell["speedup"]["high"] < 1 - floor:
            return f"slower than the baseline at {cell_name(batch)}: {cell['speedup']['ratio']:.2f}x"
    return None


def _rank(job: Job, candidate: Candidate, row: Json, quality: NonInferiority) -> tuple[bool, float]:
    # What already passes the test on validation comes first: it is likely to pass it on the test split too.
    return quality.verdict == "accept", _merit(job, candidate, row)


def _merit(job: Job, candidate: Candidate, row: Json) -> float:
    if job.recipe.benchmark.objective == "size":
        return -candidate.metrics["compressed_bytes"]
    return float(row["cells"][cell_name(job.recipe.benchmark.primary_batch)]["speedup"]["ratio"])


def _dominates(job: Job, candidates: dict[str, Candidate], table: Json, one: str, other: str) -> bool:
    name, sign = job.workload.metric_name, 1 if job.workload.higher_is_better else -1
    better = sign * (candidates[one].metrics[name] - candidates[other].metrics[name])
    faster = _merit(job, candidates[one], table[one]) - _merit(job, candidates[other], table[other])
    return better >= 0 and faster > 0


def _plot(job: Job, folder: Path, table: Json, judged: dict[str, NonInferiority], nominees: list[str]) -> None:
    any_result = next(iter(judged.values()), None)
    if any_result is None:
        return
    reference = any_result.reference_point
    points = [plots.QualityPoint("baseline", 1, 1, 1, reference, reference, reference, "baseline")]
    cell = cell_name(job.recipe.benchmark.primary_batch)
    for name, quality in judged.items():
        speed: dict[str, Any] | None = table[name]["cells"].get(cell)
        if speed:
            ratio = speed["speedup"]
            low, high = reference + quality.difference_low, reference + quality.difference_high
            role: plots.Role = "nominee" if nominees[:1] == [name] else "candidate"
            points.append(
                plots.QualityPoint(
                    name, ratio["ratio"], ratio["low"], ratio["high"], quality.candidate_point, low, high, role
                )
            )
    gate = job.recipe.gate
    allowed = gate.tolerance * abs(reference) if gate.tolerance_kind == "relative" else gate.tolerance
    bound = reference - allowed if job.workload.higher_is_better else reference + allowed
    region = plots.AcceptedRegion(
        gate.minimum_speedup, bound, f"{job.workload.metric_name} on validation", job.workload.higher_is_better
    )
    picture = folder / "quality_against_latency.png"
    plots.quality_against_latency(points, region, picture)
    job.tracking.log_file(job.run_id, picture)


def _log_deltas(job: Job, candidates: dict[str, Candidate], judged: dict[str, NonInferiority]) -> None:
    for name, quality in judged.items():
        delta = {f"{job.workload.metric_name}.delta_validation": quality.difference}
        job.tracking.log_metrics(job.run_id, delta, candidates[name])
