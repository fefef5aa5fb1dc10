"""Fallback reverts what must be reverted, and says how often it had to look."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optops.compression.quantization.fallback import Stake, fall_back


class Quality:
    """A float model of quality 1 that loses each quantised layer's harm."""

    def __init__(self, harms):
        self.harms, self.asked = harms, []

    def __call__(self, reverted):
        self.asked.append(reverted)
        return 1 - sum(harm for name, harm in self.harms.items() if name not in reverted)

    def search(self, required, savings=None):
        stakes = {name: Stake(harm, (savings or {}).get(name, 1.0)) for name, harm in self.harms.items()}
        return fall_back(lambda: stakes, self, required, 1.0)


def test_the_one_layer_that_does_the_harm_is_reverted():
    quality = Quality({**{f"layer{number}": 1e-4 for number in range(60)}, "bad": 0.2})
    found = quality.search(0.98)
    assert found.reverted == ("bad",)
    assert found.whole == pytest.approx(1 - 0.206)
    assert found.quality == pytest.approx(1 - 0.006)
    assert found.evaluations == len(quality.asked) == 2


def test_a_model_that_is_good_enough_is_left_alone_and_nothing_is_ranked():
    def ranked():
        raise AssertionError("ranking costs, and is not needed")

    found = fall_back(ranked, lambda reverted: 0.99, 0.98, 1.0)
    assert found.reverted == ()
    assert found.evaluations == 1


def test_cheap_layers_go_back_before_dear_ones_that_harm_as_much():
    harms = {"dear": 0.02, "cheap": 0.02}
    assert Quality(harms).search(0.975, {"dear": 10.0, "cheap": 0.1}).reverted == ("cheap",)


def test_what_was_reverted_needlessly_is_quantised_again():
    # Ranked by a harm that misleads: the layer that matters comes last.
    truth = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.1}
    misled = {name: Stake(1.0 + number, 1.0) for number, name in enumerate(reversed(truth))}
    quality = Quality(truth)
    assert fall_back(lambda: misled, quality, 0.95, 1.0).reverted == ("d",)


def test_a_quality_that_is_no_number_is_not_good_enough():
    found = fall_back(
        lambda: {"a": Stake(1.0, 1.0), "b": Stake(0.5, 1.0)},
        lambda reverted: math.nan if "a" not in reverted else 1.0,
        0.9,
        1.0,
    )
    assert found.reverted == ("a",)


@given(
    st.lists(st.floats(0, 0.1), min_size=1, max_size=40),
    st.floats(0, 0.3),
)
@settings(max_examples=100)
def test_the_result_is_good_enough_no_layer_is_reverted_needlessly_and_few_looks_are_taken(harms, allowed):
    quality = Quality({f"layer{number}": harm for number, harm in enumerate(harms)})
    required = 1 - allowed
    found = quality.search(required)
    reverted = frozenset(found.reverted)
    assert quality(reverted) >= required or len(reverted) == len(harms)
    for name in reverted:
        assert quality(reverted - {name}) < required
    assert found.evaluations <= 1 + 2 * math.ceil(math.log2(len(harms) + 1)) + 2 * len(harms)
