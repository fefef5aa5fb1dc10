"""Labelled texts: reading them raw, naming each example by its content, splitting them without leaks."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from optops.spelling import hint
from optops.workloads.splitting import assign_splits
from optops.workloads.text_classification.settings import Column, Format
from optops.workloads.text_lines import CorpusError, normalise, read_lines, without_surrogates

LONGEST_FIELD = 1 << 24
"""Characters that a quote is looked for in before it counts as not closed; the csv module's own limit is 131,072."""

UNCLOSED = f"is no CSV: it opens a quote that is not closed within {LONGEST_FIELD:,} characters"
MOST_UNCLOSED = 100
"""Of so many such quotes each is a defect; with more of them, quotes mean something else in the file."""

EMPTY_LINE = "is an empty line"
ESCAPED_QUOTE = 'is no CSV: it writes \\" for a quote within a text, where CSV writes ""'


@dataclass(frozen=True)
class Record:
    """One example as it stands in a file.

    Attributes:
        line: Where it starts, from 1.
        lines: How many lines it takes.
        fields: By name, or by number from 1; empty if the record is unreadable.
        flaw: What is wrong with the record as such; "" if nothing is.
    """

    line: int
    lines: int
    fields: Mapping[Column, str]
    flaw: str = ""


def read_texts(path: Path, kind: Format, text: Column, label: Column) -> pd.DataFrame:
    """Read labelled texts as they are, without cleaning them: finding defects is the checks' work.

    A record that can not be read becomes a row with a flaw, and so do bytes that are no UTF-8.

    Args:
        path: The file; may be compressed with gzip.
        kind: Its format.
        text: Column of the text; a number from 1 if the file has no header.
        label: Column of the label, likewise.

    Returns:
        One row a record, indexed from 0: `id` ("NAME:LINE"), `file` (path), `line` (from 1), `text`, `label`,
        `decodable` (bool), `flaw` ("" or what is wrong with the record).

    Raises:
        CorpusError: A missing, empty or damaged file, a folder, or a column that the file does not have.
    """
    lines, decodable = read_lines(path)
    records = list(_RECORDS[kind](path, lines, (text, label)))
    # Within a file an empty line may be an example that was lost; at its end it is none.
    while records and records[-1].flaw == EMPTY_LINE:
        records.pop()
    if not records:
        raise CorpusError(f"{path} holds no example, but at most a header; check how the file was made")
    flaws = [record.flaw or _missing(record.fields, (text, label)) for record in records]
    return pd.DataFrame(
        {
            "id": [f"{path.name}:{record.line}" for record in records],
            "file": str(path),
            "line": [record.line for record in records],
            "text": [record.fields.get(text, "") for record in records],
            "label": [normalize("NFC", record.fields.get(label, "")).strip() for record in records],
            "decodable": [_all_decodable(decodable, record) for record in records],
            "flaw": flaws,
        }
    )


def example_digests(frame: pd.DataFrame) -> pd.Series[str]:
    """Name every example by its label and text: 16 hexadecimal digits of SHA-256."""
    digests = [
        hashlib.sha256(f"{label}\n{text}".encode()).hexdigest()[:16]
        for label, text in zip(frame["label"], frame["text"], strict=True)
    ]
    return pd.Series(digests, index=frame.index, name="digest", dtype=str)


def split_texts(frame: pd.DataFrame, fractions: Mapping[str, float], seed: int) -> dict[str, pd.DataFrame]:
    """Split examples so that no text, up to case and white space, stands in two splits.

    Where a text goes depends on its content and the seed alone, whatever its label is.

    Args:
        frame: Column `text`.
        fractions: Share of each split, in (0, 1], together 1.
        seed: Another seed gives another split.

    Returns:
        The rows of each split, in the frame's order and with its index.
    """
    chosen = assign_splits(map(normalise, frame["text"]), fractions, seed)
    return {name: frame[chosen == name] for name in fractions}


def _from_csv(path: Path, lines: Sequence[str], columns: Sequence[Column]) -> Iterator[Record]:
    return _from_rows(path, _csv_rows(path, lines), columns)


def _csv_rows(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, int, list[str], str]]:
    """Give rows (line, lines, fields, flaw); after a record that is no CSV go on with its second line.

    A quote that is not closed would swallow the records up to the next quote or the end of the file.
    """
    csv.field_size_limit(LONGEST_FIELD)
    start, unclosed = 0, 0
    while start < len(lines):
        reader = csv.reader((lines[index] + "\n" for index in range(start, len(lines))), strict=True)
        done = start
        try:
            for fields in reader:
                count = start + reader.line_num - done
                yield done + 1, count, fields, ""
                done += count
            return
        except csv.Error:
            fields, flaw = _csv_line(lines[done])
        unclosed += flaw == UNCLOSED
        if unclosed > MOST_UNCLOSED:
            raise CorpusError(
                f"{path}: line {done + 1} and {MOST_UNCLOSED} before it open a quote that is not closed; enclose texts "
                "with quotes or line breaks in quotes and double the quotes in them, or write the file with tabs as "
                "`tsv`, where quotes are text"
            )
        yield done + 1, 1, fields, flaw
        start = done + 1


def _csv_line(line: str) -> tuple[list[str], str]:
    """Read one line by itself, also with text after a closing quote; return its fields and what is wrong with it."""
    if '\\"' in line:
        return [], ESCAPED_QUOTE
    reader = csv.reader([line + "\n", "\n"])
    try:
        fields = next(reader)
    except csv.Error as error:
        return [], f"is no CSV: {error}"
    return ([], UNCLOSED) if reader.line_num > 1 else (fields, "")


