"""Labelled texts: every planted defect is found with its line, whatever the format, and nothing else is."""

import gzip
import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from optops.workloads.label_checks import run_checks
from optops.workloads.text_classification.checks import text_checks
from optops.workloads.text_classification.intents import CLASSES, generate_intents, write_corpus
from optops.workloads.text_classification.reading import read_texts, split_texts
from optops.workloads.text_classification.settings import TextData, Thresholds
from optops.workloads.text_lines import CorpusError

DATA = Path(__file__).parents[3] / "../shared/data/text_classification"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def checked(frame, classes, tmp_path, **thresholds):
    prepared, checks = text_checks(frame, classes, Thresholds(**thresholds))
    outcomes, defects = run_checks(prepared, checks, {}, tmp_path / "docs", "texts")
    return outcomes, defects


def lines_by_check(defects, split="train"):
    found: dict[str, list[int]] = {}
    for defect in defects:
        if defect.split == split:
            found.setdefault(defect.check, []).append(defect.line)
    return found


@pytest.fixture
def corpus():
    frame = pd.DataFrame(generate_intents(200, seed=3), columns=["text", "label"])
    frame["split"] = ["train"] * 140 + ["validation"] * 30 + ["test"] * 30
    frame["line"] = [*range(2, 142), *range(2, 32), *range(2, 32)]
    frame["file"] = frame["split"] + ".csv"
    frame["id"] = frame["file"] + ":" + frame["line"].astype(str)
    return frame.assign(decodable=True, flaw="")


def test_good_texts_raise_no_alarm(corpus, tmp_path):
    assert checked(corpus, CLASSES, tmp_path)[1] == []


def test_each_planted_defect_is_found_with_line_and_text(corpus, tmp_path):
    planted = {
        3: {"text": " \u200b "},
        4: {"text": "x"},
        5: {"text": "long " * 1200},
        6: {"text": corpus.loc[20, "text"].upper() + "  ", "label": corpus.loc[20, "label"]},
        7: {"text": corpus.loc[21, "text"], "label": next(c for c in CLASSES if c != corpus.loc[21, "label"])},
        8: {"text": "  " + corpus.loc[150, "text"].swapcase()},
        9: {"text": "what a \ufffd hotel"},
        10: {"text": "schÃ¶nes Hotel"},
        11: {"text": "a bell \x07 rings"},
        12: {"text": "see <b>this</b> room"},
        13: {"text": "bed &amp; breakfast"},
        14: {"label": "boking"},
        15: {"decodable": False},
        16: {"flaw": "has 3 fields, the header has 2"},
    }
    for line, changes in planted.items():
        for column, value in changes.items():
            corpus.loc[line - 2, column] = value
    defects = checked(corpus, CLASSES, tmp_path)[1]
    found = lines_by_check(defects)
    assert found == {
        "malformed": [16],
        "empty_text": [3],
        "too_short": [4],
        "too_long": [5],
        "duplicate": [22],
        "conflicting_class": [7, 23],
        "overlap": [8],
        "undecodable": [9, 10, 11, 15],
        "markup": [12, 13],
        "unknown_class": [14],
    }
    by_line = {(defect.check, defect.line): defect for defect in defects}
    assert "'boking' is none of booking" in by_line["unknown_class", 14].reason
    assert "boking" in by_line["unknown_class", 14].value
    assert [(defect.id, defect.reason) for defect in defects if defect.check == "overlap"] == [
        ("train.csv:8", "the same text stands in validation, validation.csv:12"),
        ("validation.csv:12", "the same text stands in train, train.csv:8"),
    ]
    assert by_line["markup", 12].value.startswith("see <b>this</b> room")


def test_rare_and_absent_classes_are_told(corpus, tmp_path):
    corpus = corpus[(corpus["label"] != "question") | (corpus["split"] != "test")]
    rare = corpus[(corpus["split"] == "train") & (corpus["label"] == "booking")].index[3:]
    defects = checked(corpus.drop(rare), CLASSES, tmp_path)[1]
    assert {defect.check for defect in defects} == {"class_balance"}
    train = [defect for defect in defects if defect.split == "train"]
    (reason,) = [defect.reason for defect in train]
    assert "class 'booking' has 3 of" in reason
    assert [d.reason for d in defects if d.split == "test"] == ["the split has no example of 'question'"]


