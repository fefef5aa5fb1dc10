"""The student of a translation model, and the sentences its teacher writes for it."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from optops.sections import Distill
from optops.workloads.base import Report
from optops.workloads.translation.settings import TranslationDistill, TranslationModel

if TYPE_CHECKING:
    import pandas as pd

    from optops.runtimes.base import Executable

logger = logging.getLogger(__name__)


def make_student(model: TranslationModel, distill: Distill, teacher: Any, seed: int) -> Any:
    """Returns a Transformer with the teacher's sizes but for those that `distill.student` names.

    Raises:
        ValueError: If it asks for more layers or units than the teacher has, whose layers it starts from.
    """
    from optops.models.keras import keras
    from optops.models.transformer.config import TransformerConfig
    from optops.models.transformer.model import Transformer
    from optops.models.transformer.slicing import from_teacher

    sizes = {name: getattr(model, name) for name in TranslationDistill.student_sizes} | distill.student
    config = TransformerConfig.uniform(
        vocabulary=teacher.config.vocabulary, max_positions=teacher.config.max_positions, **sizes
    )
    keras.utils.set_random_seed(seed)
    same_shape = config.width == teacher.config.width and config.head_size == teacher.config.head_size
    if distill.initialize and not same_shape:
        logger.info("the student starts afresh, not from the teacher's layers: it has another width or size of heads")
    return from_teacher(teacher, config) if distill.initialize and same_shape else Transformer(config)


def translate_for_student(
    examples: "pd.DataFrame",
    executable: "Executable",
    teacher: str,
    assets: Path,
    folder: Path,
    report: Report,
    kind: Literal["teacher", "interpolated"],
) -> "pd.DataFrame":
    """Returns the pairs with the teacher's translations as targets (Kim & Rush 2016, sections 3.2 and 3.3).

    What is done is kept in `folder`, so that a killed process goes on where it was.

    Raises:
        ValueError: If all of the teacher's hypotheses are wanted, and its runtime tells only the best.
    """
    from optops.compression.distillation.sequence_level import interpolated_targets, teacher_targets
    from optops.models.token_ids import END, PADDING, pad_rows
    from optops.workloads.translation.tokenizer import load_tokenizer
    from optops.workloads.translation.translating import longest_input, source_rows

    tokenizer = load_tokenizer(assets)
    sources = source_rows(tokenizer, list(examples["source"]), longest_input(executable))

    def text(ids: Iterable[int]) -> list[int]:
        return [token for token in ids if token not in (END, PADDING)]

    def translate(batch: list[list[int]]) -> list[list[int]]:
        return [text(row) for row in executable({"ids": pad_rows(batch)})["ids"].tolist()]

    def translate_all(batch: list[list[int]]) -> list[list[list[int]]]:
        found = _n_best_of(executable)({"ids": pad_rows(batch)})
        return [[text(hypothesis.ids) for hypothesis in hypotheses] for hypotheses in found]

    common: dict[str, Any] = {
        "teacher": teacher,
        "folder": folder,
        "report": lambda done, total: report(f"teacher translated {done} of {total} sentences"),
    }
    if kind == "teacher":
        targets = teacher_targets(sources, translate, **common)
    else:
        targets = interpolated_targets(sources, tokenizer.encode(list(examples["target"])), translate_all, **common)
    written = examples.assign(target=tokenizer.decode(targets))
    return written[written["target"].str.strip() != ""]


def _n_best_of(executable: "Executable") -> Callable[[dict[str, Any]], Any]:
    found: Callable[[dict[str, Any]], Any] | None = getattr(getattr(executable, "call", None), "n_best", None)
    if found is None:
        raise ValueError(
            "labels: `interpolated` needs all hypotheses of the teacher's beam, which runtime onnxruntime alone tells; "
            "install it, or take `labels: teacher`"
        )
    return found
