"""The contract of a workload: the kind of model, from its recipe sections to its metric and its served form.

Stages call nothing but this contract, so a new workload touches no stage. Importing a workload's module must be
cheap (no TensorFlow, pandas or Great Expectations at its top): recipes are read while Airflow parses.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel

from optops.recipe import Recipe
from optops.sections import Distill, Prune, StandardCheck, Teaching, Train

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from optops.models.training.settings import Batches, Loss, Validate
    from optops.runtimes.base import Executable
    from optops.workloads.label_checks import CheckOutcome, Defect, RowCheck

Settings = TypeVar("Settings", bound=BaseModel)

Report = Callable[[str], None]
"""Takes a line of progress for people."""


@dataclass(frozen=True)
class Sections:
    """The parts of a recipe that depend on the workload.

    Attributes:
        data: Model of the section `data`.
        model: Model of the section `model`.
        thresholds: Model of `check_labels.thresholds`.
        checks: The label checks by name.
        distill: Model of the section `distill`, with the workload's own keys and defaults.
        prune: Model of the section `prune`, likewise.
        starting_values: What `optops init` writes for keys that have no default, by dotted key; `{name}` stands for
            the recipe's name.
        ignored: Keys of any section that change nothing for the workload's models, by dotted key, with the reason; a
            recipe that gives them a value is refused.
    """

    data: type[BaseModel]
    model: type[BaseModel]
    thresholds: type[BaseModel]
    checks: Mapping[str, StandardCheck]
    distill: type[Distill] = Distill
    prune: type[Prune] = Prune
    starting_values: Mapping[str, Any] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)

    @property
    def student_sizes(self) -> tuple[str, ...]:
        """What may stand in `distill.student`."""
        return self.distill.student_sizes or tuple(self.model.model_fields)


@dataclass(frozen=True)
class LabelReport:
    """What the label checks found.

    Attributes:
        outcomes: One per check and split.
        defects: One per example and check.
        quarantine: Ids of training examples that quarantine removes.
    """

    outcomes: Sequence["CheckOutcome"]
    defects: Sequence["Defect"]
    quarantine: frozenset[str]


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
        train: How it is trained.
        batches: Gives the batches of an epoch.
        loss: Its loss, with the variables of heads that the model itself does not keep.
        validate: Called as `validate(model)` after each epoch; higher is better.
    """

    train: Train
    batches: "Callable[[int], Batches]"
    loss: "Loss"
    validate: "Validate"


@dataclass(frozen=True)
class NaiveAnswers:
    """What anybody can answer without a model.

    Attributes:
        rule: How, in words that stand for it: "the source as it is".
        predictions: One an example, as `Workload.predict` gives them.
    """

    rule: str
    predictions: Sequence[Any]


