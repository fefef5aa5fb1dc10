"""Judges the nominee on the test split, against this run's baseline and against the reigning champion."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from optops.candidate import Candidate
from optops.measurement import plots
from optops.pipeline import TEST
from optops.registry import CHAMPION, Version, version_by_alias
from optops.stage_spec import Json, StageResult
from optops.stages.base import Job, StageError, decimals_of
from optops.stages.benchmark import CHAMPION_NAME, cell_name
from optops.stages.judgement import Sample, bootstrap_margins, judge, judge_against_champion
from optops.stages.verdict import Speed, Trial, overall, to_markdown


def run(job: Job) -> StageResult:
    """Returns the verdict; the accepted nominee is the one candidate that goes on."""
    folder = job.new_folder()
    nominees = job.result("nominate").candidates
    champion = version_by_alias(job.tracking.client, job.recipe.registry.name, CHAMPION)
    trials: list[Trial] = []
    if nominees:
        _check_champion(job, champion)
        sample_of = _sampler(job)
        baseline = sample_of("baseline", job.fetch(job.baseline))
        reigning = _judged_champion(job, champion, sample_of) if champion else None
        for number, nominee in enumerate(nominees, start=1):
            trial = _try(job, nominee, number, sample_of, baseline, reigning)
            trials.append(trial)
            _draw(job, folder, trial, sample_of(nominee.name, job.fetch(nominee)), baseline)
            if trial.accepted:
                break
    verdict = overall(trials)
    markdown = to_markdown(job, trials, champion, job.result("nominate").dropped)
    record = _record(job, verdict, markdown, trials, champion)
    (folder / "verdict.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    (folder / "verdict.md").write_text(markdown, encoding="utf-8")
    for path in sorted(folder.iterdir()):
        job.tracking.log_file(job.run_id, path)
    job.log(markdown)
    job.tracking.client.set_tag(job.run_id, "optops.verdict", verdict)
    accepted = [trial.nominee for trial in trials if trial.accepted]
    output = {
        "accepted": bool(accepted),
        "champion": champion.version if champion else None,
        "verdict": {"verdict": verdict, "markdown": markdown},
    }
    return job.hand_on(candidates=tuple(accepted), output=output)


def _check_champion(job: Job, champion: Version | None) -> None:
    """Refuses to judge where the benchmark timed another champion: the speed of this one is not known."""
    timed, now = job.result("benchmark").output.get("champion"), champion.version if champion else None
    if timed != now:
        raise StageError(
            f"the champion of {job.recipe.registry.name!r} is now version {now or 'none'}, but the benchmark timed "
            f"{f'version {timed}' if timed else 'none'}: one was promoted meanwhile. Run again, in Airflow from the "
            "task benchmark on, to compare with it"
        )


def _judged_champion(job: Job, champion: Version, sample_of: Callable[[str, Path], Sample]) -> Sample:
    try:
        return sample_of(CHAMPION_NAME, job.tracking.fetch(champion.artifact))
    except Exception as error:
        raise StageError(
            f"version {champion.version}, the champion of {champion.name!r}, can not answer this run's test examples "
            f"({type(error).__name__}: {error}), so that nothing can be proved against it. If the data or the runtimes "
            "changed for good, take the alias `champion` from it in MLflow, or register under another name "
            "(`registry.name`), and run again"
        ) from error


def _sampler(job: Job) -> Callable[[str, Path], Sample]:
    examples = job.examples(TEST)
    done: dict[Path, Sample] = {}

    def sample_of(name: str, folder: Path) -> Sample:
        if folder not in done:
            executable = job.load(folder)
            report = lambda line: job.progress(f"{name}: {line}")  # noqa: E731
            predictions = job.workload.predict(executable, examples, folder / "assets", report)
            statistics = job.workload.statistics(predictions, examples, job.recipe.data)
            done[folder] = Sample(statistics, float(job.workload.metric(statistics)[0]))
            value = f"{done[folder].metric:.{decimals_of(job)}f}"
            job.log(f"{name}: {job.workload.metric_name} {value} on {len(examples)} test examples")
        return done[folder]

    return sample_of


def _try(
    job: Job,
    nominee: Candidate,
    number: int,
    sample_of: Callable[[str, Path], Sample],
    baseline: Sample,
    reigning: Sample | None,
) -> Trial:
    confidence = job.recipe.gate.confidence_of(number, len(job.result("nominate").candidates))
    sample = sample_of(nominee.name, job.fetch(nominee))
    against_champion = judge_against_champion(job, sample, reigning, nominee.name, confidence) if reigning else None
    against_baseline = judge(job, sample, baseline, nominee.name, confidence)
    for name, result in (("baseline", against_baseline), ("champion", against_champion)):
        if result:
            values = {
                f"{job.workload.metric_name}.delta_{name}": result.difference,
                f"margin_lower_{name}": result.margin_lower,
            }
            job.tracking.log_metrics(job.run_id, values, nominee)
    job.tracking.log_metrics(job.run_id, {f"{job.workload.metric_name}.test": sample.metric}, nominee)
    return Trial(nominee, number, confidence, against_baseline, against_champion, _speed(job, nominee))


def _speed(job: Job, nominee: Candidate) -> Speed:
    table = job.result("benchmark").output["table"]
    cell = cell_name(job.recipe.benchmark.primary_batch)
    champion = table.get(CHAMPION_NAME, {"cells": {}})["cells"].get(cell)
    return Speed(
        cell=cell,
        minimum=job.recipe.gate.minimum_speedup,
        nominee=table[nominee.name]["cells"][cell]["speedup"],
        champion=champion["speedup"] if champion else None,
        untimed=job.result("benchmark").dropped.get(CHAMPION_NAME, ""),
    )


def _draw(job: Job, folder: Path, trial: Trial, sample: Sample, baseline: Sample) -> None:
    name = "verdict.png" if trial.number == 1 else f"verdict-{trial.number}.png"
    plots.verdict(
        trial.against_baseline, bootstrap_margins(job, sample, baseline), folder / name, metric=job.workload.metric_name
    )


def _record(job: Job, verdict: str, markdown: str, trials: list[Trial], champion: Version | None) -> Json:
    return {
        "verdict": verdict,
        "metric": job.workload.metric_signature(job.recipe.data),
        "test_split": {"examples": job.manifest(TEST).examples, "digest": job.manifest(TEST).digest},
        "champion": champion.version if champion else None,
        "trials": [
            {
                "nominee": trial.nominee.key,
                "name": trial.nominee.name,
                "verdict": trial.verdict,
                "confidence": trial.confidence,
                "against_baseline": asdict(trial.against_baseline),
                "against_champion": asdict(trial.against_champion) if trial.against_champion else None,
                "speed": asdict(trial.speed),
            }
            for trial in trials
        ],
        "not_nominated": dict(job.result("nominate").dropped),
        "markdown": markdown,
    }
