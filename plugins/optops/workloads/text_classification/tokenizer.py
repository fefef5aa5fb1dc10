"""Text to token ids: WordPiece as BERT uses it, or SentencePiece as ALBERT does; by the libraries of that name."""

import io
import json
import logging
import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from optops.models.token_ids import PADDING
from optops.workloads.text_lines import without_surrogates

SETTINGS_FILE = "tokenizer.json"
VOCABULARY_FILE = "vocab.txt"
SENTENCEPIECE_FILE = "tokenizer.model"

WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SENTENCEPIECE_SPECIALS = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
CONTINUED = "##"
CHARACTER_SHARE = 0.9995
"""Share of the training texts whose characters become tokens; the rarest become unknown."""

MOST_FOR_CHARACTERS = 0.75
"""Share of the vocabulary that single characters may take; the rest is for words and pieces of them."""

CHARACTERS_PER_TOKEN = 64
"""Texts are cut to so many characters for each token that the model takes, before they are tokenised."""

LONGEST_WORD = 200
"""Characters of a word beyond which it is unknown as a whole, as in BERT's own code."""

TOLERATED_UNKNOWN = 0.01
MOST_UNKNOWN = 0.2
"""Mean share of a text's tokens that may be unknown without a warning, and at all."""

NOTHING_TO_LEARN = "the training split has no text to learn a vocabulary from; look into its files"

Kind = Literal["wordpiece", "sentencepiece"]
Accents = Literal["all", "cased"]
"""Which letters lose their marks with their case: `all`, as published vocabularies want it, or only those that have a
case. In scripts without one, marks are vowels and tones: Thai, the scripts of India."""

_JOINED = ("Mn", "Mc", "Me", "Cf")
_UNCASED = "Lo"

logger = logging.getLogger(__name__)


class Tokenizer(ABC):
    """Cuts texts into ids; made from what `save_tokenizer` or `train_tokenizer` wrote.

    Attributes:
        size: Number of ids.
        max_length: Longest sequence.
        start: The id that opens every sequence.
        separator: The id that closes it.
        mask: The id that stands for a token to be guessed.
        unknown: The id of what the vocabulary does not have.
    """

    size: int
    max_length: int
    start: int
    separator: int
    mask: int
    unknown: int

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text, opened and closed; what is beyond `max_length` is cut off."""
        usable = [without_surrogates(text[: self.max_length * CHARACTERS_PER_TOKEN]) for text in texts]
        return [[self.start, *ids[: self.max_length - 2], self.separator] for ids in self._cut(usable)]

    @property
    def specials(self) -> frozenset[int]:
        """The ids that stand for no text."""
        return frozenset({PADDING, self.start, self.separator, self.mask})

    @abstractmethod
    def _cut(self, texts: list[str]) -> list[list[int]]:
        """Returns the ids of texts that hold no halves of surrogate pairs."""


class WordPieceTokenizer(Tokenizer):
    """BERT's tokenizer: cleaned, Chinese cut into characters, words cut into the longest pieces that there are.

    Args:
        path: A `vocab.txt`: one token a line, its id the line's number from 0.
        lowercase: Whether case and accents are folded.
        max_length: Longest sequence.
        accents: Whose accents.

    Raises:
        ValueError: If the file is no vocabulary of BERT.
    """

    def __init__(self, path: Path, lowercase: bool, max_length: int, accents: Accents = "all") -> None:
        from tokenizers import Tokenizer as Fast
        from tokenizers.models import WordPiece

        tokens = _read_vocabulary(path)
        self.size, self.max_length = len(tokens), max_length
        _, self.unknown, self.start, self.separator, self.mask = (tokens[name] for name in WORDPIECE_SPECIALS)
        self._fast = Fast(WordPiece(tokens, unk_token=WORDPIECE_SPECIALS[1], max_input_chars_per_word=LONGEST_WORD))
        self._fast.normalizer, self._fast.pre_tokenizer = _bert_rules(lowercase, lowercase and accents == "all")
        self._of_cased = lowercase and accents == "cased"

    def _cut(self, texts: list[str]) -> list[list[int]]:
        texts = [without_accents(text, "NFD") for text in texts] if self._of_cased else texts
        return [list(found.ids) for found in self._fast.encode_batch(texts, add_special_tokens=False)]


class SentencePieceTokenizer(Tokenizer):
    """ALBERT's tokenizer: a unigram model over raw text.

    Args:
        path: A sentencepiece model.
        lowercase: Whether case and accents are folded.
        max_length: Longest sequence.
        accents: Whose accents.

    Raises:
        ValueError: If the file is no sentencepiece model, or lacks ALBERT's special pieces.
    """

    def __init__(self, path: Path, lowercase: bool, max_length: int, accents: Accents = "all") -> None:
        import sentencepiece

        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except RuntimeError as error:
            raise ValueError(f"{path} is no sentencepiece model: {error}") from None
        self.size, self.max_length = int(self._model.vocab_size()), max_length
        self._lowercase, self._accents = lowercase, accents
        ids = [int(self._model.piece_to_id(piece)) for piece in SENTENCEPIECE_SPECIALS]
        self.unknown = int(self._model.unk_id())
        missing = [p for p, i in zip(SENTENCEPIECE_SPECIALS, ids, strict=True) if self._model.id_to_piece(i) != p]
        if missing or ids[0] != PADDING:
            raise ValueError(
                f"{path} has no pieces {', '.join(missing)}, or padding is not 0; an ALBERT model has "
                f"{', '.join(SENTENCEPIECE_SPECIALS)} with the ids 0 to 4"
            )
        _, _, self.start, self.separator, self.mask = ids

    def _cut(self, texts: list[str]) -> list[list[int]]:
        folded = [fold(text, self._accents) for text in texts] if self._lowercase else texts
        return [[int(piece) for piece in ids] for ids in self._model.encode(folded)]


def fold(text: str, accents: Accents) -> str:
    """Returns text without case and accents, `all` of them as ALBERT's preprocessing has it."""
    if accents == "cased":
        return without_accents(text, "NFKD").lower()
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).lower()


