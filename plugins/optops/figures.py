"""With how many decimals a metric is written, be it 34 BLEU or a squared error of 0.003."""

from math import floor, isfinite, log10


def decimals_for(difference: float) -> int:
    """Returns how many decimals show two digits of a difference that matters; two at least."""
    return max(2, 1 - floor(log10(difference))) if difference > 0 and isfinite(difference) else 2


def decimals_beside(metric: float) -> int:
    """Returns how many decimals a metric and those beside it want if no tolerance is known: a hundredth of it shows."""
    return decimals_for(abs(metric) / 100)
