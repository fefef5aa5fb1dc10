"""Takes the words that no target has out of a Transformer's output layer."""

from collections.abc import Iterable

from optops.models.training.settings import Batch
from optops.models.transformer.model import Transformer
from optops.models.transformer.slicing import cut_outputs

MULTIPLE = 16
"""Widths that are no multiple of it leave vector registers half empty."""


def drop_unused_outputs(model: Transformer, batches: Iterable[Batch], least: int = 1) -> Transformer:
    """Returns a model whose output layer ends with the last id that occurs in `labels`.

    Two languages that share a vocabulary do not share all of it: rows that only the source language uses cost a
    product and a place in the softmax at every step of decoding. The tokenizer numbers what targets use first, so the
    rest is the end of the table. The embedding keeps all rows.

    Args:
        model: Left as it is; its vocabulary is numbered so that ids which targets use come first.
        batches: All training data, with `labels`; an id that occurs in none of them can not be written any more.
        least: Outputs that stay in any case.

    Raises:
        ValueError: If there are no batches.
    """
    last = max((int(batch["labels"].max()) for batch in batches), default=None)
    if last is None:
        raise ValueError("drop_unused_outputs: there are no batches; give all training data")
    wanted = -(-max(last + 1, least) // MULTIPLE) * MULTIPLE
    return cut_outputs(model, wanted) if wanted < model.config.outputs else model
