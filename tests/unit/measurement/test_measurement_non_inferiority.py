"""Non-inferiority against its definition, against known truth, and at its edges."""

import json
import math
from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from optops.measurement.bootstrap import bootstrap_weights
from optops.measurement.non_inferiority import (
    NonInferiority,
    Tolerance,
    estimated_examples,
    estimated_resolution,
    examples_needed,
    least_examples,
    margins,
    non_inferiority,
    unseen_share,
)

positive = st.floats(0.001, 100)
resampled = hnp.arrays(np.float64, 60, elements=positive)


def examine(candidate, reference, tolerance, *, examples=100_000, **options) -> NonInferiority:
    return non_inferiority(
        candidate,
        reference,
        candidate_point=float(np.mean(candidate)),
        reference_point=float(np.mean(reference)),
        examples=examples,
        tolerance=tolerance,
        **options,
    )


def all_weights(examples, resamples, seed):
    return np.concatenate(list(bootstrap_weights(examples, resamples, seed)))


@pytest.mark.parametrize(("value", "kind"), [(-0.1, "relative"), (1.0, "relative"), (math.nan, "absolute")])
def test_a_tolerance_outside_its_range_is_refused(value, kind):
    with pytest.raises(ValueError, match="tolerance"):
        Tolerance(value, kind)


def test_the_margin_is_the_published_formula():
    relative, absolute = Tolerance(0.02, "relative"), Tolerance(0.5, "absolute")
    assert margins(29.8, 30.0, relative) == pytest.approx(29.8 - 0.98 * 30.0)
    assert margins(29.8, 30.0, absolute) == pytest.approx(29.8 - 30.0 + 0.5)
    assert margins(3.1, 3.0, relative, higher_is_better=False) == pytest.approx(1.02 * 3.0 - 3.1)
    assert margins(3.1, 3.0, absolute, higher_is_better=False) == pytest.approx(3.0 - 3.1 + 0.5)


@given(
    values=resampled,
    kind=st.sampled_from(["relative", "absolute"]),
    higher_is_better=st.booleans(),
    examples=st.integers(5, 1000),
    tolerance=st.just(0.0) | st.floats(1e-6, 0.5),
)
def test_models_scored_alike_are_accepted_from_as_many_examples_as_prove_it(
    values, kind, higher_is_better, examples, tolerance
):
    def judged(examples: int) -> NonInferiority:
        limit = Tolerance(tolerance, kind)
        return examine(values, values, limit, examples=examples, higher_is_better=higher_is_better, anomalous_gain=0.0)

    result = judged(examples)
    assert result.identical
    assert result.difference == 0
    assert result.verdict == ("accept" if result.margin_lower >= 0 else "inconclusive")
    share = 1 - 0.05 ** (1 / examples)
    assert result.smallest_provable_tolerance == pytest.approx(
        share * (1 if kind == "relative" else result.reference_point)
    )
    if result.examples_needed is not None:
        assert judged(result.examples_needed).verdict == "accept"
        assert result.examples_needed == 5 or judged(result.examples_needed - 1).verdict == "inconclusive"


def test_it_takes_149_examples_scored_alike_to_prove_two_percent():
    alike, tolerance = np.full(1000, 90.0), Tolerance(0.02, "relative")
    few, enough = (examine(alike, alike, tolerance, examples=examples) for examples in (148, 149))
    assert (few.verdict, enough.verdict) == ("inconclusive", "accept")
    assert few.reason == "all 148 examples are scored alike; 149 would prove it"
    assert few.examples_needed == examples_needed(0.02, 0.95) == 149
    assert few.difference_low == pytest.approx(-90 * unseen_share(148, 0.95)) == -few.difference_high


def test_models_scored_alike_never_prove_that_nothing_is_lost():
    result = examine(np.full(100, 90.0), np.full(100, 90.0), Tolerance(0.0, "relative"), examples=10**9)
    assert result.verdict == "inconclusive"
    assert result.examples_needed is None
    assert result.reason == "1000000000 examples scored alike never prove that nothing is lost"


