"""What calibration finds of a network; any choice of int8 layers makes a plan of it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optops.compression.quantization.functional.calibrate import TensorRange, choose_ranges
from optops.compression.quantization.functional.layers import LayerRecord, measure_layers
from optops.compression.quantization.functional.network import Network
from optops.compression.quantization.functional.placement import placement
from optops.precision import PrecisionPlan


@dataclass(frozen=True)
class Measured:
    """What calibration found of a network.

    Attributes:
        network: The network.
        ranges: Tensor name to its range.
        layers: Name of each layer that int8 can run to its record.
        weight_levels: See `PrecisionPlan`.
    """

    network: Network
    ranges: Mapping[str, TensorRange]
    layers: Mapping[str, LayerRecord]
    weight_levels: int

    @property
    def shares(self) -> dict[str, float]:
        """Each layer's share of the multiply-accumulates of all layers that int8 can run."""
        total = sum(record.macs for record in self.layers.values())
        return {name: record.macs / total if total else 0.0 for name, record in self.layers.items()}

    def plan(self, chosen: Collection[str], notes: Mapping[str, str]) -> PrecisionPlan:
        """Returns the plan in which some layers run in int8.

        Args:
            chosen: Their names.
            notes: Why others stay in float.
        """
        rounded = sorted(placement(self.network, chosen)) if chosen else []
        return PrecisionPlan(
            "int8",
            {name: "int8" for name in self.layers if name in chosen},
            dynamic=False,
            ranges={name: self.ranges[name].limits for name in rounded},
            bias_corrections={
                name: record.correction
                for name, record in self.layers.items()
                if name in chosen and record.is_corrected
            },
            weight_levels=self.weight_levels,
            notes=dict(notes),
            range_notes={name: str(self.ranges[name]) for name in rounded},
        )


def measure(model: Any, calibration: Callable[[], Iterable[Any]], weight_levels: int | None = None) -> Measured:
    """Returns what calibration finds of a model, in two passes over the data.

    Args:
        model: Functional or sequential; left as it is.
        calibration: Gives its inputs, batch by batch, from the first on each time it is called.
        weight_levels: See `PrecisionPlan`; what this machine's CPU needs if None.

    Raises:
        ValueError: If there is no data, a batch lacks an input, or a tensor or weight is not finite; names it.
    """
    network = Network.of(model)
    levels = host_weight_levels() if weight_levels is None else weight_levels
    # Whichever layers run in int8 in the end, no other tensor is rounded.
    ranges = choose_ranges(network, calibration(), placement(network, network.quantizable))
    limits = {name: chosen.limits for name, chosen in ranges.items()}
    return Measured(network, ranges, measure_layers(network, calibration(), limits, levels), levels)


def host_weight_levels() -> int:
    """Returns the largest int8 weight that this machine's CPU adds up without saturation."""
    from optops.graph.onnx_quantization import saturates

    return 63 if saturates(Path("/proc/cpuinfo")) else 127