class Workload(ABC):
    """The kind of model.

    Life cycle: while a recipe is read, `sections` says what it may hold, and `for_recipe` sets the workload up for it.
    `check_labels` calls `files`, `read`, `digests` and `check`; from then on, stages hand on data frames of examples.
    `train` calls `prepare`, `build`, `batches` and `loss`, or `import_model`; `distill` and `prune` call `student` and
    `distillation_loss`. Whatever is executed is judged by `predict`, `statistics` and `metric` and timed on
    `benchmark_inputs`; the registered model answers by `serve`. Built-in workloads are listed in `WORKLOADS`, others
    come from the entry point group `optops.workloads`.

    Examples travel as pandas data frames with the columns `id` (unique, stable), `file`, `line` and the workload's
    own. `assets` is a folder that belongs to the model, such as a tokenizer; every artifact carries it, beside its
    `serving/`.
    """

    name: ClassVar[str]
    metric_name: str
    higher_is_better: bool = True
    examples_name: ClassVar[str] = "examples"
    inputs_are_plain: ClassVar[bool] = True
    """Whether a raw input is one value, such as a text or the bytes of an image, or else an array as nested lists, or a
    dictionary of arrays by input name."""
    fails_whole: ClassVar[bool] = True
    """Whether a model may fail on one kind of examples and do all others as before: then a test of which it loses none
    tells no more than its size does. What is measured in thousands of places of each example, as pixels are, shows a
    worse model everywhere."""
    demo_examples: ClassVar[int] = 0
    """Examples that `write_demo` makes if nobody says how many; 0 if there is no generated data."""

    # Recipe

    def for_recipe(self, recipe: Recipe) -> "Workload":
        """Returns the workload as the recipe sets it up: one whose metric the recipe names gives a copy of its own."""
        del recipe
        return self

    @abstractmethod
    def sections(self) -> Sections:
        """Returns the models of the recipe's sections that depend on the workload."""

    def trainable(self, model: BaseModel) -> bool:
        """Returns whether `model` describes something to train, rather than an import; by default it does."""
        del model
        return True

    def compresses(self, model: BaseModel) -> frozenset[str]:
        """Returns which of the sections `distill` and `prune` fit what `model` describes.

        By default both if it is trained, and none if it is imported, for an import may only be servable.
        """
        return frozenset({"distill", "prune"}) if self.trainable(model) else frozenset()

    def model_files(self, model: BaseModel) -> Mapping[str, Path]:
        """Returns the files and folders that `model` names, by key: what it imports or starts from.

        What is in them counts as the recipe's own words do: a result made from other content is not taken over.
        """
        del model
        return {}

    # Data

    @abstractmethod
    def files(self, data: BaseModel) -> Mapping[str, Path]:
        """Returns all data files and folders, by the key below `data` that names them."""

    def listed_files(self, data: BaseModel) -> "Iterator[Path]":
        """Gives the files that a data file lists, beside those that `files` names, in the order of the lists.

        What is in them counts too: an image that is mended under an unchanged list is other data. One that is missing
        is no error here. `read` says that to people, or a label check.

        Raises:
            ValueError: If a list can not be read.
        """
        del data
        yield from ()

    @abstractmethod
    def relocate(self, data: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """Returns the section `data` as written in YAML, with its files taken from another folder."""

    @abstractmethod
    def read(self, data: BaseModel) -> "dict[str, pd.DataFrame]":
        """Reads all examples, by split (`train`, `validation`, `test`).

        Raises:
            ValueError: If a file can not be used; names file, line and remedy.
        """

    @abstractmethod
    def digests(self, examples: "pd.DataFrame") -> "pd.Series[str]":
        """Returns a digest of each example's content (16 hexadecimal digits)."""

    @abstractmethod
    def label_checks(self, examples: "pd.DataFrame", recipe: Recipe) -> "tuple[pd.DataFrame, Sequence[RowCheck]]":
        """Returns the examples with columns that tell what is wrong with each, and the checks that read them.

        Args:
            examples: Of all splits, which the column `split` names.
            recipe: The recipe.
        """

    def foreseen_defects(self, examples: "pd.DataFrame", recipe: Recipe) -> "Iterator[tuple[str, pd.Series[str]]]":
        """Gives label checks with what they are bound to find: for each defective example, the reason in words.

        Only what takes no time to tell, as which files are missing: `optops validate` asks for it.

        Args:
            examples: Of all splits, which the column `split` names.
            recipe: The recipe.

        Raises:
            ValueError: If no label check can be run on these examples.
        """
        del examples, recipe
        yield from ()

    def check(self, splits: "Mapping[str, pd.DataFrame]", recipe: Recipe, docs: Path) -> LabelReport:
        """Checks every example with Great Expectations and writes the Data Docs to `docs`."""
        import pandas as pd

        from optops.workloads.label_checks import quarantined_ids, run_checks

        examples = pd.concat([frame.assign(split=split) for split, frame in splits.items()], ignore_index=True)
        frame, checks = self.label_checks(examples, recipe)
        outcomes, defects = run_checks(frame, checks, recipe.check_labels.checks, docs, recipe.name)
        return LabelReport(outcomes, defects, quarantined_ids(defects))

    def write_demo(self, folder: Path, examples: int, seed: int) -> None:
        """Writes generated data of all three splits into a folder, for demonstrations and tests.

        Args:
            folder: It is there; files of the same names are replaced.
            examples: Of all splits together.
            seed: Same seed, same data, on every machine.

        Raises:
            NotImplementedError: If `demo_examples` is 0.
        """
        raise NotImplementedError(f"workload {self.name!r} generates no data")

    # Training

    @abstractmethod
    def prepare(self, recipe: Recipe, examples: "pd.DataFrame", assets: Path) -> None:
        """Makes the model's assets from the training examples, for example a tokenizer."""

    @abstractmethod
    def build(self, recipe: Recipe, assets: Path) -> tuple[str, Any]:
        """Returns the architecture's name and a fresh tf_keras model, as the recipe sizes it."""

    def import_model(self, recipe: Recipe, folder: Path) -> None:
        """Copies the model that the recipe imports into `folder` as an artifact with `serving/` and `assets/`.

        Raises:
            NotImplementedError: By default, where every model is trained.
        """
        raise NotImplementedError(
            f"workload {self.name!r} imports no models; the workload 'arrays' takes finished ones"
        )

    def serving(self, recipe: Recipe) -> dict[str, Any]:
        """Returns how the model is executed, for `architecture.json`: for translation the beam and length limits.

        By default nothing: the model is called as it is.
        """
        del recipe
        return {}

    def quick_serving(self, recipe: Recipe) -> dict[str, Any]:
        """Returns a cheaper way to execute the model, for validation after each epoch: for translation, beam 1.

        By default there is none.
        """
        return self.serving(recipe)

    @abstractmethod
    def batches(
        self, recipe: Recipe, examples: "pd.DataFrame", assets: Path, train: Train
    ) -> "Callable[[int], Batches]":
        """Returns epoch -> batches of training examples, the same for the same recipe and epoch.

        Args:
            recipe: The recipe.
            examples: What to train on.
            assets: The model's assets.
            train: The section for this training: of the model, of its student, or of the fine-tuning.
        """

    @abstractmethod
    def loss(self, train: Train) -> "Loss":
        """Returns the training loss, a function of model, batch and progress."""

    def pretraining(self, recipe: Recipe, model: Any, examples: "pd.DataFrame", assets: Path) -> Phase | None:
        """Returns what the model is trained on before its task; None if the recipe asks for nothing."""
        return None

    @abstractmethod
    def student(self, recipe: Recipe, teacher: Any) -> Any:
        """Returns the model that `distill` trains, initialised as the recipe says."""

    def adapt_assets(self, recipe: Recipe, assets: Path) -> None:
        """Changes the teacher's assets, which a student takes over, where they do not fit it."""
        return  # nothing in most of them depends on the network

    @abstractmethod
    def distillation_loss(self, teacher: Any, student: Any, teaching: Teaching) -> "Loss":
        """Returns the loss of a student, or of a pruned model that learns from what it was."""

    def teacher_labels(
        self,
        examples: "pd.DataFrame",
        executable: "Executable",
        teacher: str,
        assets: Path,
        folder: Path,
        report: Report,
        kind: Literal["teacher", "interpolated"],
    ) -> "pd.DataFrame":
        """Returns the examples with the teacher's outputs for labels, less those that it has no answer to.

        Args:
            examples: Training examples.
            executable: The teacher.
            teacher: Its key.
            assets: Its assets.
            folder: Keeps what is done, so that a killed process goes on where it was.
            report: Gets lines of progress.
            kind: The teacher's best output, or that of its best outputs which is closest to the given label.

        Raises:
            NotImplementedError: If the workload learns from given labels alone, as its section `distill` then says.
        """
        raise NotImplementedError(f"workload {self.name!r} learns from given labels; write `labels: given`")

    # Quality

    @abstractmethod
    def predict(
        self, executable: "Executable", examples: "pd.DataFrame", assets: Path, report: Report | None = None
    ) -> list[Any]:
        """Returns one prediction an example, JSON-serialisable, in the order of the examples."""

    @abstractmethod
    def statistics(self, predictions: Sequence[Any], examples: "pd.DataFrame", data: BaseModel) -> "np.ndarray":
        """Returns per-example statistics, shape (examples, ...), from which `metric` follows."""

    @abstractmethod
    def metric(self, statistics: "np.ndarray", weights: "np.ndarray | None" = None) -> "np.ndarray":
        """Returns the metric for each row of weights.

        Args:
            statistics: From `statistics`, shape (examples, ...).
            weights: How often each example counts, shape (resamples, examples); once each if None.

        Returns:
            Shape (resamples,), or (1,) without weights.
        """

    def figures(self, statistics: "np.ndarray") -> dict[str, float]:
        """Returns further figures of quality by name, for the record; nothing is decided by them."""
        return {}

    def agreement(self, ours: Sequence[Any], theirs: Sequence[Any]) -> float:
        """Returns the share of predictions that are the same, for the parity of a lowered model with its original.

        Predictions that are numbers need a margin for rounding; this default takes equality.
        """
        same = sum(bool(one == other) for one, other in zip(ours, theirs, strict=True))
        return same / max(len(ours), 1)

    def naive_answers(self, examples: "pd.DataFrame", data: BaseModel) -> NaiveAnswers | None:
        """Returns the best that can be answered without a model, which every model worth its time has to beat.

        A baseline that does not is said to have learnt nothing, wherever it is judged. None, the default, where no
        answer comes to mind.

        Args:
            examples: What is to be answered, labels included.
            data: The recipe's section.
        """
        del examples, data
        return None

    @abstractmethod
    def metric_signature(self, data: BaseModel) -> str:
        """Returns what exactly was computed, with versions, for the record."""

    # Serving and timing

    @abstractmethod
    def benchmark_inputs(
        self, examples: "pd.DataFrame", assets: Path, batch: int, seed: int
    ) -> "list[dict[str, np.ndarray]]":
        """Returns representative calls of `batch` examples each, at most a few dozen."""

    def calibration_inputs(self, examples: "pd.DataFrame", assets: Path) -> "Iterator[dict[str, np.ndarray]]":
        """Gives calls that the ranges of activations are measured on, one at a time."""
        yield from self.benchmark_inputs(examples, assets, batch=1, seed=0)

    @abstractmethod
    def serve(self, executable: "Executable", assets: Path, inputs: Sequence[Any]) -> list[Any]:
        """Answers raw inputs (texts, images) as the registered model does.

        Raises:
            ValueError: If an input can not be served; names it.
        """

    @abstractmethod
    def input_example(self, examples: "pd.DataFrame") -> list[Any]:
        """Returns a few raw inputs that stand on the model's page in the registry."""


def section(model: type[Settings], value: Any) -> Settings:
    """Returns a section of a recipe as its own model; stages may hand on plain mappings."""
    return value if isinstance(value, model) else model.model_validate(value)


def named_files(model: BaseModel, *keys: str) -> dict[str, Path]:
    """Returns the paths that a section gives for these keys, less those that it leaves out."""
    return {key: Path(getattr(model, key)) for key in keys if getattr(model, key) is not None}


WORKLOADS: dict[str, str] = {
    "arrays": "optops.workloads.arrays.workload:ArraysWorkload",
    "detection": "optops.workloads.detection.workload:DetectionWorkload",
    "text_classification": "optops.workloads.text_classification.workload:TextClassificationWorkload",
    "translation": "optops.workloads.translation.workload:TranslationWorkload",
    "super_resolution": "optops.workloads.super_resolution.workload:SuperResolutionWorkload",
    "image_classification": "optops.workloads.image_classification.workload:ImageClassificationWorkload",
}


def workload_names() -> list[str]:
    """Returns the names of all workloads, built in and plugged in."""
    return sorted({*WORKLOADS, *(entry.name for entry in entry_points(group="optops.workloads"))})


def workload_of(recipe: Recipe) -> Workload:
    """Returns a recipe's workload, set up as the recipe says.

    Raises:
        LookupError: If nothing has that name; says what there is.
    """
    return load_workload(recipe.workload).for_recipe(recipe)


def load_workload(name: str) -> Workload:
    """Returns a workload by name, built in or from the entry point group `optops.workloads`.

    Raises:
        LookupError: If nothing has that name; says what there is.
    """
    if name in WORKLOADS:
        module, _, attribute = WORKLOADS[name].partition(":")
        return getattr(import_module(module), attribute)()  # type: ignore[no-any-return]
    for entry in entry_points(group="optops.workloads"):
        if entry.name == name:
            return entry.load()()  # type: ignore[no-any-return]
    raise LookupError(f"workload {name!r} is unknown; known are {', '.join(workload_names())}")