def without_accents(text: str, form: Literal["NFD", "NFKD"]) -> str:
    """Returns text decomposed, and without the marks of all but the letters of scripts that have no case."""
    kept: list[str] = []
    base = ""
    for letter in unicodedata.normalize(form, text):
        category = unicodedata.category(letter)
        if category not in _JOINED:
            base = category
        if category != "Mn" or base == _UNCASED:
            kept.append(letter)
    return "".join(kept)


def train_tokenizer(
    texts: Sequence[str], kind: Kind, *, vocabulary: int, lowercase: bool, max_length: int, assets: Path
) -> None:
    """Learns a vocabulary from texts and writes it; the same texts give the same file.

    Args:
        texts: The training texts.
        kind: Which tokenizer.
        vocabulary: Wanted size; few texts may give fewer tokens.
        lowercase: Whether case is folded, and accents of letters that have one.
        max_length: Longest sequence.
        assets: Folder to write to.

    Raises:
        ValueError: If the texts hold nothing to learn from, or too many characters for so small a vocabulary.
    """
    usable = [without_surrogates(text) for text in texts if text.strip()]
    if not usable:
        raise ValueError(NOTHING_TO_LEARN)
    if kind == "wordpiece":
        tokens = _learn_wordpieces(usable, vocabulary, lowercase)
        (assets / VOCABULARY_FILE).write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    else:
        (assets / SENTENCEPIECE_FILE).write_bytes(_learn_sentencepieces(usable, vocabulary, lowercase))
    _save_settings(kind, lowercase, "cased", max_length, assets)


def save_tokenizer(vocabulary_file: Path, kind: Kind, *, lowercase: bool, max_length: int, assets: Path) -> None:
    """Takes over a given vocabulary.

    Raises:
        ValueError: If the file is missing or is no such vocabulary.
    """
    if not vocabulary_file.is_file():
        raise ValueError(f"model.vocabulary_file: {vocabulary_file} does not exist; put it there or change the recipe")
    _KINDS[kind](vocabulary_file, lowercase, max_length)
    (assets / _FILES[kind]).write_bytes(vocabulary_file.read_bytes())
    _save_settings(kind, lowercase, "all", max_length, assets)


@lru_cache(maxsize=8)
def load_tokenizer(assets: Path) -> Tokenizer:
    """Returns the tokenizer in a folder of assets."""
    settings = json.loads((assets / SETTINGS_FILE).read_text(encoding="utf-8"))
    kind: Kind = settings["kind"]
    # Models of before there was a choice were trained with all accents folded.
    accents: Accents = settings.get("accents", "all")
    return _KINDS[kind](assets / _FILES[kind], settings["lowercase"], settings["max_length"], accents)


def require_known(rows: Sequence[Sequence[int]], unknown: int, remedy: str) -> None:
    """Refuses a vocabulary that does not fit the texts that a model is to learn from; warns of some unknown tokens.

    Args:
        rows: The ids of the training texts, opened and closed.
        unknown: The id of what the vocabulary does not have.
        remedy: What else may be written in the recipe.

    Raises:
        ValueError: If a fifth of a text's tokens or more are unknown, on average.
    """
    shares = [row.count(unknown) / (len(row) - 2) for row in rows if len(row) > 2]
    share = sum(shares) / max(len(shares), 1)
    found = f"{100 * share:.3g}% of a training text's tokens are unknown, on average, and can not be told apart"
    if share >= MOST_UNKNOWN:
        raise ValueError(f"{found}; {remedy}")
    if share > TOLERATED_UNKNOWN:
        logger.warning("%s; %s", found, remedy)


