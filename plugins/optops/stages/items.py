"""Finds what the item of a mapped stage refers to."""

from collections.abc import Mapping
from typing import Any

from optops.candidate import Candidate
from optops.stage_spec import StageResult
from optops.stages.base import Job, StageError, is_plan_of


def candidate_of(job: Job, stage: str, item: Mapping[str, Any]) -> Candidate:
    """Returns the candidate that an item names, among those that a stage upstream handed on.

    Raises:
        StageError: If it is not there.
    """
    for candidate in job.result(stage).candidates:
        if candidate.key == item.get("candidate"):
            return candidate
    raise StageError(f"item {item.get('label')!r} names candidate {item.get('candidate')}, which {stage} did not make")


def planned_model(job: Job, item: Mapping[str, Any], plan: StageResult) -> Candidate:
    """Returns the candidate that an item of `fuse` lowers: the one that was trained for its plan, if one was.

    Raises:
        StageError: If it is not there.
    """
    return plan.candidates[0] if plan.candidates else candidate_of(job, "prune", item)


def plan_of(job: Job, item: Mapping[str, Any]) -> StageResult:
    """Returns the result of `quantize` that an item of `fuse` stands on.

    Raises:
        StageError: If that quantize task failed.
    """
    for result in job.results("quantize"):
        if is_plan_of(result, item):
            return result
    raise StageError(f"there is no precision plan for {item.get('quantize_label')!r}: its quantize task failed")
