"""Text to token ids and back: one joint sentencepiece model for both languages."""

import io
import logging
import tempfile
from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from optops.models.token_ids import BEGIN, END, PADDING, UNKNOWN
from optops.workloads.text_lines import without_surrogates
from optops.workloads.translation.normalisation import composed, normalisation_rules, rules_file

TOKENIZER_FILE = "tokenizer.model"

USUAL_COVERAGE = 0.9995
"""Share of the text whose characters are kept in a language of ideographs, as sentencepiece's documentation advises."""

LEAST_COVERAGE = 0.98
"""The least share that sentencepiece takes."""

LONGEST_SENTENCE = 1 << 20
"""Bytes of a sentence beyond which sentencepiece leaves it out without a word; its own limit is 4,192."""

NOTHING_TO_LEARN = "the training split has no text to learn a vocabulary from"

logger = logging.getLogger(__name__)


def train_tokenizer(sources: Sequence[str], targets: Sequence[str], vocabulary: int, path: Path) -> None:
    """Trains a sentencepiece BPE model of both languages and writes it; the pieces that targets use come first.

    Args:
        sources: Sentences of the source language.
        targets: Sentences of the target language.
        vocabulary: Wanted size; a small corpus may give fewer pieces.
        path: The file to write.

    Raises:
        ValueError: If the corpus has no text to learn from, or too many characters for so small a vocabulary.
    """
    import sentencepiece

    texts = [*sources, *targets]
    if not any(text.strip() for text in texts):
        raise ValueError(NOTHING_TO_LEARN)
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", encoding="ascii", suffix=".tsv") as rules:
        rules.write(rules_file(normalisation_rules()))
        rules.flush()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=model,
                model_type="bpe",
                vocab_size=vocabulary,
                hard_vocab_limit=False,
                character_coverage=_character_coverage(texts, vocabulary),
                max_sentence_length=LONGEST_SENTENCE,
                normalization_rule_tsv=rules.name,
                pad_id=PADDING,
                bos_id=BEGIN,
                eos_id=END,
                unk_id=UNKNOWN,
                num_threads=2,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise ValueError(f"{NOTHING_TO_LEARN} (sentencepiece: {error})") from None
    path.write_bytes(_numbered_by_use(model.getvalue(), targets))


def _numbered_by_use(model: bytes, targets: Sequence[str]) -> bytes:
    """Returns the same model with the pieces in another order: special ones, those that occur in targets, the rest.

    What a text is cut into does not change: BPE goes by the pieces' scores.
    """
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    used = {piece for pieces in processor.encode(list(targets)) for piece in pieces}
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    first = UNKNOWN + 1
    order = sorted(range(first, len(proto.pieces)), key=lambda index: (index not in used, index))
    pieces = [sentencepiece_model_pb2.ModelProto.SentencePiece() for _ in order]
    for piece, index in zip(pieces, order, strict=True):
        piece.CopyFrom(proto.pieces[index])
    del proto.pieces[first:]
    proto.pieces.extend(pieces)
    # The model holds the rules themselves; the name of a file that is gone would differ in every model.
    proto.normalizer_spec.ClearField("normalization_rule_tsv")
    return bytes(proto.SerializeToString())


def _character_coverage(texts: Sequence[str], vocabulary: int) -> float:
    # Rare characters of an alphabet (an initial umlaut) must stay; of thousands of ideographs the rarest would crowd
    # out the pieces that make sentences short.
    counts = Counter(character for text in texts for character in composed(text) if not character.isspace())
    if len(counts) <= vocabulary // 2:
        return 1.0
    # Sentencepiece refuses a vocabulary that can not hold all characters it must keep.
    shares = list(accumulate(count / counts.total() for _, count in counts.most_common()))
    kept = shares[min(vocabulary * 3 // 4, len(shares)) - 1]
    if kept < LEAST_COVERAGE:
        least = -(-4 * (bisect(shares, LEAST_COVERAGE) + 1) // 3)
        raise ValueError(
            f"model.vocabulary is {vocabulary}; the training text has {len(counts)} different characters and needs at "
            f"least {least}, better several times as many"
        )
    if kept < USUAL_COVERAGE:
        logger.warning(
            "a vocabulary of %d is small for %d characters: the rarest, %.2f%% of the text, become unknown; raise "
            "`model.vocabulary`",
            vocabulary,
            len(counts),
            100 * (1 - kept),
        )
    return min(kept, USUAL_COVERAGE)


class Tokenizer:
    """A trained sentencepiece model.

    Args:
        path: Its file.

    Raises:
        ValueError: If the file is no sentencepiece model, or numbers padding, begin and end in another way.
    """

    def __init__(self, path: Path):
        import sentencepiece

        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except RuntimeError as error:
            raise ValueError(f"{path} is no sentencepiece model: {error}") from None
        found = (self._model.pad_id(), self._model.bos_id(), self._model.eos_id())
        if found != (PADDING, BEGIN, END):
            raise ValueError(
                f"{path} numbers padding, begin and end {found}; optops needs {(PADDING, BEGIN, END)}: train it with "
                "pad_id=0, bos_id=1, eos_id=2, unk_id=3"
            )

    @property
    def size(self) -> int:
        """The number of pieces."""
        return int(self._model.vocab_size())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text, without begin and end."""
        # U+0000, which no rule of normalisation can name, is left out like other control characters.
        usable = [without_surrogates(text).replace("\0", "") for text in texts]
        return [list(ids) for ids in self._model.encode(usable)]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Returns the text of each row of ids, up to its end."""
        cleaned: list[Any] = []
        for row in rows:
            ids = [int(token) for token in row]
            if END in ids:
                ids = ids[: ids.index(END)]
            cleaned.append([token for token in ids if token not in (PADDING, BEGIN)])
        return [str(text) for text in self._model.decode(cleaned)]


@lru_cache(maxsize=8)
def load_tokenizer(assets: Path) -> Tokenizer:
    """Returns the tokenizer in a folder of assets."""
    return Tokenizer(assets / TOKENIZER_FILE)