def test_balanced_classes_are_not_rare_however_many_there_are(corpus, tmp_path):
    classes = [f"class {number}" for number in range(30)]
    labels = [classes[number % 30] for number in range(len(corpus))]
    balanced = corpus.assign(label=labels, split="train", id=[f"a:{number}" for number in range(len(corpus))])
    assert checked(balanced, classes, tmp_path)[1] == []
    rare = balanced.drop(balanced.index[[0, 30, 60, 90]])
    (defect,) = checked(rare, classes, tmp_path)[1]
    assert defect.reason == "class 'class 0' has 3 of 196 examples, 1.5%"


def test_a_text_of_several_lines_is_shown_in_one(corpus, tmp_path):
    corpus.loc[3, ["text", "label"]] = ["x\n::optops::link data_docs https://evil", "no such intent"]
    defects = checked(corpus, CLASSES, tmp_path)[1]
    assert any("::optops::link" in defect.value for defect in defects)
    assert not any("\n" in defect.value for defect in defects)


@pytest.mark.parametrize("field", ["word " * 60_000, "a line\n" * 60_000])
def test_a_long_quoted_text_is_read_whole(field, tmp_path):
    path = write(tmp_path / "long.csv", f'text,label\nshort,0\n"{field}",1\nshort,1\n')
    frame = read_texts(path, "csv", "text", "label")
    assert not frame["flaw"].any()
    assert list(frame["text"]) == ["short", field, "short"]
    assert list(frame["label"]) == ["0", "1", "1"]


def test_labels_in_json_may_be_any_finite_number(tmp_path):
    lines = [f'{{"text": "fine", "label": {label}}}' for label in ("1.0", "4.5", "3", "NaN", "Infinity", "[1]")]
    frame = read_texts(write(tmp_path / "stars.jsonl", "\n".join(lines)), "jsonl", "text", "label")
    assert list(frame["label"]) == ["1.0", "4.5", "3", "", "", ""]
    assert list(frame["flaw"] == "") == [True, True, True, False, False, False]
    assert frame["flaw"][3] == "has float for 'label', not text or a finite number"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_label_is_the_same_whether_its_accents_are_characters_of_their_own(form, tmp_path):
    path = write(
        tmp_path / "data.csv", "text,label\nfine,schön\n".replace("schön", unicodedata.normalize(form, "schön"))
    )
    classes = TextData(corpus="data.csv", classes=[unicodedata.normalize("NFD", "schön"), "other"]).classes
    assert read_texts(path, "csv", "text", "label")["label"].isin(classes).all()


def test_a_column_that_no_json_object_has_is_refused_with_the_nearest_name(tmp_path):
    path = write(tmp_path / "data.jsonl", '{"txet": "a", "label": 1}\n{broken\n{"txet": "b", "lable": 0}\n')
    with pytest.raises(CorpusError, match=r"data\.jsonl has no column 'text'; did you mean 'txet'\?"):
        read_texts(path, "jsonl", "text", "label")
    assert list(read_texts(path, "jsonl", "txet", "label")["flaw"])[2] == "has no column 'label'"


def test_true_and_false_in_json_are_labels_as_they_stand_there_and_no_texts(tmp_path):
    lines = ['{"text": "a", "label": true}', '{"text": "b", "label": false}', '{"text": true, "label": "a"}']
    frame = read_texts(write(tmp_path / "data.jsonl", "\n".join(lines)), "jsonl", "text", "label")
    assert list(frame["label"]) == ["true", "false", "a"]
    assert list(frame["flaw"]) == ["", "", "has bool for 'text', not text"]


@pytest.mark.parametrize("packed", [False, True])
def test_the_same_examples_are_read_from_every_format(packed, tmp_path):
    rows = [('He said: "go, now"', "0"), ("two\twords".replace("\t", " "), "1"), ("日本語 😀", "1")]
    files = {
        "data.csv": "text,label\n" + '"He said: ""go, now""",0\ntwo words,1\n日本語 😀,1\n',
        "data.tsv": "label\ttext\r\n" + "".join(f"{label}\t{text}\r\n" for text, label in rows),
        "data.jsonl": "".join(json.dumps({"text": text, "label": int(label)}) + "\n" for text, label in rows),
    }
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
        frame = read_texts(path, path.suffix[1:], "text", "label")
        assert list(zip(frame["text"], frame["label"], strict=True)) == rows, name
        assert not frame["flaw"].any()
    headless = write(tmp_path / "plain.tsv", "".join(f"{text}\t{label}\n" for text, label in rows))
    frame = read_texts(headless, "tsv", 1, 2)
    assert list(frame["text"]) == [text for text, _ in rows]
    assert list(frame["line"]) == [1, 2, 3]