@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_two_perfect_models_do_not_show_what_an_example_can_lose(kind):
    zeros = np.zeros(100)
    result = examine(zeros, zeros, Tolerance(0.1, kind), examples=300, higher_is_better=False)
    assert result.verdict == "inconclusive"
    assert result.smallest_provable_tolerance is None
    assert result.reason == "both score 0 on all 300 examples, which bounds no loss"


def test_errors_where_the_reference_makes_none_are_judged():
    errors = all_weights(300, 400, seed=1)[:, :3].sum(axis=1) / 300
    perfect = np.zeros(400)
    points = {"candidate_point": 0.01, "reference_point": 0.0, "examples": 300, "higher_is_better": False}
    assert non_inferiority(errors, perfect, tolerance=Tolerance(0.1, "relative"), **points).verdict != "accept"
    assert non_inferiority(errors, perfect, tolerance=Tolerance(0.1, "absolute"), **points).verdict == "accept"


@given(
    candidate=resampled,
    reference=resampled,
    kind=st.sampled_from(["relative", "absolute"]),
    higher_is_better=st.booleans(),
    confidence=st.sampled_from([0.9, 0.95]),
)
def test_the_provable_tolerance_is_exactly_where_the_verdict_turns(
    candidate, reference, kind, higher_is_better, confidence
):
    def lower_bound(tolerance: float) -> float:
        return examine(
            candidate,
            reference,
            Tolerance(tolerance, kind),
            higher_is_better=higher_is_better,
            confidence=confidence,
        ).margin_lower

    smallest = examine(
        candidate, reference, Tolerance(0.0, kind), higher_is_better=higher_is_better, confidence=confidence
    ).smallest_provable_tolerance
    assert smallest is not None
    if kind == "absolute" or smallest < 1:
        assert lower_bound(smallest) >= 0
    below = smallest * (1 - 1e-12)
    if smallest > 1e-9 and (kind == "absolute" or below < 1):
        assert lower_bound(below) < 0


def test_the_provable_tolerance_agrees_with_exact_arithmetic():
    generator = np.random.default_rng(5)
    reference = generator.normal(30, 1, 200)
    candidate = reference - generator.normal(0.2, 0.3, 200)
    needed = sorted((Fraction(r) - Fraction(c)) / Fraction(r) for c, r in zip(candidate, reference, strict=True))
    gains = candidate - reference
    bias, acceleration = stats.norm.ppf((gains < gains.mean()).mean()), stats.skew(gains) / 6
    distance = bias + stats.norm.ppf(0.05)
    rank = math.floor(stats.norm.cdf(bias + distance / (1 - acceleration * distance)) * 199)
    expected = needed[-1 - rank]  # so many resamples may lie below zero
    result = examine(candidate, reference, Tolerance(0.01, "relative"))
    assert result.smallest_provable_tolerance == pytest.approx(float(expected), rel=1e-12)


@given(
    candidate=resampled,
    reference=resampled,
    shift=st.floats(0, 50),
    tolerance=st.floats(0, 0.5),
    kind=st.sampled_from(["relative", "absolute"]),
)
def test_a_better_candidate_never_gets_a_worse_verdict(candidate, reference, shift, tolerance, kind):
    order = ["regression", "inconclusive", "accept"]
    before = examine(candidate, reference, Tolerance(tolerance, kind))
    after = examine(candidate + shift, reference, Tolerance(tolerance, kind))
    assert order.index(after.verdict) >= order.index(before.verdict)


@given(candidate=resampled, reference=resampled, tolerance=st.floats(0, 0.5))
def test_the_direction_of_the_metric_mirrors_an_absolute_test(candidate, reference, tolerance):
    limit = Tolerance(tolerance, "absolute")
    up = examine(candidate, reference, limit, fails_whole=False)
    down = examine(reference, candidate, limit, higher_is_better=False, fails_whole=False)
    assert (up.verdict, up.margin_lower, up.margin_upper) == (down.verdict, down.margin_lower, down.margin_upper)
    assert up.difference == -down.difference
    assert up.difference_low == -down.difference_high


