"""Judges the nominee on the test split, against this run's baseline and against the reigning champion."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from optops.candidate import Candidate
from optops.errors import is_expected
from optops.measurement import plots
from optops.measurement.sample import Sample
from optops.pipeline import TEST
from optops.registry import CHAMPION, Version, version_by_alias
from optops.stage_spec import Json, StageResult
from optops.stages.base import Job, StageError, decimals_of
from optops.stages.champion import CHAMPION_NAME, fetch_champion, unusable_champion
from optops.stages.judgement import bootstrap_margins, judge, judge_against_champion, sample_of
from optops.stages.naive import AgainstNaive, judge_against_naive
from optops.stages.speed import judge_speed
from optops.stages.verdict import FailedTrial, Trial, overall, to_markdown
from optops.tracking import TEST_SPLIT_TAG, VERDICT_TAG
from optops.unreachable import is_no_fault_of_a_model


def run(job: Job) -> StageResult:
    """Returns the verdict; the accepted nominee is the one candidate that goes on."""
    folder = job.new_folder()
    nominees = job.result("nominate").candidates
    champion = version_by_alias(job.tracking.client, job.recipe.registry.name, CHAMPION)
    trials: list[Trial | FailedTrial] = []
    naive, earlier = None, Counter[str]()
    if nominees:
        _check_champion(job, champion)
        earlier = job.tracking.verdicts_on(job.recipe.experiment, job.manifest(TEST).digest)
        measured = _sampler(job)
        baseline = measured("baseline", job.fetch(job.baseline))
        # What nothing can be held against is no fault of a nominee.
        judge(job, baseline, baseline, "the baseline")
        naive = judge_against_naive(job, baseline, TEST)
        trials += _trials(job, folder, nominees, champion, baseline, measured)
    verdict = overall(trials)
    markdown = to_markdown(job, trials, champion, naive, job.result("nominate").dropped, earlier)
    record = _record(job, verdict, markdown, trials, champion, naive, earlier)
    (folder / "verdict.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    (folder / "verdict.md").write_text(markdown, encoding="utf-8")
    for path in sorted(folder.iterdir()):
        job.tracking.log_file(job.run_id, path)
    job.log(markdown)
    job.tracking.client.set_tag(job.run_id, VERDICT_TAG, verdict)
    if trials:
        job.tracking.client.set_tag(job.run_id, TEST_SPLIT_TAG, job.manifest(TEST).digest)
    accepted = [trial.nominee for trial in trials if trial.accepted]
    output = {
        "accepted": bool(accepted),
        "champion": champion.version if champion else None,
        "verdict": {"verdict": verdict, "markdown": markdown},
    }
    return job.hand_on(candidates=tuple(accepted), output=output)


def _trials(
    job: Job,
    folder: Path,
    nominees: tuple[Candidate, ...],
    champion: Version | None,
    baseline: Sample,
    measured: Callable[[str, Path], Sample],
) -> Iterator[Trial | FailedTrial]:
    """Judges the nominees one after the other, until one is accepted."""
    reigning = _judged_champion(job, champion, measured) if champion else None
    for number, nominee in enumerate(nominees, start=1):
        reigns = champion is not None and nominee.artifact.digest == champion.artifact.digest
        files = job.fetch(nominee)
        try:
            sample = measured(nominee.name, files)
            trial = _try(job, nominee, number, sample, baseline, None if reigns else reigning)
        except Exception as error:
            if is_no_fault_of_a_model(error):
                raise
            reason = str(error) if is_expected(error) else f"{type(error).__name__}: {error}"
            job.log(f"{nominee.name} failed before the gate: {reason}")
            yield FailedTrial(nominee, number, reason)
            continue
        _log(job, trial, sample)
        _draw(job, folder, trial, sample, baseline)
        yield trial
        if trial.accepted:
            return


def _check_champion(job: Job, champion: Version | None) -> None:
    """Refuses to judge where the benchmark timed another champion: the speed of this one is not known."""
    timed, now = job.result("benchmark").output.get("champion"), champion.version if champion else None
    if timed != now:
        raise StageError(
            f"the champion of {job.recipe.registry.name!r} is now version {now or 'none'}, but the benchmark timed "
            f"{f'version {timed}' if timed else 'none'}: one was promoted meanwhile. Run again, in Airflow from the "
            "task benchmark on, to compare with it"
        )


def _judged_champion(job: Job, champion: Version, measured: Callable[[str, Path], Sample]) -> Sample:
    files = fetch_champion(job, champion)
    try:
        sample = measured(CHAMPION_NAME, files)
        judge_against_champion(job, sample, sample, CHAMPION_NAME, job.recipe.gate.confidence)
        return sample
    except Exception as error:
        raise unusable_champion(champion, "can not answer this run's test examples", error) from error


def _sampler(job: Job) -> Callable[[str, Path], Sample]:
    examples = job.examples(TEST)
    done: dict[Path, Sample] = {}

    def measured(name: str, folder: Path) -> Sample:
        if folder not in done:
            executable = job.load(folder)
            report = lambda line: job.progress(f"{name}: {line}")  # noqa: E731
            predictions = job.workload.predict(executable, examples, folder / "assets", report)
            statistics = job.workload.statistics(predictions, examples, job.recipe.data)
            done[folder] = sample_of(job, statistics)
            value = f"{done[folder].metric:.{decimals_of(job)}f}"
            job.log(f"{name}: {job.workload.metric_name} {value} on {len(examples)} test examples")
        return done[folder]

    return measured


def _try(job: Job, nominee: Candidate, number: int, sample: Sample, baseline: Sample, reigning: Sample | None) -> Trial:
    confidence = job.recipe.gate.confidence_of(number, len(job.result("nominate").candidates))
    against_champion = judge_against_champion(job, sample, reigning, nominee.name, confidence) if reigning else None
    against_baseline = judge(job, sample, baseline, nominee.name, confidence)
    speed = judge_speed(job, nominee.name)
    return Trial(nominee, number, confidence, against_baseline, against_champion, speed)


def _log(job: Job, trial: Trial, sample: Sample) -> None:
    values = {f"{job.workload.metric_name}.test": sample.metric}
    for name, result in (("baseline", trial.against_baseline), ("champion", trial.against_champion)):
        if result:
            values[f"{job.workload.metric_name}.delta_{name}"] = result.difference
            values[f"margin_lower_{name}"] = result.margin_lower
    job.tracking.log_metrics(job.run_id, values, trial.nominee)


def _draw(job: Job, folder: Path, trial: Trial, sample: Sample, baseline: Sample) -> None:
    name = "verdict.png" if trial.number == 1 else f"verdict-{trial.number}.png"
    plots.verdict(
        trial.against_baseline, bootstrap_margins(job, sample, baseline), folder / name, metric=job.workload.metric_name
    )


def _record(
    job: Job,
    verdict: str,
    markdown: str,
    trials: Sequence[Trial | FailedTrial],
    champion: Version | None,
    naive: AgainstNaive | None,
    earlier: Mapping[str, int],
) -> Json:
    return {
        "verdict": verdict,
        "metric": job.workload.metric_signature(job.recipe.data),
        "test_split": {"examples": job.manifest(TEST).examples, "digest": job.manifest(TEST).digest},
        "earlier_verdicts": dict(earlier),
        "champion": champion.version if champion else None,
        "against_naive": {"rule": naive.rule, **asdict(naive.test)} if naive else None,
        "trials": [_record_of(trial) for trial in trials],
        "not_nominated": dict(job.result("nominate").dropped),
        "markdown": markdown,
    }


def _record_of(trial: Trial | FailedTrial) -> Json:
    record: Json = {"nominee": trial.nominee.key, "name": trial.nominee.name, "verdict": trial.verdict}
    if isinstance(trial, FailedTrial):
        return {**record, "failed": trial.reason}
    return {
        **record,
        "confidence": trial.confidence,
        "against_baseline": asdict(trial.against_baseline),
        "against_champion": asdict(trial.against_champion) if trial.against_champion else None,
        "speed": asdict(trial.speed),
    }
