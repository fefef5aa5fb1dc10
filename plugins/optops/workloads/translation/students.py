"""The student of a translation model, and the sentences its teacher writes for it."""

import logging
from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from optops.sections import Distill
from optops.workloads.base import Report
from optops.workloads.translation.settings import TranslationDistill, TranslationModel

if TYPE_CHECKING:
    import pandas as pd

    from optops.runtimes.base import Executable

MOST_ALIKE = 0.5
"""Share of the different sources that may get one and the same translation."""

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

    A translation that was cut off at its limit on length is none: a student would learn to stop in mid-sentence. Nor is
    what a teacher says to most sources, whatever they are: it would learn not to read them. What is done is kept in
    `folder`, so that a killed process goes on where it was.

    Raises:
        ValueError: If all of the teacher's hypotheses are wanted, and its runtime tells only the best.
    """
    from optops.compression.distillation.sequence_level import interpolated_targets, teacher_targets
    from optops.models.token_ids import END, PADDING, pad_rows
    from optops.workloads.translation.tokenizer import load_tokenizer
    from optops.workloads.translation.translating import longest_input, source_rows

    tokenizer = load_tokenizer(assets)
    sources = source_rows(tokenizer, list(examples["source"]), longest_input(executable))

    def text(ids: Iterable[int], limit: float) -> list[int]:
        written = [token for token in ids if token not in (END, PADDING)]
        return written if len(written) + 1 < limit else []  # one more is the end

    def translate(batch: list[list[int]]) -> list[list[int]]:
        found = executable({"ids": pad_rows(batch)})["ids"].tolist()
        return [text(row, limit) for row, limit in zip(found, _limits(executable, batch), strict=True)]

    def translate_all(batch: list[list[int]]) -> list[list[list[int]]]:
        found = _n_best_of(executable)({"ids": pad_rows(batch)})
        return [
            [written for hypothesis in hypotheses if (written := text(hypothesis.ids, limit))] or [[]]
            for hypotheses, limit in zip(found, _limits(executable, batch), strict=True)
        ]

    common: dict[str, Any] = {
        "teacher": f"{teacher}, what is complete",
        "folder": folder,
        "report": lambda done, total: report(f"teacher translated {done} of {total} sentences"),
    }
    if kind == "teacher":
        targets = teacher_targets(sources, translate, **common)
    else:
        targets = interpolated_targets(sources, tokenizer.encode(list(examples["target"])), translate_all, **common)
    written = examples.assign(target=tokenizer.decode(targets))
    answered = written[written["target"].str.strip() != ""]
    said, share = _commonest(written)
    if said and share > MOST_ALIKE >= _commonest(examples)[1]:
        logger.info("the teacher says %.80r to %.0f%% of the sources, which are left out", said, 100 * share)
        answered = answered[answered["target"] != said]
    elif len(answered) < len(written):
        missing = len(written) - len(answered)
        logger.info("%d of %d sentences are left out: the teacher says nothing, or no end", missing, len(written))
    return answered


def _commonest(pairs: "pd.DataFrame") -> tuple[str, float]:
    """Returns the commonest target, and of which share of the different sources it is one."""
    shares = pairs.drop_duplicates(["source", "target"])["target"].value_counts() / pairs["source"].nunique()
    return (str(shares.index[0]), float(shares.iloc[0])) if len(shares) else ("", 0.0)


def _limits(executable: "Executable", batch: list[list[int]]) -> list[float]:
    """Returns how many ids, the end included, each translation of a batch may get at most."""
    from optops.models.transformer.search import SearchSettings

    info = getattr(executable, "info", None)
    if info is None or not info.settings:
        return [inf] * len(batch)
    limits: list[float] = SearchSettings.from_mapping(info.settings).limits(np.array(list(map(len, batch)))).tolist()
    return limits


def _n_best_of(executable: "Executable") -> Callable[[dict[str, Any]], Any]:
    found: Callable[[dict[str, Any]], Any] | None = getattr(getattr(executable, "call", None), "n_best", None)
    if found is None:
        raise ValueError(
            "labels: `interpolated` needs all hypotheses of the teacher's beam, which runtime onnxruntime alone tells; "
            "install it, or take `labels: teacher`"
        )
    return found
