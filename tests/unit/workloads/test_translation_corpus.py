import gzip
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optops.workloads.text_lines import CorpusError, normalise
from optops.workloads.translation.corpus import (
    PairFiles,
    example_digest,
    example_digests,
    read_pairs,
    split_pairs,
)

FRACTIONS = {"train": 0.6, "validation": 0.2, "test": 0.2}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_two_files_are_read_line_by_line(tmp_path: Path) -> None:
    source = write(tmp_path / "a.en", b"one\ntwo\n")
    frame = read_pairs(PairFiles(source, write(tmp_path / "a.de", b"eins\nzwei")))
    assert frame.to_dict("list") == {
        "id": ["a.en:1", "a.en:2"],
        "file": [str(source)] * 2,
        "line": [1, 2],
        "source": ["one", "two"],
        "target": ["eins", "zwei"],
        "decodable": [True, True],
    }


def test_only_newlines_end_lines_and_the_rest_stays_raw(tmp_path: Path) -> None:
    source = write(tmp_path / "a", "\ufeff a\u2028b \r\nc\u0085d\fe\x1cf\n\n".encode())
    frame = read_pairs(PairFiles(source, write(tmp_path / "b", b"1\r\n2\r\r\n3\n")))
    assert list(frame["source"]) == [" a\u2028b ", "c\u0085d\fe\x1cf", ""]
    assert list(frame["target"]) == ["1", "2\r", "3"]


def test_bytes_that_are_no_utf8_mark_their_row_only(tmp_path: Path) -> None:
    source = write(tmp_path / "a", b"good\nb\xffd\nfine\n")
    frame = read_pairs(PairFiles(source, write(tmp_path / "b", b"1\n2\n\xc3\n")))
    assert list(frame["decodable"]) == [True, False, False]
    assert frame["source"][1] == "b\ufffdd"


def test_tab_separated_text_is_read_and_swapped(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.tsv", b"one\teins\tCC-BY by somebody\nno tab\n\tzwei\n")
    frame = read_pairs(PairFiles(path))
    assert list(zip(frame["source"], frame["target"], strict=True)) == [("one", "eins"), ("no tab", ""), ("", "zwei")]
    swapped = read_pairs(PairFiles(path, swap=True))
    assert list(swapped["source"]) == list(frame["target"])


def test_gzip_is_unpacked_whatever_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs", gzip.compress("grün\tgreen\n".encode()))
    assert read_pairs(PairFiles(path))["source"][0] == "grün"


def test_unreadable_files_are_named_with_what_to_do(tmp_path: Path) -> None:
    packed = gzip.compress(b"text " * 1000)
    good = write(tmp_path / "train.en", b"a\nb\nc\n")
    cases = [
        (PairFiles(tmp_path / "trian.en"), r"trian\.en does not exist; the nearest name there is train\.en"),
        (PairFiles(tmp_path / "nowhere" / "x"), r"x does not exist: correct"),
        (PairFiles(write(tmp_path / "empty", b"")), "empty is empty"),
        (PairFiles(write(tmp_path / "packed.gz", packed[:-20])), r"packed\.gz is a damaged gzip"),
        (PairFiles(write(tmp_path / "hollow.gz", gzip.compress(b""))), r"hollow\.gz is empty"),
        (PairFiles(tmp_path), "is a folder"),
        (PairFiles(good, write(tmp_path / "train.de", b"1\n2\n")), r"train\.en has 3 lines.*train\.de has 2"),
    ]
    for files, message in cases:
        with pytest.raises(CorpusError, match=message):
            read_pairs(files)
    with pytest.raises(CorpusError, match="exchange source and target"):
        PairFiles(good, good, swap=True)


def test_digests_depend_on_where_source_ends() -> None:
    assert len(example_digest("ä", "")) == 16
    assert example_digest("ab", "c") != example_digest("a", "bc")
    frame = pd.DataFrame({"source": ["x", "ab"], "target": ["y", "c"]}, index=[7, 3])
    assert example_digests(frame).to_dict() == {7: example_digest("x", "y"), 3: example_digest("ab", "c")}


words = st.sampled_from(["a", "A ", "ａ", "b", "c", "d  e", "D e", "f", "g", "h", "", "ß", "ss"])
corpora = st.lists(st.tuples(words, words), min_size=1, max_size=30).map(
    lambda pairs: pd.DataFrame(pairs, columns=["source", "target"])
)


@settings(max_examples=40)
@given(corpora, st.integers(0, 5), st.randoms(use_true_random=False))
def test_split_separates_no_sentence_and_ignores_the_order(frame: pd.DataFrame, seed: int, random: object) -> None:
    splits = split_pairs(frame, FRACTIONS, seed)
    assert sorted(index for part in splits.values() for index in part.index) == list(frame.index)
    for side in ("source", "target"):
        seen = {name: {normalise(text) for text in part[side]} - {""} for name, part in splits.items()}
        assert not (seen["train"] & seen["validation"] or seen["train"] & seen["test"])
        assert not seen["validation"] & seen["test"]
    order = list(frame.index)
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = split_pairs(frame.loc[order], FRACTIONS, seed)
    assert {name: set(part.index) for name, part in shuffled.items()} == {n: set(p.index) for n, p in splits.items()}


@pytest.mark.parametrize("seed", range(12))
def test_a_group_that_no_other_split_has_room_for_is_for_training(seed: int) -> None:
    linked = pd.DataFrame(
        {"source": [f"Yes {n % 30}" for n in range(1000)], "target": [f"Ja {n % 31}" for n in range(1000)]}
    )
    single = pd.DataFrame(
        {"source": [f"source {n}" for n in range(1000)], "target": [f"target {n}" for n in range(1000)]}
    )
    splits = split_pairs(pd.concat([linked, single], ignore_index=True), FRACTIONS, seed)
    assert set(range(1000)) <= set(splits["train"].index)
    for name, fraction in FRACTIONS.items():
        if name != "train":
            assert abs(len(splits[name]) - 1000 * fraction) < 4 * (1000 * fraction * (1 - fraction)) ** 0.5


def test_split_meets_its_fractions_and_never_changes() -> None:
    frame = pd.DataFrame(
        {"source": [f"source {n}" for n in range(5000)], "target": [f"target {n}" for n in range(5000)]}
    )
    splits = split_pairs(frame, FRACTIONS, seed=1)
    for name, fraction in FRACTIONS.items():
        assert abs(len(splits[name]) - 5000 * fraction) < 3 * (5000 * fraction * (1 - fraction)) ** 0.5
    # Known rows: another machine, or a later version, must not move them.
    assert list(splits["test"].index[:5]) == [0, 4, 9, 10, 11]
    grown = pd.concat([frame, pd.DataFrame({"source": ["new"], "target": ["neu"]}, index=[5000])])
    assert set(splits["test"].index) <= set(split_pairs(grown, FRACTIONS, seed=1)["test"].index)
    assert set(splits["test"].index) != set(split_pairs(frame, FRACTIONS, seed=2)["test"].index)


def test_empty_sides_link_nothing() -> None:
    frame = pd.DataFrame({"source": [f"source {n}" for n in range(200)], "target": [""] * 200})
    assert all(len(part) > 0 for part in split_pairs(frame, FRACTIONS, seed=0).values())


@pytest.mark.parametrize("fractions", [{}, {"train": 0.5}, {"train": 1.5, "test": -0.5}])
def test_fractions_that_make_no_whole_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(CorpusError, match="sum to 1"):
        split_pairs(pd.DataFrame({"source": ["a"], "target": ["b"]}), fractions, seed=0)
