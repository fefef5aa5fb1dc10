"""Classes of texts and images: what is no class, what is rare, and what is the same and has two."""

import pandas as pd

from optops.workloads.class_checks import find_conflicting_class, find_rare_class, find_unknown_class


def labelled(*labels):
    return pd.DataFrame({"id": [f"x:{line}" for line in range(len(labels))], "label": labels})


def test_a_misspelt_class_is_told_with_the_nearest_one():
    reasons = find_unknown_class(labelled("cat", "catt", "Zebra"), ["cat", "dog"])
    assert reasons.to_dict() == {
        1: "label 'catt' is none of cat, dog; did you mean 'cat'?",
        2: "label 'Zebra' is none of cat, dog",
    }


def test_a_wrong_column_of_labels_is_told_in_no_time():
    texts = [f"a whole text that somebody took for a label, number {number}" for number in range(100_000)]
    reasons = find_unknown_class(labelled(*texts), [f"class number {number}" for number in range(50)])
    assert len(reasons) == 100_000
    assert reasons.iloc[0].endswith("is none of " + ", ".join(f"class number {n}" for n in range(10)) + ", ...")


def test_a_rare_class_is_told_once_and_one_without_examples_too():
    rows = labelled(*["a"] * 97, "b", "b", "b")
    assert find_rare_class(rows, ["a", "b"], 0.03).empty
    assert find_rare_class(rows, ["a", "b", "c"], 0.031).to_dict() == {
        0: "the split has no example of 'c'",
        97: "class 'b' has 3 of 100 examples, 3.0%",
    }


def test_what_has_two_labels_is_named_however_often_it_stands_there():
    labels = ["a"] * 100_000 + ["b"]
    rows = pd.DataFrame({"id": [f"x:{line}" for line in range(100_001)], "same": "yes", "label": labels})
    reasons = find_conflicting_class(rows, "same")
    assert len(reasons) == 100_001
    assert reasons.iloc[50_000] == "labelled 'a', and 'b' in x:100000"
    assert reasons.iloc[-1] == "labelled 'b', and 'a' in x:0"


def test_what_could_not_be_read_conflicts_with_nothing():
    assert find_conflicting_class(labelled("a", "b").assign(same=""), "same").empty
