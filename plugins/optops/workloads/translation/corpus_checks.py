"""Checks that hold a pair against the rest of the corpus: repeated, contradicting, leaking, and out of proportion.

Each `find_` function takes all pairs of a split and returns the reasons of the defective ones, see
`optops.workloads.label_checks.FindDefects`; the other functions prepare what needs to be seen beyond the split.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optops.workloads.repetition import other_splits
from optops.workloads.splits import SPLIT_NAMES
from optops.workloads.text_lines import normalise

_INVISIBLE: Final = re.compile(r"[\s\u00ad\u200b-\u200f\u2060\ufeff]+")
_NAMED_ROWS: Final = 3
# Makes the median absolute deviation of a normal distribution its standard deviation.
_NORMAL_CONSISTENCY: Final = 1.4826


@dataclass(frozen=True)
class LengthRatio:
    """How long targets are for their sources: median and spread of log(target / source), in characters."""

    center: float
    spread: float


def measure_length_ratio(frame: pd.DataFrame, spread_floor: float) -> LengthRatio:
    """Measure the corpus' usual length ratio by median and median absolute deviation, which outliers do not move.

    Args:
        frame: Columns `source` and `target`.
        spread_floor: Least spread, so that a very regular corpus does not turn small differences into outliers.
    """
    source, target = _lengths(frame["source"]), _lengths(frame["target"])
    usable = (source > 0) & (target > 0)
    if not usable.any():
        return LengthRatio(0.0, spread_floor)
    logs = np.log(target[usable] / source[usable])
    center = float(np.median(logs))
    return LengthRatio(center, max(spread_floor, _NORMAL_CONSISTENCY * float(np.median(np.abs(logs - center)))))


def find_length_outliers(
    rows: pd.DataFrame, center: float, spread: float, max_deviations: float, min_characters: int
) -> pd.Series[str]:
    """Name pairs one side of which is far longer than the other suggests.

    Lengths are visible characters. Pairs whose longer side is short are not judged, because the ratios
    of tiny sentences scatter; pairs with an empty side are another check's.

    Args:
        rows: Columns `source` and `target`.
        center: Median of log(target / source).
        spread: Spread of the same around it.
        max_deviations: Outlier beyond this many spreads.
        min_characters: Least length of the longer side, in characters of the language that needs more of them.
    """
    source, target = _lengths(rows["source"]), _lengths(rows["target"])
    scale = math.exp(center)
    longer = np.maximum(source * max(1.0, scale), target * max(1.0, 1 / scale))
    judged = (source > 0) & (target > 0) & (longer >= min_characters)
    logs = np.log(np.maximum(target, 1) / np.maximum(source, 1))
    outlier = judged & (np.abs(logs - center) > max_deviations * spread)
    reasons = [
        f"{target_length:.0f} characters for {source_length:.0f}: {target_length / source_length:.2f} times as many, "
        f"usual is {scale:.2f}"
        for source_length, target_length in zip(source[outlier], target[outlier], strict=True)
    ]
    return pd.Series(reasons, index=rows.index[outlier], dtype=str)


def find_conflicts(rows: pd.DataFrame) -> pd.Series[str]:
    """Name the pairs that share a source but translate it differently, beyond case and spacing."""
    keys = pd.DataFrame(
        {"id": rows["id"], "source": _normalised(rows["source"]), "target": _normalised(rows["target"])}
    )
    keys = keys[(keys["source"] != "") & keys["source"].duplicated(keep=False)]
    targets = keys.groupby("source", sort=False)["target"].nunique()
    keys = keys[keys["source"].isin(targets.index[targets > 1])]
    translations: dict[str, list[tuple[str, str]]] = {}
    for name, source, target in zip(keys["id"], keys["source"], keys["target"], strict=True):
        translations.setdefault(source, []).append((target, name))
    # Once for each translation, not for each row: one source may stand there a hundred thousand times.
    pairs = list(zip(keys["source"], keys["target"], strict=True))
    reasons: dict[tuple[str, str], str] = {}
    for (source, target), count in Counter(pairs).items():
        others = (name for other, name in translations[source] if other != target)
        reasons[source, target] = "translated otherwise in " + _enumerate(others, len(translations[source]) - count)
    return pd.Series([reasons[pair] for pair in pairs], index=keys.index, dtype=str)


def seen_elsewhere(frame: pd.DataFrame) -> pd.Series[str]:
    """Say of each row where another split holds its source, "" for nowhere; see `optops.workloads.repetition`.

    Args:
        frame: Columns `id`, `split`, `source`, `target`; a split of another name takes no part.
    """
    keys = pd.DataFrame({"source": _normalised(frame["source"]), "target": _normalised(frame["target"])})
    where = pd.Series("", index=frame.index, dtype=object)
    for split in SPLIT_NAMES:
        own = keys[(frame["split"] == split) & (keys["source"] != "")]
        for other in other_splits(split):
            held = keys[(frame["split"] == other) & (keys["source"] != "")]
            own = own[where[own.index] == ""]
            by_source = dict(zip(held["source"][::-1], frame.loc[held.index[::-1], "id"], strict=True))
            by_pair = dict(
                zip(zip(held["source"], held["target"], strict=True), frame.loc[held.index, "id"], strict=True)
            )
            for index, source, target in own[own["source"].isin(by_source)].itertuples():
                same_pair = by_pair.get((source, target))
                kind, place = ("pair", same_pair) if same_pair else ("source", by_source[source])
                where[index] = f"the same {kind} stands in {other}, {place}"
    return where.astype(str)


def _normalised(side: pd.Series[str]) -> pd.Series[str]:
    return pd.Series([normalise(text) for text in side], index=side.index, dtype=object)


def _lengths(side: pd.Series[str]) -> npt.NDArray[np.float64]:
    # Splitting is several times faster than the pattern, which only other than ASCII text needs.
    lengths = [
        len("".join(text.split())) if text.isascii() else len(_INVISIBLE.sub("", text)) for text in side.tolist()
    ]
    return np.array(lengths, dtype=np.float64)


def _enumerate(names: Iterable[str], count: int) -> str:
    more = count - _NAMED_ROWS
    return ", ".join(islice(names, _NAMED_ROWS)) + (f" and {more} more" if more > 0 else "")
