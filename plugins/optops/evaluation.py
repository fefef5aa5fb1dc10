"""Measures the baseline and all executables of a finished run on one split, with paired bootstrap intervals."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

import numpy as np

from optops.candidate import Candidate
from optops.figures import decimals_beside
from optops.measurement.bootstrap import bca_bounds
from optops.measurement.non_inferiority import ROUNDING
from optops.measurement.sample import Sample, sample
from optops.recipe import Recipe
from optops.runtimes.base import load_executable
from optops.stage_spec import StageResult
from optops.tracking import Tracking
from optops.workloads.base import workload_of

CONFIDENCE = 0.975
"""Of each end of an interval of 95 %."""


@dataclass(frozen=True)
class Score:
    """What one model reached.

    Attributes:
        name: Of the candidate.
        key: Of the candidate.
        value: The metric, in its own unit.
        low: Lower end of its 95 % interval over resamples of the examples.
        high: Upper end.
        change: Difference from the baseline on the same examples.
        change_low: Lower end of its 95 % interval over the same resamples.
        change_high: Upper end.
    """

    name: str
    key: str
    value: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float


@dataclass(frozen=True)
class Report:
    """All scores on one split; the baseline's first.

    Attributes:
        split: Name of the split.
        examples: How many it has.
        metric: Name of the metric.
        signature: What a reader needs to reproduce the metric.
        scores: One per model.
        unlike: In what these examples are not those that the run was judged on; empty if they are.
    """

    split: str
    examples: int
    metric: str
    signature: str
    scores: tuple[Score, ...]
    unlike: str


def evaluate_run(
    tracking: Tracking,
    recipe: Recipe,
    results: Sequence[StageResult],
    split: Literal["test", "validation"],
    report: Callable[[str], None],
) -> Report:
    """Returns how the baseline and every executable of a run do on a split.

    Args:
        tracking: Holds the models.
        recipe: Of the run; its `data` may name other files.
        results: Of the run's stages.
        split: Which of the data's splits.
        report: Called with lines for people.

    Raises:
        FileNotFoundError: If the run has no baseline.
    """
    workload = workload_of(recipe)
    examples = workload.read(recipe.data)[split]
    scores: list[Score] = []
    reference: Sample | None = None
    for candidate in _models(results):
        folder = tracking.fetch(candidate.artifact)
        executable = load_executable(folder / "serving", recipe.target.threads)
        predictions = workload.predict(executable, examples, folder / "assets")
        statistics = workload.statistics(predictions, examples, recipe.data)
        ours = sample(workload.metric, statistics, recipe.gate.resamples, recipe.seed)
        reference = reference or ours
        change = ours.metric - reference.metric
        rounding = ROUNDING * abs(ours.metric)
        interval = _interval(ours.resampled, ours.metric, rounding)
        against_baseline = _interval(ours.resampled - reference.resampled, change, rounding)
        scores.append(Score(candidate.name, candidate.key, ours.metric, *interval, change, *against_baseline))
        report(f"{candidate.name}: {workload.metric_name} {ours.metric:.{decimals_beside(reference.metric)}f}")
    signature = workload.metric_signature(recipe.data)
    unlike = _unlike_the_runs(
        tracking, results, split, dict(zip(examples["id"], workload.digests(examples), strict=True))
    )
    return Report(split, len(examples), workload.metric_name, signature, tuple(scores), unlike)


def _unlike_the_runs(
    tracking: Tracking, results: Sequence[StageResult], split: str, examples: Mapping[str, str]
) -> str:
    """Returns how these examples, digests by id, differ from those of the run; empty if they do not."""
    manifest = next((result.manifests[split] for result in results if split in result.manifests), None)
    if manifest is None:
        return ""
    own: dict[str, str] = json.loads(tracking.fetch(manifest.artifact).read_text(encoding="utf-8"))
    counts = {
        "new": len(examples.keys() - own.keys()),
        "changed": sum(own.get(name, digest) != digest for name, digest in examples.items()),
        "gone": len(own.keys() - examples.keys()),
    }
    if not any(counts.values()):
        return ""
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"not the {len(own)} {split} examples that the run was judged on: {told}"


def _interval(values: np.ndarray, point: float, rounding: float) -> tuple[float, float]:
    if not np.isfinite(values).all():
        return nan, nan
    return bca_bounds(values, point, CONFIDENCE, rounding=rounding).of(values)


def _models(results: Sequence[StageResult]) -> list[Candidate]:
    baseline = [result.candidates[0] for result in results if result.stage == "train" and result.candidates]
    if not baseline:
        raise FileNotFoundError("this run has no baseline: its stage `train` did not finish; see `optops show`")
    executables = [candidate for result in results if result.stage == "fuse" for candidate in result.candidates]
    return [*baseline, *executables]
