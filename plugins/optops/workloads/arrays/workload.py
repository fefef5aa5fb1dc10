"""The workload `arrays`: bring your own model, its inputs and labels as NumPy files, and what quality means."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from optops.recipe import Recipe
from optops.sections import Teaching, Train
from optops.workloads.arrays.settings import (
    CHECKS,
    IGNORED,
    STARTING_VALUES,
    ArrayData,
    ArrayModel,
    ArrayPrune,
    ArrayThresholds,
)
from optops.workloads.base import Report, Sections, Workload, named_files, section
from optops.workloads.splits import within_folder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from optops.models.training.settings import Batches, Loss
    from optops.runtimes.base import Executable
    from optops.workloads.label_checks import RowCheck


CALLS = 6
"""Different calls that a cell of the benchmark is measured on."""

_NO_TRAINING = "workload `arrays` imports finished models; it has none to train"


class ArraysWorkload(Workload):
    """Arrays in, arrays out; the metric is named in the recipe."""

    name = "arrays"
    metric_name = "metric"
    inputs_are_plain = False

    def __init__(self) -> None:
        self._recipe: Recipe | None = None

    # Recipe

    def for_recipe(self, recipe: Recipe) -> "ArraysWorkload":
        """Returns a workload with the metric that `data.metric` names."""
        from optops.workloads.arrays.metrics import metric_name

        metric = section(ArrayData, recipe.data).metric
        ours = copy(self)
        ours._recipe = recipe
        ours.metric_name, ours.higher_is_better = metric_name(metric), metric.higher_is_better
        return ours

    def sections(self) -> Sections:
        """Returns the models of the recipe's sections."""
        return Sections(
            ArrayData,
            ArrayModel,
            ArrayThresholds,
            CHECKS,
            prune=ArrayPrune,
            starting_values=STARTING_VALUES,
            ignored=IGNORED,
        )

    def trainable(self, model: BaseModel) -> bool:
        """Returns False: the model is finished."""
        del model
        return False

    def compresses(self, model: BaseModel) -> frozenset[str]:
        """Returns `prune` for a `.keras` file: a functional Keras model can be cut and trained further."""
        return frozenset({"prune"}) if section(ArrayModel, model).keras is not None else frozenset()

    def model_files(self, model: BaseModel) -> Mapping[str, Path]:
        """Returns the imported model."""
        return named_files(section(ArrayModel, model), "saved_model", "keras")

    # Data

    def files(self, data: BaseModel) -> Mapping[str, Path]:
        """Returns the files by the key that names them."""
        return section(ArrayData, data).paths()

    def relocate(self, data: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """Returns the section with its files taken from another folder: there they lie as in this one."""
        keys = ("train", "validation", "test", "corpus")
        names = {key: within_folder(data[key]) for key in keys if data.get(key) is not None}
        return {**data, "folder": folder, **names}

    def read(self, data: BaseModel) -> "dict[str, pd.DataFrame]":
        """Reads all examples, by split."""
        from optops.workloads.arrays.reading import read_splits

        return read_splits(section(ArrayData, data))

    def digests(self, examples: "pd.DataFrame") -> "pd.Series[str]":
        """Returns a digest of each example's arrays."""
        return examples["digest"]

    def label_checks(self, examples: "pd.DataFrame", recipe: Recipe) -> "tuple[pd.DataFrame, Sequence[RowCheck]]":
        """Checks each example's values and its label."""
        from optops.workloads.arrays.checks import array_checks

        return array_checks(examples, section(ArrayData, recipe.data).labels)

    # Training

    def prepare(self, recipe: Recipe, examples: "pd.DataFrame", assets: Path) -> None:
        """Refuses: there is nothing to train.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(_NO_TRAINING)

    def build(self, recipe: Recipe, assets: Path) -> tuple[str, Any]:
        """Refuses: there is nothing to train.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(_NO_TRAINING)

    def import_model(self, recipe: Recipe, folder: Path) -> None:
        """Takes over a SavedModel or a `.keras` file; a functional Keras model can be pruned, too."""
        from optops.workloads.arrays.importing import import_arrays_model

        import_arrays_model(section(ArrayModel, recipe.model), section(ArrayData, recipe.data), folder)

    def batches(
        self, recipe: Recipe, examples: "pd.DataFrame", assets: Path, train: Train
    ) -> "Callable[[int], Batches]":
        """Returns epoch -> shuffled batches of `batch_tokens` examples, with labels if the recipe names a loss."""
        from optops.workloads.arrays.batching import ArrayBatches
        from optops.workloads.arrays.loss import check_labels
        from optops.workloads.arrays.reading import arrays_of

        del assets
        data, model = self._sections()
        arrays = arrays_of(examples) if model.loss else self._inputs(examples)
        if model.loss:
            check_labels(model.loss, arrays[data.labels])
        return ArrayBatches(arrays, train.batch_tokens, recipe.seed)

    def loss(self, train: Train) -> "Loss":
        """Returns the Keras loss that the recipe names, which the criterion `taylor` looks at.

        It raises ValueError when it is called and the recipe names none.
        """
        from optops.workloads.arrays.loss import labels_loss, no_loss

        del train
        data, model = self._sections()
        return labels_loss(model.loss, data.labels, data.output) if model.loss else no_loss

    def student(self, recipe: Recipe, teacher: Any) -> Any:
        """Refuses: nobody knows what a smaller model of this kind looks like; pruning finds out.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("workload `arrays` has no students; write `distill: off` and use `prune`")

    def distillation_loss(self, teacher: Any, student: Any, teaching: Teaching) -> "Loss":
        """Returns `alpha` times the error against the teacher's outputs, and the rest of the recipe's Keras loss."""
        from optops.compression.distillation.outputs import mixed_loss, teacher_loss
        from optops.workloads.arrays.loss import labels_loss

        del student
        data, model = self._sections()
        hard = labels_loss(model.loss, data.labels, data.output) if model.loss else None
        return mixed_loss(teacher_loss(teacher), hard, teaching.alpha)

    # Quality

    def predict(
        self, executable: "Executable", examples: "pd.DataFrame", assets: Path, report: Report | None = None
    ) -> list[Any]:
        """Returns each example's outputs, encoded without loss."""
        from optops.workloads.arrays.outputs import predict_in_calls

        del assets
        return list(predict_in_calls(executable, self._inputs(examples), report))

    def statistics(self, predictions: Sequence[Any], examples: "pd.DataFrame", data: BaseModel) -> "np.ndarray":
        """Returns what the metric is made of."""
        from optops.workloads.arrays.metrics import example_statistics
        from optops.workloads.arrays.outputs import stack
        from optops.workloads.arrays.reading import arrays_of

        settings = section(ArrayData, data)
        return example_statistics(stack(predictions), arrays_of(examples)[settings.labels], settings)

    def metric(self, statistics: "np.ndarray", weights: "np.ndarray | None" = None) -> "np.ndarray":
        """Returns the metric that the recipe names."""
        from optops.workloads.arrays.metrics import metric_of

        return metric_of(statistics, self._sections()[0].metric, weights)

    def agreement(self, ours: Sequence[Any], theirs: Sequence[Any]) -> float:
        """Returns the share of examples whose outputs differ by no more than rounding."""
        from optops.workloads.arrays.outputs import same_share

        return same_share(ours, theirs)

    def metric_signature(self, data: BaseModel) -> str:
        """Returns the function, and for one of the user's own the digest of its module."""
        from optops.workloads.arrays.metrics import metric_signature

        return metric_signature(section(ArrayData, data).metric)

    # Serving and timing

    def benchmark_inputs(
        self, examples: "pd.DataFrame", assets: Path, batch: int, seed: int
    ) -> "list[dict[str, np.ndarray]]":
        """Returns calls of examples drawn by the seed, with repetition where there are few."""
        import numpy as np

        del assets
        few = len(examples) < CALLS * batch
        rows = np.random.default_rng(seed).choice(len(examples), size=(CALLS, batch), replace=few)
        return [self._inputs(examples.iloc[chosen]) for chosen in rows]

    def calibration_inputs(self, examples: "pd.DataFrame", assets: Path) -> "Iterator[dict[str, np.ndarray]]":
        """Gives the examples one by one."""
        del assets
        for row in range(len(examples)):
            yield self._inputs(examples.iloc[row : row + 1])

    def serve(self, executable: "Executable", assets: Path, inputs: Sequence[Any]) -> list[Any]:
        """Answers examples: nested lists for a model of one input, else a dictionary by input name."""
        from optops.workloads.arrays.serving import answer

        del assets
        return answer(executable, inputs)

    def input_example(self, examples: "pd.DataFrame") -> list[Any]:
        """Returns two examples as nested lists."""
        from optops.workloads.arrays.serving import as_lists

        return as_lists(self._inputs(examples[:2]))

    def _inputs(self, examples: "pd.DataFrame") -> "dict[str, np.ndarray]":
        from optops.workloads.arrays.reading import arrays_of

        labels = self._sections()[0].labels
        return {name: array for name, array in arrays_of(examples).items() if name != labels}

    def _sections(self) -> tuple[ArrayData, ArrayModel]:
        assert self._recipe is not None, "for_recipe sets the workload up"
        return section(ArrayData, self._recipe.data), section(ArrayModel, self._recipe.model)