def _from_tsv(path: Path, lines: Sequence[str], columns: Sequence[Column]) -> Iterator[Record]:
    rows = ((number, 1, line.split("\t") if line else [], "") for number, line in enumerate(lines, 1))
    return _from_rows(path, rows, columns)


def _from_rows(
    path: Path, rows: Iterator[tuple[int, int, list[str], str]], columns: Sequence[Column]
) -> Iterator[Record]:
    """Give names or numbers to the fields of rows (line, lines, fields, flaw)."""
    header: list[str] | None = None
    if isinstance(columns[0], str):
        _, _, names, flaw = next(rows)
        if flaw:
            raise CorpusError(f"{path}: the header {flaw}; correct it, or give the columns' numbers from 1")
        header = [name.strip() for name in names]
        for column in columns:
            if header.count(str(column)) > 1:
                raise CorpusError(f"{path} has {header.count(str(column))} columns {column!r}; rename all but one")
            if column not in header:
                if len(header) == 1 and ";" in header[0]:
                    raise CorpusError(
                        f"{path}: semicolons part the columns {header[0]!r}; save the file with commas, or with tabs "
                        "and `format: tsv`"
                    )
                raise CorpusError(
                    f"{path} has no column {column!r}; {hint(str(column), header)} (where tabs and not commas part "
                    "columns, write `format: tsv`; without a header, give their numbers from 1)"
                )
    read = list(rows)
    # Without a header the file itself says how many fields a record has; a text with a tab in it has one too many.
    counts = Counter(len(fields) for _, _, fields, flaw in read if fields and not flaw)
    expected, wanted = (header, f"the header has {len(header)}") if header else _numbered(counts)
    for line, count, fields, flaw in read:
        if flaw or not fields:
            yield Record(line, count, {}, flaw or EMPTY_LINE)
            continue
        odd = f"has {len(fields)} fields, {wanted}" if len(fields) != len(expected) else ""
        yield Record(line, count, dict(zip(expected, fields, strict=False)), odd)


def _numbered(counts: Counter[int]) -> tuple[Sequence[Column], str]:
    """Returns the numbers of the fields that most records have, and what to say to the others."""
    most = max(counts, key=lambda fields: counts[fields], default=0)
    return range(1, most + 1), f"most records have {most}"


def _from_jsonl(path: Path, lines: Sequence[str], columns: Sequence[Column]) -> Iterator[Record]:
    if lines[0].lstrip().startswith("[") or lines[0].strip() == "{":
        _refuse_whole_json(path, lines)
    names: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        doubled: list[str] = []
        try:
            value = json.loads(line, object_pairs_hook=partial(_as_object, doubled))
        except (ValueError, RecursionError) as error:
            yield Record(number, 1, {}, f"is no JSON: {error}" if line.strip() else EMPTY_LINE)
            continue
        if doubled:
            yield Record(number, 1, {}, f"has {doubled[0]!r} twice in one object")
            continue
        if not isinstance(value, dict):
            yield Record(number, 1, {}, f"is {type(value).__name__}, not a JSON object")
            continue
        names |= dict.fromkeys(value)
        found = {column: value[column] for column in columns if column in value}
        _, label = columns
        odd = {column for column, field in found.items() if not _is_told(field, column == label)}
        flaw = f"has {type(found[min(odd, key=str)]).__name__} for {min(odd, key=str)!r}, not text" if odd else ""
        if odd == {label}:
            flaw += " or a finite number"
        told: dict[Column, str] = {c: without_surrogates(_as_text(found[c])) for c in found if c not in odd}
        yield Record(number, 1, told, flaw)
    if all(not line.strip() for line in lines):
        raise CorpusError(f"{path} holds no JSON object; it must hold one a line")
    for column in columns:
        # What some objects lack is their defect, what all lack is misspelt.
        if names and column not in names:
            raise CorpusError(f"{path} has no column {column!r}; {hint(str(column), names)}")


def _as_object(doubled: list[str], pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Returns an object, and notes its names that stand there twice: which of the two is meant nobody knows."""
    doubled += [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    return dict(pairs)


def _refuse_whole_json(path: Path, lines: Sequence[str]) -> None:
    """Refuses a file that is one JSON value over several lines.

    Raises:
        CorpusError: Says how to write an object a line.
    """
    try:
        value = json.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return
    what, remedy = ("array", "jq -c '.[]'") if isinstance(value, list) else ("value", "jq -c .")
    raise CorpusError(f"{path} is one JSON {what}; write an object a line: {remedy}")


def _is_told(field: object, is_label: bool) -> bool:
    if isinstance(field, bool):
        return is_label
    # Labels are often numbers, such as stars from 1.0 to 5.0.
    return isinstance(field, str | int) or (is_label and isinstance(field, float) and math.isfinite(field))


def _as_text(field: object) -> str:
    # As the file has it: `true`, not Python's `True`.
    return json.dumps(field) if isinstance(field, bool) else str(field)


_RECORDS: dict[Format, Callable[[Path, Sequence[str], Sequence[Column]], Iterator[Record]]] = {
    "csv": _from_csv,
    "tsv": _from_tsv,
    "jsonl": _from_jsonl,
}


def _missing(fields: Mapping[Column, str], columns: Sequence[Column]) -> str:
    missing = [f"{column!r}" for column in columns if column not in fields]
    return f"has no column {' and '.join(missing)}" if missing else ""


def _all_decodable(decodable: NDArray[np.bool_], record: Record) -> bool:
    return bool(decodable[record.line - 1 : record.line - 1 + record.lines].all())
