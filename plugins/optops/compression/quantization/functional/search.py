"""Finds the int8 layers of a functional model that a judge agrees with."""

from collections.abc import Callable, Iterable, Mapping
from math import isnan
from typing import Any

from optops.compression.quantization.fallback import Fallback, Stake, fall_back
from optops.compression.quantization.functional.harm import output_errors
from optops.compression.quantization.functional.measured import Measured
from optops.compression.quantization.functional.simulate import simulate_network
from optops.precision import Judge


def search_layers(
    measured: Measured,
    notes: Mapping[str, str],
    judge: Judge,
    calibration: Callable[[], Iterable[Any]],
    milliseconds: Mapping[str, float] | None = None,
) -> tuple[dict[str, str], Fallback]:
    """Returns why which layers stay in float, and how the search went.

    Args:
        measured: What calibration found.
        notes: Layers that stay in float in any case, with the reason.
        judge: Says how good the simulated model is.
        calibration: Gives inputs, to rank layers by what each does to the outputs.
        milliseconds: What int8 saves of each layer; without it, the layer's share of the arithmetic stands for that.

    Raises:
        ValueError: If the judge has no value for the float model.
    """
    unquantized = float(judge.evaluate(measured.network.with_output_names(measured.network.model)))
    if isnan(unquantized):
        raise ValueError("the judge's value of the float model is NaN; int8 can not be held against it")
    layers = [name for name in measured.layers if name not in notes]

    def evaluate(reverted: frozenset[str]) -> float:
        plan = measured.plan([name for name in layers if name not in reverted], notes)
        return float(judge.evaluate(simulate_network(measured.network, plan)))

    limits = {name: chosen.limits for name, chosen in measured.ranges.items()}
    shares = measured.shares
    savings = shares if milliseconds is None else milliseconds
    errors: dict[str, float] = {}

    def stakes() -> dict[str, Stake]:
        errors.update(output_errors(measured.network, calibration(), layers, limits, measured.weight_levels))
        return {name: Stake(errors[name], savings.get(name, 0.0)) for name in layers}

    fallback = fall_back(stakes, evaluate, unquantized - judge.allowed, unquantized)
    reasons = dict(notes)
    for name in fallback.reverted:
        cost = f"{shares[name]:.1%} of the arithmetic" if milliseconds is None else f"{savings.get(name, 0.0):.3g} ms"
        reasons[name] = (
            f"the judge wants it in float: all layers in int8 lose {unquantized - fallback.whole:.4g} where "
            f"{judge.allowed:.4g} is allowed, and this one alone changes the outputs by {errors[name]:.2g} of their "
            f"variance; what int8 would have saved is on {cost}"
        )
    return reasons, fallback
