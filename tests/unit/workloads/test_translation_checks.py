from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from optops.workloads.label_checks import Defect, quarantined_ids, run_checks
from optops.workloads.translation.checks import translation_checks
from optops.workloads.translation.corpus_checks import find_conflicts
from optops.workloads.translation.phrases import generate_phrases
from optops.workloads.translation.scripts import (
    SCRIPTS,
    count_letters,
    count_words,
    dominant_scripts,
    language_scripts,
)
from optops.workloads.translation.settings import Thresholds
from optops.workloads.translation.side_checks import find_identical_sides

SIZES = {"train": 240, "validation": 40, "test": 40}


@pytest.fixture
def corpus() -> pd.DataFrame:
    splits = [(split, line) for split, size in SIZES.items() for line in range(1, size + 1)]
    frame = pd.DataFrame(generate_phrases(len(splits), seed=8), columns=["source", "target"])
    frame["split"] = [split for split, _ in splits]
    frame["line"] = [line for _, line in splits]
    frame["id"] = frame["split"] + ".en:" + frame["line"].astype(str)
    frame["file"] = frame["split"] + ".en"
    frame["decodable"] = True
    return frame


@pytest.fixture
def training(corpus: pd.DataFrame) -> pd.DataFrame:
    return corpus[corpus["split"] == "train"].copy()


