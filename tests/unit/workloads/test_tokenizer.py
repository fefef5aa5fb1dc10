"""The tokenizer learns from any script."""

import re

import numpy as np
import pytest

from optops.models.token_ids import UNKNOWN
from optops.workloads.translation.tokenizer import Tokenizer, train_tokenizer


def ideographs(exponent):
    """Sentences of up to 3,000 characters, most of them rare, as in any Chinese text."""
    places = np.minimum(np.random.default_rng(0).zipf(exponent, size=(4000, 8)), 3000) - 1
    return ["".join(chr(0x4E00 + place) for place in row) for row in places]


def test_a_vocabulary_that_is_small_for_the_characters_is_trained_with_a_warning(tmp_path, caplog):
    texts = ideographs(1.6)
    train_tokenizer(texts, [], 600, tmp_path / "tokenizer.model")
    tokenizer = Tokenizer(tmp_path / "tokenizer.model")
    assert tokenizer.size <= 600
    assert "a vocabulary of 600 is small for" in caplog.text
    encoded = tokenizer.encode(texts)
    assert 0 < sum(row.count(UNKNOWN) for row in encoded) / sum(map(len, encoded)) < 0.03


def test_a_vocabulary_that_is_too_small_is_refused_with_one_that_is_large_enough(tmp_path):
    texts = ideographs(1.2)
    with pytest.raises(
        ValueError, match=r"model\.vocabulary is 1000; the training text has \d+ .* at least \d+"
    ) as error:
        train_tokenizer(texts, [], 1000, tmp_path / "tokenizer.model")
    least = int(re.search(r"at least (\d+)", str(error.value)).group(1))
    train_tokenizer(texts, [], least, tmp_path / "tokenizer.model")


def test_pieces_that_targets_use_come_first_and_texts_are_cut_and_joined_as_before(tmp_path):
    sources = ["the old house stands near the river", "a red boat on the river", "the cat sleeps"] * 20
    targets = ["das alte haus steht am fluss", "ein rotes boot auf dem fluss", "die katze schläft"] * 20
    train_tokenizer(sources, targets, 120, tmp_path / "tokenizer.model")
    tokenizer = Tokenizer(tmp_path / "tokenizer.model")
    used = {piece for row in tokenizer.encode(targets) for piece in row}
    others = {piece for row in tokenizer.encode(sources) for piece in row} - used
    assert max(used) < min(others)
    assert max(used) == UNKNOWN + len(used)
    assert tokenizer.decode(tokenizer.encode([*sources, *targets])) == [*sources, *targets]
