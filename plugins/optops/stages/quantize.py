"""Writes the precision plan of one model in one precision; trains the model for it where the recipe says so."""

from pathlib import Path
from typing import Any

from optops.candidate import Candidate
from optops.models.base import load_architecture, load_function
from optops.pipeline import CALIBRATION
from optops.precision import Judge, PrecisionPlan
from optops.sections import Int8Train
from optops.stage_spec import StageResult
from optops.stages.base import Job, allowed_loss, decimals_of
from optops.stages.items import candidate_of


def run(job: Job) -> StageResult:
    """Returns where the plan is, and the model if it was trained for the plan; `fuse` lowers it."""
    item = job.spec.item or {}
    candidate = candidate_of(job, "prune", item)
    job.log(f"{candidate.name} in {item['precision']}, calibration on {job.manifest(CALIBRATION).examples} examples")
    # Nobody knows the parts of a serving-only import: its plan names none, and lowering takes what it can.
    unknown = PrecisionPlan(item["precision"])
    plan, trained = _plan(job, candidate, item["precision"]) if candidate.trainable else (unknown, ())
    for part, reason in plan.notes.items():
        job.log(f"{part}: {reason}")
    path = job.new_folder() / "plan.json"
    plan.save(path)
    artifact = job.tracking.log_file(job.run_id, path)
    job.tracking.log_inputs(job.run_id, [candidate])
    in_type: dict[str, int] = {}
    for precision in plan.parts.values():
        in_type[precision] = in_type.get(precision, 0) + 1
    job.tracking.log_metrics(job.run_id, {f"parts.{name}": count for name, count in in_type.items()})
    output = {"candidate": candidate.key, "precision": item["precision"], "plan": vars(artifact)}
    return job.hand_on(candidates=trained, output=output)


def _plan(job: Job, candidate: Candidate, precision: str) -> tuple[PrecisionPlan, tuple[Candidate, ...]]:
    """Returns the plan, and the model that was trained for it if that was needed."""
    folder = job.fetch(candidate)
    planner = load_function(load_architecture(candidate.architecture).planner())
    judge = _judge(job, candidate, folder / "assets")

    def plan(judge: Judge | None) -> PrecisionPlan:
        made: PrecisionPlan = planner(
            folder / "trainable",
            precision,
            lambda: job.workload.calibration_inputs(job.examples(CALIBRATION), folder / "assets"),
            judge,
        )
        return made

    settings = (job.spec.item or {}).get("train")
    if settings is not None and judge is not None:
        from optops.stages.int8_training import train_for

        found = train_for(job, candidate, plan(None), judge, Int8Train.model_validate(settings))
        if found is not None:
            return found
    return plan(judge), ()


def _judge(job: Job, candidate: Candidate, assets: Path) -> Judge | None:
    """Returns what tells a planner when its plan makes a model too bad; None if it has lost too much already."""
    workload, name = job.workload, job.workload.metric_name
    sign = 1 if workload.higher_is_better else -1
    lost = sign * (job.baseline.metrics[name] - candidate.metrics[name])
    # Half of what is left: the gate asks for a proof, on other examples.
    allowed = (allowed_loss(job) - lost) / 2
    if allowed < 0:
        job.log(
            f"{candidate.name} has lost {lost:.{decimals_of(job)}f} {name} already, more than it may: it is planned "
            "without a judge, and not trained for int8"
        )
        return None

    def evaluate(model: Any) -> float:
        # Imported late: most plans need no judge, and so no TensorFlow.
        from optops.stages.training import live, measure, validation_sample

        sample = validation_sample(job)
        executable = live(job, model, candidate.architecture)
        value = measure(job, workload.predict(executable, sample, assets), sample)
        found = f"{name} {value:.{decimals_of(job)}f} on {len(sample)} {workload.examples_name}"
        job.log(f"{candidate.name} as planned so far: {found}")
        return sign * value

    return Judge(evaluate, allowed)
