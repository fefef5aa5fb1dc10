"""What a stage works with: its spec, its examples, its files, and how it hands on what it made."""

import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from math import isfinite
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optops.candidate import Artifact, Candidate, derive_key
from optops.figures import decimals_beside, decimals_for
from optops.home import subfolder
from optops.pipeline import STAGES
from optops.recipe import Recipe
from optops.stage_spec import Manifest, StageResult, StageSpec
from optops.tracking import Tracking
from optops.workloads.base import Workload, workload_of

if TYPE_CHECKING:
    import pandas as pd

    from optops.runtimes import Executable


def one_message(text: str) -> str:
    """Returns a text whose later lines are indented: what it quotes, of data for example, begins no line of a log.

    Whoever runs the stage takes some lines for more than a line, see `runners.base.deliver`.
    """
    return "\n  ".join(text.splitlines())


class StageError(Exception):
    """A stage that failed for a reason people can act upon; no retry helps.

    Args:
        message: What is wrong, with the value and the remedy.
        details: Further lines to show, for example the offending rows.
    """

    def __init__(self, message: str, details: Iterable[str] = ()):
        super().__init__(message)
        self.details = list(details)


@dataclass
class Job:
    """One execution of one stage.

    Attributes:
        spec: What the stage may know.
        recipe: The recipe in the spec, validated.
        workload: The recipe's workload.
        key: Key of the result.
        tracking: The connection to MLflow.
        run_id: MLflow run of this stage.
    """

    spec: StageSpec
    recipe: Recipe
    workload: Workload
    key: str
    tracking: Tracking
    run_id: str
    _frames: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    _told: float = 0.0

    # What came from upstream

    def results(self, stage: str) -> tuple[StageResult, ...]:
        """Returns the results of a stage upstream; empty if it did not run."""
        return self.spec.results.get(stage, ())

    def result(self, stage: str) -> StageResult:
        """Returns the one result of a stage upstream.

        Raises:
            StageError: If there is none.
        """
        found = self.results(stage)
        if not found:
            raise StageError(f"{self.spec.stage} needs the result of {stage}, which did not deliver one; see its log")
        return found[0]

    @property
    def baseline(self) -> Candidate:
        """The baseline, the first candidate of `train`."""
        return self.result("train").candidates[0]

    def manifest(self, split: str) -> Manifest:
        """Returns the manifest of a split, if this stage may see it.

        Raises:
            StageError: If it may not.
        """
        manifests = self.result("check_labels").manifests
        if split not in manifests:
            raise StageError(f"{self.spec.stage} may not see the split {split!r}; it may see {sorted(manifests)}")
        return manifests[split]

    def examples(self, split: str) -> "pd.DataFrame":
        """Returns the examples of a split, exactly those of its manifest.

        Raises:
            StageError: If the data changed since `check_labels`.
        """
        if split not in self._frames:
            self._frames[split] = self._read_examples(self.manifest(split))
        return self._frames[split]

    def _read_examples(self, manifest: Manifest) -> "pd.DataFrame":
        listed: dict[str, str] = json.loads(self.tracking.fetch(manifest.artifact).read_text(encoding="utf-8"))
        if "all" not in self._frames:
            import pandas as pd

            frames = self.workload.read(self.recipe.data)
            self._frames["all"] = pd.concat(frames.values(), ignore_index=True).drop_duplicates("id").set_index("id")
        everything = self._frames["all"]
        missing = [example for example in listed if example not in everything.index]
        if missing:
            raise StageError(
                f"{len(missing)} examples of the manifest {manifest.split!r} are gone, first {missing[0]!r}: "
                "the data changed while the run was under way; start a new run"
            )
        examples = everything.loc[list(listed)].reset_index()
        changed = examples["id"][self.workload.digests(examples).to_numpy() != list(listed.values())]
        if len(changed):
            raise StageError(
                f"{len(changed)} examples of the manifest {manifest.split!r} changed since check_labels, first "
                f"{changed.iloc[0]!r}: the data was edited while the run was under way; start a new run"
            )
        return examples

    def fetch(self, candidate: Candidate) -> Path:
        """Returns the candidate's files: `trainable/`, `serving/`, `assets/`, `predictions/` as it has them."""
        return self.tracking.fetch(candidate.artifact)

    def load(self, folder: Path) -> "Executable":
        """Returns the executable of a candidate's files, to judge its quality; timings load it in their own process."""
        from optops.runtimes import load_executable

        with warnings.catch_warnings():
            # This process may have started TensorFlow with other threads already; quality does not depend on them.
            warnings.simplefilter("ignore", RuntimeWarning)
            return load_executable(folder / "serving", self.recipe.target.threads)

    # What this stage does

    def log(self, line: str) -> None:
        """Tells people something, at once."""
        print(one_message(line), flush=True)  # noqa: T201 - standard output is the task's log

    def progress(self, line: str) -> None:
        """Tells people how far it got; at most a line every two seconds gets through."""
        if time.monotonic() - self._told >= 2:
            self._told = time.monotonic()
            self.log(line)

    def link(self, name: str, url: str) -> None:
        """Announces a link while the stage runs."""
        self.log(f"::optops::link {name} {url}")

    @property
    def work_folder(self) -> Path:
        """A folder that survives a killed process: checkpoints and the like.

        It belongs to this key where a lock sees to it that only one run at a time makes this result, else to this run.
        """
        return subfolder("work", self.key if STAGES[self.spec.stage].cached else f"{self.key}-{self.run_id}")

    def new_folder(self) -> Path:
        """Returns an empty folder for files on their way into the artifact store; gone when the stage ends."""
        return Path(tempfile.mkdtemp(dir=self.work_folder, prefix="new-"))

    def forget_work(self) -> None:
        """Removes the work folder, once everything in it is in the store."""
        shutil.rmtree(self.work_folder, ignore_errors=True)

    def add(self, folder: Path, **facts: Any) -> Candidate:
        """Puts a candidate into the store; see `Candidate` for the facts (key and stage are given)."""
        candidate = Candidate(**{"key": self.key, "stage": self.spec.stage, "artifact": Artifact("", ""), **facts})
        return self.tracking.log_candidate(self.run_id, folder, candidate)

    def hand_on(self, **values: Any) -> StageResult:
        """Returns this stage's result; see `StageResult` for the values."""
        return StageResult(stage=self.spec.stage, key=self.key, run_id=self.run_id, **values)

    def derived_key(self, **inputs: Any) -> str:
        """Returns a key for one of several candidates that this stage makes."""
        return derive_key(self.spec.stage, of=self.key, **inputs)