def test_a_bad_record_becomes_a_row_with_a_flaw_and_the_rest_is_read(tmp_path):
    path = write(
        tmp_path / "bad.csv",
        b'\xef\xbb\xbftext,label\ngood,0\na,b,c\nonly one\n\n"two\nlines",1\nbad \xff byte,0\n"never closed,1\n',
    )
    frame = read_texts(path, "csv", "text", "label").set_index("line")
    assert frame.loc[2, ["text", "label", "flaw"]].tolist() == ["good", "0", ""]
    assert frame.loc[3, "flaw"] == "has 3 fields, the header has 2"
    assert frame.loc[4, "flaw"] == "has 1 fields, the header has 2"
    assert frame.loc[5, "flaw"] == "is an empty line"
    assert frame.loc[6, ["text", "label", "flaw"]].tolist() == ["two\nlines", "1", ""]
    assert not frame.loc[8, "decodable"]
    assert frame.loc[9, "flaw"]
    lines = ['{"text": "good", "label": "a"}', "{broken", '["list"]', '{"text": 1.5, "label": "a"}', '{"text": "x"}']
    lines.append('{"text": "half \\ud83d pair", "label": "a"}')
    lines.append('{"text": "one", "label": "a", "text": "another"}')
    frame = read_texts(write(tmp_path / "bad.jsonl", "\n".join(lines)), "jsonl", "text", "label")
    assert frame["flaw"][0] == ""
    assert "is no JSON" in frame["flaw"][1]
    assert frame["flaw"][2] == "is list, not a JSON object"
    assert frame["flaw"][3] == "has float for 'text', not text"
    assert frame["flaw"][4] == "has no column 'label'"
    assert frame["text"][5] == "half \ufffd pair"
    assert frame["flaw"][6] == "has 'text' twice in one object"


def test_a_quote_behind_a_backslash_is_a_defect_for_csv_doubles_it(tmp_path):
    path = write(tmp_path / "file.csv", 'text,label\n"a \\"good\\" bed",0\n"a ""good"" bed",1\n')
    frame = read_texts(path, "csv", "text", "label")
    assert list(frame["text"]) == ["", 'a "good" bed']
    assert list(frame["flaw"]) == ['is no CSV: it writes \\" for a quote within a text, where CSV writes ""', ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "good", "label": 1}]', r"is one JSON array; write an object a line: jq -c '\.\[\]'"),
        ('[\n  {"text": "good", "label": 1}\n]\n', "is one JSON array"),
        ('{\n  "text": "good",\n  "label": 1\n}\n', r"is one JSON value; write an object a line: jq -c \."),
        ("\n \n", "holds no"),
    ],
)
def test_json_that_is_not_one_object_a_line_is_refused(content, message, tmp_path):
    with pytest.raises(CorpusError, match=message):
        read_texts(write(tmp_path / "file.jsonl", content), "jsonl", "text", "label")


@pytest.mark.parametrize(("kind", "separator"), [("csv", ","), ("tsv", "\t")])
def test_without_a_header_a_record_of_other_fields_than_most_is_a_defect_and_no_text_is_cut(kind, separator, tmp_path):
    rows = [["0", "a room"], ["1", "a bed", " and breakfast"], ["1", "a view"], ["0"]]
    path = write(tmp_path / f"plain.{kind}", "".join(separator.join(row) + "\n" for row in rows))
    frame = read_texts(path, kind, 2, 1)
    assert list(frame["flaw"]) == [
        "", "has 3 fields, most records have 2", "", "has 1 fields, most records have 2"
    ]  # fmt: skip
    assert list(frame["text"][[0, 2]]) == ["a room", "a view"]


