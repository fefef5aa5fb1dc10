"""Which layers int8 would not pay for, whatever a judge says."""

from optops.compression.quantization.functional.measured import Measured
from optops.compression.quantization.functional.network import Network

SMALLEST_SIGNAL = 15.0
"""Decibels: at 15 dB the error of a layer's outputs is 18 % of them."""
SMALL_SHARE = 0.05
"""A first or last layer with less of the arithmetic than this saves too little for what its errors cost."""


def kept_in_float(measured: Measured) -> dict[str, str]:
    """Returns the layers that int8 would not pay for, with the reason.

    These are layers whose outputs are mostly noise, and first and last layers with little arithmetic: an error in the
    first goes through everything, one in the last straight into the outputs. A first layer that gives many of all
    values, as a convolution of few channels at full resolution does, is not among them: in float they are written in
    four times the space, and rounded after it.
    """
    notes = {}
    shares, edges = measured.shares, edge_layers(measured.network)
    values = sum(record.values for record in measured.layers.values())
    for name, record in measured.layers.items():
        if record.decibels < SMALLEST_SIGNAL:
            notes[name] = f"signal-to-noise ratio of {record.decibels:.1f} dB in int8, below {SMALLEST_SIGNAL:.1f} dB"
        elif name in edges and shares[name] <= SMALL_SHARE:
            if edges[name] == "first" and record.values > SMALL_SHARE * values:
                continue
            notes[name] = (
                f"{edges[name]} layer with {shares[name]:.1%} of the arithmetic, at most {SMALL_SHARE:.0%}: in float "
                f"it costs little time, and its error in int8 ({record.decibels:.1f} dB) reaches every output"
            )
    return notes


def edge_layers(network: Network) -> dict[str, str]:
    """Returns the layers before which, or after which, there is no other that int8 can run; `first` or `last`."""
    quantizable = network.quantizable
    behind: set[int] = set()
    found: dict[str, str] = {}
    for call in network.calls.calls:
        if call.layer.name in quantizable and not behind.intersection(call.inputs):
            found[call.layer.name] = "first"
        if call.layer.name in quantizable or behind.intersection(call.inputs):
            behind |= set(call.outputs)
    ahead: set[int] = set()
    for call in reversed(network.calls.calls):
        if call.layer.name in quantizable and not ahead.intersection(call.outputs):
            found.setdefault(call.layer.name, "last")
        if call.layer.name in quantizable or ahead.intersection(call.outputs):
            ahead |= set(call.inputs)
    return found
