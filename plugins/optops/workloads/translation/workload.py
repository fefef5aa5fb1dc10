"""The workload `translation`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from optops.pipeline import TEST, VALIDATION
from optops.recipe import Recipe
from optops.sections import Distill, Teaching, Train
from optops.workloads.base import NaiveAnswers, Report, Sections, Workload, named_files, section
from optops.workloads.batch_room import batch_sizes
from optops.workloads.splits import SPLIT_NAMES, within_folder
from optops.workloads.translation.settings import (
    CHECKS,
    STARTING_VALUES,
    TextPair,
    Thresholds,
    TranslationData,
    TranslationDistill,
    TranslationModel,
    TranslationPrune,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from optops.models.training.settings import Batches, Loss
    from optops.runtimes.base import Executable
    from optops.workloads.label_checks import RowCheck


ARCHITECTURE = "transformer"
SIZES = ("vocabulary", "width", "heads", "feed_forward", "encoder_layers", "decoder_layers", "dropout")
SENTENCES_PER_CELL = 6
"""Least sentences that a cell is measured on: a larger batch covers the range of lengths by itself."""

TOLERATED_LEFT_OUT = 0.05
"""Share of the training pairs that may be too long without a warning."""

logger = logging.getLogger(__name__)


class TranslationWorkload(Workload):
    """Text in one language in, text in another out; BLEU."""

    name = "translation"
    metric_name = "BLEU"
    examples_name = "sentence pairs"
    demo_examples = 6_000

    def sections(self) -> Sections:
        """Returns the models of the recipe's sections."""
        return Sections(
            TranslationData,
            TranslationModel,
            Thresholds,
            CHECKS,
            distill=TranslationDistill,
            prune=TranslationPrune,
            starting_values=STARTING_VALUES,
        )

    def trainable(self, model: BaseModel) -> bool:
        """Returns whether the recipe trains a Transformer rather than importing a model."""
        settings = section(TranslationModel, model)
        return settings.saved_model is None and settings.keras is None

    def model_files(self, model: BaseModel) -> Mapping[str, Path]:
        """Returns the imported model and its tokenizer."""
        return named_files(section(TranslationModel, model), "saved_model", "keras", "tokenizer")

    # Data

    def files(self, data: BaseModel) -> Mapping[str, Path]:
        """Returns all text files, by key below `data`."""
        found: dict[str, Path] = {}
        for name, pair in section(TranslationData, data).pairs().items():
            found[f"{name}.source"] = Path(pair.source)
            if pair.target is not None:
                found[f"{name}.target"] = Path(pair.target)
        return found

    def relocate(self, data: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """Returns the section with its files taken from another folder: there they lie as in this one."""
        moved: dict[str, Any] = {**data, "folder": folder}
        for name in (*SPLIT_NAMES, "corpus"):
            if moved.get(name) is not None:
                pair = TextPair.model_validate(moved[name])
                target = None if pair.target is None else within_folder(str(pair.target))
                moved[name] = {"source": within_folder(str(pair.source)), "target": target, "swap": pair.swap}
        return moved

    def read(self, data: BaseModel) -> "dict[str, pd.DataFrame]":
        """Reads all pairs, by split."""
        from optops.workloads.translation.corpus import PairFiles, read_pairs, split_pairs

        settings = section(TranslationData, data)
        frames = {
            name: read_pairs(PairFiles(Path(pair.source), Path(pair.target) if pair.target else None, pair.swap))
            for name, pair in settings.pairs().items()
        }
        repeated = {Path(pair.source).name for pair in settings.pairs().values()}
        if len(repeated) < len(frames):
            # Files of one name in several folders: the split tells their examples apart.
            frames = {name: frame.assign(id=f"{name}/" + frame["id"]) for name, frame in frames.items()}
        if "corpus" in frames:
            frames |= split_pairs(frames.pop("corpus"), settings.shares(), settings.fractions.seed)
        return {name: frames[name] for name in SPLIT_NAMES}

    def digests(self, examples: "pd.DataFrame") -> "pd.Series[str]":
        """Returns a digest of each pair."""
        from optops.workloads.translation.corpus import example_digests

        return example_digests(examples)

    def label_checks(self, examples: "pd.DataFrame", recipe: Recipe) -> "tuple[pd.DataFrame, Sequence[RowCheck]]":
        """Checks each pair.

        Raises:
            ValueError: If BLEU is 0 whatever a model says.
        """
        from optops.workloads.translation.checks import translation_checks

        data = section(TranslationData, recipe.data)
        for split in (VALIDATION, TEST):
            targets = examples.loc[examples["split"] == split]
            if len(targets) and not self.metric(self.statistics(list(targets["target"]), targets, data))[0]:
                raise ValueError(
                    f"data.{split}: no target has four words, of which BLEU counts what is the same: it is 0 whatever "
                    "is said; write `data.bleu_tokenizer: char`, which counts characters, or give longer targets"
                )
        thresholds = section(Thresholds, recipe.check_labels.thresholds)
        return translation_checks(examples, data.source_language, data.target_language, thresholds)

    def write_demo(self, folder: Path, examples: int, seed: int) -> None:
        """Writes travel phrases, English and German: a twentieth for validation, a quarter for the test.

        How small a loss of BLEU can be proved goes with the root of the test's size: 500 phrases prove no student.
        """
        from optops.workloads.translation.phrases import write_corpus

        validation, test = round(examples * 0.05), round(examples * 0.25)
        write_corpus(folder, train=examples - validation - test, validation=validation, test=test, seed=seed)

    # Training

    def prepare(self, recipe: Recipe, examples: "pd.DataFrame", assets: Path) -> None:
        """Trains the tokenizer, and refuses what it leaves no room for.

        Raises:
            ValueError: If a batch holds not even the shortest pair.
        """
        from optops.workloads.translation.tokenizer import TOKENIZER_FILE, load_tokenizer, train_tokenizer

        sources, targets = list(examples["source"]), list(examples["target"])
        train_tokenizer(sources, targets, section(TranslationModel, recipe.model).vocabulary, assets / TOKENIZER_FILE)
        tokenizer = load_tokenizer(assets)
        both = zip(tokenizer.encode(sources), tokenizer.encode(targets), strict=True)
        shortest = min((max(len(source), len(target)) + 1 for source, target in both), default=0)
        for key, size in batch_sizes(recipe).items():
            if size < shortest:
                raise ValueError(
                    f"{key}.batch_tokens is {size}, and the shortest training pair has {shortest} tokens; raise it"
                )

    def build(self, recipe: Recipe, assets: Path) -> tuple[str, Any]:
        """Returns a fresh Transformer."""
        from optops.models.base import load_architecture
        from optops.models.keras import keras
        from optops.models.transformer.search import SearchSettings
        from optops.workloads.translation.tokenizer import load_tokenizer

        model = section(TranslationModel, recipe.model)
        sizes = {name: getattr(model, name) for name in SIZES}
        sizes |= {
            "vocabulary": load_tokenizer(assets).size,
            "max_positions": model.serving.max_length,
        }
        keras.utils.set_random_seed(recipe.seed)
        built = load_architecture(ARCHITECTURE).build(sizes)
        # The texts may have given fewer pieces than were asked for.
        SearchSettings.from_mapping(self.serving(recipe)).check_fits(built.config)
        return ARCHITECTURE, built

    def import_model(self, recipe: Recipe, folder: Path) -> None:
        """Takes over a SavedModel or a .keras file and its tokenizer."""
        from optops.workloads.translation.importing import import_translator

        import_translator(section(TranslationModel, recipe.model), folder)

    def serving(self, recipe: Recipe) -> dict[str, Any]:
        """Returns the beam and the limits on length."""
        return section(TranslationModel, recipe.model).serving.model_dump()

    def quick_serving(self, recipe: Recipe) -> dict[str, Any]:
        """Returns the same with a beam of 1."""
        return {**self.serving(recipe), "beam": 1}

    def batches(
        self, recipe: Recipe, examples: "pd.DataFrame", assets: Path, train: Train
    ) -> "Callable[[int], Batches]":
        """Returns epoch -> length-bucketed batches of token ids; pairs longer than the model serves are left out."""
        from optops.models.token_ids import END
        from optops.models.training.batching import PairBatches
        from optops.workloads.translation.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(assets)
        sources = [[*ids, END] for ids in tokenizer.encode(list(examples["source"]))]
        targets = tokenizer.encode(list(examples["target"]))
        served = section(TranslationModel, recipe.model).serving.max_length
        longest = min(served, train.batch_tokens)
        kept = [i for i in range(len(sources)) if max(len(sources[i]), len(targets[i]) + 1) <= longest]
        left_out = len(sources) - len(kept)
        found = f"{left_out} of {len(sources)} training pairs have more than {longest} tokens and are left out"
        remedy = f"raise `{'model.serving.max_length' if served == longest else 'batch_tokens'}`"
        if sources and not kept:
            raise ValueError(f"{found}, which leaves none to train on; {remedy}")
        if left_out:
            many = left_out > TOLERATED_LEFT_OUT * len(sources)
            logger.log(logging.WARNING if many else logging.INFO, "%s; %s to learn from them", found, remedy)
        return PairBatches([sources[i] for i in kept], [targets[i] for i in kept], train.batch_tokens, recipe.seed)

    def loss(self, train: Train) -> "Loss":
        """Returns the label-smoothed cross-entropy."""
        from optops.models.training.losses import sequence_loss

        return sequence_loss(train.label_smoothing)

    def student(self, recipe: Recipe, teacher: Any) -> Any:
        """Returns a student of the sizes that the recipe changes, started from the teacher's layers if it says so."""
        from optops.workloads.translation.students import make_student

        return make_student(section(TranslationModel, recipe.model), _settings_of(recipe), teacher, recipe.seed)

    def distillation_loss(self, teacher: Any, student: Any, teaching: Teaching) -> "Loss":
        """Returns `alpha * L_soft + (1 - alpha) * L_hard + beta * L_AT_FMT`."""
        from optops.compression.distillation.losses import DistillationLoss, DistillationSettings

        settings = DistillationSettings.of(teaching)
        return DistillationLoss(teacher, student, settings, teaching.train.label_smoothing)

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
        """Returns the pairs with the teacher's translations (Kim & Rush 2016, sections 3.2 and 3.3)."""
        from optops.workloads.translation.students import translate_for_student

        return translate_for_student(examples, executable, teacher, assets, folder, report, kind)

    # Quality

    def predict(
        self, executable: "Executable", examples: "pd.DataFrame", assets: Path, report: Report | None = None
    ) -> list[Any]:
        """Returns the translation of each source; one that is longer than the model takes is cut."""
        from optops.workloads.translation.translating import translate

        return translate(executable, list(examples["source"]), assets, cut=True, report=report)

    def statistics(self, predictions: Sequence[Any], examples: "pd.DataFrame", data: BaseModel) -> "np.ndarray":
        """Returns the counts that BLEU is made of."""
        from optops.workloads.translation.bleu import bleu_statistics

        return bleu_statistics(list(predictions), list(examples["target"]), _bleu_tokenizer(data))

    def metric(self, statistics: "np.ndarray", weights: "np.ndarray | None" = None) -> "np.ndarray":
        """Returns corpus BLEU, 0 to 100."""
        from optops.workloads.translation.bleu import corpus_bleu

        return corpus_bleu(statistics, weights)

    def naive_answers(self, examples: "pd.DataFrame", data: BaseModel) -> NaiveAnswers:
        """Returns the sources: between languages that share words they score, within one language a lot."""
        del data
        return NaiveAnswers("the source as it is", list(examples["source"]))

    def metric_signature(self, data: BaseModel) -> str:
        """Returns sacrebleu's signature."""
        from optops.workloads.translation.bleu import bleu_signature

        return bleu_signature(_bleu_tokenizer(data))

    # Serving and timing

    def benchmark_inputs(
        self, examples: "pd.DataFrame", assets: Path, batch: int, seed: int
    ) -> "list[dict[str, np.ndarray]]":
        """Returns calls whose sentences are drawn from the whole range of lengths, cut as `predict` cuts them."""
        from optops.runtimes.base import ExecutableInfo
        from optops.workloads.representative_calls import representative_calls
        from optops.workloads.translation.tokenizer import load_tokenizer
        from optops.workloads.translation.translating import longest_described, source_rows

        # The model's own limit: the reigning champion may have another than the recipe.
        longest = longest_described(ExecutableInfo.load(assets.with_name("serving")))
        texts = [text for text in examples["source"] if text.strip()]
        rows = source_rows(load_tokenizer(assets), texts, longest)
        return representative_calls(rows, batch, -(-SENTENCES_PER_CELL // batch), seed)

    def serve(self, executable: "Executable", assets: Path, inputs: Sequence[Any]) -> list[Any]:
        """Translates texts."""
        from optops.workloads.translation.translating import translate

        for index, text in enumerate(inputs):
            if not isinstance(text, str):
                raise ValueError(f"input {index} is {type(text).__name__} ({text!r:.50}); expected text")
        return translate(executable, list(inputs), assets, cut=False)

    def input_example(self, examples: "pd.DataFrame") -> list[Any]:
        """Returns the three shortest sources, for what is longer than the model takes is refused where it is served."""
        return sorted(filter(str.strip, examples["source"].unique()), key=len)[:3]


def _bleu_tokenizer(data: BaseModel) -> str:
    from optops.workloads.translation.bleu import tokenizer_for

    settings = section(TranslationData, data)
    return settings.bleu_tokenizer or tokenizer_for(settings.target_language)


def _settings_of(recipe: Recipe) -> Distill:
    assert isinstance(recipe.distill, Distill)
    return recipe.distill
