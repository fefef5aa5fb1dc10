"""Corpus BLEU with sacrebleu's tokenisation, from statistics that can be resampled."""

from collections.abc import Sequence

import numpy as np

from optops.workloads.translation.normalisation import composed
from optops.workloads.translation.scripts import language_scripts

ORDER = 4
_CHINESE = {"Han", "Bopomofo"}
# Written without spaces between words, which `13a` would take for one word each line; Korean sets them.
_UNSPACED = {"Hiragana", "Katakana", "Thai", "Khmer", "Lao", "Myanmar", "Tibetan"}


def tokenizer_for(language: str) -> str:
    """Returns the name of the sacrebleu tokenizer that suits a language, by its tag (BCP 47, `zh-Hant`)."""
    scripts = set(language_scripts(language))
    if scripts & _UNSPACED:
        return "char"
    return "zh" if scripts and scripts <= _CHINESE else "13a"


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[str], tokenizer: str) -> np.ndarray:
    """Returns per-sentence counts, int64 (sentences, 10).

    Columns: hypothesis length, reference length, matching n-grams of order 1 to 4, n-grams of order 1 to 4.

    Args:
        hypotheses: Translations.
        references: One each.
        tokenizer: Name of a sacrebleu tokenizer.

    Raises:
        ValueError: If there are not as many hypotheses as references.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} translations but {len(references)} references")
    # A translator writes composed letters, a corpus may have them in parts: they are the same text.
    ours, theirs = ([composed(text) for text in texts] for texts in (hypotheses, references))
    # sacrebleu's own significance tests resample these rows (sacrebleu.significance); it offers no public name.
    rows = _metric(tokenizer)._extract_corpus_statistics(ours, [theirs])
    return np.asarray(rows, dtype=np.int64).reshape(len(hypotheses), 2 + 2 * ORDER)


def corpus_bleu(statistics: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns BLEU from 0 to 100 for each row of weights (Papineni et al. 2002; smoothing `exp` of Chen & Cherry 2014).

    Args:
        statistics: From `bleu_statistics`.
        weights: How often each sentence counts, shape (resamples, sentences); once each if None.

    Returns:
        float64 (resamples,), or (1,) without weights.
    """
    if weights is None:
        sums = statistics.sum(axis=0, dtype=np.float64)[None, :]
    else:
        sums = weights.astype(np.float64) @ statistics.astype(np.float64)
    length, reference = sums[:, 0], sums[:, 1]
    matches, totals = sums[:, 2 : 2 + ORDER], sums[:, 2 + ORDER :]
    # Smoothing `exp`: the k-th order in a row without a match counts as 1 / 2^k matches.
    missing = matches == 0
    smoothed = np.where(missing, 0.5 ** np.cumsum(missing, axis=1), matches)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(smoothed / totals)
        brevity = np.where(length < reference, 1 - reference / length, 0.0)
        scores = 100 * np.exp(logs.mean(axis=1) + brevity)
    usable = (totals > 0).all(axis=1) & (matches.sum(axis=1) > 0)
    result: np.ndarray = np.where(usable, scores, 0.0)
    return result


def bleu_signature(tokenizer: str) -> str:
    """Returns sacrebleu's signature (tokenizer, smoothing, version), and that letters are composed first."""
    metric = _metric(tokenizer)
    metric.corpus_score(["a"], [["a"]])
    return f"BLEU {metric.get_signature().format()}, of text in NFC"


def _metric(tokenizer: str):  # type: ignore[no-untyped-def]
    from sacrebleu.metrics import BLEU

    # `force`: sacrebleu warns of tokenised text, and here the recipe decides.
    return BLEU(tokenize=tokenizer, smooth_method="exp", force=True)
