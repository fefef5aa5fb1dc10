"""What a benchmark's noise floor may excuse."""

import pytest

from optops.stages.speed import Speed


def ratio(value: float) -> dict[str, float]:
    return {"ratio": value, "low": value - 0.02, "high": value + 0.02, "lower_bound": value - 0.02}


def judged(noise_floor: float, batch_8: float, champion: float) -> Speed:
    return Speed("batch 1", 1.5, noise_floor, ratio(2.0), {"batch 8": ratio(batch_8)}, ratio(champion))


@pytest.mark.parametrize("noise_floor", [0.1, 0.5, 3.0])
def test_a_host_that_was_disturbed_while_its_noise_was_measured_excuses_no_slow_model(noise_floor):
    speed = judged(noise_floor, batch_8=0.7, champion=2.9)
    assert speed.shortfall == "slower than the baseline at batch 8: 0.70x"
    assert speed.slower_than_champion.startswith("slower than the reigning champion: 2.00x against 2.90x")


def test_within_the_noise_a_model_is_not_slower():
    speed = judged(0.05, batch_8=0.95, champion=2.1)
    assert (speed.shortfall, speed.slower_than_champion) == ("", "")
