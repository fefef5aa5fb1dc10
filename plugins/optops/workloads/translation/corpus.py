"""Parallel text: reading it raw, naming each pair by its content, splitting it without leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from optops.workloads.splitting import assign_splits
from optops.workloads.text_lines import CorpusError, normalise, read_lines


@dataclass(frozen=True)
class PairFiles:
    """Where parallel text stands.

    Attributes:
        source: File with one source sentence a line; with `target` None, a file of `source<TAB>target` lines.
        target: File whose line n translates line n of `source`; None for a tab-separated file.
        swap: The tab-separated file holds the target first (`target<TAB>source`).

    Raises:
        CorpusError: `swap` without a tab-separated file.
    """

    source: Path
    target: Path | None = None
    swap: bool = False

    def __post_init__(self) -> None:
        if self.swap and self.target is not None:
            raise CorpusError(
                f"swap=True is for one tab-separated file, but two files are given ({self.source}, {self.target}): "
                "exchange source and target instead"
            )


def read_pairs(files: PairFiles) -> pd.DataFrame:
    r"""Read parallel text as it is, without cleaning it: finding defects is the checks' work.

    Only ``\n`` ends a line (U+2028, U+0085 or a form feed inside a sentence do not), one trailing ``\r`` and a byte
    order mark at the start of a file are dropped. Bytes that are no UTF-8 become U+FFFD and mark their row. Of a
    tab-separated line the first two columns count, further ones (attributions) are left out; a line without a tab has
    an empty target. Files may be compressed with gzip, whatever they are called.

    Args:
        files: Where the text stands.

    Returns:
        One row a pair, indexed from 0: `id` ("NAME:LINE"), `file` (path), `line` (from 1), `source`, `target`,
        `decodable` (bool).

    Raises:
        CorpusError: A missing, empty or damaged file, a folder, or files of different length.
    """
    source, target, decodable = _read_sides(files)
    lines = np.arange(1, len(source) + 1)
    return pd.DataFrame(
        {
            "id": [f"{files.source.name}:{line}" for line in lines],
            "file": str(files.source),
            "line": lines,
            "source": source,
            "target": target,
            "decodable": decodable,
        }
    )


def example_digest(source: str, target: str) -> str:
    """Name a pair by its content: 16 hexadecimal digits of SHA-256 over both lines."""
    return hashlib.sha256(f"{source}\n{target}".encode()).hexdigest()[:16]


def example_digests(frame: pd.DataFrame) -> pd.Series[str]:
    """Name every pair of a frame with columns `source` and `target`, see `example_digest`."""
    digests = [example_digest(source, target) for source, target in zip(frame["source"], frame["target"], strict=True)]
    return pd.Series(digests, index=frame.index, name="digest", dtype=str)


def split_pairs(frame: pd.DataFrame, fractions: Mapping[str, float], seed: int) -> dict[str, pd.DataFrame]:
    """Split parallel text so that no sentence, on either side, stands in two splits.

    Pairs whose normalised sources or targets agree are linked, and what is linked, however indirectly, stays
    together. (An empty side links nothing.) Where a group goes depends on its content and the seed alone, not on the
    order of the rows, the machine, or what else is in the corpus; a new pair may move those that it is linked to. So
    the fractions are met as closely as independent draws meet them: within about
    `2 * sqrt(fraction * (1 - fraction) * rows)` rows when groups are small. A group that is larger than the smallest
    split is to be goes to the largest one, which has room for it: short sentences that translate to each other in
    several ways can link half of a corpus.

    Args:
        frame: Columns `source` and `target`.
        fractions: Share of each split, in (0, 1], together 1.
        seed: Another seed gives another split.

    Returns:
        The rows of each split, in the frame's order and with its index; a split may be empty when rows are few.

    Raises:
        CorpusError: Fractions that are no shares of a whole.
    """
    try:
        # A group goes by the smallest digest of its pairs.
        grouped = example_digests(frame).groupby(_linked_groups(frame))
        chosen = assign_splits(grouped.transform("min"), fractions, seed)
        larger = grouped.transform("size") > max(min(fractions.values()) * len(frame), 1)
        chosen[larger] = max(fractions, key=lambda name: fractions[name])
    except ValueError as error:
        raise CorpusError(str(error)) from None
    return {name: frame[chosen == name] for name in fractions}


def _linked_groups(frame: pd.DataFrame) -> np.ndarray:
    """Number the group of each row, int, shape [rows]: sentences are nodes, pairs are edges."""
    rows = len(frame)
    nodes: list[np.ndarray] = []
    offset = 0
    for side in ("source", "target"):
        normalised = pd.Series([normalise(text) for text in frame[side]], dtype=object)
        codes, known = pd.factorize(normalised.where(normalised != "", None))
        # Each empty side is a node of its own, numbered after the sentences.
        own_nodes = len(known) + np.arange(rows)
        nodes.append(np.where(codes >= 0, codes, own_nodes) + offset)
        offset += len(known) + rows
    graph = coo_array((np.ones(rows, dtype=bool), (nodes[0], nodes[1])), shape=(offset, offset))
    _, labels = connected_components(graph, directed=False)
    groups: np.ndarray = labels[nodes[0]]
    return groups


def _read_sides(files: PairFiles) -> tuple[list[str], list[str], np.ndarray]:
    """Read sources, targets, and whether both were UTF-8."""
    source, decodable = read_lines(files.source)
    if files.target is None:
        columns = [line.split("\t") for line in source]
        first, second = [row[0] for row in columns], [row[1] if len(row) > 1 else "" for row in columns]
        return (second, first, decodable) if files.swap else (first, second, decodable)
    target, target_decodable = read_lines(files.target)
    if len(source) != len(target):
        raise CorpusError(
            f"{files.source} has {len(source)} lines, but {files.target} has {len(target)}: line n of one must "
            "translate line n of the other; restore the missing lines (an empty line keeps the place)"
        )
    return source, target, decodable & target_decodable
