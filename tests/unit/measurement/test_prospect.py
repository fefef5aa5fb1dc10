"""The chance that a test on other examples will be passed: against a simulation, and at its limits."""

import numpy as np
import pytest

from optops.measurement.bootstrap import bootstrap
from optops.measurement.non_inferiority import Tolerance, non_inferiority
from optops.measurement.prospect import chance_of_acceptance

TOLERANCE = Tolerance(0.1, "absolute")


def judged(scores, confidence=0.95, **settings):
    """The test of scores, float (examples,), against a reference that has 0 on each."""
    values = bootstrap(lambda weights: weights @ scores / len(scores), len(scores), 1000, seed=1)
    return non_inferiority(
        values,
        np.zeros_like(values),
        candidate_point=float(scores.mean()),
        reference_point=0.0,
        examples=len(scores),
        tolerance=TOLERANCE,
        confidence=confidence,
        fails_whole=False,
        **settings,
    )


def scores(examples, loss, seed=0):
    """Normal scores with a mean of exactly -loss and a standard deviation of exactly 1."""
    drawn = np.random.default_rng(seed).normal(size=examples)
    return (drawn - drawn.mean()) / drawn.std() - loss


@pytest.mark.parametrize(("loss", "examples", "others"), [(0.0, 300, 300), (0.0, 300, 1500), (0.05, 1000, 200)])
@pytest.mark.parametrize("confidence", [0.95, 0.995])
def test_it_is_how_often_other_examples_prove_it(loss, examples, others, confidence):
    found = judged(scores(examples, loss))
    generator = np.random.default_rng(5)
    # What is known of the true mean, and then other examples drawn about it.
    means = generator.normal(-loss, 1 / np.sqrt(examples), size=20_000)
    observed = generator.normal(means, 1 / np.sqrt(others))
    z = {0.95: 1.645, 0.995: 2.576}[confidence]
    passed = observed + TOLERANCE.value >= z / np.sqrt(others)
    assert chance_of_acceptance(found, others, confidence) == pytest.approx(passed.mean(), abs=0.04)


def test_what_is_just_proved_passes_on_as_many_examples_every_second_time():
    found = judged(scores(271, 0.0))
    assert found.margin_lower == pytest.approx(0, abs=0.01)
    assert chance_of_acceptance(found, 271, 0.95) == pytest.approx(0.5, abs=0.04)


def test_it_grows_with_the_examples_and_falls_with_the_confidence():
    found = judged(scores(300, 0.0))
    chances = [chance_of_acceptance(found, examples, 0.95) for examples in (50, 300, 2000, 1_000_000)]
    assert chances == sorted(chances)
    assert chances[-1] == pytest.approx(0.96, abs=0.03)  # what the true margin leaves open
    assert chance_of_acceptance(found, 300, 0.99) < chance_of_acceptance(found, 300, 0.95)


@pytest.mark.parametrize(("value", "chance"), [(-0.2, 0.0), (-0.05, 1.0)])
def test_a_margin_without_spread_leaves_no_doubt(value, chance):
    assert chance_of_acceptance(judged(np.full(50, value)), 50, 0.95) == chance


def test_what_is_too_good_to_be_true_has_none():
    values = np.full(1000, 2.0)
    found = non_inferiority(
        values,
        np.ones(1000),
        candidate_point=2.0,
        reference_point=1.0,
        examples=100,
        tolerance=TOLERANCE,
        anomalous_gain=0.2,
    )
    assert chance_of_acceptance(found, 100, 0.95) == 0.0


def test_nothing_is_proved_on_nothing():
    with pytest.raises(ValueError, match="nothing can be proved on 0 examples"):
        chance_of_acceptance(judged(scores(50, 0.0)), 0, 0.95)


def test_examples_too_few_to_prove_anything_leave_no_chance():
    found = judged(np.full(50, 1.0))
    assert [chance_of_acceptance(found, examples, 0.95) for examples in (4, 5)] == [0.0, 1.0]
    assert chance_of_acceptance(found, 7, 0.995) == 0.0
