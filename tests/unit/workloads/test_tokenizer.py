"""The tokenizer learns from any script."""

import re
import unicodedata

import numpy as np
import pytest
import sentencepiece

from optops.models.token_ids import UNKNOWN
from optops.workloads.translation.tokenizer import Tokenizer, train_tokenizer

WRITTEN = {
    "zh": ["今天天气很好，我们去公园吧！（…）", "真的吗？是的；“好”：ＡＢＣ"],
    "ja": ["日本語の「テスト」です。がぎぐ、ｶﾀｶﾅ～"],
    "th": ["น้ำ คำ ทำ", "ราคา ๒๐ บาท"],
    "ko": ["안녕하세요, 반갑습니다!", "ㅋㅋㅋ 감사합니다"],
    "vi": ["Tiếng Việt rất đẹp, được ạ?"],
    "fa": ["می\N{ZERO WIDTH NON-JOINER}خواهم"],
    "de": ["Warten Sie… 20 m² für ½ € ™", "ﬁne Große ①"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    texts = [text for written in WRITTEN.values() for text in written] * 2
    train_tokenizer(texts, texts, 600, path)
    return path


@pytest.mark.parametrize("language", WRITTEN)
def test_what_a_text_is_written_with_can_be_written_again(language, trained):
    tokenizer, texts = Tokenizer(trained), WRITTEN[language]
    assert tokenizer.decode(tokenizer.encode(texts)) == texts


@pytest.mark.parametrize("language", ["ja", "ko", "vi"])
def test_letters_in_parts_are_read_and_learnt_as_whole_ones(language, trained, tmp_path):
    decomposed = [unicodedata.normalize("NFD", text) for text in WRITTEN[language]]
    assert Tokenizer(trained).encode(decomposed) == Tokenizer(trained).encode(WRITTEN[language])
    for name, texts in (("whole", WRITTEN[language]), ("parts", decomposed)):
        train_tokenizer(texts * 3, texts, 100, tmp_path / name)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


def test_marks_may_stand_in_any_order_and_be_half_composed(trained):
    spellings = ["ệ", "e\u0323\u0302", "e\u0302\u0323", "\u1eb9\u0302", "\u00ea\u0323"]
    assert len({tuple(ids) for ids in Tokenizer(trained).encode(spellings)}) == 1


def test_white_space_of_any_kind_separates_words_and_controls_are_left_out(trained):
    tokenizer = Tokenizer(trained)
    (usual,) = tokenizer.encode(["20 m² für"])
    for text in (
        "20\tm²\u3000für",
        "20 m² f\0ür",
        "\ufeff20 \n m²\u00a0 für\u2028",
        "20 m² f\x01ür\x7f",
        "20 m² \ufffd für",
    ):
        assert tokenizer.encode([text]) == [usual]


@pytest.mark.parametrize("rule", ["nmt_nfkc", "identity"])
def test_a_model_that_was_made_in_another_way_reads_as_it_did(rule, tmp_path):
    texts = [text for written in WRITTEN.values() for text in written]
    texts += [unicodedata.normalize("NFD", text) for text in texts]
    prefix = str(tmp_path / "given")
    ids = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 3),
        model_prefix=prefix,
        model_type="bpe",
        vocab_size=400,
        hard_vocab_limit=False,
        normalization_rule_name=rule,
        minloglevel=2,
        **ids,
    )
    given = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    assert Tokenizer(tmp_path / "given.model").encode(texts) == given.encode(texts)


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


def test_a_line_of_any_length_is_learnt_from(tmp_path):
    line = "x" * 100_000
    train_tokenizer([line], [line], 300, tmp_path / "tokenizer.model")
    tokenizer = Tokenizer(tmp_path / "tokenizer.model")
    (ids,) = tokenizer.encode([line])
    assert UNKNOWN not in ids
    assert tokenizer.decode([ids]) == [line]


def test_text_that_holds_nothing_to_learn_from_is_refused(tmp_path):
    for texts in ([" ", ""], ["\x01", "\x07 "]):
        with pytest.raises(ValueError, match="no text to learn a vocabulary from"):
            train_tokenizer(texts, texts, 300, tmp_path / "tokenizer.model")
