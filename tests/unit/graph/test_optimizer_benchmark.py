"""What several timed inputs say: nothing that is slower on one of them, the fastest of the rest."""

import numpy as np
import pytest

from optops.graph.optimizer.benchmark import judge


def rounds(**milliseconds: float) -> dict[str, np.ndarray]:
    """Returns made-up times of 50 rounds, each with 1 % of noise."""
    draw = np.random.default_rng(0)
    return {name: value / 1e3 * draw.normal(1, 0.01, 50) for name, value in milliseconds.items()}


def test_what_is_slower_on_one_input_is_not_used() -> None:
    verdict = judge(
        [
            rounds(original=10, frozen=9, plain=8, kernels=2),
            rounds(original=10, frozen=9, plain=8, kernels=11),
        ]
    )
    assert verdict.slower == {"kernels": 1}
    assert verdict.best == "plain"


def test_the_fastest_is_used_where_it_is_not_the_furthest() -> None:
    verdict = judge(
        [rounds(original=10, frozen=9, plain=5, kernels=8), rounds(original=40, frozen=39, plain=20, kernels=21)]
    )
    assert verdict.best == "plain"
    assert not verdict.slower
    assert verdict.milliseconds["plain"] == pytest.approx(10, rel=0.02)
    assert verdict.milliseconds["original"] == pytest.approx(20, rel=0.02)


def test_of_what_is_as_fast_the_furthest_is_used() -> None:
    assert judge([rounds(original=10, frozen=9.9, plain=10, kernels=10)]).best == "kernels"


def test_the_original_is_used_where_all_is_slower() -> None:
    assert judge([rounds(original=10, frozen=12, plain=11)]).best is None
