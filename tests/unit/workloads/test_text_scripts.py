"""Texts of any script keep what tells them apart, or the vocabulary is refused."""

import random
import unicodedata

import pytest

from optops.workloads.text_classification.tokenizer import (
    SETTINGS_FILE,
    load_tokenizer,
    require_known,
    save_tokenizer,
    train_tokenizer,
)

THAI = ["ฉัน", "รัก", "ประเทศ", "น้ำ", "ดื่ม", "โรงแรม", "ห้อง", "สวย", "ไม่", "ดี", "อร่อย", "พนักงาน", "บริการ", "แย่"]
REMEDY = "write `tokenization: sentencepiece`"
KINDS = pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece"])


def unspaced(texts, words):
    random_ = random.Random(1)
    return ["".join(random_.choice(THAI) for _ in range(words)) for _ in range(texts)]


def trained(texts, kind, folder, vocabulary=500, max_length=64):
    train_tokenizer(texts, kind, vocabulary=vocabulary, lowercase=True, max_length=max_length, assets=folder)
    return load_tokenizer(folder)


def require(tokenizer, texts):
    require_known(tokenizer.encode(texts), tokenizer.unknown, REMEDY)


def test_texts_without_spaces_that_become_one_unknown_word_are_refused_with_the_remedy(tmp_path, caplog):
    texts = unspaced(200, 70)
    with pytest.raises(
        ValueError, match=r"100% of a training text's tokens are unknown, .*; write `tokenization: sente"
    ):
        require(trained(texts, "wordpiece", tmp_path), texts)
    (tmp_path / "pieces").mkdir()
    require(trained(texts, "sentencepiece", tmp_path / "pieces"), texts)
    assert not caplog.records


def test_some_unknown_tokens_are_warned_of_and_empty_texts_count_for_nothing(tmp_path, caplog):
    tokenizer = trained(["good food and service"] * 20, "wordpiece", tmp_path)
    require(tokenizer, [*["good food"] * 18, "好 好", "", ""])
    assert "5.26% of a training text's tokens are unknown" in caplog.text
    caplog.clear()
    require(tokenizer, ["", " "])
    require(tokenizer, [])
    assert not caplog.records


@KINDS
@pytest.mark.parametrize(
    "words",
    [("कुल", "कूल"), ("है", "हे"), ("दिन", "दीन"), ("ป่า", "ป้า"), ("มี", "มื"), ("கல்", "கல"), ("かき", "がき")],
    ids=lambda words: "/".join(words),
)
def test_vowels_and_tones_that_are_marks_tell_words_apart(kind, words, tmp_path):
    one, other = trained(list(words) * 5, kind, tmp_path).encode(words)
    assert one != other


@KINDS
def test_case_and_accents_of_letters_that_have_a_case_are_folded(kind, tmp_path):
    tokenizer = trained(["the cafe is good, ёлка и ωμεγα"] * 5, kind, tmp_path)
    folded, *others = tokenizer.encode(["cafe", "Café", unicodedata.normalize("NFD", "CAFÉ")])
    assert others == [folded, folded]
    assert tokenizer.encode(["Ёлка Ωμέγα"]) == tokenizer.encode(["елка ωμεγα"])
    assert tokenizer.unknown not in folded


@KINDS
@pytest.mark.parametrize("made", ["given", "before there was a choice"])
def test_a_vocabulary_that_is_not_learnt_here_loses_all_marks_as_its_authors_had_it(kind, made, tmp_path):
    texts = ["ป่า", "ปา", "คา"] * 5
    trained(texts, kind, tmp_path)
    if made == "given":
        file = tmp_path / ("vocab.txt" if kind == "wordpiece" else "tokenizer.model")
        folder = tmp_path / "assets"
        folder.mkdir()
        save_tokenizer(file, kind, lowercase=True, max_length=64, assets=folder)
    else:
        folder = tmp_path
        settings = folder / SETTINGS_FILE
        settings.write_text(settings.read_text().replace('"accents": "cased",\n', ""), encoding="utf-8")
        load_tokenizer.cache_clear()
    one, other = load_tokenizer(folder).encode(["ป่า", "ปา"])
    assert one == other