def make_key(spec: StageSpec, recipe: Recipe, workload: Workload) -> str:
    """Returns the key of a stage's result: everything that it depends on.

    That is: the declared sections of the recipe, the keys and digests of what it is handed, its item, the seed, the
    source of its modules, the versions of the libraries that compute, and the CPU's instruction sets where they decide.
    """
    from optops.stages.identity import (
        code_digest,
        code_of,
        data_digests,
        data_settings,
        instruction_sets,
        library_versions,
        model_digests,
    )

    stage = STAGES[spec.stage]
    sections: dict[str, Any] = {name: reduce(getitem, name.split("."), spec.recipe) for name in stage.sections}
    if "data" in sections and "check_labels" in stage.reads:
        # The manifests say which examples; where the files lie does not matter, what is made of them does.
        measure = workload.metric_signature(recipe.data)
        sections["data"] = {"settings": data_settings(workload, recipe), "metric": measure}
    elif "data" in sections:
        sections["data"] = data_digests(workload, recipe)
    if "model" in sections:
        sections["model"] = model_digests(workload, recipe)
    inputs: Mapping[str, Any] = {
        name: [_identity(result) for result in results] for name, results in spec.results.items() if name != "open_run"
    }
    return derive_key(
        spec.stage,
        sections=sections,
        inputs=inputs if spec.item is None else _item_inputs(spec),
        item=spec.item,
        seed=recipe.seed,
        code=code_digest(code_of(stage, workload, (spec.item or {}).get("runtime", ""))),
        libraries=library_versions(),
        cpu=instruction_sets() if stage.on_cpu else [],
    )


def _identity(result: StageResult) -> list[str] | dict[str, str]:
    # By split, not by place: a result that is taken over lists its manifests in another order.
    manifests = {split: manifest.digest for split, manifest in result.manifests.items()}
    # A key says how a model is made, its digest what came of it: made again, on another machine, it has other weights.
    made = [candidate.artifact.digest for candidate in result.candidates]
    if "plan" in result.output:
        made.append(result.output["plan"]["digest"])
    return manifests or [result.key, *made]


