"""The summary of a run in Markdown: what became of it, baseline, candidates, and verdict."""

from typing import Any

from optops.candidate import Candidate
from optops.stages.base import Job, cell_name, decimals_of

SPEED_UPS = (
    "Speed-ups are medians over interleaved pairs, all input lengths alike; they are not the ratio of the medians "
    "beside them."
)


def summarize(job: Job, failed: list[str]) -> str:
    """Returns what the run came to, as far as it got."""
    # What it came to comes first: MLflow may have no room for all.
    lines = [f"# {job.recipe.name}", "", *_outcome(job), ""]
    if failed:
        lines += [f"**Failed:** {', '.join(failed)}. Their logs say why.", ""]
    lines += _table(job)
    for stage in ("distill", "prune", "fuse", "benchmark"):
        for result in job.results(stage):
            lines += [f"- {name} left out by {stage}: {reason}" for name, reason in result.dropped.items()]
    if job.results("gate"):
        lines += ["", job.result("gate").output["verdict"]["markdown"].strip()]
    return "\n".join(lines).rstrip() + "\n"


def _table(job: Job) -> list[str]:
    if not job.results("train"):
        return []
    sizes, name = [cell_name(batch) for batch in job.recipe.benchmark.batches], job.workload.metric_name
    head = [f"{name} (validation)", *(f"{size}: p50, speed-up" for size in sizes)]
    lines = [f"| model | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    table = job.result("benchmark").output["table"] if job.results("benchmark") else {}
    # It is timed beside each of the executables, of which one that failed at a batch size was timed at no later one.
    timed: dict[str, Any] = {}
    for row in table.values():
        timed = row["cells"] | timed
    p50 = {cell: values["baseline_latency"]["latency"]["p50"] for cell, values in timed.items()}
    baseline = [f"{p50[size] * 1e3:.1f} ms, 1.00x" if size in p50 else "-" for size in sizes]
    lines.append(_row(job, job.baseline, baseline))
    for candidate in (c for result in job.results("fuse") for c in result.candidates):
        cells = table.get(candidate.name, {"cells": {}})["cells"]
        lines.append(_row(job, candidate, [_cell(cells.get(size)) for size in sizes]))
    return [*lines, "", *([SPEED_UPS, ""] if table else [])]


def _row(job: Job, candidate: Candidate, cells: list[str]) -> str:
    quality = f"{candidate.metrics[job.workload.metric_name]:.{decimals_of(job)}f}"
    return f"| {candidate.name} | {quality} | {' | '.join(cells)} |"


def _cell(cell: object) -> str:
    if not isinstance(cell, dict):
        return "-"
    return f"{cell['latency']['latency']['p50'] * 1e3:.1f} ms, {cell['speedup']['ratio']:.2f}x"


def _outcome(job: Job) -> list[str]:
    if job.results("promote") and job.result("promote").output:
        output = job.result("promote").output
        champion = f"**Champion:** version {output['version']} of `{output['name']}`"
        if job.result("promote").skipped:
            return [f"{champion}, which it was already: nothing was promoted."]
        return [f"{champion}; before it: version {output['previous']}." if output["previous"] else f"{champion}."]
    if job.results("register") and job.result("register").output:
        output = job.result("register").output
        return [f"**Challenger:** version {output['version']} of `{output['name']}`; not promoted."]
    return ["**Nothing was promoted;** the registry is as it was."]
