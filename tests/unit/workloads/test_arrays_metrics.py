"""The built-in metrics of `arrays`, held against their definitions."""

import numpy as np
import pytest

from optops.workloads.arrays.metrics import example_statistics, metric_of
from optops.workloads.arrays.settings import ArrayData


def figure(outputs, labels, **settings):
    data = ArrayData(corpus="x.npz", **settings)
    return float(metric_of(example_statistics(outputs, labels, data), data.metric)[0])


@pytest.mark.parametrize(("threshold", "wanted"), [(0.5, 75.0), (0.0, 50.0)])
def test_an_output_of_one_number_is_cut_where_the_recipe_says(threshold, wanted):
    # The cut must not depend on whether some other output leaves the range of probabilities.
    outputs = {"p": np.array([[0.1], [0.2], [1.01], [0.4]], np.float32)}
    assert figure(outputs, np.array([0, 0, 1, 1]), threshold=threshold) == pytest.approx(wanted)


def test_logits_are_not_held_against_the_threshold_of_probabilities():
    outputs, labels = {"logit": np.array([[-3.0], [0.3], [2.0], [np.nan]], np.float32)}, np.array([0, 1, 1, 1])
    with pytest.raises(ValueError, match=r"goes from -3 to 2, so it is no .* write `data\.threshold: 0` if"):
        figure(outputs, labels)
    assert figure(outputs, labels, threshold=0) == pytest.approx(75)


def test_explained_variance_of_labels_without_spread_is_a_number():
    labels = np.full(4, 3.0, np.float32)
    assert figure({"y": labels + 0.5}, labels, metric="r2") == 0
    assert figure({"y": labels}, labels, metric="r2") == 100


def test_explained_variance_of_several_numbers_is_the_mean_over_them():
    from sklearn.metrics import r2_score

    generator = np.random.default_rng(2)
    labels = generator.normal([0, 1000, 1e6], [1, 1, 100], (200, 3))
    guesses = labels + generator.normal(0, [0.5, 0.2, 90], (200, 3))
    assert figure({"y": guesses}, labels, metric="r2") == pytest.approx(100 * r2_score(labels, guesses), rel=1e-6)
    means = np.tile(labels.mean(axis=0), (200, 1))
    assert figure({"y": means}, labels, metric="r2") == pytest.approx(0, abs=1e-6)
    # A number that is always the same is none to explain.
    still = np.concatenate([labels, np.full((200, 1), 0.1)], axis=1)
    guessed = np.concatenate([guesses, np.full((200, 1), 0.1)], axis=1)
    assert figure({"y": guessed}, still, metric="r2") == pytest.approx(100 * r2_score(labels, guesses), rel=1e-6)


def test_accuracy_takes_outputs_of_one_number_without_an_axis_of_their_own():
    assert figure({"p": np.array([0.9, 0.2, 0.7, 0.1])}, np.array([1, 0, 0, 0])) == 75


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        ([[0.1], [np.nan], [0.2], [np.nan]], [0, 0, 0, 1]),
        ([0.1, np.nan, 0.2, np.nan], [0, 0, 0, 1]),
        ([[0.9, 0.1], [np.nan, np.nan], [0.8, 0.2], [np.nan, 0.3]], [0, 0, 0, 0]),
        # Logits of what can not be.
        ([[0.9, -np.inf], [np.nan, np.nan], [0.8, -np.inf], [np.nan, 0.3]], [[1, 0]] * 4),
        ([[[0.9, 0.1], [np.nan, 0.1]], [[0.9, 0.1], [0.1, np.nan]]], [[0, 0], [0, 0]]),
    ],
)
def test_an_answer_that_is_nan_is_no_hit(answers, labels):
    for dtype in (np.float16, np.float32):
        assert figure({"y": np.array(answers, dtype)}, np.array(labels)) == 50
        assert np.isnan(figure({"y": np.full_like(answers, np.nan, dtype)}, np.array(labels)))


def test_labels_that_are_words_have_no_accuracy():
    with pytest.raises(ValueError, match=r"accuracy needs labels that are numbers, and these are <U3; write class"):
        figure({"p": np.zeros((2, 2))}, np.array(["cat", "dog"]))


def test_class_numbers_that_a_model_gives_itself_are_held_against_the_labels_as_they_are():
    classes = np.array([3, 7, 0, 1])
    assert figure({"class": classes.astype(np.int64)}, np.array([3, 6, 0, 9])) == 50
    assert figure({"class": classes[:, None]}, np.array([3, 7, 0, 9])) == 75
    assert figure({"class": classes}, np.eye(10)[[3, 7, 0, 0]]) == 75
    chosen = np.eye(10)[[3, 7, 0, 2]]
    for scores in (chosen > 0, (100 * chosen).astype(np.uint8)):  # a row for each example, as the labels have
        assert figure({"class": scores}, np.eye(10)[[3, 7, 0, 1]]) == 75
    tags = np.array([[1, 2, 0], [4, 4, 1]])
    assert figure({"tags": tags.astype(np.int32)}, np.array([[1, 2, 2], [4, 0, 1]])) == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (
            np.array([200, 3], np.uint8),
            r"output is uint8: class numbers, which data\.threshold \(127\) does not fit; let",
        ),
        (np.array(["cat", "dog"]), "output is <U3: text; let the model give probabilities"),
    ],
)
def test_outputs_that_can_not_be_meant_as_they_are_have_no_accuracy(output, says):
    with pytest.raises(ValueError, match=says):
        figure({"y": output}, np.array([1, 0]), threshold=127)


def test_rows_of_labels_are_class_probabilities_and_may_be_soft():
    scores = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    assert figure({"p": scores}, np.array([[0.3, 0.36, 0.34], [0.3, 0.4, 0.3]])) == 50
    assert figure({"p": scores}, np.array([[False, True, False], [True, False, False]])) == 100


@pytest.mark.parametrize("row", [[1, 1, 0], [0, 0, 0], [0.9, 0.9, 0.1], [-1, 1, -1]])
def test_labels_that_name_several_classes_or_none_have_no_accuracy(row):
    labels = np.array([[0, 1, 0], row])
    with pytest.raises(ValueError, match=r"labels of 1 of 2 examples.*\(example 1: .*name a function of your own"):
        figure({"p": np.full((2, 3), 0.7)}, labels)


def test_one_number_that_is_no_class_number_tells_no_more_than_two_classes():
    with pytest.raises(
        ValueError, match=r"output of one float32 tells class 1 from class 0, and a label is 7; write 0"
    ):
        figure({"class": np.array([0.0, 7.0], np.float32)}, np.array([0, 7]))


@pytest.mark.parametrize("label", [3, -1, 1.5])
@pytest.mark.parametrize("places", [(), (2,)])
def test_a_label_that_is_no_class_of_the_output_has_no_accuracy(label, places):
    labels = np.full((4, *places), 2.0)
    labels[-1] = label
    with pytest.raises(ValueError, match=rf"3 numbers tells classes from 0 to 2, and a label is {label:g}; count"):
        figure({"p": np.zeros((4, *places, 3))}, labels)
