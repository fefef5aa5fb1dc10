"""What the test on some examples says about the same test on others: how likely a candidate is to pass it there."""

import math
from statistics import NormalDist

from optops.measurement.non_inferiority import NonInferiority, least_examples

NORMAL = NormalDist()


def chance_of_acceptance(found: NonInferiority, examples: int, confidence: float) -> float:
    """The probability that a candidate will be accepted on other examples of the same kind.

    The margin D found on n examples estimates the true one with a standard error s, which its lower bound tells. On m
    others it comes out normal about the true one, with a standard error of `s * sqrt(n / m)`, and is accepted where it
    exceeds z of these (the predictive power of a trial; Spiegelhalter, Freedman & Blackburn 1986):

        P = Phi((D - z * s * sqrt(n / m)) / (s * sqrt(1 + n / m)))

    Args:
        found: The test on the examples at hand.
        examples: m, how many others there are, at least 1.
        confidence: One-sided, of the bound there.

    Returns:
        Between 0 and 1; 0 for a gain that was found too large to believe, and on examples too few to prove anything.

    Raises:
        ValueError: If there are no other examples.
    """
    if examples < 1:
        raise ValueError(f"nothing can be proved on {examples} examples: give at least 1")
    if found.verdict == "anomalous" or examples < least_examples(confidence):
        return 0.0
    error = (found.margin - found.margin_lower) / NORMAL.inv_cdf(found.confidence)
    if error <= 0:
        return float(found.margin >= 0)
    ratio = found.examples / examples
    bound = NORMAL.inv_cdf(confidence) * error * math.sqrt(ratio)
    return NORMAL.cdf((found.margin - bound) / (error * math.sqrt(1 + ratio)))
