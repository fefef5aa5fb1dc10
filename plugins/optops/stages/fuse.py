"""Lowers one model with its precision plan to one runtime, and checks that what ships still computes the same."""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

from optops.candidate import Artifact, Candidate
from optops.graph.lowering import LoweringError, lower, lower_serving
from optops.pipeline import VALIDATION
from optops.precision import PrecisionPlan
from optops.stage_spec import StageResult
from optops.stages.base import Job, StageError
from optops.stages.items import plan_of, planned_model
from optops.stages.training import judge_serving

BLOCK_BYTES = 1 << 20
PARITY = {"fp32": 0.97, "fp16": 0.80, "bf16": 0.0, "int8": 0.0}
"""Smallest share of validation examples whose prediction must be the model's own, by precision.

Full precision may differ only by ties. In a reduced precision predictions do change: the metric judges those."""


def run(job: Job) -> StageResult:
    """Returns the executable as a candidate."""
    item = job.spec.item or {}
    plan_result = plan_of(job, item)
    parent = planned_model(job, item, plan_result)
    source = job.fetch(parent)
    plan = PrecisionPlan.load(job.tracking.fetch(Artifact(**plan_result.output["plan"])))
    folder = job.new_folder()
    if (source / "assets").is_dir():
        shutil.copytree(source / "assets", folder / "assets")
    try:
        if parent.trainable:
            lowering = lower(source / "trainable", plan, item["runtime"], folder / "serving")
        else:
            lowering = lower_serving(source / "serving", plan, item["runtime"], folder / "serving")
    except LoweringError as error:
        raise StageError(f"{item['label']} can not be lowered: {error}") from error
    for note in lowering.notes:
        job.log(note)
    metrics = judge_serving(job, folder, item["label"])
    metrics["parity"] = job.workload.agreement(_predictions(folder), _predictions(source))
    if metrics["parity"] < PARITY[plan.precision]:
        raise StageError(
            f"{item['label']} agrees with its model on {metrics['parity']:.1%} of the validation examples; "
            f"{plan.precision} must on {PARITY[plan.precision]:.0%}: the lowering is wrong, the executable is dropped"
        )
    metrics |= _sizes(folder / "serving")
    metrics |= {name: float(value) for name, value in lowering.facts.items() if isinstance(value, int | float)}
    plan.save(folder / "precision_plan.json")
    return job.hand_on(candidates=(_candidate(job, folder, parent, metrics),))


def _sizes(serving: Path) -> dict[str, float]:
    """Returns what an executable takes on disk, and compressed, as it is stored and sent: zeros count there alone."""
    files = [path for path in serving.rglob("*") if path.is_file()]
    compressed = 0
    for path in files:
        deflate = zlib.compressobj()
        with path.open("rb") as file:
            compressed += sum(len(deflate.compress(block)) for block in iter(lambda: file.read(BLOCK_BYTES), b""))
        compressed += len(deflate.flush())
    return {"size_bytes": float(sum(path.stat().st_size for path in files)), "compressed_bytes": float(compressed)}


def _candidate(job: Job, folder: Path, parent: Candidate, metrics: dict[str, float]) -> Candidate:
    item = job.spec.item or {}
    runtime = json.loads((folder / "serving" / "executable.json").read_text(encoding="utf-8"))["runtime"]
    job.tracking.log_inputs(job.run_id, [parent])
    return job.add(
        folder,
        name=item["label"],
        parents=(parent.key,),
        architecture=parent.architecture,
        precision=item["precision"],
        runtime=runtime,
        trainable=False,
        metrics=metrics,
    )


def _predictions(folder: Path) -> list[Any]:
    listed = json.loads((folder / "predictions" / f"{VALIDATION}.json").read_text(encoding="utf-8"))
    return list(listed["predictions"])
