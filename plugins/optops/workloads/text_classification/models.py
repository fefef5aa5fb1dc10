"""The models of a recipe: fresh, from a checkpoint, or a student of a trained one; and what they learn first."""

import logging
from collections.abc import Sequence
from pathlib import Path

from optops.models.bert.checkpoint import load_checkpoint
from optops.models.bert.config import BertConfig
from optops.models.bert.masked import MaskedBatches, MaskedTokenLoss, held_out_batches
from optops.models.bert.model import Bert
from optops.models.bert.slicing import from_teacher
from optops.models.keras import keras
from optops.models.training.batching import TextBatches
from optops.recipe import Recipe
from optops.sections import Distill
from optops.workloads.base import Phase
from optops.workloads.text_classification.classifying import load_classes
from optops.workloads.text_classification.settings import Pretrain, TextModel
from optops.workloads.text_classification.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)
LAYER_SIZES = ("width", "heads", "feed_forward", "layers", "groups")
OTHER_SIZES = ("embedding_width", "dropout", "activation", "pooling")
HELD_OUT, MOST_HELD_OUT = 20, 256
"""Of so many texts one is held out while tokens are guessed, of all together at most so many."""


def build_model(recipe: Recipe, model: TextModel, assets: Path) -> Bert:
    """Returns a model of the recipe's sizes for the vocabulary and the classes in `assets`."""
    tokenizer = load_tokenizer(assets)
    keras.utils.set_random_seed(recipe.seed)
    sizes = {name: getattr(model, name) for name in (*LAYER_SIZES, *OTHER_SIZES)}
    config = BertConfig.uniform(
        vocabulary=tokenizer.size,
        classes=len(load_classes(assets)),
        max_positions=model.max_length,
        separator=tokenizer.separator,
        **sizes,
    )
    made = Bert(config)
    if model.checkpoint is not None:
        load_checkpoint(made, Path(model.checkpoint))
    return made


def pretraining_phase(settings: Pretrain, model: Bert, texts: Sequence[str], assets: Path, seed: int) -> Phase:
    """Returns how hidden tokens of the texts are guessed; a few texts are held out to see how well."""
    tokenizer = load_tokenizer(assets)
    rows = tokenizer.encode(texts)
    held_out = min(len(rows) // HELD_OUT, MOST_HELD_OUT)

    def masked(chosen: list[list[int]]) -> MaskedBatches:
        batches = TextBatches(chosen, [0] * len(chosen), settings.batch_tokens, seed)
        return MaskedBatches(batches, tokenizer.size, tokenizer.specials, tokenizer.mask, settings.share)

    loss = MaskedTokenLoss(model, seed)
    validate = loss.held_out(held_out_batches(masked(rows[:held_out] or rows)))
    return Phase(settings.train(), masked(rows[held_out:]), loss, validate)


def make_student(model: TextModel, distill: Distill, teacher: Bert, seed: int) -> Bert:
    """Returns a model with the teacher's sizes but for those that `distill.student` names.

    Raises:
        ValueError: If it asks for more layers than the teacher has.
    """
    sizes = {name: getattr(model, name) for name in (*LAYER_SIZES, *OTHER_SIZES)} | distill.student
    theirs = teacher.config
    config = BertConfig.uniform(
        vocabulary=theirs.vocabulary,
        classes=theirs.classes,
        max_positions=theirs.max_positions,
        separator=theirs.separator,
        **sizes,
    )
    keras.utils.set_random_seed(seed)
    same = ("width", "head_size", "embedding_width")
    alike = all(getattr(config, name) == getattr(theirs, name) for name in same)
    if distill.initialize and not alike:
        logger.info("the student starts afresh, not from the teacher's layers: it has another width or size of heads")
    return from_teacher(teacher, config) if distill.initialize and alike else Bert(config)
