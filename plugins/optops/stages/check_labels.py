"""Checks every example, quarantines what the recipe allows, and writes the manifests."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from optops.candidate import canonical_json, derive_key
from optops.pipeline import CALIBRATION, SPLITS, TEST, TRAIN
from optops.recipe import Recipe
from optops.stage_spec import Manifest, StageResult
from optops.stages.base import Job, StageError
from optops.stages.judgement import unprovable
from optops.workloads.base import LabelReport, Workload
from optops.workloads.label_checks import CheckOutcome, Defect

if TYPE_CHECKING:
    import pandas as pd

CALIBRATION_EXAMPLES = 512
SHOWN_DEFECTS = 20


def run(job: Job) -> StageResult:
    """Fails if a critical check is over its limit; shows the examples that are to blame."""
    folder = job.new_folder()
    docs = folder / "data_docs"
    splits, report = check_splits(job.recipe, job.workload, docs, job.log)
    _log_report(job, folder, docs, report)
    quarantined = refuse_or_quarantine(job.recipe, job.workload, splits, report, folder / "left", job.log)
    doubt = unprovable(job.recipe.gate, len(splits[TEST]), job.workload)
    if doubt:
        job.log(f"warning: {doubt}")
    splits[CALIBRATION] = _calibration(job, splits[TRAIN])
    manifests = {split: _write_manifest(job, folder, split, splits[split]) for split in SPLITS}
    return job.hand_on(
        manifests=manifests,
        output={
            "quarantined": len(quarantined),
            "defects": len(report.defects),
            "digests": {split: manifest.digest for split, manifest in manifests.items()},
            "examples": {split: manifest.examples for split, manifest in manifests.items()},
            "outcomes": [vars(outcome) for outcome in report.outcomes],
        },
        links={"data_docs": job.tracking.artifact_url(job.run_id, "labels/data_docs/index.html")},
    )


def check_splits(
    recipe: Recipe, workload: Workload, docs: Path, log: Callable[[str], None]
) -> "tuple[dict[str, pd.DataFrame], LabelReport]":
    """Returns the examples of every split, and what the label checks found.

    Args:
        recipe: Says which data, and what is checked.
        workload: Of the recipe.
        docs: Folder that gets the Data Docs.
        log: Takes lines for people.

    Raises:
        StageError: If a split has no examples.
    """
    splits = workload.read(recipe.data)
    for split, examples in splits.items():
        if examples.empty:
            raise StageError(
                f"the {split} split has no {workload.examples_name}; give it some in `data.{split}`, or more in "
                "`data.corpus`, of which what is equal or belongs together is in one split"
            )
        log(f"{split}: {len(examples)} {workload.examples_name}")
    report = workload.check(splits, recipe, docs)
    for outcome in report.outcomes:
        if outcome.count:
            state = "within" if outcome.within_limit else "OVER"
            log(
                f"{outcome.split}: {outcome.check}: {outcome.count} ({outcome.share:.2%}), "
                f"{state} the limit of {outcome.limit:.2%} ({outcome.severity})"
            )
    return splits, report


def refuse_or_quarantine(
    recipe: Recipe,
    workload: Workload,
    splits: "dict[str, pd.DataFrame]",
    report: LabelReport,
    left: Path,
    log: Callable[[str], None],
) -> frozenset[str]:
    """Takes the training examples out of `splits` that the recipe lets quarantine remove; returns their ids.

    Args:
        recipe: Says whether it may, and the limits.
        workload: Of the recipe.
        splits: Examples by split; those of training may become fewer.
        report: What the checks found in them.
        left: Folder that gets the Data Docs of what is left, if that has to be checked.
        log: Takes lines for people.

    Raises:
        StageError: If a critical check is over its limit where quarantine does not help, or nothing is left.
    """
    quarantined: frozenset[str] = report.quarantine if recipe.check_labels.quarantine else frozenset()
    if quarantined:
        splits[TRAIN] = splits[TRAIN][~splits[TRAIN]["id"].isin(quarantined)]
        log(f"quarantine: {len(quarantined)} training {workload.examples_name} removed")
        if splits[TRAIN].empty:
            raise StageError("quarantine removed every training example; see the Data Docs for the defects")
    if quarantined and _over_their_limit(recipe, report):
        # What stood in training too may be over its limit for that alone.
        log("quarantine: checking once more what is left")
        report = workload.check(splits, recipe, left)
    _refuse_what_is_over_its_limit(recipe, workload, report)
    return quarantined


def write_defects(report: LabelReport, path: Path) -> None:
    """Writes all defects as a CSV file."""
    import pandas as pd

    columns = ["check", "severity", "split", "file", "line", "value", "reason", "id"]
    pd.DataFrame([vars(defect) for defect in report.defects], columns=columns).to_csv(path, index=False)


def _log_report(job: Job, folder: Path, docs: Path, report: LabelReport) -> None:
    table = folder / "defects.csv"
    write_defects(report, table)
    job.tracking.log_file(job.run_id, table, "labels")
    if docs.exists():
        job.tracking.log_folder(job.run_id, docs, "labels/data_docs")
    if job.recipe.check_labels.quarantine and report.quarantine:
        removed = folder / "quarantined.txt"
        removed.write_text("".join(f"{example}\n" for example in sorted(report.quarantine)), encoding="utf-8")
        job.tracking.log_file(job.run_id, removed, "labels")
    counts = Counter(defect.check for defect in report.defects)
    job.tracking.log_metrics(job.run_id, {f"defects.{name}": count for name, count in counts.items()})


def _refuse_what_is_over_its_limit(recipe: Recipe, workload: Workload, report: LabelReport) -> None:
    over = _over_their_limit(recipe, report)
    if not over:
        return
    names = {(o.check, o.split) for o in over}
    details = list(_describe(d for d in report.defects if (d.check, d.split) in names))
    summary = "; ".join(f"{o.check} in {o.split}: {o.count} ({o.share:.2%}, limit {o.limit:.2%})" for o in over)
    fixed = {name for name, check in workload.sections().checks.items() if check.fixed}
    remedies = ["mend the data or remove what is defective"]
    if not {outcome.check for outcome in over} <= fixed:
        remedies.append("raise `check_labels.checks.NAME.limit`")
    if not recipe.check_labels.quarantine:
        remedies.append("set `check_labels.quarantine: true` to leave bad training examples out")
    raise StageError(f"label checks failed: {summary}. Remedy: {', or '.join(remedies)}", details)


def _over_their_limit(recipe: Recipe, report: LabelReport) -> list[CheckOutcome]:
    removable = (TRAIN,) if recipe.check_labels.quarantine else ()
    critical = (outcome for outcome in report.outcomes if outcome.severity == "critical")
    return [outcome for outcome in critical if not outcome.within_limit and outcome.split not in removable]


def _describe(defects: Iterable[Defect]) -> Iterable[str]:
    shown = list(defects)
    for defect in shown[:SHOWN_DEFECTS]:
        yield f"  {defect.file}:{defect.line}: {defect.check}: {defect.reason}: {defect.value}"
    if len(shown) > SHOWN_DEFECTS:
        yield f"  and {len(shown) - SHOWN_DEFECTS} more: labels/defects.csv of this stage's MLflow run has all"


def _calibration(job: Job, train: "pd.DataFrame") -> "pd.DataFrame":
    return train.sample(min(len(train), CALIBRATION_EXAMPLES), random_state=job.recipe.seed)


def _write_manifest(job: Job, folder: Path, split: str, examples: "pd.DataFrame") -> Manifest:
    listed = dict(zip(examples["id"], job.workload.digests(examples), strict=True))
    if len(listed) != len(examples):
        raise StageError(f"two examples of the {split} split share an id; ids must be unique")
    path = folder / f"{split}.json"
    path.write_text(json.dumps(listed, indent=0), encoding="utf-8")
    artifact = job.tracking.log_file(job.run_id, path, "manifests")
    digest = derive_key(split, listed=canonical_json(list(listed.items()))).partition("-")[2]
    job.tracking.log_dataset(job.run_id, split, f"{job.recipe.name}-{split}", digest, artifact.uri)
    return Manifest(split, len(listed), digest, artifact)