@pytest.mark.parametrize(
    ("offset", "verdict"), [(0.0, "accept"), (-0.3, "inconclusive"), (-2.0, "regression"), (9.0, "anomalous")]
)
def test_each_verdict_is_reached(offset, verdict):
    generator = np.random.default_rng(1)
    reference = generator.normal(30, 0.5, 1000)
    candidate = reference + generator.normal(offset, 0.1, 1000)
    result = examine(candidate, reference, Tolerance(0.01, "relative"), anomalous_gain=0.2)
    assert result.verdict == verdict
    assert result.margin_lower <= result.margin <= result.margin_upper
    assert result.difference_low <= result.difference <= result.difference_high
    assert result.relative_difference == pytest.approx(result.difference / 30, rel=0.01)
    json.dumps(asdict(result), allow_nan=False)


def test_an_improvement_from_zero_is_anomalous_and_has_no_relative_size():
    result = examine(np.full(100, 0.5), np.zeros(100), Tolerance(0.1, "absolute"), anomalous_gain=0.2)
    assert result.verdict == "anomalous"
    assert result.relative_difference is None


def test_a_relative_tolerance_of_a_zero_reference_is_refused():
    with pytest.raises(ValueError, match="use an absolute tolerance"):
        examine(np.full(100, 0.5), np.zeros(100), Tolerance(0.1, "relative"))


def test_no_relative_tolerance_is_provable_where_the_reference_is_zero_on_resamples():
    reference = np.r_[np.zeros(50), np.ones(50)]
    result = examine(reference + 0.5, reference, Tolerance(0.1, "relative"), higher_is_better=False)
    assert result.smallest_provable_tolerance is None
    assert result.verdict == "regression"


def test_values_that_are_not_finite_and_shapes_that_differ_are_refused():
    good, tolerance = np.ones(100), Tolerance(0.1, "relative")
    bad = good.copy()
    bad[7] = np.nan
    with pytest.raises(ValueError, match="candidate's metric is NaN or infinite on 1 of 100"):
        examine(bad, good, tolerance)
    with pytest.raises(ValueError, match=r"\(99,\), reference \(100,\)"):
        examine(good[:99], good, tolerance)
    with pytest.raises(ValueError, match="reference's metric is nan"):
        non_inferiority(good, good, candidate_point=1.0, reference_point=math.nan, examples=9, tolerance=tolerance)
    with pytest.raises(ValueError, match="use at least 20"):
        examine(good[:10], good[:10], tolerance)


@pytest.mark.parametrize("loss", ["normal", "exponential"])
def test_the_lower_bound_covers_the_truth_as_often_as_it_says(loss):
    # Paired scores with a known mean loss of 0.03: the bound must lie below the true margin in 95 % of all test sets.
    generator = np.random.default_rng(11)
    examples, trials, covered = 200, 400, 0
    weights = all_weights(examples, 400, seed=2) / examples
    for _ in range(trials):
        reference = generator.beta(4, 2, examples)
        losses = generator.normal(0.03, 0.1, examples) if loss == "normal" else generator.exponential(0.03, examples)
        candidate = reference - losses
        lower = non_inferiority(
            weights @ candidate,
            weights @ reference,
            candidate_point=candidate.mean(),
            reference_point=reference.mean(),
            examples=examples,
            tolerance=Tolerance(0.05, "relative"),
            fails_whole=False,
        ).margin_lower
        covered += lower <= (4 / 6 - 0.03) - 0.95 * (4 / 6)
    assert stats.binomtest(covered, trials, 0.95).pvalue > 0.001


def accepts(lost: int, counts, confidence: float) -> bool:
    """Whether a model is accepted that breaks `lost` of the examples that its reference has all right."""
    resamples, examples = counts.shape
    result = non_inferiority(
        1 - counts[:, :lost].sum(axis=1) / examples,
        np.ones(resamples),
        candidate_point=1 - lost / examples,
        reference_point=1.0,
        examples=examples,
        tolerance=Tolerance(0.02, "relative"),
        confidence=confidence,
    )
    return result.verdict == "accept"