@pytest.mark.parametrize("end", ["\n", "\r\n\r\n", "\n\n\n"])
@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("data.csv", "text,label\ngood,0\n\nbad,1\n", ("text", "label")),
        ("data.tsv", "good\t0\n\nbad\t1\n", (1, 2)),
        ("data.jsonl", '{"text": "good", "label": 0}\n\n{"text": "bad", "label": 1}\n', ("text", "label")),
    ],
)
def test_empty_lines_at_the_end_are_no_examples_and_those_before_it_are_defects(end, name, content, columns, tmp_path):
    frame = read_texts(write(tmp_path / name, content + end), name.partition(".")[2], *columns)
    assert list(frame["text"]) == ["good", "", "bad"]
    assert list(frame["flaw"]) == ["", "is an empty line", ""]


@pytest.mark.parametrize("later", ["", 'so "good" a bed,0\n', '"He said: ""go""",0\n', '"two\nlines",1\n'])
def test_a_quote_that_is_not_closed_costs_its_line_and_no_other(later, tmp_path):
    rows = [f"room {number},{number % 2}\n" for number in range(1000)]
    rows[600] = '"unclosed room,0\n'
    path = write(tmp_path / "file.csv", "text,label\n" + "".join([*rows[:800], later, *rows[800:]]))
    frame = read_texts(path, "csv", "text", "label")
    assert list(frame.loc[frame["flaw"] != "", "line"]) == [602]
    assert "opens a quote that is not closed" in frame["flaw"][600]
    wanted = [f"room {number}" for number in range(1000) if number != 600]
    assert [text for text in frame["text"] if text.startswith("room ")] == wanted
    assert len(frame) == 1000 + bool(later)


def test_a_file_full_of_quotes_that_are_not_closed_is_refused(tmp_path):
    path = write(tmp_path / "file.csv", "text,label\n" + 'a bed","1\n' * 20_000)
    with pytest.raises(CorpusError, match=r"file.csv: line 102 and 100 before it open a quote .* tabs as `tsv`"):
        read_texts(path, "csv", "text", "label")


def test_line_breaks_of_windows_are_no_control_characters_and_a_carriage_return_alone_is_one(corpus, tmp_path):
    corpus.loc[3, "text"] = "Dear all,\r\n\r\nthe room was fine.\r\n"
    corpus.loc[4, "text"] = "a lone \r return"
    assert lines_by_check(checked(corpus, CLASSES, tmp_path)[1]) == {"undecodable": [6]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"txt,label\nx,1\n", r"has no column 'text'; did you mean 'txt'\?"),
        (b"text;label\nx;1\n", "semicolons part the columns 'text;label'; save the file with commas, or with tabs and"),
        (b"text,label\n", "holds no example, but at most a header"),
        (
            b"text\tlabel\nx\t1\n",
            r"has no column 'text'; .* \(where tabs and not commas part columns, write `format: tsv`",
        ),
        (b"\x1f\x8b broken", "damaged gzip"),
        ("text,label\nx,1\n".encode("utf-16"), r"file\.csv is UTF-16; convert it to UTF-8: iconv -f UTF-16 -t UTF-8"),
        (b"\xfe\xff" + "text,label\n".encode("utf-16-be"), "is UTF-16"),
        (
            "text,label\nx,1\n".encode("utf-16-le"),
            "looks like UTF-16LE; .*: iconv -f UTF-16LE -t UTF-8",
        ),
        ("text,label\nx,1\n".encode("utf-16-be"), "looks like UTF-16BE"),
        ("text,label\nx,1\n".encode("utf-32"), "is UTF-32; convert it to UTF-8: iconv -f UTF-32 -t UTF-8"),
        (b"text,label\rx,1\ry,0\r", "ends its lines with a carriage return alone; convert it: tr"),
        (b"text, text,label\na,b,1\n", "has 2 columns 'text'; rename all but one"),
        (b'"text,label\nx,1\n', "the header is no CSV: it opens a quote that is not closed"),
    ],
)
def test_a_file_that_can_not_be_used_is_refused(content, message, tmp_path):
    with pytest.raises(CorpusError, match=message):
        read_texts(write(tmp_path / "file.csv", content), "csv", "text", "label")


