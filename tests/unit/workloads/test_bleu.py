import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from optops.workloads.translation.bleu import bleu_signature, bleu_statistics, corpus_bleu, tokenizer_for

WORDS = st.sampled_from(["the", "a", "train", "station", "is", "late", "where", "?", "we", "go", "home", "3.5"])
SENTENCES = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=8)


@settings(max_examples=60)
@given(PAIRS)
def test_corpus_bleu_is_that_of_sacrebleu(pairs):
    hypotheses, references = (list(side) for side in zip(*pairs, strict=True))
    ours = corpus_bleu(bleu_statistics(hypotheses, references, "13a"))[0]
    theirs = BLEU().corpus_score(hypotheses, [references]).score
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_resample_is_the_bleu_of_the_resampled_corpus():
    hypotheses = ["the train is late", "where is the station ?", "we go home", "a station"]
    references = ["the train is very late", "where is the train station ?", "we are going home", "the station"]
    weights = np.array([[2, 0, 1, 1], [0, 3, 1, 0]])
    resampled = corpus_bleu(bleu_statistics(hypotheses, references, "13a"), weights)
    for row, value in zip(weights, resampled, strict=True):
        chosen = [index for index, count in enumerate(row) for _ in range(count)]
        expected = BLEU().corpus_score([hypotheses[i] for i in chosen], [[references[i] for i in chosen]]).score
        assert value == pytest.approx(expected, abs=1e-9)


def test_an_empty_translation_scores_zero_without_a_warning(recwarn):
    statistics = bleu_statistics(["", ""], ["a train", "a station"], "13a")
    assert corpus_bleu(statistics, np.array([[1, 1], [2, 0]])).tolist() == [0.0, 0.0]
    assert not recwarn.list


def test_letters_in_parts_are_the_same_text():
    composed = ["Où est l'hôtel, s'il te plaît ?"]
    decomposed = [unicodedata.normalize("NFD", text) for text in composed]
    assert corpus_bleu(bleu_statistics(composed, decomposed, "13a"))[0] == pytest.approx(100)
    assert corpus_bleu(bleu_statistics(decomposed, composed, "13a"))[0] == pytest.approx(100)


def test_chinese_is_compared_by_character():
    statistics = bleu_statistics(["火车站在哪里"], ["火车站在那里"], "zh")
    assert corpus_bleu(statistics)[0] > 20
    assert "tok:zh" in bleu_signature(tokenizer_for("zh"))
    assert "tok:13a" in bleu_signature(tokenizer_for("de-AT"))


@pytest.mark.parametrize(
    ("tokenizer", "tags"),
    [
        ("zh", "zh zho chi cmn yue wuu zh_CN zh-Hant-TW cmn-Hans"),
        ("char", "ja jpn ja-JP th tha km khm lo lao my mya bur bo bod dz"),
        ("13a", "de de-AT en ko kor zh-Latn tlh"),
    ],
)
def test_a_language_gets_the_tokenizer_of_the_script_it_is_written_in(tokenizer, tags):
    assert {tag: tokenizer_for(tag) for tag in tags.split()} == dict.fromkeys(tags.split(), tokenizer)


def test_a_missing_translation_is_refused():
    with pytest.raises(ValueError, match="1 translations but 2 references"):
        bleu_statistics(["a"], ["a", "b"], "13a")
