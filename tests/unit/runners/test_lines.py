"""Lines: what a process writes becomes lines that a log can take."""

import itertools

import hypothesis.strategies as st
from hypothesis import given

from optops.runners.lines import Lines


def read(*chunks: bytes, longest: int = 100, seconds: float = 5.0, clock=lambda: 0.0) -> list[str]:
    lines = Lines(longest, seconds, clock)
    given_out = [line for chunk in chunks for line in lines.feed(chunk)]
    return [*given_out, *lines.close()]


def test_lines_end_at_newlines_and_the_last_needs_none():
    assert read(b"one\ntwo", b" and more\n\nlast") == ["one", "two and more", "", "last"]


def test_windows_line_ends_are_line_ends_even_when_split_between_chunks():
    assert read(b"one\r", b"\ntwo\r\n") == ["one", "two"]


def test_a_progress_bar_gives_its_last_state():
    assert read(b"".join(b"\r%d%%" % n for n in range(101)) + b"\ndone\n") == ["100%", "done"]


def test_a_progress_bar_gives_a_state_every_few_seconds():
    seconds = itertools.count()
    lines = read(b"".join(b"\r%d" % n for n in range(30)), clock=lambda: float(next(seconds)))
    assert 3 <= len(lines) <= 7
    assert lines[-1] == "29"


def test_a_progress_bar_without_an_end_gives_its_last_state():
    assert read(b"10%\r20%\r") == ["20%"]


def test_a_line_over_the_limit_is_cut_and_says_how_much_is_missing():
    assert read(b"x" * 150 + b"y" * 50 + b"\nnext\n") == ["x" * 100 + " ... (100 more bytes)", "next"]


def test_bytes_that_are_no_text_do_not_stop_the_log():
    assert read(b"a\xff\xfeb\n") == ["a��b"]


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_how_the_bytes_are_cut_into_chunks_does_not_matter(chunks):
    assert read(*chunks) == read(b"".join(chunks))


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20), max_size=8))
def test_every_line_that_fits_gets_through_as_it_was(texts):
    assert read("".join(f"{text}\n" for text in texts).encode()) == texts


def test_what_tensorflow_says_while_it_starts_is_left_out():
    from optops.runners.base import deliver

    lines = []
    for line in (
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "I0000 00:00:1795330098.007511    2278 port.cc:153] oneDNN custom operations are on.",
        "E0000 00:00:1795332513.730804   15464 cuda_platform.cc:52] failed call to cuInit",
        "epoch 1/6",
    ):
        deliver(line, lines.append, lambda name, url: None)
    assert lines == ["epoch 1/6"]