@pytest.mark.parametrize("confidence", [0.95, 0.995])
@pytest.mark.parametrize("examples", [50, 200, 500])
def test_a_model_that_only_breaks_examples_is_accepted_at_the_tolerance_as_rarely_as_claimed(examples, confidence):
    # Exact: each number of lost examples with its probability. Six tenths more than claimed are granted, for the
    # number of lost examples is discrete (at 500 the eight resamplings give 7 %); percentile bounds give 36, 19, 13 %.
    chances = stats.binom.pmf(np.arange(13), examples, 0.02)
    accepted = []
    for seed in range(8):
        counts = all_weights(examples, 1000, seed)
        accepted.append(sum(chances[lost] for lost in range(13) if accepts(lost, counts, confidence)))
    assert np.mean(accepted) <= 1.6 * (1 - confidence)


def test_a_model_that_breaks_nothing_is_accepted_where_the_examples_prove_it():
    assert accepts(0, all_weights(500, 200, seed=0), 0.995)
    assert not accepts(0, all_weights(50, 200, seed=0), 0.95)


def test_a_few_images_scored_otherwise_are_judged():
    generator = np.random.default_rng(0)
    reference = generator.normal(30, 3, 8)
    candidate = reference - generator.normal(0.05, 0.05, 8)
    weights = all_weights(8, 1000, seed=0) / 8
    points = {"candidate_point": candidate.mean(), "reference_point": reference.mean(), "examples": 8}
    options = {**points, "fails_whole": False}
    result = non_inferiority(weights @ candidate, weights @ reference, tolerance=Tolerance(0.3, "absolute"), **options)
    assert not result.identical
    assert result.verdict == "accept"


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.96, 0.995])
def test_examples_that_luck_may_all_have_on_one_side_prove_nothing(confidence):
    least = least_examples(confidence)
    assert 0.5**least <= 1 - confidence < 0.5 ** (least - 1)
    for examples in range(1, least + 1):
        for candidate in (29.8, 30.0, 31.0, 1.0, 90.0):  # within the tolerance, alike, better, ruined, too good
            result = examine(
                np.full(1000, candidate),
                np.full(1000, 30.0),
                Tolerance(0.02, "relative"),
                examples=examples,
                confidence=confidence,
                anomalous_gain=0.2,
                fails_whole=False,
            )
            assert (result.verdict == "inconclusive") == (examples < least)
            if examples < least:
                assert result.smallest_provable_tolerance is None
                assert result.reason == (
                    f"fewer than {least} examples prove nothing at {confidence * 100:g} %, and these are {examples}"
                )


def test_a_loss_that_is_rounding_proves_no_more_of_what_is_not_shown_than_none():
    reference = np.full(1000, 90.0)
    noise = np.random.default_rng(0).uniform(-1e-7, 1e-7, 1000)
    for loss in (reference * noise, np.full(1000, 90e-7)):
        judged = [
            examine(reference - loss, reference, Tolerance(0.02, "relative"), examples=examples)
            for examples in (140, 160)
        ]
        assert not judged[0].identical
        assert [result.verdict for result in judged] == ["inconclusive", "accept"]


SENTENCES = 300


def judged_sentences(reference, candidate, tolerance, counts) -> NonInferiority:
    return non_inferiority(
        counts @ candidate / len(candidate),
        counts @ reference / len(reference),
        candidate_point=candidate.mean(),
        reference_point=reference.mean(),
        examples=len(reference),
        tolerance=Tolerance(tolerance, "relative"),
    )


@pytest.mark.parametrize("changed", [1, 3, 30])
def test_a_word_here_and_there_proves_no_more_of_what_is_not_shown_than_none(changed):
    generator = np.random.default_rng(4)
    reference = generator.uniform(20, 60, SENTENCES)
    candidate = reference.copy()
    candidate[:changed] -= generator.uniform(0, 0.5, changed)
    counts = all_weights(SENTENCES, 400, seed=0)
    alike = judged_sentences(reference, reference, 0.005, counts)
    worse = judged_sentences(reference, candidate, 0.005, counts)
    assert alike.verdict == worse.verdict == "inconclusive"
    assert worse.smallest_provable_tolerance >= alike.smallest_provable_tolerance


