"""The verdict: what one trial of a nominee came to, what all come to, and how it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from optops.candidate import Candidate
from optops.measurement.non_inferiority import NonInferiority
from optops.pipeline import TEST
from optops.registry import Version
from optops.stages.base import Job, decimals_of
from optops.stages.naive import AgainstNaive
from optops.stages.speed import Speed

Verdict = Literal["accept", "regression", "inconclusive", "anomalous", "infeasible"]


@dataclass(frozen=True)
class Trial:
    """One nominee before the gate, the `number`-th, with the confidence that it is judged at.

    `against_champion` is None where there is no champion, and where the nominee is the champion itself.
    """

    nominee: Candidate
    number: int
    confidence: float
    against_baseline: NonInferiority
    against_champion: NonInferiority | None
    speed: Speed

    @property
    def verdict(self) -> Verdict:
        """The worst of what was found."""
        found = {result.verdict for result in (self.against_baseline, self.against_champion) if result}
        if self.against_baseline.verdict == "anomalous":
            return "anomalous"
        if "regression" in found or self.speed.shortfall or self.speed.slower_than_champion:
            return "regression"
        return "inconclusive" if "inconclusive" in found or self.speed.untimed else "accept"

    @property
    def accepted(self) -> bool:
        """Whether the nominee may be promoted."""
        return self.verdict == "accept"


@dataclass(frozen=True)
class FailedTrial:
    """One nominee, the `number`-th, that could not be judged, and why: it does not answer as the baseline does."""

    nominee: Candidate
    number: int
    reason: str
    verdict: Verdict = "regression"
    accepted: bool = False


def overall(trials: Sequence[Trial | FailedTrial]) -> Verdict:
    """Returns the verdict of the run: that of the accepted trial, else of the first that could be judged."""
    if not trials:
        return "infeasible"
    first = next((trial for trial in trials if isinstance(trial, Trial)), trials[0])
    return "accept" if any(trial.accepted for trial in trials) else first.verdict


def to_markdown(
    job: Job,
    trials: Sequence[Trial | FailedTrial],
    champion: Version | None,
    naive: AgainstNaive | None,
    dropped: Mapping[str, str],
    earlier: Mapping[str, int],
) -> str:
    """Returns the verdict with its arithmetic, for people.

    Args:
        job: Of the gate.
        trials: Of the nominees.
        champion: That reigns, if one does.
        naive: The baseline beside an answer without a model, where there is one.
        dropped: What was not nominated, and why.
        earlier: Verdicts that were reached on this test split before, and how often each.
    """
    lines = [f"## Verdict: {overall(trials)}", ""]
    if earlier:
        times = sum(earlier.values())
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(earlier.items()))
        lines += [
            f"Verdicts reached on this test split in this experiment before: {times} ({counts}). Whoever tries often "
            "enough is accepted by chance; each verdict is held to its confidence as if it were the only one.",
            "",
        ]
    if naive:
        lines += [naive.sentence(job), ""]
    if seen := _seen_elsewhere(job):
        lines += [
            f"**{seen} of the {job.manifest(TEST).examples} test {job.workload.examples_name} stand in another split "
            "too**, so that a training or a choice has seen them; `check_labels.quarantine: true` takes them out of "
            "training.",
            "",
        ]
    if not trials:
        lines += ["Nothing was good enough on validation and fast enough, so the test split was not used.", ""]
    for trial in trials:
        lines += [f"### {trial.nominee.name} (`{trial.nominee.key}`): {trial.verdict}", ""]
        if isinstance(trial, FailedTrial):
            lines += [f"It could not be judged: {trial.reason}", ""]
        else:
            lines += _trial_lines(job, trial, champion)
    if dropped:
        lines += ["### Not nominated", ""]
        lines += [f"- {name}: {reason}" for name, reason in dropped.items()]
    return "\n".join(lines).rstrip() + "\n"


def _seen_elsewhere(job: Job) -> int:
    """Returns how many examples of the test split are in another split too, if those are not left out of training."""
    outcomes = job.result("check_labels").output.get("outcomes", ())
    shared = sum(one["count"] for one in outcomes if (one["check"], one["split"]) == ("overlap", TEST))
    return 0 if job.recipe.check_labels.quarantine else shared


def _trial_lines(job: Job, trial: Trial, champion: Version | None) -> list[str]:
    lines: list[str] = []
    if trial.confidence != job.recipe.gate.confidence:
        lines += [
            f"Nominee {trial.number}, judged at confidence {trial.confidence:g}, so that all nominees together are "
            f"judged at {job.recipe.gate.confidence:g}.",
            "",
        ]
    lines += [
        "| question | found | needed | answer |",
        "|---|---|---|---|",
        _quality_row(job, "as good as the baseline?", trial.against_baseline),
    ]
    title = f"as good as the champion (version {champion.version})?" if champion else "as good as the champion?"
    if trial.against_champion:
        lines.append(_quality_row(job, title, trial.against_champion))
    elif champion:
        lines.append(f"| {title} | the same files | | yes |")
    lines += [*_speed_rows(trial.speed), ""]
    for name, result in (("baseline", trial.against_baseline), ("champion", trial.against_champion)):
        if result and result.verdict == "inconclusive":
            lines += [f"Inconclusive against the {name}: {result.reason}.", ""]
    return [*lines, *_arithmetic(job, trial.against_baseline), ""]


def _speed_rows(speed: Speed) -> list[str]:
    assert speed.nominee is not None, "what failed in the primary cell is not nominated"
    ratio = speed.nominee
    needed = f"{speed.minimum:.2f}" + (" (1 and the noise floor)" if speed.is_of_noise else "")
    rows = [
        f"| fast enough at {speed.cell}? | {ratio['ratio']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}], "
        f"lower bound {ratio['lower_bound']:.2f} | {needed} | {_yes(not speed.shortfall)} |"
    ]
    question = "| not slower than the champion? |"
    if speed.champion:
        rows.append(
            f"{question} {ratio['ratio']:.2f}x against {speed.champion['ratio']:.2f}x "
            f"| intervals no further apart than the noise floor of {speed.noise_floor:.2f} "
            f"| {_yes(not speed.slower_than_champion)} |"
        )
    elif speed.untimed:
        rows.append(
            f"{question} it could not be timed: {_in_one_cell(speed.untimed)} | its speed: run again, or take the "
            "alias `champion` from it | inconclusive |"
        )
    elif speed.unfit:
        rows.append(f"{question} it can not be timed: {_in_one_cell(speed.unfit)} | | unknown |")
    return rows


def _in_one_cell(text: str) -> str:
    return text.strip().splitlines()[-1].replace("|", "/")


def _quality_row(job: Job, question: str, result: NonInferiority) -> str:
    decimals = decimals_of(job)
    found, wanted = (f"{value:.{decimals}f}" for value in (result.candidate_point, result.reference_point))
    margins = (result.margin, result.margin_lower, result.margin_upper)
    margin, low, high = (f"{value:+.{decimals}f}" for value in margins)
    return (
        f"| {question} | {job.workload.metric_name} {found} against {wanted}, D = {margin} [{low}, {high}] "
        f"| lower bound of D >= 0 | {result.verdict} |"
    )


def _arithmetic(job: Job, result: NonInferiority) -> list[str]:
    tolerance = result.tolerance
    if tolerance.kind == "relative":
        formula = f"D = nominee - (1 - {tolerance.value:g}) x baseline"
        if not result.higher_is_better:
            formula = f"D = (1 + {tolerance.value:g}) x baseline - nominee"
        smallest = result.smallest_provable_tolerance
        provable = "none" if smallest is None else f"{smallest:.2%}"
    else:
        formula = f"D = nominee - baseline + {tolerance.value:g}"
        if not result.higher_is_better:
            formula = f"D = baseline - nominee + {tolerance.value:g}"
        smallest = result.smallest_provable_tolerance
        provable = "none" if smallest is None else f"{smallest:.3g}"
    signature = job.workload.metric_signature(job.recipe.data)
    bounds = f"over {result.resamples} shared bootstrap resamples"
    if result.identical:
        bounds = "by what no example shows, for all are scored alike"
    return [
        f"{formula}; one-sided {result.confidence:.2%} bounds {bounds}.",
        f"Smallest tolerance that this test set proves: {provable}. Metric: {signature}.",
    ]


def _yes(answer: bool) -> str:
    return "yes" if answer else "**no**"
