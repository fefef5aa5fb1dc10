"""What is there twice is told: in its split, and in every split what another one has too."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from optops.workloads.repetition import find_elsewhere, find_repeated, seen_elsewhere

SPLITS = ["train", "validation", "test"]


def rows_of(*rows):
    frame = pd.DataFrame(rows, columns=["split", "same", "label"])
    return frame.assign(id=[f"{split}:{line}" for line, split in enumerate(frame["split"])])


def test_all_but_the_first_are_repetitions_if_every_key_is_equal():
    rows = rows_of(
        ("train", "x", "1"), ("train", "x", "2"), ("train", "x", "1"), ("train", "", "1"), ("train", "", "1")
    )
    assert find_repeated(rows, ["same"], "image").to_dict() == {
        1: "the same image as train:0",
        2: "the same image as train:0",
    }
    assert find_repeated(rows, ["same", "label"], "image").to_dict() == {2: "the same image as train:0"}


def test_every_split_that_has_it_is_told_and_the_next_later_place_is_named_first():
    rows = rows_of(
        ("test", "x", ""), ("validation", "x", ""), ("train", "x", ""), ("train", "y", ""), ("test", "y", ""),
        ("validation", "z", ""), ("train", "", ""), ("test", "", ""), ("extra", "x", ""),
    )  # fmt: skip
    found = find_elsewhere(rows.assign(elsewhere=seen_elsewhere(rows, "same", "text")))
    assert found.to_dict() == {
        0: "the same text stands in train, train:2",
        1: "the same text stands in test, test:0",
        2: "the same text stands in validation, validation:1",
        3: "the same text stands in test, test:4",
        4: "the same text stands in train, train:3",
    }


@given(st.lists(st.tuples(st.sampled_from(SPLITS), st.sampled_from(["", "a", "b", "c"]), st.just("")), max_size=30))
def test_a_row_is_told_exactly_if_another_split_has_it(rows):
    frame = rows_of(*rows)
    told = (seen_elsewhere(frame, "same", "text") != "").to_numpy(bool)
    expected = [
        bool(same) and any(other == same and where != split for where, other, _ in rows) for split, same, _ in rows
    ]
    np.testing.assert_array_equal(told, np.array(expected, bool))