def test_a_model_that_rarely_fails_whole_is_not_accepted_for_differing_a_little_everywhere():
    # Answers differ by a word or so, and one in 200 is ruined: the true loss is the tolerance.
    generator = np.random.default_rng(7)
    counts, accepted, trials = all_weights(SENTENCES, 400, seed=0), 0, 200
    for _ in range(trials):
        reference = generator.uniform(20, 60, SENTENCES)
        candidate = reference + generator.normal(0, 0.3, SENTENCES)
        candidate[generator.random(SENTENCES) < 0.005] = 0
        accepted += judged_sentences(reference, candidate, 0.005, counts).verdict == "accept"
    assert stats.binomtest(accepted, trials, 0.05, alternative="greater").pvalue > 0.001


def right_of_20(nominee: int, **options) -> NonInferiority:
    counts = all_weights(20, 1000, seed=0)
    ours, theirs = (counts[:, :right].sum(axis=1) / 20 for right in (nominee, 18))
    points = {"candidate_point": nominee / 20, "reference_point": 18 / 20, "examples": 20}
    return non_inferiority(ours, theirs, tolerance=Tolerance(0.02, "relative"), **points, **options)


def test_one_more_that_is_right_proves_no_more_of_what_is_not_shown():
    assert right_of_20(18).verdict == right_of_20(19).verdict == "inconclusive"
    assert right_of_20(19).margin_lower == pytest.approx(right_of_20(18).margin_lower, abs=0.002)


def test_what_every_example_would_show_is_not_counted_as_lost_where_none_shows_it():
    alike = right_of_20(18, fails_whole=False)
    assert alike.verdict == "accept"
    assert (alike.smallest_provable_tolerance, alike.difference_low) == (0, 0)


def wrong_of_200(baseline: range, nominee: range) -> NonInferiority:
    counts = all_weights(200, 1000, seed=0)
    ours, theirs = (counts[:, list(wrong)].sum(axis=1) / 200 for wrong in (nominee, baseline))
    return non_inferiority(
        ours,
        theirs,
        candidate_point=len(nominee) / 200,
        reference_point=len(baseline) / 200,
        examples=200,
        tolerance=Tolerance(0.02, "relative"),
        higher_is_better=False,
        anomalous_gain=0.2,
    )


def test_one_error_less_of_four_is_no_anomaly_and_thirty_less_of_forty_are():
    assert wrong_of_200(range(4), range(3)).verdict == "inconclusive"
    assert wrong_of_200(range(40), range(10)).verdict == "anomalous"


def test_the_estimated_resolution_is_that_of_a_paired_test_with_its_assumed_spread():
    assert estimated_resolution(10_000) == pytest.approx(0.004)
    generator = np.random.default_rng(0)
    weights = all_weights(1000, 1000, seed=0) / 1000
    reference = np.ones(1000)
    candidate = reference + stats.zscore(generator.normal(size=1000)) * 0.25
    result = examine(weights @ candidate, weights @ reference, Tolerance(0.1, "relative"))
    assert result.smallest_provable_tolerance == pytest.approx(estimated_resolution(1000), rel=0.2)
    with pytest.raises(ValueError, match="at least 1"):
        estimated_resolution(0)


@pytest.mark.parametrize("tolerance", [0.01, 0.02, 0.1, 0.3])
def test_the_estimated_number_of_examples_is_where_the_estimated_resolution_reaches_the_tolerance(tolerance):
    needed = estimated_examples(tolerance)
    assert estimated_resolution(needed) <= tolerance < estimated_resolution(needed - 1)
    assert estimated_examples(0.0) is None


def test_a_handful_of_examples_proves_no_more_than_what_they_can_not_show():
    assert estimated_resolution(20) == pytest.approx(1 - 0.05 ** (1 / 20))
