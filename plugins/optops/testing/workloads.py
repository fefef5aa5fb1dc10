"""What every workload must do."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optops.pipeline import TEST, TRAIN, VALIDATION
from optops.recipe import Recipe
from optops.workloads.base import Workload, workload_of

HEAVY = ("tensorflow", "tf_keras", "pandas", "mlflow", "great_expectations", "onnxruntime")


def check_workload(recipe: Recipe, predictions: Sequence[Any], *, perfect: Sequence[Any]) -> None:
    """Checks that a workload reads its data as promised and that its metric can be resampled.

    Args:
        recipe: A recipe of the workload whose data is there.
        predictions: For the test split, imperfect.
        perfect: For the test split, the best possible.

    Raises:
        AssertionError: Says what does not hold.
    """
    workload = workload_of(recipe)
    _check_import_is_cheap(workload)
    for key, path in workload.files(recipe.data).items():
        assert path.is_absolute(), f"files: {key} is the relative path {path}"
        assert path.exists(), f"files: {key} names {path}, which is not there"
    splits = workload.read(recipe.data)
    assert set(splits) == {TRAIN, VALIDATION, TEST}, f"read gives the splits {sorted(splits)}"
    again = workload.read(recipe.data)
    for split, examples in splits.items():
        for column in ("id", "file", "line"):
            assert column in examples, f"the {split} examples have no column {column!r}"
        assert examples["id"].is_unique, f"two {split} examples share an id"
        assert list(again[split]["id"]) == list(examples["id"]), f"reading twice gives another {split} split"
        digests = workload.digests(examples)
        assert len(digests) == len(examples), "digests: not one for each example"
        assert digests.str.fullmatch(r"[0-9a-f]{16}").all(), "digests: not 16 hexadecimal digits"
    _check_labels(workload, recipe, splits)
    _check_metric(workload, recipe, splits[TEST], predictions, perfect)


def _check_labels(workload: Workload, recipe: Recipe, splits: Mapping[str, Any]) -> None:
    import pandas as pd

    examples = pd.concat([frame.assign(split=split) for split, frame in splits.items()], ignore_index=True)
    made = {check.label.name for check in workload.label_checks(examples, recipe)[1]}
    named = set(workload.sections().checks)
    assert made == named, f"label_checks makes {sorted(made)}, a recipe may name {sorted(named)}"


def _check_metric(
    workload: Workload, recipe: Recipe, examples: Any, predictions: Sequence[Any], perfect: Sequence[Any]
) -> None:
    statistics = workload.statistics(predictions, examples, recipe.data)
    assert len(statistics) == len(examples), "statistics: not one row for each example"
    point = float(workload.metric(statistics)[0])
    once = np.ones((1, len(examples)), dtype=np.int64)
    assert np.isclose(workload.metric(statistics, once)[0], point), "weights of 1 change the metric"
    assert np.isclose(workload.metric(statistics, 3 * once)[0], point), "the metric depends on the scale of weights"
    half = len(examples) // 2
    weights = np.zeros((1, len(examples)), dtype=np.int64)
    weights[0, :half] = 1
    part = float(workload.metric(statistics[:half])[0])
    assert np.isclose(workload.metric(statistics, weights)[0], part), "weights of 0 do not leave examples out"
    best = float(workload.metric(workload.statistics(perfect, examples, recipe.data))[0])
    better = best > point if workload.higher_is_better else best < point
    assert better, f"perfect predictions give {best}, imperfect ones {point}"
    assert workload.metric_signature(recipe.data), "metric_signature says nothing"
    _check_naive_answers(workload, recipe, examples, best)


def _check_naive_answers(workload: Workload, recipe: Recipe, examples: Any, best: float) -> None:
    naive = workload.naive_answers(examples, recipe.data)
    if naive is None:
        return
    assert len(naive.predictions) == len(examples), "naive_answers: not one for each example"
    value = float(workload.metric(workload.statistics(naive.predictions, examples, recipe.data))[0])
    worse = value < best if workload.higher_is_better else value > best
    assert worse, f"naive_answers ({naive.rule}) give {value}, perfect predictions {best}"


def _check_import_is_cheap(workload: Workload) -> None:
    module = type(workload).__module__
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", f"importing {module} imports {done.stdout.strip()}: recipes are read in Airflow"
