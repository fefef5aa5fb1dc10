"""The workload `text_classification`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from optops.recipe import Recipe
from optops.sections import Distill, Teaching, Train
from optops.workloads.base import NaiveAnswers, Phase, Report, Sections, Workload, named_files, section
from optops.workloads.batch_room import batch_sizes
from optops.workloads.splits import SPLIT_NAMES, within_folder
from optops.workloads.text_classification.settings import (
    CHECKS,
    STARTING_VALUES,
    TextData,
    TextDistill,
    TextModel,
    TextPrune,
    Thresholds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd

    from optops.models.training.settings import Batches, Loss
    from optops.runtimes.base import Executable
    from optops.workloads.label_checks import RowCheck


ARCHITECTURE = "bert"
TEXTS_PER_CELL = 6
"""Least texts that a cell is measured on: a larger batch covers the range of lengths by itself."""

SHOWN_TEXTS = 3


class TextClassificationWorkload(Workload):
    """Text in, a class and the probability of each out; accuracy in percent."""

    name = "text_classification"
    metric_name = "accuracy"
    examples_name = "texts"
    demo_examples = 5_000

    def sections(self) -> Sections:
        """Returns the models of the recipe's sections."""
        return Sections(
            TextData,
            TextModel,
            Thresholds,
            CHECKS,
            distill=TextDistill,
            prune=TextPrune,
            starting_values=STARTING_VALUES,
        )

    def model_files(self, model: BaseModel) -> Mapping[str, Path]:
        """Returns the given vocabulary, and the index of the checkpoint, which holds checksums of all its tensors."""
        settings = section(TextModel, model)
        files = named_files(settings, "vocabulary_file", "checkpoint")
        if settings.checkpoint is not None:
            files["checkpoint"] = Path(f"{settings.checkpoint}.index")
        return files

    # Data

    def files(self, data: BaseModel) -> Mapping[str, Path]:
        """Returns all files, by key below `data`."""
        return section(TextData, data).files()

    def relocate(self, data: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """Returns the section with its files taken from another folder: there they lie as in this one."""
        names = [name for name in (*SPLIT_NAMES, "corpus") if isinstance(data.get(name), str)]
        return {**data, "folder": folder, **{name: within_folder(data[name]) for name in names}}

    def read(self, data: BaseModel) -> "dict[str, pd.DataFrame]":
        """Reads all texts, by split."""
        from optops.workloads.text_classification.reading import read_texts, split_texts

        settings = section(TextData, data)
        files = settings.files()
        frames = {
            name: read_texts(file, settings.format_of(file), settings.text, settings.label)
            for name, file in files.items()
        }
        if len({file.name for file in files.values()}) < len(files):
            # Files of one name in several folders: the split tells their examples apart.
            frames = {name: frame.assign(id=f"{name}/" + frame["id"]) for name, frame in frames.items()}
        if "corpus" in frames:
            frames |= split_texts(frames.pop("corpus"), settings.shares(), settings.fractions.seed)
        return {name: frames[name] for name in SPLIT_NAMES}

    def digests(self, examples: "pd.DataFrame") -> "pd.Series[str]":
        """Returns a digest of each label and text."""
        from optops.workloads.text_classification.reading import example_digests

        return example_digests(examples)

    def label_checks(self, examples: "pd.DataFrame", recipe: Recipe) -> "tuple[pd.DataFrame, Sequence[RowCheck]]":
        """Checks each text and its class."""
        from optops.workloads.text_classification.checks import text_checks

        classes = list(section(TextData, recipe.data).classes)
        return text_checks(examples, classes, section(Thresholds, recipe.check_labels.thresholds))

    def write_demo(self, folder: Path, examples: int, seed: int) -> None:
        """Writes travellers' messages: a twentieth for validation, a tenth for the test."""
        from optops.workloads.text_classification.intents import write_corpus

        validation, test = round(examples * 0.05), round(examples * 0.1)
        write_corpus(folder, train=examples - validation - test, validation=validation, test=test, seed=seed)

    # Training

    def prepare(self, recipe: Recipe, examples: "pd.DataFrame", assets: Path) -> None:
        """Learns the vocabulary from the training texts, or takes over a given one; writes the classes.

        Raises:
            ValueError: If the vocabulary or the size of a batch does not fit the texts.
        """
        from optops.workloads.text_classification.classifying import save_classes
        from optops.workloads.text_classification.tokenizer import (
            load_tokenizer,
            require_known,
            save_tokenizer,
            train_tokenizer,
        )

        model = section(TextModel, recipe.model)
        save_classes(section(TextData, recipe.data).classes, assets)
        texts = list(examples["text"])
        common: dict[str, Any] = {"lowercase": model.lowercase, "max_length": model.max_length, "assets": assets}
        if model.vocabulary_file is not None:
            save_tokenizer(Path(model.vocabulary_file), model.tokenization, **common)
            remedy = "take a `model.vocabulary_file` of the texts' language"
        else:
            train_tokenizer(texts, model.tokenization, vocabulary=model.vocabulary, **common)
            remedy = "raise `model.vocabulary`"
            if model.tokenization == "wordpiece":
                remedy += ", or write `tokenization: sentencepiece`, which needs no spaces between words"
        tokenizer = load_tokenizer(assets)
        rows = tokenizer.encode(texts)
        require_known(rows, tokenizer.unknown, remedy)
        _require_room(max(map(len, rows), default=0), recipe)

    def build(self, recipe: Recipe, assets: Path) -> tuple[str, Any]:
        """Returns a fresh BERT or ALBERT, or one that starts from a published checkpoint."""
        from optops.workloads.text_classification.models import build_model

        return ARCHITECTURE, build_model(recipe, section(TextModel, recipe.model), assets)

    def serving(self, recipe: Recipe) -> dict[str, Any]:
        """Returns the limit on length."""
        return {"max_length": section(TextModel, recipe.model).max_length}

    def batches(
        self, recipe: Recipe, examples: "pd.DataFrame", assets: Path, train: Train
    ) -> "Callable[[int], Batches]":
        """Returns epoch -> length-bucketed batches; texts whose label is no class are left out."""
        from optops.models.training.batching import TextBatches
        from optops.workloads.text_classification.classifying import load_classes
        from optops.workloads.text_classification.tokenizer import load_tokenizer

        numbers = {label: number for number, label in enumerate(load_classes(assets))}
        usable = examples[examples["label"].isin(numbers)]
        texts = load_tokenizer(assets).encode(list(usable["text"]))
        return TextBatches(texts, [numbers[label] for label in usable["label"]], train.batch_tokens, recipe.seed)

    def loss(self, train: Train) -> "Loss":
        """Returns the label-smoothed cross-entropy."""
        from optops.models.training.losses import class_loss

        return class_loss(train.label_smoothing)

    def pretraining(self, recipe: Recipe, model: Any, examples: "pd.DataFrame", assets: Path) -> Phase | None:
        """Returns masked-language-model training on the training texts, if the recipe asks for it."""
        from optops.workloads.text_classification.models import pretraining_phase

        settings = section(TextModel, recipe.model).pretrain
        if not settings.epochs:
            return None
        return pretraining_phase(settings, model, list(examples["text"]), assets, recipe.seed)

    def student(self, recipe: Recipe, teacher: Any) -> Any:
        """Returns a student of the sizes that the recipe changes, started from the teacher's layers if it says so."""
        from optops.workloads.text_classification.models import make_student

        assert isinstance(recipe.distill, Distill)
        return make_student(section(TextModel, recipe.model), recipe.distill, teacher, recipe.seed)

    def distillation_loss(self, teacher: Any, student: Any, teaching: Teaching) -> "Loss":
        """Returns `alpha * L_soft + (1 - alpha) * L_hard + beta * features`."""
        from optops.compression.distillation.losses import ClassDistillationLoss, DistillationSettings

        settings = DistillationSettings.of(teaching)
        return ClassDistillationLoss(teacher, student, settings, teaching.train.label_smoothing)

    # Quality

    def predict(
        self, executable: "Executable", examples: "pd.DataFrame", assets: Path, report: Report | None = None
    ) -> list[Any]:
        """Returns the label that is most probable for each text, None where the model tells none."""
        from optops.workloads.most_probable import most_probable
        from optops.workloads.text_classification.classifying import classify, load_classes

        found = classify(executable, list(examples["text"]), assets, report)
        return most_probable(found, list(load_classes(assets)))

    def statistics(self, predictions: Sequence[Any], examples: "pd.DataFrame", data: BaseModel) -> "np.ndarray":
        """Returns the predicted class and the label of each example, by their numbers."""
        from optops.workloads.text_classification.metric import class_statistics

        return class_statistics(list(predictions), list(examples["label"]), list(section(TextData, data).classes))

    def metric(self, statistics: "np.ndarray", weights: "np.ndarray | None" = None) -> "np.ndarray":
        """Returns accuracy, 0 to 100."""
        from optops.workloads.text_classification.metric import accuracy

        return accuracy(statistics, weights)

    def figures(self, statistics: "np.ndarray") -> dict[str, float]:
        """Returns macro F1, 0 to 100."""
        from optops.workloads.text_classification.metric import macro_f1

        return {"macro_f1": float(macro_f1(statistics)[0])}

    def naive_answers(self, examples: "pd.DataFrame", data: BaseModel) -> NaiveAnswers | None:
        """Returns the class that is most frequent among these labels for all of them."""
        from optops.workloads.most_frequent import most_frequent

        del data
        return most_frequent(examples["label"])

    def metric_signature(self, data: BaseModel) -> str:
        """Returns over which classes accuracy and macro F1 were computed."""
        classes = section(TextData, data).classes
        return (
            f"accuracy in percent over {len(classes)} classes: {', '.join(classes)}; macro F1 over those of them that "
            "occur as label or prediction"
        )

    # Serving and timing

    def benchmark_inputs(
        self, examples: "pd.DataFrame", assets: Path, batch: int, seed: int
    ) -> "list[dict[str, np.ndarray]]":
        """Returns calls whose texts are drawn from the whole range of lengths."""
        from optops.workloads.representative_calls import representative_calls
        from optops.workloads.text_classification.tokenizer import load_tokenizer

        rows = load_tokenizer(assets).encode(list(examples["text"]))
        return representative_calls(rows, batch, -(-TEXTS_PER_CELL // batch), seed)

    def calibration_inputs(self, examples: "pd.DataFrame", assets: Path) -> "Iterator[dict[str, np.ndarray]]":
        """Gives the texts one by one."""
        from optops.models.token_ids import pad_rows
        from optops.workloads.text_classification.tokenizer import load_tokenizer

        for row in load_tokenizer(assets).encode(list(examples["text"])):
            yield {"ids": pad_rows([row])}

    def serve(self, executable: "Executable", assets: Path, inputs: Sequence[Any]) -> list[Any]:
        """Returns for each text its class, `label`, and the probability of each class, `probabilities`.

        A text of which the model tells no probability gets no class, None.
        """
        from optops.workloads.most_probable import most_probable
        from optops.workloads.text_classification.classifying import classify, load_classes

        for index, text in enumerate(inputs):
            if not isinstance(text, str):
                raise ValueError(f"input {index} is {type(text).__name__} ({text!r:.50}); expected text")
        names = list(load_classes(assets).values())
        found = classify(executable, list(inputs), assets)
        return [
            {"label": label, "probabilities": {name: float(value) for name, value in zip(names, row, strict=True)}}
            for label, row in zip(most_probable(found, names), found, strict=True)
        ]

    def input_example(self, examples: "pd.DataFrame") -> list[Any]:
        """Returns three texts."""
        return list(examples["text"][:SHOWN_TEXTS])


def _require_room(longest: int, recipe: Recipe) -> None:
    """Refuses batches that do not hold the longest text, now and not when the student's turn comes."""
    pretrain = section(TextModel, recipe.model).pretrain
    sizes = {"model.pretrain": pretrain.batch_tokens} if pretrain.epochs else {}
    for key, size in (batch_sizes(recipe) | sizes).items():
        if size < longest:
            raise ValueError(
                f"{key}.batch_tokens is {size}, and the longest training text has {longest} tokens; raise it, or lower "
                "`model.max_length`, at which texts are cut"
            )