Check = Callable[..., list[Defect]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def run(frame: pd.DataFrame, source: str = "en", target: str = "de") -> list[Defect]:
        prepared, checks = translation_checks(frame, source, target, Thresholds())
        return run_checks(prepared, checks, {}, tmp_path / "docs", "planted")[1]

    return run


def found(defects: list[Defect]) -> dict[str, set[str]]:
    named: dict[str, set[str]] = {}
    for defect in defects:
        named.setdefault(defect.check, set()).add(defect.id)
    return named


def plant(frame: pd.DataFrame, place: str, source: str | None = None, target: str | None = None) -> None:
    row = frame.index[frame["id"] == place][0]
    if source is not None:
        frame.loc[row, "source"] = source
    if target is not None:
        frame.loc[row, "target"] = target


def test_every_planted_defect_is_found_where_it_is_and_nowhere_else(corpus: pd.DataFrame, check: Check) -> None:
    def text(place: str, side: str) -> str:
        return str(corpus.loc[corpus["id"] == place, side].iloc[0])

    plant(corpus, "train.en:3", target="")
    plant(corpus, "train.en:4", source=" \u200b\u00a0")
    plant(corpus, "train.en:6", text("train.en:5", "source"), text("train.en:5", "target"))
    plant(corpus, "train.en:8", text("train.en:7", "source"), "Das ist eine ganz andere Übersetzung.")
    plant(corpus, "train.en:10", "Is this a longer question?", "Ja. " * 40 + "Ja.")
    plant(corpus, "train.en:11", "word " * 250 + "end.", "Wort " * 250 + "Ende.")
    plant(corpus, "train.en:12", "Coffee &amp; cake on the terrace.", "Kaffee und Kuchen auf der Terrasse.")
    plant(corpus, "train.en:13", "Please do not smoke.", "Bitte <b>nicht</b> rauchen.")
    plant(corpus, "train.en:14", "The room for two people.", "Das Zimmer fÃ¼r zwei Personen.")
    plant(corpus, "train.en:15", "The guest\ufffds room.", "Das Zimmer des Gastes.")
    plant(corpus, "train.en:16", "One sign too many.", "Ein Zeichen\x07 zu viel.")
    corpus.loc[corpus["id"] == "train.en:17", "decodable"] = False
    plant(corpus, "train.en:18", "Where is the station?", "Где находится вокзал?")
    plant(corpus, "train.en:19", "Two tickets, please.", "Zwei  Karten, bitte.")
    plant(corpus, "train.en:20", "Three tickets, please.", "Drei Karten, bitte. ")
    plant(corpus, "train.en:21", "Four tickets, please.", "Vier\u00a0Karten, bitte.")
    plant(corpus, "train.en:22", text("test.en:9", "source").upper(), text("test.en:9", "target"))
    plant(corpus, "train.en:23", source=text("validation.en:9", "source"))
    plant(corpus, "validation.en:30", text("test.en:31", "source"), text("test.en:31", "target"))
    plant(corpus, "train.en:24", "Hotel Bellevue in Rome, room twelve.", "Hotel Bellevue in Rome, room twelve.")
    defects = check(corpus)
    train = {
        "empty_side": {3, 4},
        "duplicate_pair": {6},
        "conflicting_target": {7, 8},
        "length_ratio": {10},
        "too_long": {11},
        "markup": {12, 13},
        "undecodable": {14, 15, 16, 17},
        "wrong_script": {18},
        "spacing": {4, 19, 20, 21},
        "identical_sides": {24},
        "overlap": {22, 23},
    }
    expected = {name: {f"train.en:{line}" for line in lines} for name, lines in train.items()}
    expected["overlap"] |= {"test.en:9", "validation.en:9", "validation.en:30", "test.en:31"}
    assert found(defects) == expected
    critical = set(train) - {"conflicting_target", "identical_sides", "spacing"}
    lines = set().union(*(train[name] for name in critical))
    assert quarantined_ids(defects) == {f"train.en:{line}" for line in lines}


def test_defects_say_where_they_are_and_why(corpus: pd.DataFrame, check: Check) -> None:
    first = corpus[corpus["split"] == "train"].iloc[0]
    plant(corpus, "train.en:30", first["source"], first["target"])
    plant(corpus, "train.en:31", first["source"], "Etwas anderes steht hier.")
    plant(corpus, "train.en:32", source=corpus.loc[corpus["id"] == "test.en:5", "source"].iloc[0])
    reasons = {(defect.check, defect.id): defect for defect in check(corpus)}
    duplicate = reasons["duplicate_pair", "train.en:30"]
    assert (duplicate.file, duplicate.line, duplicate.severity, duplicate.split) == (
        "train.en",
        30,
        "critical",
        "train",
    )
    assert duplicate.reason == "the same pair as train.en:1"
    assert duplicate.value.startswith(first["source"][:40])
    assert reasons["conflicting_target", "train.en:31"].reason == "translated otherwise in train.en:1, train.en:30"
    assert reasons["overlap", "train.en:32"].reason == "the same source stands in test, test.en:5"
    assert reasons["overlap", "test.en:5"].reason == "the same source stands in train, train.en:32"


def test_a_copied_source_is_found_where_no_spaces_part_words() -> None:
    rows = pd.DataFrame({"source": ["我们明天早上去机场。", "北京大学", "he said yes again", "ok"]})
    rows["target"] = rows["source"]
    assert list(find_identical_sides(rows, min_words=4).index) == [0, 2]


HARMLESS = (
    "We all agree that 3 < 5 and 7 > 2 here.",
    "A gin & tonic for Anna & Peter; nothing else.",
    "I <3 this town, and AT&T; too.",
    "The menu said «CAFÉ» and “GRÖSSE”.",
    "Ein Zimmer im MENÜ“ kostet 3 €…",
    "The price is 10\u00a0€ at 20\u00a0000 people.",
    "Wait … what? – yes — “no”, 'never'.",
    "He said à Paris, crème brûlée, São Paulo, Ångström.",
    "The letter π is about 3.14, Ω is ohms.",
    "A heart for you and a tip at the café, señor: 5 < 6 < 7.",
)


def test_good_text_raises_no_alarm(training: pd.DataFrame, check: Check) -> None:
    for line, text in enumerate(HARMLESS, start=1):
        plant(training, f"train.en:{line}", text, f"Hier steht nun die harmlose Übersetzung Nummer {line}.")
    assert check(training) == []


BROKEN = (
    ("It&#39;s late, it&quot;s early, honestly.", "markup"),
    ("Please see <a href='x'>this</a> for it.", "markup"),
    ("Donâ€™t worry about the tickets.", "undecodable"),
    ("ÐŸÑ€Ð¸Ð²ÐµÑ‚ is what he said.", "undecodable"),
    ("The smile ðŸ˜€ stands at the end.", "undecodable"),
    ("A tab\tinside the old sentence.", "spacing"),
    ("A line\u2028separator in the sentence.", "spacing"),
    ("我们明天早上去机场看朋友，然后回家吃饭睡觉。", "wrong_script"),
    ("Το ξενοδοχείο είναι πολύ ωραίο.", "wrong_script"),
)


def test_broken_text_is_found(training: pd.DataFrame, check: Check) -> None:
    expected: dict[str, set[str]] = {}
    for line, (text, name) in enumerate(BROKEN, start=1):
        plant(training, f"train.en:{line}", text, f"Hier steht nun die harmlose Übersetzung Nummer {line}.")
        expected.setdefault(name, set()).add(f"train.en:{line}")
    assert found(check(training)) == expected


def chinese(corpus: pd.DataFrame) -> pd.DataFrame:
    """Three Chinese characters for a word of English, which is far from one to one in characters."""
    characters = "我们明天早上去机场看朋友和他的妹妹买两张火车票"
    lines = [
        "".join(characters[(number * 7 + place * 5) % len(characters)] for place in range(2 * len(text.split())))
        + f"{number}。"
        for number, text in enumerate(corpus["source"])
    ]
    return corpus.assign(target=corpus["source"], source=lines)


def test_latin_names_in_chinese_are_fine_and_untranslated_lines_are_not(training: pd.DataFrame, check: Check) -> None:
    frame = chinese(training)
    plant(frame, "train.en:1", source="NASA 和 IBM 公司都在 New York 有办公室。")
    plant(frame, "train.en:2", source="This line was never translated at all.")
    plant(frame, "train.en:3", source="ここはとてもいいホテルですよ。")
    assert found(check(frame, "zh-CN", "en"))["wrong_script"] == {"train.en:2", "train.en:3"}
    _, checks = translation_checks(frame, "tlh", "tlh", Thresholds())
    (scripts,) = [item.parameters for item in checks if item.label.name == "wrong_script"]
    assert scripts == {"source_scripts": ["Han"], "target_scripts": ["Latin"]}


@pytest.mark.parametrize(("tag", "text"), [("or", "ନିକଟତମ ଷ୍ଟେସନ କେଉଁଠି"), ("dv", "އައްސަލާމް ޢަލައިކުމް"), ("zgh", "ⴰⵣⵓⵍ ⵎⴰⵏⵣⴰⴽⵉⵏ")])
def test_a_line_in_another_script_is_found_whatever_the_language(
    tag: str, text: str, training: pd.DataFrame, check: Check
) -> None:
    training["target"] = [f"{text} {line}" for line in training["line"]]
    plant(training, "train.en:1", target="This line was never translated at all.")
    plant(training, "train.en:2", source=text)
    assert found(check(training, target=tag))["wrong_script"] == {"train.en:1", "train.en:2"}


def test_length_ratio_is_judged_by_the_corpus_own_ratio(training: pd.DataFrame, check: Check) -> None:
    frame = chinese(training)
    plant(frame, "train.en:1", target="Short.")
    plant(frame, "train.en:1", source="我们明天早上去机场看朋友和他的妹妹买两张火车票然后回家吃饭睡觉。")
    plant(frame, "train.en:2", source="好。", target="Yes.")
    assert found(check(frame, "zh", "en")) == {"length_ratio": {"train.en:1"}}


def test_scripts_are_counted_by_letters_and_words() -> None:
    texts = ["Guten Tag", "你好 Tom", "", "Привет, мир 3"]
    names = ("Latin", "Han", "Cyrillic")
    columns = [SCRIPTS.index(name) for name in names]
    assert count_letters(texts)[:, columns].tolist() == [[8, 0, 0], [3, 2, 0], [0, 0, 0], [0, 0, 9]]
    assert count_words(texts)[:, columns].tolist() == [[2, 0, 0], [1, 2, 0], [0, 0, 0], [0, 0, 2]]
    assert dominant_scripts(["日本語です"]) == ("Hiragana", "Han")
    assert language_scripts("zh_TW") == ("Han", "Bopomofo")
    assert language_scripts("tlh") == ()


def test_a_source_that_is_translated_otherwise_is_named_however_often_it_stands_there() -> None:
    targets = ["Ja."] * 99_998 + ["Doch.", "Jawohl."]
    rows = pd.DataFrame({"id": [f"x:{line}" for line in range(100_000)], "source": "Yes.", "target": targets})
    reasons = find_conflicts(rows)
    assert len(reasons) == 100_000
    assert reasons.iloc[50_000] == "translated otherwise in x:99998, x:99999"
    assert reasons.iloc[-1] == "translated otherwise in x:0, x:1, x:2 and 99996 more"


@pytest.mark.parametrize(
    ("tag", "scripts"),
    [
        ("uz", ("Latin",)),
        ("uz-Cyrl", ("Cyrillic",)),
        ("uz_Cyrl_UZ", ("Cyrillic",)),
        ("hi-Latn", ("Latin",)),
        ("ms-Arab", ("Arabic",)),
        ("es-419", ("Latin",)),
        ("zh-Hant-TW", ("Han", "Bopomofo")),
        ("zh-yue-Hant-HK", ("Han", "Bopomofo")),
        ("ja-Kana", ("Katakana",)),
        ("ory_Orya", ("Oriya",)),
        ("sat-Olck", ("Ol Chiki",)),
        ("dv-Thaa", ("Thaana",)),
        ("zgh", ("Tifinagh",)),
        ("mn-Mong", ()),
    ],
)
def test_a_language_is_written_in_the_script_of_its_tag(tag: str, scripts: tuple[str, ...]) -> None:
    assert language_scripts(tag) == scripts


def test_a_text_in_the_script_that_its_tag_names_raises_no_alarm(training: pd.DataFrame, check: Check) -> None:
    training["target"] = [f"Бу ерда зарарсиз жумла турибди, рақами {line}." for line in training["line"]]
    assert "wrong_script" in found(check(training, target="uz"))
    assert "wrong_script" not in found(check(training, target="uz-Cyrl"))
