"""The flow as plain data: which stages there are, what each reads, and how a spec is put together.

The DAG builder and `optops run` both read it, so the same recipe gives the same candidates in both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optops.recipe import Recipe
from optops.stage_spec import Json, RunReference, StageResult, StageSpec

TRAIN, CALIBRATION, VALIDATION, TEST = SPLITS = ("train", "calibration", "validation", "test")


@dataclass(frozen=True)
class Stage:
    """One step of the flow.

    Attributes:
        name: Names module, task and MLflow run.
        summary: One line for people.
        reads: Stages upstream whose results it is handed.
        sections: Sections of the recipe that its result depends on, or keys of them.
        splits: Manifests it may see. `test` reaches the gate alone.
        switch: Section that may be `off`; the stage then passes its input on and shows as skipped.
        over: Output of `plan` that lists its items, for a mapped stage.
        cached: Whether an earlier result with the same key is taken over.
        exclusive: Whether it needs the host for itself.
        on_cpu: Whether its result depends on the instruction sets of the CPU that makes it.
        modules: Modules and packages whose source its key covers, beside its own module. What carries results and makes
            none (specs, the store, the recipe's models) is not among them, lest every edit train all models again.
    """

    name: str
    summary: str
    reads: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    switch: str | None = None
    over: str | None = None
    cached: bool = False
    exclusive: bool = False
    on_cpu: bool = False
    modules: tuple[str, ...] = ()


_DATA_CODE = ("optops.workloads", "optops.yaml_text")
_GRAPH_CODE = (
    *_DATA_CODE,
    *("optops.models", "optops.graph", "optops.runtimes", "optops.kernels"),
    *("optops.precision", "optops.stages.training"),
)
_TEACHING_CODE = (*_GRAPH_CODE, "optops.compression", "optops.stages.teaching")

FLOW: tuple[Stage, ...] = (
    Stage("open_run", "opens the MLflow run that everything below belongs to"),
    Stage(
        "check_labels",
        "checks every example, writes the manifests",
        reads=("open_run",),
        sections=("workload", "data", "check_labels"),
        cached=True,
        modules=_DATA_CODE,
    ),
    Stage(
        "train",
        "trains or imports the baseline",
        reads=("check_labels",),
        sections=("workload", "data", "model", "train"),
        splits=(TRAIN, VALIDATION),
        cached=True,
        modules=_GRAPH_CODE,
    ),
    Stage(
        "distill",
        "teaches a faster student",
        reads=("check_labels", "train"),
        sections=("workload", "data", "model", "distill"),
        splits=(TRAIN, VALIDATION),
        switch="distill",
        cached=True,
        modules=_TEACHING_CODE,
    ),
    Stage(
        "prune",
        "removes what matters least",
        reads=("check_labels", "train", "distill"),
        sections=("workload", "data", "model", "prune"),
        splits=(TRAIN, VALIDATION),
        switch="prune",
        cached=True,
        modules=_TEACHING_CODE,
    ),
    Stage(
        "plan",
        "drops what is too bad, multiplies the rest by precisions and runtimes within the budget",
        reads=("train", "prune"),
        sections=("workload", "gate", "quantize", "fuse", "budget", "target"),
    ),
    Stage(
        "quantize",
        "writes the precision plan of one model, trains it for the plan if need be",
        reads=("check_labels", "train", "prune"),
        sections=("workload", "data", "gate.tolerance", "gate.tolerance_kind"),
        splits=(TRAIN, CALIBRATION, VALIDATION),
        over="quantize",
        cached=True,
        on_cpu=True,
        modules=(*_TEACHING_CODE, "optops.stages.int8_training", "optops.stages.items", "optops.stages.base"),
    ),
    Stage(
        "fuse",
        "lowers one model to one runtime, checks parity",
        reads=("check_labels", "prune", "quantize"),
        sections=("workload", "data", "target"),
        splits=(VALIDATION,),
        over="fuse",
        cached=True,
        on_cpu=True,
        modules=(*_GRAPH_CODE, "optops.compression.quantization", "optops.stages.items"),
    ),
    Stage(
        "benchmark",
        "times all executables against the baseline, alone on its host",
        reads=("check_labels", "train", "fuse"),
        sections=("workload", "data", "target", "benchmark", "registry"),
        splits=(VALIDATION,),
        exclusive=True,
    ),
    Stage(
        "nominate",
        "chooses what the gate will judge",
        reads=("check_labels", "train", "fuse", "benchmark"),
        sections=("gate", "benchmark"),
    ),
    Stage(
        "gate",
        "judges the nominee on the test split",
        reads=("check_labels", "train", "benchmark", "nominate"),
        sections=("workload", "data", "gate", "benchmark", "registry"),
        splits=(TEST,),
        modules=_GRAPH_CODE,
    ),
    Stage(
        "register",
        "makes the model version and sets the alias `challenger`",
        reads=("check_labels", "train", "prune", "quantize", "benchmark", "nominate", "gate"),
        sections=("registry",),
        splits=(VALIDATION,),
    ),
    Stage(
        "promote",
        "moves the alias `champion`",
        reads=("gate", "register"),
        sections=("registry",),
    ),
    Stage(
        "close_run",
        "ends the MLflow run in whatever state, and sums up",
        reads=(
            *("open_run", "check_labels", "train", "distill", "prune", "fuse"),
            *("benchmark", "nominate", "gate", "register", "promote"),
        ),
    ),
)

STAGES: Mapping[str, Stage] = {stage.name: stage for stage in FLOW}
ORDER: tuple[str, ...] = tuple(stage.name for stage in FLOW)


def make_spec(
    stage: str,
    recipe: Recipe,
    run: RunReference,
    results: Mapping[str, Sequence[StageResult]],
    item: Json | None = None,
    state: Mapping[str, str] | None = None,
) -> StageSpec:
    """Puts a spec together from the results so far; a stage is handed only what it declares.

    Args:
        stage: Name of the stage.
        recipe: The recipe with this run's overrides.
        run: The parent run.
        results: All results so far, by stage.
        item: The item of a mapped stage.
        state: How the run went so far, for `close_run` and `promote`; see `StageSpec`.
    """
    declared = STAGES[stage]
    manifests = set(declared.splits)
    handed = {
        name: tuple(
            replace(result, manifests={s: m for s, m in result.manifests.items() if s in manifests})
            for result in results.get(name, ())
        )
        for name in declared.reads
    }
    return StageSpec(stage, recipe_json(recipe), run, handed, item, dict(state or {}))


def recipe_json(recipe: Recipe) -> Json:
    """Returns the recipe as plain data, as specs carry it."""
    data: dict[str, Any] = recipe.model_dump(mode="json", serialize_as_any=True)
    return data
