"""Results are compared by the size of what is computed, not of the numbers that stand for what is hidden."""

import numpy as np
import pytest

from optops.graph.optimizer.parity import Difference, compare

LOGITS = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
HIDDEN = np.arange(50) % 7 == 3


def compared(wanted: np.ndarray, found: np.ndarray) -> Difference:
    return compare([{"logits": wanted}], [{"logits": found}], "fp32")


@pytest.mark.parametrize("mask", [-1e4, -1e9, np.finfo(np.float32).min, -np.inf])
def test_what_stands_beside_numbers_of_a_mask_is_held_to_its_own_size(mask: float) -> None:
    wanted = np.where(HIDDEN, np.float32(mask), LOGITS)
    right, wrong = (np.where(HIDDEN, wanted, LOGITS + np.float32(gap)) for gap in (1e-5, 1e-2))
    assert compared(wanted, right).fits
    difference = compared(wanted, wrong)
    assert not difference.fits
    assert difference.value == pytest.approx(1e-2 / np.abs(LOGITS[:, ~HIDDEN]).max(), rel=1e-2)


def test_a_number_that_only_one_result_hides_does_not_fit() -> None:
    wanted = np.where(HIDDEN, np.float32(-1e9), LOGITS)
    assert not compared(wanted, LOGITS).fits
    assert not compared(LOGITS, wanted).fits


def test_large_numbers_that_are_computed_are_held_to_their_own_size() -> None:
    wanted = LOGITS * np.float32(1e6)
    assert compared(wanted, wanted * np.float32(1 + 1e-5)).fits
    assert not compared(wanted, wanted * np.float32(1 + 1e-3)).fits


def test_nothing_but_a_mask_fits_itself() -> None:
    assert compared(np.full((2, 3), -1e9, np.float32), np.full((2, 3), -1e9, np.float32)) == Difference(0.0, "", True)


def test_logits_under_a_mask_that_was_added_do_not_count_as_the_largest() -> None:
    wanted = LOGITS + np.where(HIDDEN, np.float32(-1e4), np.float32(0))
    rounded = np.nextafter(wanted, np.float32(0))
    assert compared(wanted, np.where(HIDDEN, rounded, wanted)).fits
    assert not compared(wanted, np.where(HIDDEN, rounded, LOGITS + np.float32(1e-2))).fits
    assert not compared(wanted, np.where(HIDDEN, wanted + np.float32(100), wanted)).fits


def test_a_wide_range_of_values_is_held_to_its_largest() -> None:
    wanted = LOGITS * np.float32(3000)
    assert compared(wanted, wanted + np.float32(1e-5) * np.abs(wanted).max()).fits
