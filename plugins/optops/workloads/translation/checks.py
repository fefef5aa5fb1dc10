"""Which label checks parallel text undergoes, with their thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Final

import pandas as pd

from optops.workloads.label_checks import RowCheck
from optops.workloads.repetition import find_elsewhere, find_repeated
from optops.workloads.translation import corpus_checks, side_checks
from optops.workloads.translation.corpus_checks import LengthRatio, measure_length_ratio, seen_elsewhere
from optops.workloads.translation.scripts import dominant_scripts, language_scripts
from optops.workloads.translation.settings import CHECKS, Thresholds

_PAIR: Final = ("source", "target")

_check = partial(RowCheck.standard, CHECKS)


def translation_checks(
    frame: pd.DataFrame, source_language: str, target_language: str, thresholds: Thresholds
) -> tuple[pd.DataFrame, list[RowCheck]]:
    """Prepare the checks of parallel text, for `optops.workloads.label_checks.run_checks`.

    What a split alone does not tell (the usual length ratio, the scripts, what stands in other splits) is measured
    here over the whole frame.

    Args:
        frame: What `read_pairs` gives, of all splits together, and a column `split`.
        source_language: Its tag (BCP 47); one that is not known takes the scripts the corpus itself is in.
        target_language: The same for the target.
        thresholds: What counts as a defect.

    Returns:
        The frame with the column `elsewhere` added, and the checks.
    """
    scripts = {
        "source_scripts": _scripts(source_language, frame["source"]),
        "target_scripts": _scripts(target_language, frame["target"]),
    }
    checks = [
        *_text_checks(scripts),
        *_length_checks(thresholds, measure_length_ratio(frame, thresholds.length_spread_floor)),
        *_repetition_checks(thresholds),
    ]
    return frame.assign(elsewhere=seen_elsewhere(frame)), checks


def _text_checks(scripts: Mapping[str, list[str]]) -> list[RowCheck]:
    """Check what each side is made of."""
    return [
        _check("empty_side", "Both sides hold text.", side_checks.find_empty_sides, _PAIR),
        _check(
            "undecodable",
            "Text is UTF-8, without replacement and control characters and without mojibake such as 'Ã¼'.",
            side_checks.find_undecodable, (*_PAIR, "decodable"), _PAIR,
        ),
        _check(
            "wrong_script",
            f"Sources are written in {_or(scripts['source_scripts'])}, targets in {_or(scripts['target_scripts'])}.",
            side_checks.find_wrong_script, _PAIR,
            source_scripts=scripts["source_scripts"], target_scripts=scripts["target_scripts"],
        ),
        _check("markup", "No HTML tag or character reference is left over.", side_checks.find_markup, _PAIR),
        _check(
            "spacing", "Spaces are single and plain, none stands at the start or the end.",
            side_checks.find_bad_spacing, _PAIR,
        ),
    ]  # fmt: skip


def _length_checks(thresholds: Thresholds, ratio: LengthRatio) -> list[RowCheck]:
    """Check how long each side is, and for the other."""
    usual, reach = math.exp(ratio.center), math.exp(thresholds.length_deviations * ratio.spread)
    return [
        _check(
            "too_long",
            f"No side has more than {thresholds.max_characters} characters or {thresholds.max_words} words.",
            side_checks.find_too_long, _PAIR,
            max_characters=thresholds.max_characters, max_words=thresholds.max_words,
        ),
        _check(
            "length_ratio",
            f"A target has {usual / reach:.2f} to {usual * reach:.2f} times the characters of its source, where a side "
            f"has {thresholds.length_min_characters} or more.",
            corpus_checks.find_length_outliers, _PAIR,
            center=ratio.center, spread=ratio.spread, max_deviations=thresholds.length_deviations,
            min_characters=thresholds.length_min_characters,
        ),
    ]  # fmt: skip


def _repetition_checks(thresholds: Thresholds) -> list[RowCheck]:
    """Check what stands twice: in another split, in this one, on both sides."""
    return [
        _check(
            "overlap", "No source stands in two splits.",
            find_elsewhere, ("elsewhere", *_PAIR), _PAIR,
        ),
        _check(
            "duplicate_pair", "No pair stands in a split twice.",
            find_repeated, _PAIR, keys=["source", "target"], what="pair",
        ),
        _check(
            "conflicting_target", "One source has one translation.", corpus_checks.find_conflicts, _PAIR,
        ),
        _check(
            "identical_sides",
            f"No target of {thresholds.identical_min_words} words or more repeats its source.",
            side_checks.find_identical_sides, _PAIR, min_words=thresholds.identical_min_words,
        ),
    ]  # fmt: skip


def _scripts(language: str, texts: pd.Series[str]) -> list[str]:
    return list(language_scripts(language) or dominant_scripts(texts.tolist()))


def _or(scripts: list[str]) -> str:
    return " or ".join(scripts) or "any script"
