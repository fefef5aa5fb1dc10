import re
from pathlib import Path

import pandas as pd

from optops.workloads.label_checks import run_checks
from optops.workloads.text_lines import normalise
from optops.workloads.translation.checks import translation_checks
from optops.workloads.translation.corpus import PairFiles, read_pairs
from optops.workloads.translation.phrase_grammar import german
from optops.workloads.translation.phrases import generate_phrases, write_corpus
from optops.workloads.translation.settings import Thresholds


def test_same_seed_same_phrases_however_many() -> None:
    assert generate_phrases(300, seed=4) == generate_phrases(500, seed=4)[:300]
    assert generate_phrases(50, seed=4) != generate_phrases(50, seed=5)


def test_sentences_are_distinct_varied_and_of_speakable_length() -> None:
    phrases = generate_phrases(12_000, seed=0)
    for side in (0, 1):
        texts = [pair[side] for pair in phrases]
        assert len({normalise(text) for text in texts}) == len(texts)
        lengths = [len(text.split()) for text in texts]
        assert min(lengths) >= 3
        assert max(lengths) <= 25
        assert 8 < sum(lengths) / len(lengths) < 12
        assert len({word for text in texts for word in re.findall(r"[^\W\d_]+", text)}) > 1500
        assert all(re.fullmatch(r"[A-ZÄÖÜ].*[^\s,.?][.?]", text) for text in texts)


def test_written_corpus_has_no_defect_and_shares_no_sentence(tmp_path: Path) -> None:
    write_corpus(tmp_path, train=2000, validation=200, test=200, seed=3)
    frames = [
        read_pairs(PairFiles(tmp_path / f"{split}.en", tmp_path / f"{split}.de")).assign(split=split)
        for split in ("train", "validation", "test")
    ]
    assert [len(frame) for frame in frames] == [2000, 200, 200]
    frame, checks = translation_checks(pd.concat(frames, ignore_index=True), "en", "de", Thresholds())
    outcomes, defects = run_checks(frame, checks, {}, tmp_path / "docs", "phrases")
    assert defects == []
    assert all(outcome.within_limit for outcome in outcomes)
    assert not frame["target"].duplicated().any()


def test_german_inflection_follows_the_grammar() -> None:
    def phrase(determiner: str, adjective: str, noun: tuple[str, str, str], gender: str, case: int) -> str:
        singular, plural, noun_gender = noun
        declined = "p" if gender == "p" else noun_gender
        parts = [
            german.determiner(determiner, gender, case) if determiner else "",
            german.adjective(adjective, determiner, gender, case),
            german.noun(singular, plural, declined, case),
        ]
        return " ".join(part for part in parts if part)

    tourist, hotel, room = ("Tourist", "Touristen", "w"), ("Hotel", "Hotels", "n"), ("Zimmer", "Zimmer", "n")
    assert phrase("der", "alt", tourist, "m", 1) == "den alten Touristen"
    assert phrase("ein", "alt", tourist, "m", 0) == "ein alter Tourist"
    assert phrase("kein", "teur", hotel, "n", 1) == "kein teures Hotel"
    assert phrase("dies", "hoh", ("Turm", "Türme", "m"), "m", 2) == "diesem hohen Turm"
    assert phrase("mein", "neu", ("Tasche", "Taschen", "f"), "f", 2) == "meiner neuen Tasche"
    assert phrase("", "ruhig", room, "p", 2) == "ruhigen Zimmern"
    assert phrase("der", "klein", hotel, "p", 2) == "den kleinen Hotels"
    assert german.contract("in", "dem Hotel") == "im Hotel"
    assert german.contract("zu", "der alten Kirche") == "zur alten Kirche"
    assert german.contract("zu", "den Kirchen") == "zu den Kirchen"
    assert [german.finite("sammeln", "sammelt", person) for person in ("1s", "3s", "2")] == [
        "sammle",
        "sammelt",
        "sammeln",
    ]
    assert [german.finite("sein", "ist", person) for person in ("1s", "3s", "1p")] == ["bin", "ist", "sind"]


def test_word_order_is_german() -> None:
    phrases = dict(generate_phrases(12_000, seed=0))
    # Verb second after a fronted time, verb last after a conjunction, prefix at the end, participle at the end.
    fronted = [target for source, target in phrases.items() if source.startswith("Tomorrow, ")]
    assert fronted
    modal = r"(?:werden?|wird|kann|können|muss|müssen|soll|will|wollen|möchte)"
    assert all(re.match(rf"Morgen {modal}", text) for text in fronted)
    last = [re.split(r"[,.]", text.split(", weil ")[1])[0] for text in phrases.values() if ", weil " in text]
    finite = r"(?:habe|hat|haben|bin|ist|sind|will|wollen|muss|müssen|kann|können|[a-zäöüß]+(?:e|t|en))"
    assert sum(bool(re.search(rf"\b{finite}$", clause)) for clause in last) >= 0.9 * len(last) > 100
    # "in order to" with a separable verb takes its zu inside.
    assert any(
        re.search(r" um .*\b(?:ab|an|aus|ein|auf|zurück|zu|teil|um|vor)zu[a-zäöüß]+n\.", text)
        for text in phrases.values()
    )
    assert not any(
        re.search(r"\b(?:in|an|zu|von|bei) dem\b|\bzu der\b", text.split(",")[0]) for text in phrases.values()
    )