_KINDS: dict[Kind, type[WordPieceTokenizer] | type[SentencePieceTokenizer]] = {
    "wordpiece": WordPieceTokenizer,
    "sentencepiece": SentencePieceTokenizer,
}
_FILES: dict[Kind, str] = {"wordpiece": VOCABULARY_FILE, "sentencepiece": SENTENCEPIECE_FILE}


def _save_settings(kind: Kind, lowercase: bool, accents: Accents, max_length: int, assets: Path) -> None:
    settings = {"kind": kind, "lowercase": lowercase, "accents": accents, "max_length": max_length}
    (assets / SETTINGS_FILE).write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no vocabulary of BERT: {error}") from None
    ids = {token.removesuffix("\r"): index for index, token in enumerate(tokens)}
    missing = [name for name in WORDPIECE_SPECIALS if name not in ids]
    if missing:
        raise ValueError(f"{path} is no vocabulary of BERT: {', '.join(missing)} missing; it has one token a line")
    if ids[WORDPIECE_SPECIALS[0]] != PADDING:
        raise ValueError(f"{path} has [PAD] in line {ids[WORDPIECE_SPECIALS[0]] + 1}; it must be the first")
    if len(ids) < len(tokens):
        raise ValueError(f"{path} names a token twice ({len(tokens)} lines, {len(ids)} tokens); correct it")
    return ids


def _bert_rules(lowercase: bool, strip_accents: bool) -> tuple[Any, Any]:
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    normalizer = BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=strip_accents, lowercase=lowercase
    )
    return normalizer, BertPreTokenizer()


def _learn_wordpieces(texts: Sequence[str], vocabulary: int, lowercase: bool) -> list[str]:
    from tokenizers import Tokenizer as Fast
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.trainers import WordPieceTrainer

    normalizer, pre_tokenizer = _bert_rules(lowercase, strip_accents=False)
    words: Counter[str] = Counter()
    for text in texts:
        folded = without_accents(text, "NFD") if lowercase else text
        words.update(word for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(folded)))
    if not words:
        raise ValueError(NOTHING_TO_LEARN)
    characters = _frequent_characters(words, vocabulary)
    kept = sorted(word for word in words if characters.issuperset(word))
    # The trainer numbers characters as it meets them, in an order that changes from run to run, and breaks ties by
    # those numbers. Given as special tokens, they have the same numbers in every run.
    inner = {letter for word in kept for letter in word[1:]}
    letters = [*sorted(characters), *(CONTINUED + letter for letter in sorted(inner))]
    fast = Fast(WordPiece(unk_token=WORDPIECE_SPECIALS[1]))
    fast.pre_tokenizer = WhitespaceSplit()
    trainer = WordPieceTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[*WORDPIECE_SPECIALS, *letters],
        continuing_subword_prefix=CONTINUED,
        show_progress=False,
    )
    fast.train_from_iterator((" ".join([word] * words[word]) for word in kept), trainer)
    return sorted(fast.get_vocab(), key=fast.get_vocab().__getitem__)


def _frequent_characters(words: "Counter[str]", vocabulary: int) -> set[str]:
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            counts[letter] += count
    ranked = sorted(counts, key=lambda letter: (-counts[letter], letter))
    reached = list(accumulate(counts[letter] for letter in ranked))
    wanted = next(index for index, total in enumerate(reached, 1) if total >= CHARACTER_SHARE * reached[-1])
    # A letter inside a word is a token of its own, so an alphabet takes two places; Chinese takes one.
    inner = {letter for word in words for letter in word[1:]}
    places = list(accumulate(1 + (letter in inner) for letter in ranked))
    room = int(MOST_FOR_CHARACTERS * vocabulary)
    return {letter for letter, place in zip(ranked[:wanted], places, strict=False) if place <= room}


def _learn_sentencepieces(texts: Iterable[str], vocabulary: int, lowercase: bool) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    padding, unknown, *controls = SENTENCEPIECE_SPECIALS
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([fold(text, "cased") if lowercase else text for text in texts]),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocabulary,
            hard_vocab_limit=False,
            character_coverage=CHARACTER_SHARE,
            max_sentence_length=1 << 20,
            pad_id=PADDING,
            pad_piece=padding,
            unk_id=1,
            unk_piece=unknown,
            bos_id=-1,
            eos_id=-1,
            control_symbols=controls,
            num_threads=2,
            minloglevel=2,
        )
    except RuntimeError as error:
        # "Vocabulary size is smaller than required_chars. 100 vs 506": the second is what the characters need.
        if least := re.search(rf"required_chars\. {vocabulary} vs (\d+)", str(error)):
            raise ValueError(
                f"model.vocabulary is {vocabulary}; the characters of the training text alone need {least.group(1)}, "
                "better take several times as many"
            ) from None
        raise ValueError(f"{NOTHING_TO_LEARN} (sentencepiece: {error})") from None
    return model.getvalue()
