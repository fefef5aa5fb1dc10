"""The model card: what a reviewer must know of a model version, in Markdown."""

from typing import Any

from optops.candidate import Candidate
from optops.stages.base import Job
from optops.stages.summary import SPEED_UPS


def model_card(job: Job, nominee: Candidate) -> str:
    """Returns the card of the accepted nominee."""
    recipe, gate = job.recipe, job.result("gate")
    lines = [
        f"# {recipe.registry.name}",
        "",
        recipe.description.strip() or f"Made by the recipe `{recipe.name}`.",
        "",
        f"- workload: {recipe.workload}",
        f"- executed by: {nominee.runtime}, {nominee.precision}, {recipe.target.threads} threads ({_host(job)})",
        f"- made from: {' <- '.join([nominee.name, *_ancestors(job, nominee)])}",
        f"- candidate: `{nominee.key}`, files sha256 `{nominee.artifact.digest}`",
        f"- MLflow run: {job.tracking.run_url(job.spec.run.run_id)}",
        "",
        # Where the description of a version has no room for all, the verdict's end is lost: reasons of other models.
        "## Latency",
        "",
        *_latency(job, nominee),
        "",
        gate.output["verdict"]["markdown"].strip(),
    ]
    return "\n".join(lines) + "\n"


def _host(job: Job) -> str:
    target: dict[str, Any] = job.result("benchmark").output["target"]
    return f"{target['cpu_model']}, {target['cores']} cores"


def _ancestors(job: Job, nominee: Candidate) -> list[str]:
    known = {
        c.key: c for name in ("prune", "train", "quantize", "nominate") for r in job.results(name) for c in r.candidates
    }
    names, todo = [], list(nominee.parents)
    while todo:
        key = todo.pop(0)
        names.append(f"`{key}`" if key not in known else known[key].name)
        todo += list(known[key].parents) if key in known else []
    if names[-1:] != [job.baseline.name]:
        names.append(job.baseline.name)
    return names


def _latency(job: Job, nominee: Candidate) -> list[str]:
    cells = job.result("benchmark").output["table"][nominee.name]["cells"]
    rows = ["| cell | baseline p50 | this model p50 | p90 | speed-up | per second |", "|---|---|---|---|---|---|"]
    for name, cell in cells.items():
        ratio, ours, theirs = cell["speedup"], cell["latency"], cell["baseline_latency"]
        p90 = f"{ours['latency']['p90'] * 1e3:.2f} ms" if "p90" in ours["latency"] else "too few calls"
        rows.append(
            f"| {name} | {theirs['latency']['p50'] * 1e3:.2f} ms | {ours['latency']['p50'] * 1e3:.2f} ms | {p90} "
            f"| {ratio['ratio']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}] | {ours['items_per_second']:.0f} |"
        )
    return [*rows, "", SPEED_UPS]
