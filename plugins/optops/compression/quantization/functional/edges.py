"""Which layers int8 would not pay for, whatever a judge says."""

from optops.compression.quantization.functional.measured import Measured
from optops.compression.quantization.functional.network import Network

SMALLEST_SIGNAL = 15.0
"""Decibels: at 15 dB the error of a layer's outputs is 18 % of them."""
SMALL_SHARE = 0.01
"""A first or last layer with less than this of the arithmetic, and of the values that layers take and give, saves too
little for what its errors cost. In float its products take several times as long as in int8, its values four times the
space."""


def kept_in_float(measured: Measured) -> dict[str, str]:
    """Returns the layers that int8 would not pay for, with the reason.

    These are layers whose outputs are mostly noise, and small first and last layers: an error in the first goes through
    everything, one in the last straight into the outputs.
    """
    notes = {}
    shares, edges = measured.shares, edge_layers(measured.network)
    moved = sum(record.moved for record in measured.layers.values())
    for name, record in measured.layers.items():
        if record.decibels < SMALLEST_SIGNAL:
            notes[name] = f"signal-to-noise ratio of {record.decibels:.1f} dB in int8, below {SMALLEST_SIGNAL:.1f} dB"
        elif name in edges and max(shares[name], record.moved / moved) <= SMALL_SHARE:
            notes[name] = (
                f"{edges[name]} layer with {shares[name]:.1%} of the arithmetic and {record.moved / moved:.1%} of the "
                f"values, at most {SMALL_SHARE:.0%}: in float it costs little time, and its error in int8 "
                f"({record.decibels:.1f} dB) reaches every output"
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
