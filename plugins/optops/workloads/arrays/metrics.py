"""What quality means for arrays: accuracy, explained variance, or a function that the recipe names."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from optops.candidate import digest_file
from optops.workloads.arrays.settings import BUILT_IN_METRICS, ArrayData, Metric

ROUNDED = 0.05
"""How far beyond 0 and 1 a probability may be rounded."""

Outputs = Mapping[str, np.ndarray]
_Function = Callable[[dict[str, np.ndarray], np.ndarray], Sequence[float]]


def example_statistics(outputs: Outputs, labels: np.ndarray, data: ArrayData) -> np.ndarray:
    """Returns what the metric is made of, [examples, numbers].

    Args:
        outputs: The model's outputs by name, each [examples, ...].
        labels: [examples, ...].
        data: The recipe's section.

    Raises:
        ValueError: If the output is not there or does not fit the labels, or a function of the user's fails or gives
            anything but one finite number an example.
    """
    function = data.metric.function
    if function in BUILT_IN_METRICS and labels.dtype.kind not in "biuf":
        raise ValueError(
            f"metric {function} needs labels that are numbers, and these are {labels.dtype}; write class numbers, or "
            "name a function of your own"
        )
    if function == "accuracy":
        return _hits(_chosen(outputs, data.output), labels, data.threshold)[:, None]
    if function == "r2":
        return _squares(_chosen(outputs, data.output), labels)
    values = _values(_load(function), function, outputs, labels)
    if values.shape != (len(labels),) or not np.isfinite(values).all():
        raise ValueError(
            f"metric {function} gives {values.dtype} {list(values.shape)} with {int((~np.isfinite(values)).sum())} "
            f"numbers that are not finite; it must give one number for each of the {len(labels)} examples"
        )
    return values[:, None]


def _values(function: _Function, name: str, outputs: Outputs, labels: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(function(dict(outputs), labels), np.float64)
    except Exception as error:
        given = ", ".join(f"{output} {array.dtype} {list(array.shape)}" for output, array in sorted(outputs.items()))
        raise ValueError(
            f"metric {name} fails with {type(error).__name__}: {error}; it is called with outputs {given} and labels "
            f"{labels.dtype} {list(labels.shape)}"
        ) from error


def metric_of(statistics: np.ndarray, metric: Metric, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns the metric for each row of weights, [resamples]; see `Workload.metric`."""
    counts = np.ones((1, len(statistics))) if weights is None else weights.astype(np.float64)
    sums = counts @ statistics.astype(np.float64)
    total = counts.sum(axis=1)
    if metric.function == "accuracy":
        return np.asarray(100 * sums[:, 0] / total)
    if metric.function == "r2":
        # A resample whose labels are all the same has nothing to explain.
        share = np.where(sums[:, 0] > 0, 1.0, 0.0)
        return np.asarray(100 * (1 - np.divide(sums[:, 0], sums[:, 1], out=share, where=sums[:, 1] > 0)))
    return np.asarray(sums[:, 0] / total)


def metric_name(metric: Metric) -> str:
    """Returns what the metric is called."""
    return metric.name or {"accuracy": "accuracy", "r2": "R2"}.get(
        metric.function, metric.function.rpartition(":")[2].replace("_", " ")
    )


def metric_signature(metric: Metric) -> str:
    """Returns what exactly is computed: a function of the user's with the digest of the source it is in."""
    if metric.function in BUILT_IN_METRICS:
        exactly = {"r2": ", the mean over the numbers of a label"}.get(metric.function, "")
        return f"{metric.function}, in percent{exactly}, NumPy {np.__version__}"
    source = _source(metric.function)
    digest = digest_file(source)[:16] if source else "source unknown"
    return f"mean of {metric.function} ({digest}), NumPy {np.__version__}"


def _load(path: str) -> _Function:
    module, _, name = path.partition(":")
    try:
        function: _Function = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"metric {path!r} can not be loaded ({error}); install the package that has it, or put its folder on "
            "PYTHONPATH"
        ) from error
    return function


def _source(path: str) -> Path | None:
    """Returns the file that a function is written in; of what has none of its own, the module that is named."""
    function = _load(path)
    try:
        found = inspect.getsourcefile(function)
    except TypeError:  # a partial, an object that is called, a function of C
        found = getattr(sys.modules[path.partition(":")[0]], "__file__", None)
    return Path(found) if found else None


def _chosen(outputs: Outputs, name: str | None) -> np.ndarray:
    if name is None and len(outputs) == 1:
        return next(iter(outputs.values()))
    if name is None or name not in outputs:
        given = "none is named" if name is None else f"there is no {name!r}"
        raise ValueError(f"data.output: {given}; the model's outputs are {', '.join(sorted(outputs))}")
    return outputs[name]