def test_equal_texts_stay_in_one_split_whatever_the_order(corpus):
    twice = pd.concat([corpus, corpus.assign(text=corpus["text"].str.upper() + " ")], ignore_index=True)
    shares = {"train": 0.6, "validation": 0.2, "test": 0.2}
    parts = split_texts(twice, shares, seed=1)
    assert sum(map(len, parts.values())) == len(twice)
    homes: dict[str, set[str]] = {}
    for split, part in parts.items():
        assert 0.5 * shares[split] < len(part) / len(twice) < 1.5 * shares[split]
        for text in part["text"]:
            homes.setdefault(text.strip().casefold(), set()).add(split)
    assert {len(found) for found in homes.values()} == {1}
    again = split_texts(twice.sample(frac=1, random_state=2), shares, seed=1)
    assert set(again["test"].index) == set(parts["test"].index)


def test_a_text_stays_in_its_split_when_labels_are_corrected_and_spellings_are_added(corpus):
    shares = {"train": 0.6, "validation": 0.2, "test": 0.2}
    parts = split_texts(corpus, shares, seed=1)
    grown = pd.concat([corpus.assign(label="question"), corpus.assign(text=corpus["text"].str.upper())])
    grown = grown.reset_index(drop=True)
    for split, part in split_texts(grown, shares, seed=1).items():
        assert set(part.index) == {*parts[split].index, *(parts[split].index + len(corpus))}


def test_the_generated_corpus_is_the_same_every_time_and_balanced(tmp_path):
    write_corpus(tmp_path / "one", train=300, validation=50, test=50, seed=9)
    write_corpus(tmp_path / "two", train=300, validation=50, test=50, seed=9)
    for split in ("train", "validation", "test"):
        assert (tmp_path / "one" / f"{split}.csv").read_bytes() == (tmp_path / "two" / f"{split}.csv").read_bytes()
    messages = generate_intents(1000, seed=9)
    assert generate_intents(400, seed=9) == messages[:400]
    counts = Counter(label for _, label in messages)
    assert set(counts) == set(CLASSES)
    assert min(counts.values()) > 180


def known(path, text, label, header):
    """Counts defects of a TSV file line by line, by other means than the checks."""
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")[header:]
    rows = [line.rstrip("\r").split("\t") for line in lines]
    return [(row[text], row[label]) for row in rows if len(row) == 2], sum(len(row) != 2 for row in rows)


def fold(text):
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
def test_the_known_defects_of_chnsenticorp_are_all_found(tmp_path):
    names = {"train": "train", "validation": "dev", "test": "test"}
    files = {split: DATA / "chnsenticorp" / f"{name}.tsv" for split, name in names.items()}
    frame = pd.concat(
        [read_texts(path, "tsv", "text_a", "label").assign(split=split) for split, path in files.items()],
        ignore_index=True,
    )
    defects = checked(frame, ["0", "1"], tmp_path)[1]
    counts = Counter((defect.split, defect.check) for defect in defects)
    rows = {split: known(path, 1, 0, True) for split, path in files.items()}
    texts = {split: [fold(text) for text, _ in found] for split, (found, _) in rows.items()}
    others = {name: {text for other in texts.keys() - {name} for text in texts[other]} for name in texts}
    for split, (found, malformed) in rows.items():
        pairs = Counter((fold(text), label) for text, label in found)
        labels: dict[str, set[str]] = {}
        for text, label in pairs:
            labels.setdefault(text, set()).add(label)
        assert counts[split, "malformed"] == malformed
        assert counts[split, "duplicate"] == sum(count - 1 for count in pairs.values())
        assert counts[split, "conflicting_class"] == sum(len(labels[text]) > 1 for text in texts[split])
        assert counts[split, "overlap"] == sum(text in others[split] for text in texts[split])
    assert counts["train", "overlap"] > 500
    assert counts["train", "duplicate"] > 1000


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
def test_real_files_of_three_kinds_are_read_whole(tmp_path):
    hotel = read_texts(DATA / "chnsenticorp_htl" / "ChnSentiCorp_htl_dev.csv", "csv", "review", "label")
    assert Counter(hotel["label"]) == {"1": 4524, "0": 2077}
    assert not hotel["flaw"].any()
    films = read_texts(DATA / "sst2" / "train.tsv", "tsv", 1, 2)
    assert Counter(films["label"]) == {"1": 3610, "0": 3310}
    questions = read_texts(DATA / "trec" / "train.csv", "tsv", "question", "label")
    assert Counter(questions["label"])["ABBR"] == 86
    assert len(questions) == 5452
