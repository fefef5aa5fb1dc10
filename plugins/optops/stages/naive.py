"""Whether the baseline has learnt anything: it is held against what can be answered without a model."""

from dataclasses import dataclass

from optops.measurement.non_inferiority import NonInferiority
from optops.measurement.sample import Sample
from optops.pipeline import VALIDATION
from optops.stages.base import Job, decimals_of
from optops.stages.judgement import judge_superiority, sample_of
from optops.stages.training import measure

WORTHLESS = "what it has learnt may be nothing, and whatever is made of it is as good"


@dataclass(frozen=True)
class AgainstNaive:
    """The baseline against answers without a model.

    Attributes:
        rule: How these are made.
        test: Of the baseline being no worse than they are, at no tolerance.
    """

    rule: str
    test: NonInferiority

    @property
    def is_better(self) -> bool:
        """Whether the baseline is proved better."""
        return self.test.margin_lower > 0

    def sentence(self, job: Job) -> str:
        """Returns what was found, in Markdown."""
        decimals = decimals_of(job)
        mine, theirs = (f"{value:.{decimals}f}" for value in (self.test.candidate_point, self.test.reference_point))
        found = f"{self.rule} gets {job.workload.metric_name} {theirs}, the baseline {mine}"
        if self.is_better:
            return f"Without a model, {found}."
        return f"**The baseline is not proved better than an answer without a model**: {found}; {WORTHLESS}."


def judge_against_naive(job: Job, baseline: Sample, split: str) -> AgainstNaive | None:
    """Holds the baseline against naive answers to the same examples; None where the workload knows none.

    Args:
        job: The stage's job.
        baseline: What was measured of it.
        split: Its examples.
    """
    examples = job.examples(split)
    naive = job.workload.naive_answers(examples, job.recipe.data)
    if naive is None:
        return None
    theirs = sample_of(job, job.workload.statistics(naive.predictions, examples, job.recipe.data))
    return AgainstNaive(naive.rule, judge_superiority(job, baseline, theirs, "the baseline"))


def warn_of_naive(job: Job, value: float) -> None:
    """Warns, before hours are spent on it, if the baseline's quality on validation is that of naive answers."""
    examples = job.examples(VALIDATION)
    naive = job.workload.naive_answers(examples, job.recipe.data)
    if naive is None:
        return
    theirs = measure(job, list(naive.predictions), examples)
    sign = 1 if job.workload.higher_is_better else -1
    if not sign * (value - theirs) > 0:  # NaN is not better either
        name = job.workload.metric_name
        job.log(
            f"warning: the baseline's {name} of {value:.2f} on validation is no better than that of an answer without "
            f"a model, {naive.rule}: {theirs:.2f}; {WORTHLESS}. Train it longer or look at its data"
        )