def _item_inputs(spec: StageSpec) -> Mapping[str, Any]:
    # A mapped item depends on its own candidate alone: what else the plan holds must not change its key.
    item = spec.item or {}
    manifests = [_identity(result) for result in spec.results.get("check_labels", ())]
    candidates = [candidate for result in spec.results.get("prune", ()) for candidate in result.candidates]
    models = [candidate.artifact.digest for candidate in candidates if candidate.key == item.get("candidate")]
    plans = [_identity(r) for r in spec.results.get("quantize", ()) if is_plan_of(r, item)]
    return {"manifests": manifests, "models": models, "plans": plans}


def is_plan_of(result: StageResult, item: Mapping[str, Any]) -> bool:
    """Returns whether a result of `quantize` is the precision plan that an item of `fuse` asks for."""
    return all(result.output.get(name) == item.get(name) for name in ("candidate", "precision"))


def keep_good_enough(job: Job, candidates: Iterable[Candidate]) -> tuple[list[Candidate], dict[str, str]]:
    """Splits candidates by whether they stay within the cumulative tolerance on the validation split.

    A point estimate decides here, with twice the tolerance as a margin: the gate alone proves.
    """
    name = job.workload.metric_name
    reference, allowed = job.baseline.metrics[name], allowed_loss(job)
    sign = 1 if job.workload.higher_is_better else -1
    kept: list[Candidate] = []
    dropped: dict[str, str] = {}
    for candidate in candidates:
        loss = sign * (reference - candidate.metrics[name])
        if loss <= 2 * allowed:
            kept.append(candidate)
        else:
            found, lost, wanted, limit = (
                f"{value:.{decimals_of(job)}f}" for value in (candidate.metrics[name], loss, reference, allowed)
            )
            dropped[candidate.name] = (
                f"{name} {found} on validation is {lost} worse than the baseline's {wanted}; "
                f"more than twice the tolerance of {limit}"
            )
    return kept, dropped


def allowed_loss(job: Job) -> float:
    """Returns the cumulative tolerance in units of the metric, by the baseline's quality on the validation split.

    Raises:
        StageError: If that is no finite number, against which nothing can be judged, or none of which a share is a
            tolerance.
    """
    gate, name = job.recipe.gate, job.workload.metric_name
    reference = job.baseline.metrics[name]
    if not isfinite(reference):
        raise StageError(
            f"the baseline's {name} is {reference} on validation: labels or outputs hold numbers "
            "that are not finite; mend the data, and leave the label checks of them on"
        )
    if gate.tolerance_kind == "absolute":
        return gate.tolerance
    if reference < 0 or (reference == 0 and job.workload.higher_is_better):
        raise StageError(
            f"the baseline's {name} is {reference:g} on validation, of which a share of {gate.tolerance:g} is no "
            "tolerance: set `gate.tolerance_kind: absolute`, or mend the baseline"
        )
    return gate.tolerance * reference


def decimals_of(job: Job) -> int:
    """Returns how many decimals a metric is written with: two digits of the tolerance, and two decimals at least."""
    gate, reference = job.recipe.gate, abs(job.baseline.metrics[job.workload.metric_name])
    allowed = gate.tolerance * (1 if gate.tolerance_kind == "absolute" else reference)
    return decimals_for(allowed) if allowed else decimals_beside(reference)


def cell_name(batch: int) -> str:
    """Returns the name of a batch size's cell in the table of `benchmark`."""
    return f"batch {batch}"


def new_job(spec: StageSpec, tracking: Tracking) -> Job:
    """Returns a job for a spec, without an MLflow run yet."""
    recipe = Recipe.model_validate(spec.recipe)
    workload = workload_of(recipe)
    return Job(spec, recipe, workload, make_key(spec, recipe, workload), tracking, run_id="")


def passed_on(job: Job, upstream: str, reason: str) -> StageResult:
    """Returns the result of a stage that is off: its input, as it was."""
    return replace(job.hand_on(candidates=job.result(upstream).candidates), skipped=reason)
