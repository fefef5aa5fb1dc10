"""What a run of a recipe would do: which stages are off, which results are there already, what stands in its way."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from optops.cli.foreseen import foreseen
from optops.pipeline import FLOW, TEST, Stage, make_spec
from optops.recipe import Recipe
from optops.recipe_file import RecipeError, read_recipe
from optops.recipe_section import OFF
from optops.sections import Fuse
from optops.stage_spec import Json, RunReference, StageResult

if TYPE_CHECKING:
    from optops.tracking import Tracking


@dataclass(frozen=True)
class StageForecast:
    """What would become of one stage.

    Attributes:
        name: Of the stage.
        state: `off`, `cached` (all of it is there) or `run`.
        text: What there is to say.
    """

    name: str
    state: Literal["off", "cached", "run"]
    text: str


@dataclass
class Forecast:
    """What a run would do.

    Attributes:
        problems: What keeps it from running, with the remedy.
        warnings: What makes it less than it could be.
        stages: In the order of the flow; empty if the recipe can not be read.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stages: list[StageForecast] = field(default_factory=list)

    def to_json(self) -> Json:
        """Returns it as plain data."""
        return asdict(self)


def forecast(path: Path) -> Forecast:
    """Returns what a run of a recipe would do; runs nothing and writes nothing."""
    from optops.tracking import StoreError

    try:
        recipe = read_recipe(path)
    except RecipeError as error:
        return Forecast(problems=str(error).splitlines())
    found = Forecast()
    found.problems += _missing_files(recipe)
    _look_at_runtimes(recipe, found)
    if not found.problems:
        found.problems += _unreadable_data(recipe, found)
    tracking = _existing_store()
    try:
        found.stages = list(_stages(recipe, None if found.problems else tracking))
    except StoreError as error:
        found.problems.append(str(error))
        found.stages = list(_stages(recipe, None))
    return found


def _missing_files(recipe: Recipe) -> Iterator[str]:
    from optops.workloads.base import load_workload

    workload = load_workload(recipe.workload)
    for key, path in workload.files(recipe.data).items():
        if not path.exists():
            yield f"data.{key}: {path} does not exist; put the data there or change `data.{key}`"
    for key, path in workload.model_files(recipe.model).items():
        if not path.exists():
            yield f"model.{key}: {path} does not exist; put it there or change `model.{key}`"


def _look_at_runtimes(recipe: Recipe, found: Forecast) -> None:
    from optops.measurement.host import Fingerprint
    from optops.runtimes.base import load_runtime

    host = Fingerprint.of_this_host()
    if recipe.target.device == "gpu" and not host.gpus:
        found.warnings.append("target.device: this machine has no GPU; run it where there is one, or set `cpu`")
    if recipe.target.threads > host.cores:
        found.warnings.append(
            f"target.threads: {recipe.target.threads} threads on {host.cores} cores: timings say little about a "
            "machine that has them; run it there, or lower `target.threads`"
        )
    if not isinstance(recipe.fuse, Fuse):
        return
    reasons = {name: load_runtime(name).unavailable() for name in recipe.fuse.runtimes}
    lacking = [f"fuse.runtimes: {name} is not available here: {reason}" for name, reason in reasons.items() if reason]
    if len(lacking) == len(reasons):
        found.problems += lacking
    else:
        found.warnings += [f"{line}; it will be left out" for line in lacking]


def _unreadable_data(recipe: Recipe, found: Forecast) -> Iterator[str]:
    from optops.stages.judgement import unprovable
    from optops.workloads.base import workload_of

    workload = workload_of(recipe)
    try:
        splits = workload.read(recipe.data)
        # Every stage that works with the data looks at the metric, too.
        workload.metric_signature(recipe.data)
    except ValueError as error:
        yield f"data: {error}"
        return
    empty = [split for split, examples in splits.items() if examples.empty]
    yield from (f"data.{split}: there are no {workload.examples_name} in it; give it some" for split in empty)
    try:
        for defects in () if empty else foreseen(recipe, workload, splits):
            if defects.stops:
                yield f"{defects.text}; mend the data, `optops check` shows all"
            else:
                found.warnings.append(defects.text)
    except ValueError as error:
        yield f"data: {error}"
    doubt = unprovable(recipe.gate, len(splits[TEST]), workload)
    if doubt:
        found.warnings.append(f"gate.tolerance: {doubt}")


def _existing_store() -> "Tracking | None":
    from optops.tracking import Tracking, default_uri

    uri = default_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return None
    return Tracking()


def _stages(recipe: Recipe, tracking: "Tracking | None") -> Iterator[StageForecast]:
    known = tracking is not None and tracking.client.get_experiment_by_name(recipe.experiment) is not None
    cache = _Cache(recipe, tracking if known else None)
    for stage in FLOW:
        if stage.switch and recipe.is_off(stage.switch):
            cache.pass_on(stage)
            yield StageForecast(stage.name, "off", "")
        else:
            yield cache.look_up(stage)


class _Cache:
    """Chains through cached results: a stage's key is known when all that it reads is."""

    def __init__(self, recipe: Recipe, tracking: "Tracking | None"):
        self.recipe, self.tracking = recipe, tracking
        self.reference = RunReference("", recipe.experiment, "", "")
        self.results: dict[str, tuple[StageResult, ...]] = {"open_run": ()}

    def look_up(self, stage: Stage) -> StageForecast:
        note = _note(stage, self.recipe)
        if self.tracking is None or not all(name in self.results for name in stage.reads):
            return StageForecast(stage.name, "run", note)
        if stage.name == "plan":
            from optops.stages.base import StageError

            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    self._keep(stage, self._run_plan())
            except StageError as error:
                note = f"would fail: {error}"
            return StageForecast(stage.name, "run", note)
        if not stage.cached:
            return StageForecast(stage.name, "run", note)
        items = self.results["plan"][0].output[stage.over] if stage.over else [None]
        found = [result for item in items if (result := self._cached(stage, item)) is not None]
        if len(found) == len(items):
            self._keep(stage, *found)
            return StageForecast(stage.name, "cached", found[0].key if stage.over is None else f"{len(found)} results")
        text = f"{len(found)} of {len(items)} results are cached" if stage.over and found else note
        return StageForecast(stage.name, "run", text)

    def pass_on(self, stage: Stage) -> None:
        from optops.stages.base import new_job, passed_on

        if self.tracking is not None and all(name in self.results for name in stage.reads):
            job = new_job(self._spec(stage, None), self.tracking)
            self._keep(stage, passed_on(job, stage.reads[-1], f"{stage.switch} is off in the recipe"))

    def _keep(self, stage: Stage, *results: StageResult) -> None:
        self.results[stage.name] = results

    def _spec(self, stage: Stage, item: Json | None) -> Any:
        return make_spec(stage.name, self.recipe, self.reference, self.results, item)

    def _cached(self, stage: Stage, item: Json | None) -> StageResult | None:
        from optops.stages.base import new_job

        assert self.tracking is not None
        return self.tracking.cached(self.recipe.experiment, new_job(self._spec(stage, item), self.tracking).key)

    def _run_plan(self) -> StageResult:
        from optops.stages import plan
        from optops.stages.base import new_job

        assert self.tracking is not None
        return plan.run(new_job(self._spec(_PLAN, None), self.tracking))


_PLAN = next(stage for stage in FLOW if stage.name == "plan")


def _note(stage: Stage, recipe: Recipe) -> str:
    if stage.name in ("quantize", "fuse") and getattr(recipe, stage.name) == OFF:
        return {"quantize": "off: fp32 alone", "fuse": "off: stock TensorFlow alone"}[stage.name]
    return ""