def _hits(output: np.ndarray, labels: np.ndarray, threshold: float) -> np.ndarray:
    """Returns the share of each example's places whose class is told right, [examples].

    Whole numbers, one for each label, are class numbers as they are (what `argmax` gives), unless each row of labels
    holds the probabilities of one example's classes. Of anything else, one number is class 1 above the threshold, and
    of several the largest counts. NaN is no class; where every place is NaN, so is the share.
    """
    single = output.ndim == 1 or output.shape[-1] == 1
    shares = output.shape == labels.shape and _are_probabilities(labels)
    told = output.dtype.kind in "biu" and (single or (output.size == labels.size and not shares))
    what = "text" if output.dtype.kind in "OSU" else ""
    if told and threshold != ArrayData.model_fields["threshold"].default:
        what = f"class numbers, which data.threshold ({threshold:g}) does not fit"
    if what:
        raise ValueError(
            f"accuracy: the output is {output.dtype}: {what}; let the model give probabilities or logits, or name a "
            "function of your own"
        )
    found = output if told else output > threshold if single else output.argmax(axis=-1)
    unsaid = np.isnan(output) if told or single else np.isnan(output).any(axis=-1)
    rows = labels.ndim > 1 and labels.shape[-1] > 1 and labels[..., 0].size == found.size
    classes = _class_of_rows(labels) if rows else labels
    found, classes = found.reshape(len(output), -1), classes.reshape(len(labels), -1)
    if found.shape != classes.shape:
        raise ValueError(
            f"accuracy: outputs {list(output.shape)} do not fit labels {list(labels.shape)}; labels are class numbers "
            "[examples], or one row of class probabilities an example"
        )
    if not told:
        _refuse_other_classes(classes, output, 2 if single else output.shape[-1])
    if single and not told and threshold == ArrayData.model_fields["threshold"].default:
        _refuse_logits(output)
    if unsaid.all():
        return np.full(len(output), np.nan)
    return np.asarray(((found == classes) & ~unsaid.reshape(found.shape)).mean(axis=1))


def _refuse_logits(output: np.ndarray) -> None:
    """Refuses numbers that are no probabilities, where they would be held against the threshold of probabilities.

    Raises:
        ValueError: Says what they are and what to write.
    """
    finite = output[np.isfinite(output)]
    if finite.size and (finite.min() < -ROUNDED or finite.max() > 1 + ROUNDED):
        raise ValueError(
            f"accuracy: the output goes from {finite.min():.3g} to {finite.max():.3g}, so it is no probability, which "
            "`data.threshold` 0.5 is meant for; write `data.threshold: 0` if it is a logit"
        )


def _refuse_other_classes(labels: np.ndarray, output: np.ndarray, classes: int) -> None:
    """Refuses labels that no output can hit: counted from 1, all that are told right would count as wrong.

    Raises:
        ValueError: Names one.
    """
    others = labels[~np.isin(labels, np.arange(classes))]
    if not len(others):
        return
    what, remedy = f"{classes} numbers tells classes from 0 to {classes - 1}", "count classes from 0"
    if output.ndim == 1 or output.shape[-1] == 1:
        what = f"one {output.dtype} tells class 1 from class 0"
        remedy = "write 0 and 1, let the model give class numbers as integers"
    raise ValueError(
        f"accuracy: an output of {what}, and a label is {others[0]:g}; {remedy}, or name a function of your own"
    )


def _are_probabilities(labels: np.ndarray) -> bool:
    """Returns whether each row of labels, one-hot for example, shares 1 out among the classes."""
    return bool((labels >= 0).all() and np.allclose(labels.sum(axis=-1), 1))


def _class_of_rows(labels: np.ndarray) -> np.ndarray:
    """Returns the class that each row of class probabilities names.

    Raises:
        ValueError: If a row names none, or several.
    """
    largest = labels.max(axis=-1, keepdims=True)
    named = np.where(largest > 0, labels == largest, False).sum(axis=-1)
    wrong = np.argwhere((named != 1) | (labels < 0).any(axis=-1))
    if len(wrong):
        row = labels[tuple(wrong[0])]
        raise ValueError(
            f"accuracy: the labels of {len(set(wrong[:, 0].tolist()))} of {len(labels)} examples are no class "
            f"probabilities with one that is largest (example {wrong[0][0]}: {np.array2string(row, threshold=8)}); "
            "where several classes or none may be right, name a function of your own"
        )
    return np.asarray(labels.argmax(axis=-1))


def _squares(output: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns what the model misses and what there is to explain, [examples, 2], in variances of the labels.

    1 - the ratio of their sums is the coefficient of determination, the mean over the numbers of a label; a resample is
    held against the mean of all examples.
    """
    found, wanted = output.reshape(len(output), -1), labels.reshape(len(labels), -1)
    if found.shape != wanted.shape:
        raise ValueError(f"r2: outputs {list(output.shape)} do not fit labels {list(labels.shape)}; they must agree")
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    mean, deviation = wanted.mean(axis=0), wanted.std(axis=0)
    varies = deviation > 1e-12 * np.abs(mean)
    if not varies.any():
        return np.stack([((wanted - found) ** 2).mean(axis=1), np.zeros(len(wanted))], axis=1)
    # A number that never changes has nothing to explain, and is left out.
    missed, to_explain = ((wanted - other)[:, varies] / deviation[varies] for other in (found, mean))
    return np.stack([(missed**2).mean(axis=1), (to_explain**2).mean(axis=1)], axis=1)
