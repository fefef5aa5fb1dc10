"""Constraints on inputs: what keeps them passes, what does not is named."""

import numpy as np
import pytest

from optops.runtimes.constraints import violation

IDS = {"largest_shape": [None, 4], "minimum": 0, "maximum": 9, "sequences": {"end": 2, "pad": 0}}


@pytest.mark.parametrize("ids", [[[2]], [[3, 2, 0, 0], [9, 9, 9, 2]], [[2, 2]]])
def test_sequences_that_end_and_are_padded_pass(ids):
    assert violation(np.array(ids), IDS) is None


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([[3, 3, 3, 3, 2]], "size 5 in dimension 1"),
        ([[10, 2]], "holds 10"),
        ([[-1, 2]], "holds -1"),
        ([[3, 0, 2]], "ids after padding in row 0"),
        ([[0, 2]], "ids after padding in row 0"),
        ([[3, 2], [3, 3]], "ends in id 3 in row 1"),
        ([[3, 2], [0, 0]], "no ids in row 1"),
        ([[]], "is empty"),
    ],
)
def test_a_violation_says_what_and_where(ids, reason):
    assert reason in (violation(np.array(ids, np.int32), IDS) or "")


def test_without_constraints_only_emptiness_is_refused():
    assert violation(np.full([2, 3], -5.0), {}) is None
    assert "empty" in (violation(np.zeros([0, 3]), {}) or "")
