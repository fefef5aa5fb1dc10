"""The verdict: what one trial of a nominee came to, what all come to, and how it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optops.candidate import Candidate
from optops.measurement.non_inferiority import NonInferiority
from optops.registry import Version
from optops.stages.base import Job, decimals_of

Verdict = Literal["accept", "regression", "inconclusive", "anomalous", "infeasible"]


@dataclass(frozen=True)
class Speed:
    """The primary cell's speed-up against the baseline, of the nominee and of the champion (as `RatioInterval`).

    `untimed` says why there is none of a champion that reigns.
    """

    cell: str
    minimum: float
    nominee: Mapping[str, Any]
    champion: Mapping[str, Any] | None
    untimed: str = ""

    @property
    def reached(self) -> bool:
        """Whether the lower bound reaches the minimum."""
        return bool(self.nominee["lower_bound"] >= self.minimum)

    @property
    def slower_than_champion(self) -> bool:
        """Whether the nominee is slower than the champion beyond doubt: their intervals do not even touch."""
        return self.champion is not None and bool(self.nominee["high"] < self.champion["low"])


@dataclass(frozen=True)
class Trial:
    """One nominee before the gate, the `number`-th, with the confidence that it is judged at."""

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
        if "regression" in found or not self.speed.reached or self.speed.slower_than_champion:
            return "regression"
        return "inconclusive" if "inconclusive" in found else "accept"

    @property
    def accepted(self) -> bool:
        """Whether the nominee may be promoted."""
        return self.verdict == "accept"


def overall(trials: Sequence[Trial]) -> Verdict:
    """Returns the verdict of the run: that of the accepted trial, else of the first one."""
    if not trials:
        return "infeasible"
    return "accept" if any(trial.accepted for trial in trials) else trials[0].verdict


def to_markdown(job: Job, trials: Sequence[Trial], champion: Version | None, dropped: Mapping[str, str]) -> str:
    """Returns the verdict with its arithmetic, for people."""
    lines = [f"## Verdict: {overall(trials)}", ""]
    if not trials:
        lines += ["Nothing met the validation tolerance and the minimum speed-up, so the test split was not used.", ""]
    for trial in trials:
        lines += _trial_lines(job, trial, champion)
    if dropped:
        lines += ["### Not nominated", ""]
        lines += [f"- {name}: {reason}" for name, reason in dropped.items()]
    return "\n".join(lines).rstrip() + "\n"


def _trial_lines(job: Job, trial: Trial, champion: Version | None) -> list[str]:
    nominee, speed = trial.nominee, trial.speed
    lines = [f"### {nominee.name} (`{nominee.key}`): {trial.verdict}", ""]
    if trial.confidence != job.recipe.gate.confidence:
        lines += [
            f"Nominee {trial.number}, judged at confidence {trial.confidence:g}, so that all nominees together are "
            f"judged at {job.recipe.gate.confidence:g}.",
            "",
        ]
    ratio = speed.nominee
    lines += [
        "| question | found | needed | answer |",
        "|---|---|---|---|",
        _quality_row(job, "as good as the baseline?", trial.against_baseline),
    ]
    if trial.against_champion:
        title = f"as good as the champion (version {champion.version})?" if champion else "as good as the champion?"
        lines.append(_quality_row(job, title, trial.against_champion))
    lines.append(
        f"| fast enough at {speed.cell}? | {ratio['ratio']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}], "
        f"lower bound {ratio['lower_bound']:.2f} | {speed.minimum:.2f} | {_yes(speed.reached)} |"
    )
    if speed.champion:
        lines.append(
            f"| not slower than the champion? | {ratio['ratio']:.2f}x against {speed.champion['ratio']:.2f}x "
            f"| intervals touch | {_yes(not speed.slower_than_champion)} |"
        )
    elif speed.untimed:
        reason = speed.untimed.strip().splitlines()[-1].replace("|", "/")
        lines.append(f"| not slower than the champion? | it could not be timed: {reason} | | unknown |")
    lines += ["", *_arithmetic(job, trial.against_baseline), ""]
    return lines


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
    return [
        f"{formula}; one-sided {result.confidence:.2%} bounds over {result.resamples} shared bootstrap resamples.",
        f"Smallest tolerance that this test set proves: {provable}. Metric: {signature}.",
    ]


def _yes(answer: bool) -> str:
    return "yes" if answer else "**no**"
