"""Drops models that are too bad already, and multiplies the rest by precisions and runtimes, within the budget."""

from itertools import product

from optops.candidate import Candidate
from optops.graph.lowering import STOCK, lowerings_of, unfit
from optops.models.base import load_architecture
from optops.recipe_section import OFF
from optops.runtimes import load_runtime
from optops.sections import Fuse, Quantize
from optops.stage_spec import Json, StageResult
from optops.stages.base import Job, StageError, keep_good_enough


def run(job: Job) -> StageResult:
    """Returns the items of quantize and fuse: models newest first, each in every precision and runtime that fits."""
    recipe = job.recipe
    precisions = recipe.quantize.precisions if isinstance(recipe.quantize, Quantize) else ("fp32",)
    runtimes = recipe.fuse.runtimes if isinstance(recipe.fuse, Fuse) else (STOCK,)
    candidates, dropped = keep_good_enough(job, job.result("prune").candidates)
    available = []
    for name in runtimes:
        reason = None if name == STOCK else load_runtime(name).unavailable()
        if reason:
            dropped[name] = f"runtime {name} is not available here: {reason}"
        else:
            available.append(name)
    fuse: list[Json] = []
    for candidate in reversed(candidates):
        lowerings = lowerings_of(candidate)
        for runtime, precision in product(available, precisions):
            reason = unfit(lowerings, runtime, [precision])
            if reason is None and (runtime == STOCK or precision in load_runtime(runtime).precisions):
                fuse.append(_item(candidate, precision, runtime))
            elif reason is None:
                dropped[f"{precision} {runtime}"] = f"runtime {runtime} has no {precision} on this target"
            else:
                part = f"{precision} {runtime}" if runtime in lowerings else runtime
                dropped[f"{candidate.name} {part}"] = f"{candidate.architecture} {reason}"
    for item in fuse[recipe.budget.executables :]:
        dropped[item["label"]] = f"beyond the budget of {recipe.budget.executables} executables"
    fuse = fuse[: recipe.budget.executables]
    if not fuse:
        raise StageError(f"nothing to lower: {'; '.join(dropped.values())}")
    pairs = {(item["candidate"], item["precision"]): item for item in fuse}
    quantize = [_quantize_item(job, item, candidates, dropped) for item in pairs.values()]
    for name, reason in dropped.items():
        job.log(f"left out {name}: {reason}")
    job.log(f"{len(quantize)} precision plans, {len(fuse)} executables")
    return job.hand_on(output={"quantize": quantize, "fuse": fuse}, dropped=dropped)


def _item(candidate: Candidate, precision: str, runtime: str) -> Json:
    return {
        "label": f"{candidate.name} {precision} {runtime}",
        "quantize_label": f"{candidate.name} {precision}",
        "candidate": candidate.key,
        "precision": precision,
        "runtime": runtime,
    }


def _quantize_item(job: Job, item: Json, candidates: list[Candidate], dropped: dict[str, str]) -> Json:
    """Returns the item of `quantize`; it holds how the model is to be trained, and so does the key of what it gives."""
    made = {**item, "label": item["quantize_label"], "runtime": ""}
    settings = job.recipe.quantize
    if item["precision"] != "int8" or not isinstance(settings, Quantize) or settings.train == OFF:
        return made
    (candidate,) = (candidate for candidate in candidates if candidate.key == item["candidate"])
    if candidate.trainable and load_architecture(candidate.architecture).quantization_trainer() is not None:
        return {**made, "train": settings.train.model_dump(mode="json")}
    dropped[f"{item['quantize_label']} trained"] = (
        f"`quantize.train` is for functional Keras models that can be trained; {candidate.name} "
        + (f"is a {candidate.architecture}" if candidate.trainable else "can be served only")
    )
    return made
